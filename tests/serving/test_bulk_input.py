import pyarrow.parquet as pq

from kubetfx.serving import bulk_input


def test_images_are_found_below_links_and_not_in_circles(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for name in (
        "root/b/1.PNG",
        "root/a/ü.jpeg",
        "root/.hidden/2.png",
        "root/a/.3.png",
        "root/a/notes.txt",
        "elsewhere/4.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (root / "link").symlink_to(elsewhere)
    (root / "b" / "loop").symlink_to(root)
    (root / "c").symlink_to(root / "c")

    bulk_input.list_images(root, tmp_path / "listing.parquet")

    assert pq.read_table(tmp_path / "listing.parquet")["path"].to_pylist() == ["a/ü.jpeg", "b/1.PNG", "link/4.gif"]


def test_listing_of_images_changes_with_a_file(tmp_path):
    (tmp_path / "1.png").write_bytes(b"1")
    before = bulk_input.list_images(tmp_path, tmp_path / "listing.parquet")
    (tmp_path / "1.png").write_bytes(b"22")

    assert bulk_input.list_images(tmp_path, tmp_path / "listing.parquet") != before

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from PIL import Image
from tfx.types import standard_artifacts

from kubetfx.artifacts import IMAGE_NOTES
from kubetfx.components.data import image_folder, image_reading, table_profile
from kubetfx.components.data.image_inspection import inspect
from kubetfx.components.data.image_notes import report_warnings
from kubetfx.components.data.image_splits import assign_splits
from kubetfx.components.example_driver import Driver
from kubetfx.components.example_gen import ExampleGen
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import AnomaliesError, DataError
from tests.components.image_runs import rows_of, run_executor
from tests.components.pictures import encoded, picture, write_classes, write_picture

FRACTIONS = {"train": 0.7, "validation": 0.1, "eval": 0.2}
TOLERANT = {"max_broken_fraction": 0.5}


def report_of(examples: standard_artifacts.Examples) -> Any:
    return json.loads((Path(examples.uri) / IMAGE_NOTES).read_text())


def reasons(examples: standard_artifacts.Examples) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in report_of(examples)["broken"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of 30 good pictures."""
    return write_classes(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def examples(folder, tmp_path_factory) -> standard_artifacts.Examples:
    return run_executor(folder, tmp_path_factory.mktemp("out") / "examples")


def test_bytes_are_kept_as_they_are_and_described(folder, examples):
    rows = rows_of(examples)

    assert len(rows) == 60
    row = rows["cat/003.png"]
    content = (folder / "cat" / "003.png").read_bytes()
    pixels = np.asarray(picture(3)).reshape(-1, 3).mean(axis=0)
    assert row["image"] == content
    assert (row["label"], row["format"], row["image_size"]) == ("cat", "png", "8 to 15 px")
    assert (row["width"], row["height"], row["channels"], row["num_bytes"]) == (12, 10, 3, len(content))
    assert row["brightness"] == pytest.approx(pixels @ [0.299, 0.587, 0.114] / 255, abs=1e-5)


def test_splits_are_stratified(examples):
    counts = Counter((row["label"], row["split"]) for row in rows_of(examples).values())

    for label in ("cat", "dog"):
        assert [counts[label, split] for split in FRACTIONS] == pytest.approx([21, 3, 6], abs=2)
    assert json.loads(examples.get_string_custom_property("num_examples")) == {
        split: counts["cat", split] + counts["dog", split] for split in FRACTIONS
    }


def test_scan_of_the_columns_goes_along(examples):
    profile = table_profile.read(Path(examples.uri))

    assert profile.num_rows == 60
    assert profile.column("label").values == ("cat", "dog")
    assert (profile.column("width").minimum, profile.column("width").maximum) == (12, 12)
    assert "image" in profile.names
    assert "image" not in profile.described


def test_same_files_give_the_same_bytes(folder, examples, tmp_path):
    again = run_executor(folder, tmp_path / "again")

    first, second = (
        {path.relative_to(e.uri): path.read_bytes() for path in sorted(Path(e.uri).rglob("*.parquet"))}
        for e in (examples, again)
    )
    assert len(first) == len(FRACTIONS)
    assert first == second


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_beam_and_this_process_write_the_same(tmp_path, monkeypatch):
    root = write_classes(tmp_path / "images", number=30)
    (root / "cat" / "text.png").write_bytes(b"this is no picture")
    (root / "dog" / "copy.png").write_bytes((root / "dog" / "000.png").read_bytes())
    monkeypatch.setattr(image_reading, "FILES_AT_A_TIME", 25)
    monkeypatch.setattr(image_folder, "IMAGES_PER_SHARD", 40)

    here = run_executor(root, tmp_path / "here", **TOLERANT)
    on_beam = run_executor(root, tmp_path / "on_beam", beam_arguments=["--direct_running_mode=in_memory"], **TOLERANT)

    assert contents_of(tmp_path / "here") == contents_of(tmp_path / "on_beam")
    assert sum("Split-train" in name for name in contents_of(tmp_path / "here")) == 2
    for artifact in (here, on_beam):
        assert sum(json.loads(artifact.get_string_custom_property("num_examples")).values()) == 61
    properties = ("num_examples", "payload_format", "file_format")
    assert [here.get_string_custom_property(name) for name in properties] == [
        on_beam.get_string_custom_property(name) for name in properties
    ]


def test_one_machine_needs_no_beam(folder, tmp_path, monkeypatch):
    monkeypatch.delattr(beam, "Pipeline")

    assert len(rows_of(run_executor(folder, tmp_path / "out"))) == 60


def test_new_images_leave_the_old_ones_where_they_were():
    old = {"cat": [f"{n * 7919:064x}"[::-1] for n in range(400)]}
    new = {"cat": [*old["cat"], *(f"{n * 104729:064x}"[::-1] for n in range(1, 200))]}

    before, after = assign_splits(old, FRACTIONS), assign_splits(new, FRACTIONS)

    assert Counter(before.values())["eval"] == pytest.approx(80, abs=20)
    assert all(after[name] == split for name, split in before.items())


@pytest.mark.parametrize("number", [2, 3, 4, 5, 7, 11, 19])
@pytest.mark.parametrize("start", ["0", "f"], ids=["low hashes", "high hashes"])
def test_few_images_are_counted_out_where_their_hashes_say_one_split(number, start):
    hashes = [start + f"{n:063x}" for n in range(number)]

    counts = Counter(assign_splits({"cat": hashes}, FRACTIONS).values())

    assert counts["train"] >= 1
    assert counts["eval"] >= 1
    assert all(abs(counts[name] - share * number) <= 1 for name, share in FRACTIONS.items())


def test_class_of_one_image_is_trained_on(folder, tmp_path):
    write_classes(tmp_path / "images", number=30)
    write_picture(tmp_path / "images" / "emu" / "only.png", 99)

    examples = run_executor(tmp_path / "images", tmp_path / "out")

    assert rows_of(examples)["emu/only.png"]["split"] == "train"
    assert any("'emu' has one image" in line for line in report_warnings(report_of(examples)))


def test_copies_are_on_one_side_and_reported(tmp_path):
    root = write_classes(tmp_path / "images")
    for number in range(20):
        (root / "cat" / f"copy-{number}.png").write_bytes((root / "cat" / f"{number:03}.png").read_bytes())
    (root / "dog" / "wrong.png").write_bytes((root / "cat" / "021.png").read_bytes())

    examples = run_executor(root, tmp_path / "out")

    rows, report = rows_of(examples), report_of(examples)
    assert len(rows) == 81
    splits: dict[bytes, set[str]] = {}
    for row in rows.values():
        splits.setdefault(row["content_hash"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert len(report["copies"]) == 21
    assert report["conflicts"] == [["cat/021.png", "dog/wrong.png"]]
    lines = "\n".join(report_warnings(report))
    assert "21 images are exact copies of others, such as cat/000.png and cat/copy-0.png" in lines
    assert "1 images have several labels, the first cat/021.png and dog/wrong.png" in lines


def test_broken_files_are_listed_with_their_reason_and_left_out(tmp_path):
    root = write_classes(tmp_path / "images", number=20)
    jpeg = encoded(picture(1, size=(200, 200)), "JPEG")
    bad = {
        "cat/cut.jpg": jpeg[: len(jpeg) // 2],
        "cat/text.png": b"this is no picture",
        "dog/empty.jpg": b"",
        "dog/cut.png": encoded(picture(2))[:-30],
        "dog/bits.bmp": encoded(picture(2).convert("1"), "BMP"),
    }
    for name, content in bad.items():
        (root / name).write_bytes(content)
    (root / "dog" / "self.png").symlink_to(root / "dog" / "self.png")

    examples = run_executor(root, tmp_path / "out", **TOLERANT)

    assert len(rows_of(examples)) == 40
    found = reasons(examples)
    assert set(found) == {*bad, "dog/self.png"}
    assert found["cat/cut.jpg"] == "it cannot be decoded: the JPEG data is damaged, or ends too early"
    assert found["cat/text.png"] == "it is not a JPEG, PNG, BMP, GIF or WebP file, whatever its name says"
    assert found["dog/empty.jpg"] == "it is empty: 0 bytes"
    assert "Invalid PNG data" in found["dog/cut.png"]
    assert "symbolic links" in found["dog/self.png"]
    assert any("6 files are broken and left out" in line for line in report_warnings(report_of(examples)))


def test_more_broken_files_than_allowed_stop_the_run_with_exit_code_3(tmp_path):
    root = write_classes(tmp_path / "images", number=20)
    (root / "cat" / "empty.png").write_bytes(b"")

    with pytest.raises(
        AnomaliesError, match=r"1 of 41 files are broken.*allows 0\.01.*\n  cat/empty\.png: it is empty"
    ):
        run_executor(root, tmp_path / "strict")

    assert AnomaliesError.exit_code == 3
    assert len(rows_of(run_executor(root, tmp_path / "out", max_broken_fraction=0.03))) == 40


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    root = write_classes(tmp_path / "images", number=20)
    Image.new("1", (20_000, 20_000)).save(root / "cat" / "bomb.png")
    assert (root / "cat" / "bomb.png").stat().st_size < 100_000

    examples = run_executor(root, tmp_path / "out", **TOLERANT)

    assert reasons(examples).keys() == {"cat/bomb.png"}
    assert "400,000,000 pixels" in reasons(examples)["cat/bomb.png"]
    assert "not decoded" in reasons(examples)["cat/bomb.png"]


def test_limit_of_pixels_is_the_configs():
    content = encoded(picture(0, size=(11, 10)))

    assert inspect(content, max_pixels=110).width == 11
    with pytest.raises(ValueError, match=r"11 x 10 pixels, more than data\.max_pixels, 109; it was not decoded"):
        inspect(content, max_pixels=109)


ODD = {
    "cmyk.jpg": (encoded(picture(0).convert("CMYK"), "JPEG"), "jpeg", 4),
    "colour.jpg": (encoded(picture(0), "JPEG"), "jpeg", 3),
    "progressive.jpg": (encoded(picture(1), "JPEG", progressive=True), "jpeg", 3),
    "grey.jpg": (encoded(picture(0).convert("L"), "JPEG"), "jpeg", 1),
    "palette.png": (encoded(picture(0).convert("P"), "PNG"), "png", 3),
    "16 bits.png": (encoded(Image.fromarray(np.full((10, 12), 40_000, np.uint16)), "PNG"), "png", 1),
    "transparent.png": (encoded(picture(0).convert("RGBA"), "PNG"), "png", 4),
    "animated.gif": (encoded(picture(0), "GIF", save_all=True, append_images=[picture(1)]), "gif", 3),
    "animated.webp": (encoded(picture(0), "WEBP", save_all=True, append_images=[picture(1)]), "webp", 3),
    "plain.bmp": (encoded(picture(0), "BMP"), "bmp", 3),
    "plain.webp": (encoded(picture(0), "WEBP"), "webp", 3),
    "named wrongly.png": (encoded(picture(2), "JPEG"), "jpeg", 3),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Examples by path, of a folder with all kinds of pictures."""
    root = write_classes(tmp_path_factory.mktemp("odd") / "images", number=10)
    for name, (content, _, _) in ODD.items():
        (root / "cat" / name).write_bytes(content)
    return rows_of(run_executor(root, tmp_path_factory.mktemp("odd") / "out", max_broken_fraction=0))


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_good_ones(odd, name):
    content, kind, channels = ODD[name]
    row = odd[f"cat/{name}"]

    assert row["image"] == content
    assert (row["format"], row["channels"], row["width"], row["height"]) == (kind, channels, 12, 10)
    assert 0.3 < row["brightness"] < 0.7


def test_names_may_be_of_any_script_and_any_bytes(tmp_path):
    root = write_classes(tmp_path / "images", classes=("größe 猫", unicodedata.normalize("NFD", "é")), number=10)
    odd_name = os.path.join(os.fsencode(root), "größe 猫".encode(), b"\xff.png")
    with open(odd_name, "wb") as file:
        file.write(encoded(picture(500)))

    rows = rows_of(run_executor(root, tmp_path / "out"))

    assert {row["label"] for row in rows.values()} == {"größe 猫", "é"}
    assert {"größe 猫/003.png", "e\u0301/003.png", "größe 猫/\ufffd.png"} <= set(rows)


def test_empty_class_and_link_in_a_circle_are_reported(tmp_path):
    root = write_classes(tmp_path / "images", number=10)
    (root / "emu").mkdir()
    (root / "cat" / "back").symlink_to(root)

    examples = run_executor(root, tmp_path / "out")

    assert len(rows_of(examples)) == 20
    lines = "\n".join(report_warnings(report_of(examples)))
    assert "The class 'emu' has no image, and is left out." in lines
    assert "cat/back is a link to a folder that contains it, and" in lines


def test_nested_classes_end_the_component(tmp_path):
    for split in ("test", "train"):
        write_classes(tmp_path / "images" / split, number=2)

    with pytest.raises(DataError, match=r"classes are nested.*data\.path: .*test"):
        run_executor(tmp_path / "images", tmp_path / "out")


def test_row_without_label_and_file_that_is_missing_are_left_out(tmp_path):
    root = write_classes(tmp_path, number=10)
    lines = [f"{name}/{number:03}.png,{name}" for name in ("cat", "dog") for number in range(9)]
    (root / "list.csv").write_text("\n".join(["path,label", *lines, "cat/009.png,", "dog/gone.png,dog", ",dog"]) + "\n")

    examples = run_executor(root / "list.csv", tmp_path / "out", **TOLERANT)

    assert len(rows_of(examples)) == 18
    assert reasons(examples) == {
        "cat/009.png": "its label is missing in list.csv",
        "dog/gone.png": "the file listed in list.csv does not exist",
        "row 21 of list.csv": "its path is missing",
    }
    with pytest.raises(AnomaliesError, match=r"3 of 21 files are broken"):
        run_executor(root / "list.csv", tmp_path / "strict", max_broken_fraction=0.1)


def test_list_without_the_label_ends_the_component(tmp_path):
    write_classes(tmp_path, number=2)
    (tmp_path / "list.csv").write_text("path,lable\ncat/000.png,cat\n")

    with pytest.raises(DataError, match=r"no column 'label'\. Did you mean 'lable'"):
        run_executor(tmp_path / "list.csv", tmp_path / "out")


def test_class_whose_files_are_all_broken_ends_the_component(tmp_path):
    root = write_classes(tmp_path / "images", number=5)
    for path in (root / "dog").iterdir():
        path.write_bytes(b"no picture")

    with pytest.raises(DataError, match=r"fewer than two classes\. Received: cat\. Fix the files: dog/000\.png"):
        run_executor(root, tmp_path / "out", max_broken_fraction=0.9)


def test_file_that_changes_while_it_is_read_ends_the_component(tmp_path, monkeypatch):
    root = write_classes(tmp_path / "images", number=5)

    def split_and_change(*arguments: Any) -> dict[str, str]:
        write_picture(root / "cat" / "000.png", 77)
        return assign_splits(*arguments)

    monkeypatch.setattr(image_folder, "assign_splits", split_and_change)
    with pytest.raises(DataError, match=r"cat/000\.png was changed while it was read"):
        run_executor(root, tmp_path / "out")


def test_width_and_height_are_those_of_the_upright_picture():
    exif = Image.Exif()
    exif[0x0112] = 6

    facts = inspect(encoded(picture(0), "JPEG", exif=exif), max_pixels=1_000)

    assert (facts.width, facts.height) == (10, 12)


def test_large_jpeg_has_the_brightness_of_all_its_pixels_and_its_end_is_missed():
    gradient = np.linspace(0, 255, 512).astype(np.uint8)[np.newaxis, :, np.newaxis].repeat(512, 0).repeat(3, 2)
    content = encoded(Image.fromarray(gradient), "JPEG", quality=90)

    assert inspect(content, max_pixels=10**6).brightness == pytest.approx(gradient.mean() / 255, abs=0.005)
    with pytest.raises(ValueError, match="damaged, or ends too early"):
        inspect(content[:-300], max_pixels=10**6)


def test_columns_of_the_list_are_columns_of_the_examples(tmp_path):
    root = write_classes(tmp_path, number=20)
    lines = [f"{name}/{number:03}.png,{name},{number % 2},lab" for name in ("cat", "dog") for number in range(20)]
    (root / "list.csv").write_text("path,label,batch,place\n" + "\n".join(lines) + "\n")

    examples = run_executor(root / "list.csv", tmp_path / "out")

    row = rows_of(examples)["dog/003.png"]
    assert (row["batch"], row["place"], row["label"]) == (1, "lab", "dog")
    assert table_profile.read(Path(examples.uri)).column("place").num_distinct == 1


def test_split_without_an_image_is_an_error(tmp_path):
    root = write_classes(tmp_path / "images", number=2)

    with pytest.raises(DataError, match=r"The split 'validation' has no image.*data\.splits\.validation"):
        run_executor(root, tmp_path / "out")


def test_changed_file_is_another_fingerprint(tmp_path):
    root = write_classes(tmp_path / "images", number=2)
    data = DataConfig.model_validate({"path": str(root), "format": "images"})

    def resolve() -> dict[str, Any]:
        return Driver(None).resolve_exec_properties(dict(ExampleGen(data).exec_properties), None, None)

    before = resolve()["input_fingerprint"]
    assert resolve()["input_fingerprint"] == before
    write_picture(root / "cat" / "000.png", 77)
    assert resolve()["input_fingerprint"] != before

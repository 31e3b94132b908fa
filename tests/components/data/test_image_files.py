import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.components.data.image_files import ImageFiles, find_images, fingerprint
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from tests.components.pictures import write_classes, write_picture


def data_of(path: Path, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"path": str(path), "format": "images", **fields})


def found_in(path: Path, **fields: object) -> ImageFiles:
    return find_images(data_of(path, **fields))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_sub_directory_is_a_class_with_all_that_is_below_it(tmp_path):
    for name in ("cat/a.jpg", "cat/more/b.PNG", "cat/more/still/c.webp", "dog/a.gif", "dog/b.bmp", "dog/c.jpeg"):
        touch(tmp_path / name)

    found = found_in(tmp_path)

    assert found.classes == {"cat": 3, "dog": 3}
    assert [file.name for file in found.files] == sorted(file.name for file in found.files)
    assert not found.broken
    assert not found.warnings


def test_hidden_and_other_files_are_left_alone(tmp_path):
    for name in ("cat/a.png", "cat/.b.png", "cat/.thumbs/c.png", ".git/d.png", "cat/notes.txt", "README.md"):
        touch(tmp_path / name)
    for name in ("dog/a.png", "dog/b.png"):
        touch(tmp_path / name)

    assert [file.name for file in found_in(tmp_path).files] == ["cat/a.png", "dog/a.png", "dog/b.png"]


def test_image_beside_the_classes_is_broken(tmp_path):
    write_classes(tmp_path, number=2)
    touch(tmp_path / "lost.png")

    (broken,) = found_in(tmp_path).broken

    assert (broken.name, "it has no class" in broken.reason) == ("lost.png", True)


def test_empty_class_and_class_of_one_image_are_told(tmp_path):
    write_classes(tmp_path, number=2)
    (tmp_path / "emu").mkdir()
    touch(tmp_path / "fox" / "a.png")

    found = found_in(tmp_path)

    assert found.classes == {"cat": 2, "dog": 2, "fox": 1}
    assert any("'emu' has no image" in warning for warning in found.warnings)
    assert any("'fox' has one image" in warning for warning in found.warnings)


def test_nested_classes_are_an_error_that_names_the_folder_to_give(tmp_path):
    for split in ("test", "train"):
        write_classes(tmp_path / split, number=2)

    with pytest.raises(DataError, match=r"classes are nested: each of 'test', 'train'.*cat, dog.*data\.path: .*test"):
        found_in(tmp_path)


@pytest.mark.parametrize("names", [(), ("cat/a.png", "cat/b.png")], ids=["none", "one"])
def test_fewer_than_two_classes_are_an_error(tmp_path, names):
    for name in names:
        touch(tmp_path / name)

    with pytest.raises(DataError, match=r"at least two classes are needed\. Received: (no image|cat \(2 images\))"):
        found_in(tmp_path)


def test_names_may_be_of_any_script_and_any_bytes(tmp_path):
    touch(tmp_path / "größe 猫" / "ß.png")
    touch(tmp_path / unicodedata.normalize("NFD", "é") / "a.png")
    with open(os.path.join(os.fsencode(tmp_path), "größe 猫".encode(), b"\xff.png"), "wb") as file:
        file.write(b"x")

    found = found_in(tmp_path)

    assert list(found.classes) == ["größe 猫", "é"]
    assert {file.name for file in found.files} == {"größe 猫/ß.png", "größe 猫/\ufffd.png", "e\u0301/a.png"}
    assert all(Path(file.path).read_bytes() == b"x" for file in found.files)


def test_link_in_a_circle_is_left_alone_and_other_links_are_followed(tmp_path):
    write_classes(tmp_path / "data", number=2)
    write_picture(tmp_path / "elsewhere" / "x.png", 7)
    (tmp_path / "data" / "cat" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "dog" / "self.png").symlink_to(tmp_path / "data" / "dog" / "self.png")

    found = found_in(tmp_path / "data")

    assert found.classes == {"cat": 2, "dog": 4}
    assert any("cat/back is a link to a folder that contains it, and" in warning for warning in found.warnings)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_list_gives_path_and_label_and_describes_each_image(tmp_path, suffix):
    write_classes(tmp_path, number=2)
    rows = {
        "path": ["cat/000.png", "cat/001.png", "dog/000.png", str(tmp_path / "dog" / "001.png")],
        "kind": ["1", "1", "2", "2"],
        "place": ["lab", None, "field", "field"],
        "weight": [1.5, 2.0, None, 3.0],
        "age": [1, 2, 3, 4],
    }
    path = tmp_path / f"images{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({**rows, "kind": [1, 1, 2, 2]}), path)
    else:
        lines = zip(*rows.values(), strict=True)
        text = [list(rows), *([("" if cell is None else str(cell)) for cell in line] for line in lines)]
        path.write_text("\n".join(("\t" if suffix == ".tsv" else ",").join(line) for line in text) + "\n")

    found = found_in(path, label="kind")

    assert found.classes == {"1": 2, "2": 2}
    assert found.metadata_types == {"place": "string", "weight": "float", "age": "int64"}
    by_name = {file.name: file.metadata for file in found.files}
    assert by_name["cat/001.png"] == {"weight": 2.0, "age": 2}
    assert by_name["dog/000.png"] == {"place": "field", "age": 3}


def test_row_without_label_and_file_that_is_missing_are_broken(tmp_path):
    write_classes(tmp_path, number=2)
    path = tmp_path / "images.csv"
    path.write_text("path,label\ncat/000.png,cat\ncat/001.png,\ndog/000.png,dog\ndog/gone.png,dog\n,dog\n")

    found = found_in(path)

    assert {(file.name, file.reason) for file in found.broken} == {
        ("cat/001.png", "its label is missing in images.csv"),
        ("dog/gone.png", "the file listed in images.csv does not exist"),
        ("row 5 of images.csv", "its path is missing"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lable\na.png,cat\n", r"no column 'label'\. Did you mean 'lable'\? Received: path, lable"),
        ("file,label\na.png,cat\n", r"no column 'path'"),
        ("path,label,width\na.png,cat,3\n", r"'width' of the list has the name.*data\.drop: \[width\]"),
        ("path,label,score\na.png,cat,3\n", r"'score' of the list has the name"),
        ("path,label\na.png\n", r"cannot be read\. Received: .*images\.csv"),
        ("path,label,place,place\na.png,cat,1,2\n", r"several columns of one name\. Received twice: place"),
        ("", r"cannot be read"),
    ],
)
def test_list_that_does_not_fit_is_an_error(tmp_path, text, message):
    path = tmp_path / "images.csv"
    path.write_text(text)

    with pytest.raises(DataError, match=message):
        found_in(path)


@pytest.mark.parametrize(
    "values",
    [pa.array([[1], [2]]), pa.array([b"\xff", b"a"]), pa.array([2**64 - 1, 1], pa.uint64())],
    ids=["lists", "bytes", "too large"],
)
def test_column_of_a_list_that_is_neither_number_nor_text_is_an_error_or_left_out(tmp_path, values):
    write_classes(tmp_path, number=1)
    table = pa.table({"path": ["cat/000.png", "dog/000.png"], "label": ["cat", "dog"], "odd": values})
    pq.write_table(table, tmp_path / "images.parquet")

    with pytest.raises(DataError, match=r"Column 'odd' of the list contains neither.*data\.drop: \[odd\]"):
        found_in(tmp_path / "images.parquet")
    assert found_in(tmp_path / "images.parquet", drop=["odd"]).metadata_types == {}
    with pytest.raises(DataError, match=r"data\.drop: the list of images has no column 'od'\. Did you mean 'odd'"):
        found_in(tmp_path / "images.parquet", drop=["od"])


def test_path_that_is_not_there_or_no_list_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"data\.path does not exist"):
        found_in(tmp_path / "nowhere")
    (tmp_path / "list.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"is neither a folder nor a file of a table"):
        found_in(tmp_path / "list.xlsx")


def test_bucket_is_an_error_that_says_what_to_do():
    with pytest.raises(
        DataError, match=r"read from the file system\. Received: data\.path: s3://b/f\. Mount the bucket"
    ):
        find_images(DataConfig.model_validate({"path": "s3://b/f", "format": "images"}))


def test_span_is_the_newest(tmp_path):
    for span in (9, 10):
        write_classes(tmp_path / f"day-{span}", number=span)

    assert found_in(tmp_path / "day-{SPAN}").classes == {"cat": 10, "dog": 10}
    with pytest.raises(DataError, match="matches no span"):
        found_in(tmp_path / "week-{SPAN}")
    with pytest.raises(DataError, match="nothing else in braces"):
        found_in(tmp_path / "{SPAN}-{VERSION}")


def test_fingerprint_changes_with_names_labels_and_contents_alone(tmp_path):
    data = data_of(write_classes(tmp_path, number=2))
    before = fingerprint(data)

    assert fingerprint(data) == before
    os.utime(tmp_path / "cat" / "000.png", ns=(1, 1))
    touched = fingerprint(data)
    (tmp_path / "cat" / "000.png").rename(tmp_path / "dog" / "002.png")
    moved = fingerprint(data)
    assert len({before, touched, moved}) == 3

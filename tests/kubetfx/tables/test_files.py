from pathlib import Path

import pytest

from kubetfx.errors import DataError
from kubetfx.tables.files import find_table, format_of, suffix_of


@pytest.mark.parametrize(
    ("name", "suffix", "found"),
    [
        ("a.csv", ".csv", "csv"),
        ("A.TSV.GZ", ".TSV.GZ", "csv"),
        ("a.parquet", ".parquet", "parquet"),
        ("a.jsonl.zst", ".jsonl.zst", "jsonl"),
        ("a.feather", ".feather", "arrow"),
        ("a.parquet.gz", None, None),
        ("a.txt", None, None),
    ],
)
def test_name_says_the_format(name: str, suffix: str | None, found: str | None) -> None:
    assert (suffix_of(name), format_of(name)) == (suffix, found)


def test_folder_is_read_in_the_order_of_names_without_what_is_no_data(tmp_path: Path) -> None:
    names = (
        "b.csv",
        "a.csv",
        ".c.csv",
        "_SUCCESS",
        "_temporary.csv",
        "~b.csv",
        "notes.txt",
        "b.csv.part",
        ".b.csv.crc",
    )
    for name in names:
        (tmp_path / name).touch()

    found = find_table(tmp_path)

    assert (found.format, found.pattern) == ("csv", "*.csv")
    assert [Path(path).name for path in found.paths] == ["a.csv", "b.csv"]
    assert find_table(tmp_path / "b.csv").paths == (str(tmp_path / "b.csv"),)
    assert find_table(tmp_path / "_temporary.csv").paths == (str(tmp_path / "_temporary.csv"),)


def test_files_in_folders_named_by_column_and_value_are_found(tmp_path: Path) -> None:
    for folder in ("year=2024/day=1", "year=2024/day=2", "_temporary/day=3", "else"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("part-0.jsonl.gz", "_SUCCESS"):
            (tmp_path / folder / name).touch()

    found = find_table(tmp_path)

    assert (found.format, found.pattern) == ("jsonl", "*=*/*=*/*.jsonl.gz")
    assert [str(Path(path).relative_to(tmp_path)) for path in found.paths] == [
        "year=2024/day=1/part-0.jsonl.gz",
        "year=2024/day=2/part-0.jsonl.gz",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", r"There is no such file of rows\. Received: .*none\.csv"),
        ("a.dat", r"does not say what it is\. Received: .*a\.dat\. Read are CSV"),
        ("a.xlsx", r"a\.xlsx is a workbook\. Save the sheet as CSV"),
        ("a.avro", "is an Avro file"),
        ("a.PKL", "is a pickle, which could run any code"),
        ("a.sas7bdat", r"read_sas\(...\)\.to_parquet"),
        ("a.csv.xz", "is compressed by something else"),
        ("a.tar.gz", "is an archive"),
        ("a.sqlite", r"Ask it: data\.source: kubetfx\.tables\.sql:read"),
    ],
)
def test_file_that_is_not_read_is_refused_by_name_with_what_to_do(tmp_path: Path, name: str, message: str) -> None:
    if name != "none.csv":
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        find_table(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"There is no file to read \(.csv, .* Received: nothing"),
        (["notes.txt"], "Received: notes.txt"),
        (["a.xlsx"], r"Received: a\.xlsx\. a\.xlsx is a workbook"),
        (["a.csv", "a.parquet"], r"several kinds, which may be the same rows twice\. Received: \.csv, \.parquet"),
        (["a.csv", "a.csv.gz"], r"several kinds, .* Received: \.csv, \.csv\.gz"),
        (["a.csv", "day=1/b.csv"], r"not all equally deep .* Received: a\.csv, day=1/b\.csv"),
    ],
)
def test_folder_without_one_table_is_an_error(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    with pytest.raises(DataError, match=message):
        find_table(tmp_path)

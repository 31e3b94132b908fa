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
        ("a.txt", None, None),
    ],
)
def test_name_says_the_format(name: str, suffix: str | None, found: str | None) -> None:
    assert (suffix_of(name), format_of(name)) == (suffix, found)


def test_folder_is_read_in_the_order_of_names_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.csv", "a.tsv.gz", ".c.csv", "notes.txt"):
        (tmp_path / name).touch()

    found = find_table(tmp_path)

    assert (found.format, [Path(path).name for path in found.paths]) == ("csv", ["a.tsv.gz", "b.csv"])
    assert find_table(tmp_path / "b.csv").paths == (str(tmp_path / "b.csv"),)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.csv", r"There is no such file of rows\. Received: .*none\.csv"), ("a.xlsx", "neither CSV nor Parquet")],
)
def test_file_that_is_no_table_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(DataError, match=message):
        find_table(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "There is no CSV or Parquet file in .* Received: nothing"),
        (["notes.txt"], "Received: notes.txt"),
        (["a.csv", "a.parquet"], "both CSV and Parquet"),
    ],
)
def test_folder_without_one_table_is_an_error(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).touch()

    with pytest.raises(DataError, match=message):
        find_table(tmp_path)

import gzip
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.components.data import column_scan, table_profile, tables
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.storage import ObjectPath
from kubetfx.tables import columnar_table, csv_file
from kubetfx.tables.files import TableFiles
from tests.s3_store import S3Store


def data_config(path: Path | ObjectPath, **fields: Any) -> DataConfig:
    return DataConfig.model_validate({"path": str(path), "label": "y", **fields})


def inspect(path: Path | ObjectPath, **fields: Any) -> table_profile.TableProfile:
    data = data_config(path, **fields)
    return tables.inspect_table(tables.find_files(data), data)


def read(path: Path | ObjectPath, **fields: Any) -> list[dict[str, Any]]:
    """The rows of all files, as the scan of the table typed them."""
    data = data_config(path, **fields)
    files = tables.find_files(data)
    columns = tables.inspect_table(files, data).columns
    return [
        row
        for file in files.paths
        for block in tables.read_blocks(file, columns, file_format=files.format, data=data)
        for row in block.to_pylist()
    ]


def types(path: Path, **fields: Any) -> dict[str, str]:
    return {column.name: column.type for column in inspect(path, **fields).columns}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_of_a_csv_are_typed_and_counted(tmp_path):
    path = write(tmp_path / "a.csv", "i,f,s,y", "1,1.5,a,0", "2,,b,1", "2,2.5,NA,0")

    profile = inspect(path)

    assert profile.num_rows == 3
    assert profile.names == ["i", "f", "s", "y"]
    integer, number, text, _ = profile.columns
    assert (integer.type, integer.num_distinct, integer.values, integer.values_repeat) == ("int64", 2, (1, 2), True)
    assert (integer.minimum, integer.maximum) == (1, 2)
    assert (number.type, number.num_values, number.num_distinct) == ("float", 2, None)
    assert (number.minimum, number.maximum) == (1.5, 2.5)
    assert (text.type, text.num_values, text.values, text.values_repeat) == ("string", 2, ("a", "b"), False)


def test_missing_cells_stay_missing(tmp_path):
    path = write(tmp_path / "a.csv", "i,f,s,y", "1,1.5,a,0", ",,,1", "NA,nan,null,0", '"","N/A","",1')

    assert read(path)[0] == {"i": 1, "f": 1.5, "s": "a", "y": 0}
    assert [(row["i"], row["f"], row["s"]) for row in read(path)[1:]] == [(None, None, None)] * 3


def test_missing_values_can_be_named(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", "-,0", "NA,1")

    assert [row["a"] for row in read(path, missing_values=["-"])] == [None, "NA"]


def test_nan_in_parquet_is_missing(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", f=[1.0, float("nan"), None], y=[0, 1, 0])

    assert [row["f"] for row in read(path)] == [1.0, None, None]


def test_booleans_and_dates_stay_the_text_that_they_are(tmp_path):
    path = write(tmp_path / "a.csv", "b,d,t,y", "true,2024-05-01,2024-05-01 10:00:00,0", "False,2024-05-02,,1")

    assert types(path) == {"b": "string", "d": "string", "t": "string", "y": "int64"}
    assert read(path)[0] == {"b": "true", "d": "2024-05-01", "t": "2024-05-01 10:00:00", "y": 0}
    assert read(path)[1]["b"] == "False"


def test_parquet_booleans_dates_decimals_and_dictionaries_are_read(tmp_path):
    import datetime
    import decimal

    path = write_parquet(
        tmp_path / "a.parquet",
        b=pa.array([True, False]),
        d=pa.array([datetime.date(2024, 5, 1), None]),
        m=pa.array([decimal.Decimal("1.50"), None]),
        c=pa.array(["u", "v"]).dictionary_encode(),
        y=pa.array([0, 1], pa.int8()),
    )

    assert types(path) == {"b": "string", "d": "string", "m": "float", "c": "string", "y": "int64"}
    assert read(path) == [
        {"b": "true", "d": "2024-05-01", "m": 1.5, "c": "u", "y": 0},
        {"b": "false", "d": None, "m": None, "c": "v", "y": 1},
    ]


@pytest.mark.parametrize(
    ("name", "opener", "separator"),
    [("a.csv.gz", gzip.open, ","), ("a.tsv", open, "\t"), ("a.tsv.gz", gzip.open, "\t")],
    ids=["gzip", "tabs", "tabs and gzip"],
)
def test_compressed_and_tab_separated_files_are_read(tmp_path, name, opener, separator):
    with opener(tmp_path / name, "wt", encoding="utf-8") as file:
        file.write(f"a{separator}y\n1{separator}0\n2{separator}1\n")

    assert read(tmp_path / name) == [{"a": 1, "y": 0}, {"a": 2, "y": 1}]


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,y\n1,0\n2,1\n", encoding="utf-8-sig")

    assert read(path) == [{"a": 1, "y": 0}, {"a": 2, "y": 1}]


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,y\r\nu,0\r\nv,1\r\n")

    assert read(path) == [{"a": "u", "y": 0}, {"a": "v", "y": 1}]


def test_dropped_columns_are_not_read(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,y", "1,x,0", "2,z,1")

    assert read(path, drop=["b"]) == [{"a": 1, "y": 0}, {"a": 2, "y": 1}]


def test_dropping_every_column_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", "1,0")

    with pytest.raises(DataError, match=r"no column is left\. Received: data\.drop = \['a', 'y'\]"):
        inspect(path, drop=["a", "y"])


# Blocks


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that a small file has many."""
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 64)
    monkeypatch.setattr(csv_file, "BYTES_PER_COLUMN", 1)
    monkeypatch.setattr(csv_file, "JOINED_ROWS", 1)
    monkeypatch.setattr(columnar_table, "BATCH_ROWS", 4)


def rows_of_letters(number: int) -> list[str]:
    return [f"{i},{i / 4},{'abc'[i % 3]},{i % 2}" for i in range(number)]


def test_reading_in_blocks_gives_the_same_rows_as_reading_whole(tmp_path, monkeypatch):
    csv_path = write(tmp_path / "a.csv", "i,f,s,y", *rows_of_letters(100))
    whole, whole_profile = read(csv_path), inspect(csv_path)
    parquet_path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(whole), parquet_path)
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 64)
    monkeypatch.setattr(csv_file, "BYTES_PER_COLUMN", 1)
    monkeypatch.setattr(csv_file, "JOINED_ROWS", 1)
    monkeypatch.setattr(columnar_table, "BATCH_ROWS", 7)

    assert read(csv_path) == whole
    assert inspect(csv_path) == whole_profile
    assert read(parquet_path) == whole


@pytest.mark.parametrize(("limit", "lengths"), [("JOINED_ROWS", [12, 12, 1]), ("JOINED_BYTES", [4] * 6 + [1])])
def test_small_blocks_are_put_together(tmp_path, monkeypatch, limit, lengths):
    path = write(tmp_path / "a.csv", "text,y", *[f"{'x' * 60},{i % 2}" for i in range(25)])
    table = csv_file.CsvTable.look_at(str(path), data_config(path).csv_options)
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 256)  # 4 rows
    monkeypatch.setattr(csv_file, "BYTES_PER_COLUMN", 1)
    monkeypatch.setattr(csv_file, limit, 10)

    batches = list(table.stream(table.types()))

    assert [batch.num_rows for batch in batches] == lengths
    assert pa.Table.from_batches(batches).column("y").to_pylist() == [str(i % 2) for i in range(25)]


def test_row_longer_than_blocks_is_an_error_in_words(tmp_path, small_blocks):
    path = write(tmp_path / "a.csv", "a,y", *["1,0"] * 20, f"{'x' * 500},1", *["1,0"] * 20)

    with pytest.raises(DataError, match=r"a row that is too long .* Received: more than 64 bytes\. .* Parquet"):
        inspect(path)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_file_is_read_a_block_at_a_time(tmp_path, small_blocks, name):
    csv_path = write(tmp_path / "a.csv", "i,f,s,y", *rows_of_letters(200))
    pq.write_table(pa.Table.from_pylist(read(csv_path)), tmp_path / "a.parquet")
    path = tmp_path / name
    data = data_config(path)
    files = tables.find_files(data)

    blocks = [
        block.num_rows
        for block in tables.read_blocks(str(path), inspect(path).columns, file_format=files.format, data=data)
    ]

    assert sum(blocks) == 200
    assert max(blocks) <= 10


def test_first_block_does_not_wait_for_the_last(tmp_path, small_blocks):
    """A row at the end that cannot be read stops nobody from taking the rows before it."""
    good = write(tmp_path / "good.csv", "i,f,s,y", *rows_of_letters(1_000))
    columns = inspect(good).columns
    bad = write(tmp_path / "bad.csv", "i,f,s,y", *rows_of_letters(1_000), "not a number,1,a,0")

    blocks = tables.read_blocks(str(bad), columns, file_format="csv", data=data_config(bad))

    assert next(blocks).num_rows < 20
    with pytest.raises(DataError, match="not a number"):
        list(blocks)


@pytest.mark.parametrize(
    ("first", "later", "expected"),
    [
        ("1", "2.5", "float"),
        ("1", "many", "string"),
        ("1.5", "many", "string"),
        ("", "2", "int64"),
        ("", "2.5", "float"),
        ("", "many", "string"),
        ("2024-05-01", "soon", "string"),
    ],
    ids=[
        "whole to decimal",
        "whole to text",
        "decimal to text",
        "missing to whole",
        "missing to decimal",
        "missing to text",
        "date to text",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "rows.txt"])
def test_type_that_changes_after_the_first_block_widens(tmp_path, small_blocks, first, later, expected, name):
    path = write(tmp_path / name, "a,y", *[f"{first},0"] * 60, *[f"{later},1"] * 3)

    profile = inspect(path, format="csv")

    assert profile.column("a").type == expected
    assert profile.num_rows == 63
    assert len(read(path, format="csv")) == 63


def test_numbers_keep_their_spelling_in_a_column_that_becomes_text(tmp_path, small_blocks):
    path = write(tmp_path / "a.csv", "a,y", *["007,0"] * 60, "seven,1")

    assert read(path)[0]["a"] == "007"


def test_distinct_values_are_counted_over_blocks(tmp_path, small_blocks):
    path = write(tmp_path / "a.csv", "i,s,y", *[f"{i},{'abc'[i // 40]},{i % 2}" for i in range(120)])

    profile = inspect(path)

    assert profile.column("i").num_distinct == 120
    assert not profile.column("i").values_repeat
    assert profile.column("s").values == ("a", "b", "c")
    assert profile.column("s").values_repeat


@pytest.mark.parametrize(("bound", "expected"), [(10_000, [3, 119, None]), (100, [3, None, None])])
def test_distinct_decimals_are_counted_over_blocks_up_to_a_bound(
    tmp_path, small_blocks, monkeypatch, bound: int, expected: list[int | None]
):
    monkeypatch.setattr(column_scan, "MAX_DISTINCT", bound)
    path = write(tmp_path / "a.csv", "f,g,y", *[f"{i % 3 + 0.5},{i + 0.5 if i else ''},{i % 2}" for i in range(120)])

    assert [inspect(path).column(name).num_decimals for name in "fgy"] == expected


def test_distinct_values_are_counted_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(column_scan, "MAX_DISTINCT", 5)
    path = write(tmp_path / "a.csv", "s,y", *[f"word{i},{i % 2}" for i in range(20)])

    column = inspect(path).column("s")

    assert (column.num_distinct, column.values) == (None, ())


# Errors of one file


def test_empty_lines_before_the_header_are_skipped(tmp_path):
    path = write(tmp_path / "a.csv", "", "", "a,y", "1,0")

    assert read(path) == [{"a": 1, "y": 0}]


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.touch()

    with pytest.raises(DataError, match=r"a\.csv is empty\. A CSV file starts with a line of column names"):
        inspect(path)


def test_empty_gzip_file_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.csv.gz", "wb"):
        pass

    with pytest.raises(DataError, match=r"a\.csv\.gz is empty"):
        inspect(tmp_path / "a.csv.gz")


def test_empty_parquet_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.touch()

    with pytest.raises(DataError, match=r"a\.parquet is empty"):
        inspect(path)


@pytest.mark.parametrize("end", ["", "\n"], ids=["no newline", "newline"])
def test_header_alone_is_refused(tmp_path, end):
    path = tmp_path / "a.csv"
    path.write_text("a,y" + end)

    with pytest.raises(DataError, match=r"The table has a header and no rows\. Received: .*a\.csv"):
        inspect(path)


def test_parquet_without_rows_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", a=pa.array([], pa.int64()), y=pa.array([], pa.int64()))

    with pytest.raises(DataError, match="no rows"):
        inspect(path)


@pytest.mark.parametrize(
    ("lines", "line", "received"),
    [
        (["1,2,0", "1,0", "3,4,1"], 3, r"1,0\."),
        (["1,2,0", "1,2,3,0", "3,4,1"], 3, r"1,2,3,0\."),
        (['"one\ntwo",2,0', '"three\n\nfour",2,1', "1,0"], 7, r"1,0\."),
        (["1,2,0", "", "", "1,0"], 5, r"1,0\."),
        (["1,2,0"] * 500 + ["1,0"], 502, r"1,0\."),
    ],
    ids=["too few", "too many", "after newlines in quotes", "after empty lines", "after the first block"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "rows.txt", "a.csv.gz"])
def test_ragged_row_is_named_by_file_and_line(tmp_path, small_blocks, lines, line, received, name):
    path = tmp_path / name
    content = "\n".join(["a,b,y", *lines]) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    columns = 2 if received == r"1,0\." else 4

    message = (
        f"{re.escape(str(path))}, line {line}: the header has 3 columns, this row has {columns}. Received: {received}"
    )
    with pytest.raises(DataError, match=message):
        inspect(path, format="csv")


def test_quote_that_never_ends_is_named_by_file_and_line(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", "1,0", '"two,1', "3,0")

    with pytest.raises(DataError, match=r"a\.csv, line \d+: "):
        inspect(path)


UTF8 = {"encoding": "utf-8"}
STRADDLING = b"\xc3"  # the first of the two bytes of an e with an acute accent
MIB = 2**20


@pytest.mark.parametrize(
    ("before", "offset_of_bad"),
    [(0, 4), (5_000, 5_004), (MIB, MIB + 4), (3 * MIB + 17, 3 * MIB + 21)],
    ids=["first cell", "same block", "beyond 1 MiB", "beyond 3 MiB"],
)
def test_byte_that_is_not_utf8_is_named_by_its_offset(tmp_path, before, offset_of_bad):
    path = tmp_path / "a.csv"
    filler = (b"abcdefg,0\n" * (before // 10 + 1))[:before]
    path.write_bytes(b"a,y\n" + filler[: len(filler) - len(filler) % 10] + b"x" * (before % 10) + b"\xe9bc,1\n")

    with pytest.raises(DataError, match=rf"a\.csv is not UTF-8\. Received: byte 0xe9 at offset {offset_of_bad}\."):
        inspect(path, csv=UTF8)


@pytest.mark.parametrize("position", [MIB - 2, MIB - 1, MIB], ids=["before", "across", "after"])
def test_character_across_two_chunks_does_not_move_the_offset(tmp_path, position):
    """A good two-byte character at a chunk's edge, and the bad byte some way behind it."""
    path = tmp_path / "a.csv"
    content = b"a,y\n"
    content += b"x" * (position - len(content)) + "é".encode() + b",0\n"
    bad = len(content) + 5
    path.write_bytes(content + b"abcde\xff,1\n")

    with pytest.raises(DataError, match=rf"byte 0xff at offset {bad}\."):
        inspect(path, csv=UTF8)


def test_bad_character_across_two_chunks_is_named_by_its_offset(tmp_path):
    path = tmp_path / "a.csv"
    content = b"a,y\n"
    content += b"x" * (MIB - 1 - len(content)) + STRADDLING
    path.write_bytes(content + b"(,0\nb,1\n")

    with pytest.raises(DataError, match=rf"byte 0xc3 at offset {MIB - 1}\."):
        inspect(path, csv=UTF8)


def test_file_that_ends_within_a_character_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,y\nb,1\nc,\xc3")

    with pytest.raises(DataError, match=r"not UTF-8: it ends in the middle of a character, at offset 11"):
        inspect(path, csv=UTF8)


def test_header_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("größe,y\n1,0\n".encode("latin-1"))

    with pytest.raises(DataError, match=r"byte 0xf6 at offset 2\..*encoding: cp1252"):
        inspect(path, csv=UTF8)


def test_duplicate_column_names_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,a,y", "1,2,3,0")

    with pytest.raises(DataError, match=r"a\.csv has several columns of one name\. Received twice: a\."):
        inspect(path)


def test_duplicate_column_names_in_parquet_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([0])], names=["a", "a", "y"]), path)

    with pytest.raises(DataError, match=r"a\.parquet has several columns of one name\. Received twice: a\."):
        inspect(path)


def test_column_without_a_name_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "a,,y", "1,2,0")

    with pytest.raises(DataError, match=r"a\.csv: column 2 has no name\. Received the header: a,,y"):
        inspect(path)


def test_parquet_that_was_said_to_be_csv_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.csv", a=[1], y=[0])

    with pytest.raises(
        DataError, match=r"a\.csv is a Parquet file\. Rename it to \.parquet, or say what it is: data\.format"
    ):
        inspect(path)


@pytest.mark.parametrize("fields", [{}, {"format": "parquet"}], ids=["by its name", "by data.format"])
def test_csv_that_was_said_to_be_parquet_is_refused(tmp_path, fields):
    path = write(tmp_path / "a.parquet", "a,y", "1,0")

    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file\. Say what it is, data\.format: csv"):
        inspect(path, **fields)


def test_gzip_that_is_none_is_refused(tmp_path):
    path = write(tmp_path / "a.csv.gz", "a,y", "1,0")

    with pytest.raises(DataError, match=r"a\.csv\.gz"):
        inspect(path)


def test_gzip_that_was_cut_short_is_refused(tmp_path):
    content = gzip.compress(os.urandom(20_000).hex().encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,y\n" + os.urandom(20_000).hex().encode() + b",0\n")[: len(content) // 2])

    with pytest.raises(DataError, match=r"a\.csv\.gz"):
        inspect(path)


def test_parquet_that_was_cut_short_is_refused(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", a=list(range(1_000)), y=[0, 1] * 500)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file"):
        inspect(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_file_without_permission_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("a,y\n1,0\n")
    path.chmod(0)

    with pytest.raises(DataError, match=rf"{name} may not be read\. Grant read permission"):
        inspect(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_folder_without_permission_is_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "a.csv", "a,y", "1,0")
    folder.chmod(0)
    try:
        with pytest.raises(DataError, match=r"may not be read"):
            inspect(folder)
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its permissions in a child process")
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "folder"])
def test_without_permission_another_user_is_refused(tmp_path, name):
    """What the tests above show, for a machine on which they run as root: a child process that is somebody else."""
    import multiprocessing

    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_text("a,y\n1,0\n")
    path.chmod(0)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()

    def child() -> None:
        os.setuid(65534)
        try:
            inspect(path)
        except BaseException as error:  # whatever it is, the parent judges it
            sender.send((type(error).__name__, str(error)))

    process = context.Process(target=child)
    process.start()
    process.join(30)

    assert receiver.poll(), "the file was read"
    kind, message = receiver.recv()
    assert kind == "DataError"
    assert "may not be read" in message


# Several files


@pytest.mark.parametrize(
    "path",
    ["nothing.csv", "*.csv", "no/such/folder/*.csv", "no/such/folder"],
    ids=["file", "glob", "glob in no folder", "folder"],
)
def test_path_that_matches_nothing_is_refused(tmp_path, path):
    with pytest.raises(DataError, match=r"data\.path matches no file\. Received: .*" + re.escape(path)):
        inspect(tmp_path / path)


def test_folder_without_a_table_is_refused_with_what_it_holds(tmp_path):
    write(tmp_path / "notes.txt", "hello")

    with pytest.raises(DataError, match=r"There is no file to read \(.csv, .*\) in .*\. Received: notes\.txt\."):
        inspect(tmp_path)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"Received: nothing\."):
        inspect(tmp_path)


@pytest.mark.parametrize("other", ["b.parquet", "b.tsv", "b.csv.gz"])
def test_folder_of_several_kinds_is_refused(tmp_path, other):
    write(tmp_path / "a.csv", "a,y", "1,0")
    (tmp_path / other).touch()

    with pytest.raises(
        DataError, match=r"holds files of several kinds, which may be .* Received: .*, or name the files to read"
    ):
        inspect(tmp_path)


def test_format_that_was_said_picks_among_several_kinds(tmp_path):
    write(tmp_path / "a.csv", "a,y", "1,0")
    write_parquet(tmp_path / "b.parquet", a=[2], y=[1])

    assert read(tmp_path, format="parquet") == [{"a": 2, "y": 1}]
    assert read(tmp_path, format="csv") == [{"a": 1, "y": 0}]


def test_glob_over_both_formats_is_refused(tmp_path):
    write(tmp_path / "a.csv", "a,y", "1,0")
    write_parquet(tmp_path / "a.parquet", a=[2], y=[1])

    with pytest.raises(DataError, match=r"are of several formats\. Received: .*a\.csv, .*a\.parquet"):
        inspect(tmp_path / "a.*")


def test_glob_over_unknown_names_is_refused(tmp_path):
    write(tmp_path / "a.dat", "a,y", "1,0")

    with pytest.raises(DataError, match=r"does not say what it is\. Received: .*a\.dat\. Read are CSV"):
        inspect(tmp_path / "*.dat")


def test_hidden_files_of_a_folder_are_not_read(tmp_path):
    write(tmp_path / "a.csv", "a,y", "1,0")
    write(tmp_path / ".b.csv", "other", "1")

    assert inspect(tmp_path).names == ["a", "y"]


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    for name, value in (("b", 2), ("c", 3), ("a", 1)):
        write(tmp_path / f"{name}.csv", "v,y", f"{value},0")

    assert [row["v"] for row in read(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("pattern", ["span-{SPAN}/*.csv", "span-{SPAN:2}/*.csv", "span-*/*.csv"])
def test_spans_are_found(tmp_path, pattern):
    (tmp_path / "span-01").mkdir()
    path = write(tmp_path / "span-01" / "a.csv", "v,y", "1,0")

    files = tables.find_files(data_config(tmp_path / pattern))

    assert files.paths == (str(path),)
    assert files.root == tmp_path
    assert files.pattern == pattern


def test_columns_of_several_files_are_put_together_and_it_is_said(tmp_path):
    write(tmp_path / "a.csv", "a,b,y", "1,2,0")
    write(tmp_path / "b.csv", "a,c,y", "3,x,1")

    assert read(tmp_path) == [{"a": 1, "b": 2, "y": 0, "c": None}, {"a": 3, "b": None, "y": 1, "c": "x"}]
    assert inspect(tmp_path).notes == [
        "b.csv lacks columns of the files before it, which are missing cells there: b.",
        "b.csv has columns that the files before it lack, which are missing cells there: c.",
    ]
    assert inspect(tmp_path, drop=["b", "c"]).notes == []


@pytest.mark.parametrize(("with_label", "without"), [("a.csv", "b.csv"), ("b.csv", "a.csv")])
def test_a_file_without_the_label_is_refused(tmp_path, with_label, without):
    write(tmp_path / with_label, "a,y", "1,0")
    write(tmp_path / without, "a,z", "1,0")

    with pytest.raises(DataError, match=rf"{without} lacks the label 'y', which other files have\. .*: a, z\."):
        inspect(tmp_path)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_label_of_whole_numbers_with_points_and_gaps_is_whole_and_said(tmp_path, format):
    if format == "csv":
        path = write(tmp_path / "a.csv", "a,y", "1,0.0", "2,1.0", "3,", "4,0.0")
    else:
        path = write_parquet(tmp_path / "a.parquet", a=[1, 2, 3, 4], y=[0.0, 1.0, float("nan"), 0.0])

    label = column_of(path, "y", drop_rows_without_label=True)
    assert (label.type, label.values, label.num_values) == ("int64", (0, 1), 3)
    assert label.note == "whole numbers, though written with a decimal point"
    assert [row["y"] for row in read(path)] == [0, 1, None, 0]


def test_a_label_with_a_fraction_is_decimal(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", "1,0.0", "2,1.5")

    assert types(path) == {"a": "int64", "y": "float"}


def test_files_with_columns_in_another_order_are_read(tmp_path):
    write(tmp_path / "a.csv", "a,b,y", "1,x,0")
    write(tmp_path / "b.csv", "y,b,a", "1,z,2")

    assert read(tmp_path) == [{"a": 1, "b": "x", "y": 0}, {"a": 2, "b": "z", "y": 1}]


def test_file_with_a_header_alone_is_read_among_others(tmp_path):
    write(tmp_path / "a.csv", "a,y", "u,0")
    write(tmp_path / "b.csv", "a,y")
    write(tmp_path / "c.csv", "a,y", "v,1")

    assert read(tmp_path) == [{"a": "u", "y": 0}, {"a": "v", "y": 1}]


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [("1", "x", ("int64", "string")), ("x", "1", ("string", "int64")), ("1.5", "x", ("float", "string"))],
    ids=["whole numbers and text", "text and whole numbers", "decimals and text"],
)
def test_types_that_disagree_over_files_are_refused(tmp_path, first, second, kinds):
    write(tmp_path / "a.csv", "c,y", f"{first},0")
    write(tmp_path / "b.csv", "c,y", f"{second},1")

    message = rf"b\.csv: column 'c' holds {kinds[1]}\. Received: {kinds[0]} in .*a\.csv\."
    with pytest.raises(DataError, match=message):
        inspect(tmp_path)


def test_disagreement_names_the_file_that_said_the_other_type(tmp_path):
    """The first file has no value in the column: it cannot disagree."""
    write(tmp_path / "a.csv", "c,y", ",0")
    write(tmp_path / "b.csv", "c,y", "1,0")
    write(tmp_path / "c.csv", "c,y", "x,1")

    with pytest.raises(DataError, match=r"c\.csv: column 'c' holds string\. Received: int64 in .*b\.csv\."):
        inspect(tmp_path)


@pytest.mark.parametrize(("first", "second"), [("1", "2.5"), ("2.5", "1")], ids=["decimals last", "decimals first"])
def test_whole_numbers_in_one_file_and_decimals_in_another_are_decimals(tmp_path, first, second):
    write(tmp_path / "a.csv", "c,y", f"{first},0")
    write(tmp_path / "b.csv", "c,y", f"{second},1")

    column = inspect(tmp_path).column("c")

    assert (column.type, column.minimum, column.maximum) == ("float", 1, 2.5)
    assert [row["c"] for row in read(tmp_path)] == [float(first), float(second)]


@pytest.mark.parametrize("order", ["ab", "ba"], ids=["empty first", "empty last"])
@pytest.mark.parametrize(
    ("values", "expected_type", "expected_values"),
    [(["u", "v"], "string", ("u", "v")), (["3", "4"], "int64", (3, 4))],
    ids=["text", "whole numbers"],
)
def test_file_whose_cells_are_all_missing_takes_the_type_of_the_others(
    tmp_path, order: str, values: Sequence[str], expected_type, expected_values
):
    write(tmp_path / f"{order[0]}.csv", "c,y", ",0", ",1")
    write(tmp_path / f"{order[1]}.csv", "c,y", *[f"{value},0" for value in values])

    column = inspect(tmp_path).column("c")

    assert column.type == expected_type
    assert column.num_values == 2
    assert column.values == expected_values
    assert column.num_distinct == 2
    assert {row["c"] for row in read(tmp_path)} == {None, *expected_values}


# The label


def profile_of(*columns: ColumnProfile, num_rows: int = 10) -> table_profile.TableProfile:
    return table_profile.TableProfile(columns, num_rows)


def label_column(**fields: Any) -> ColumnProfile:
    values = fields.pop("values", ("a", "b"))
    defaults = {"num_values": 10, "num_distinct": len(values), "values": values, "type": "string"}
    return ColumnProfile("y", **defaults | fields)


def test_missing_label_column_lists_the_columns_nearest_first():
    profile = profile_of(ColumnProfile("island", "string"), ColumnProfile("species", "string"))

    message = (
        r"There is no column 'specie' to predict\. Did you mean 'species'\? Received the columns: species, island\."
    )
    with pytest.raises(DataError, match=message):
        tables.check_label(profile, DataConfig(path="", label="specie"))


def test_label_of_one_class_is_refused():
    with pytest.raises(DataError, match=r"'y' has one value, .*Received: 'a' in all 10 rows\."):
        tables.check_label(profile_of(label_column(values=("a",))), DataConfig(path="", label="y"))


def test_number_to_predict_that_never_changes_is_refused():
    label = label_column(type="float", num_distinct=None, values=(), minimum=1.5, maximum=1.5)

    with pytest.raises(DataError, match=r"'y' has one value, .*Received: 1\.5 in all 10 rows\."):
        tables.check_label(profile_of(label), DataConfig(path="", label="y"))


def test_rows_without_a_label_are_counted():
    message = r"'y' is missing in 3 of 10 rows\. .*data\.drop_rows_without_label: true"
    with pytest.raises(DataError, match=message):
        tables.check_label(profile_of(label_column(num_values=7)), DataConfig(path="", label="y"))


def test_rows_without_a_label_are_left_out_if_asked():
    label = label_column(num_values=7)
    data = DataConfig(path="", label="y", drop_rows_without_label=True)

    assert tables.check_label(profile_of(label), data) == label


def test_label_that_is_missing_everywhere_is_refused():
    data = DataConfig(path="", label="y", drop_rows_without_label=True)

    with pytest.raises(DataError, match=r"'y' is missing in all 10 rows"):
        tables.check_label(profile_of(label_column(num_values=0, values=())), data)


@pytest.mark.parametrize("name", ["a.csv", "DATA.CSV", "A.csv.gz"])
def test_folder_and_its_pattern_find_the_same_files(tmp_path, name):
    """ExampleGen is told the pattern, and what is checked beforehand is the folder."""
    content = b"a,y\n1,0\n2,1\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (tmp_path / f"._{name}").write_bytes(b"left by another system")

    by_folder = tables.find_files(DataConfig(path=str(tmp_path), label="y"))
    by_pattern = tables.find_files(DataConfig(path=f"{by_folder.root}/{by_folder.pattern}", label="y"))

    assert by_folder.paths == by_pattern.paths == (str(tmp_path / name),)
    assert tables.inspect_table(by_folder, DataConfig(path=str(tmp_path), label="y")).num_rows == 2


def test_same_values_in_two_files_are_no_identifier(tmp_path, monkeypatch):
    monkeypatch.setattr(column_scan, "MAX_DISTINCT", 5)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("user,y\n" + "".join(f"u{i},{i % 2}\n" for i in range(20)))
    data = DataConfig(path=str(tmp_path), label="y")

    assert tables.inspect_table(tables.find_files(data), data).column("user").values_repeat


def test_index_without_a_name_is_left_alone(tmp_path):
    (tmp_path / "a.csv").write_text(",a,y\n0,1,0\n1,2,1\n")
    data = DataConfig(path=str(tmp_path), label="y")

    assert tables.inspect_table(tables.find_files(data), data).names == ["a", "y"]


def upload(folder: Path, bucket: ObjectPath) -> ObjectPath:
    for path in folder.iterdir():
        (bucket / path.name).upload(path)
    return bucket


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.tsv", "rows.parquet"])
def test_table_in_a_bucket_is_read_like_one_on_a_disk(any_bucket, tmp_path, name):
    text = "\ufeffi,f,s,y\n" + "".join(f"{n},{n / 4 if n % 3 else ''},ä{n % 7},{n % 2}\n" for n in range(1_000))
    if name.endswith(".parquet"):
        columns = {"i": range(1_000), "s": [f"ä{n % 7}" for n in range(1_000)], "y": [n % 2 for n in range(1_000)]}
        write_parquet(tmp_path / name, **columns)
    elif name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    else:
        (tmp_path / name).write_text(text.replace(",", "\t") if name.endswith(".tsv") else text)
    upload(tmp_path, any_bucket)

    assert inspect(any_bucket) == inspect(tmp_path)
    assert read(any_bucket / "rows.*") == read(tmp_path / "rows.*")
    assert read(any_bucket / name) == read(tmp_path / name)
    assert len(read(any_bucket)) == 1_000


def test_files_in_a_bucket_are_found_as_on_a_disk(bucket, tmp_path):
    for name in ("a.csv", "b.csv", ".hidden.csv", "notes.txt", "deep.csv"):
        write(tmp_path / name, "x,y", "1,0")
    (upload(tmp_path, bucket) / "folder" / "c.csv").write_text("x,y\n2,1\n")

    found = tables.find_files(data_config(bucket))
    spans = tables.find_files(data_config(bucket / "f*" / "*.csv"))

    assert found == TableFiles(bucket, tuple(f"{bucket}/{n}.csv" for n in ("a", "b", "deep")), "csv", "*.csv")
    assert spans == TableFiles(bucket, (f"{bucket}/folder/c.csv",), "csv", "f*/*.csv")


def test_spans_in_a_bucket_are_those_that_tfx_sees(bucket):
    for span in ("1", "2", "10"):
        (bucket / f"span-{span}" / "v-1" / "rows.csv").write_text("x,y\n1,0\n")

    found = tables.find_files(data_config(bucket / "span-{SPAN}" / "v-{VERSION}" / "*.csv"))

    assert found.paths == (f"{bucket}/span-10/v-1/rows.csv",)
    assert found.root == bucket


@pytest.mark.parametrize("path", ["", "none", "*.csv", "none/*.csv"])
def test_nothing_at_the_place_in_a_bucket_is_told(bucket, path):
    place = bucket / path if path else bucket

    with pytest.raises(
        DataError, match=rf"data\.path matches no file\. Received: {re.escape(str(place))}\. Give a file"
    ):
        tables.find_files(data_config(place))


def test_fault_of_a_file_in_a_bucket_has_its_url_and_line(bucket):
    (bucket / "rows.csv").write_text("x,y\n1,0\n2\n")
    (bucket / "rows.parquet").write_text("no")

    with pytest.raises(DataError, match=rf"{bucket}/rows\.csv, line 3: the header has 2 columns, this row has 1"):
        inspect(bucket / "rows.csv")
    with pytest.raises(DataError, match=rf"{bucket}/rows\.parquet is not a Parquet file"):
        inspect(bucket / "rows.parquet")


def test_store_that_refuses_is_told_with_what_is_read(bucket, s3_store: S3Store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    for path in (bucket, bucket / "*.csv"):
        with pytest.raises(DataError, match=rf"data\.path cannot be read\. {s3_store.url} refuses the credentials"):
            tables.find_files(data_config(path))


def test_unchanged_table_is_scanned_once_and_a_changed_one_again(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n3,4\n")
    data = DataConfig(path=str(path), label="y")
    files = tables.find_files(data)
    first = tables.inspect_table(files, data)
    scans = []
    scan = tables._inspect_table
    monkeypatch.setattr(tables, "_inspect_table", lambda *arguments: scans.append(1) or scan(*arguments))
    assert tables.inspect_table(files, data) is first
    assert not scans
    assert tables.inspect_table(files, data.model_copy(update={"drop": ("x",)})).names == ["y"]
    path.write_text("x,y\n1,2\n3,4\n5,6\n")
    assert tables.inspect_table(files, data).num_rows == 3
    assert len(scans) == 2


def test_mean_of_whole_numbers_is_that_of_all_files(tmp_path):
    write(tmp_path / "a.csv", "n,f,y", "0,0.5,0", "1,1.5,1", "5,2.5,0")
    write(tmp_path / "b.csv", "n,f,y", ",0.5,0", "10,1.5,1")

    profile = inspect(tmp_path)

    assert profile.column("n").mean == 4.0
    assert profile.column("f").mean is None
    assert inspect(tmp_path / "a.csv").column("n").mean == 2.0


def column_of(path: Path, name: str, **fields: Any) -> ColumnProfile:
    return inspect(path, **fields).column(name)


def test_the_same_table_in_eight_spellings_is_the_same_table(tmp_path):
    """Not only alike: the rows are equal, and with them splits, examples and model."""
    rows = [(1200.5, "Köln", 0), (65000.25, "Zürich, alt", 1), (7.0, "Bern", 0), (0.5, "Aarau", 1)] * 10
    lines = [f'{amount};"{city}";{y}' for amount, city, y in rows]
    plain = "amount;city;y\n" + "\n".join(lines) + "\n"
    euro = "amount;city;y\n" + "\n".join(line.replace(".", ",", 1) for line in lines) + "\n"
    dollars = "amount,city,y\n" + "\n".join(f'"${a:,.2f}","{c}",{y}' for a, c, y in rows) + "\n"
    spellings = {
        "semicolons.csv": plain.encode(),
        "tabs.csv": plain.replace(";", "\t").encode(),
        "bars.csv": plain.replace(";", "|").encode(),
        "commas.csv": plain.replace(";", ",").encode(),
        "decimal_commas.csv": euro.encode("cp1252"),
        "utf16.csv": euro.encode("utf-16"),
        "dollars.csv": dollars.encode("latin-1"),
        "excel.csv": b"sep=;\r\n" + plain.replace("\n", "\r\n").encode(),
    }
    for name, content in spellings.items():
        (tmp_path / name).write_bytes(content)
        assert types(tmp_path / name) == {"amount": "float", "city": "string", "y": "int64"}, name
        found = [(row["amount"], row["city"], row["y"]) for row in read(tmp_path / name)]
        assert found == rows, name


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["$1,200", "$65,000"], [1200, 65000]),
        (["45%", "7.5%"], [0.45, 0.075]),
        (["(3)", "4"], [-3, 4]),
        (["1", "?"], [1, None]),
        (["1.5", "-"], [1.5, None]),
        (["N/A.", "2"], [None, 2]),
        (["1 000", "2"], [1000, 2]),
    ],
)
def test_numbers_in_their_usual_spellings_are_numbers_and_said(tmp_path, cells, values):
    path = write(tmp_path / "a.csv", "a,y", *(f'"{cell}",{index % 2}' for index, cell in enumerate(cells)))

    assert [row["a"] for row in read(path)] == values
    assert column_of(path, "a").note
    assert inspect(path).notes == [f"Column 'a': {column_of(path, 'a').note}."]


def test_what_was_understood_is_said_with_an_example(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", '"$1,200",0', "?,1", "3,0")

    assert column_of(path, "a").note == "'$1,200' is read as 1200, '?' is a missing cell"


@pytest.mark.parametrize(
    ("cell", "is_said"),
    [("5 kg", True), ("€1.5M", True), ('"1,23,456"', True), ("12-", True), ("A12", False), ("3 to 4", False)],
)
def test_numbers_with_something_behind_them_are_text_and_said(tmp_path, cell, is_said):
    column = column_of(write(tmp_path / "a.csv", "x,y", *[f"{cell},1"] * 30), "x")

    bare = cell.strip('"')
    assert (column.type, column.note) == ("string", f"text, since {bare!r} is not a number" if is_said else None)


def test_one_odd_cell_in_many_numbers_is_missing_and_told_with_value_row_and_count(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", *(f"{'12o5' if i == 6000 else i},{i % 2}" for i in range(10_000)))

    column = column_of(path, "a")
    assert (column.type, column.num_values) == ("int64", 9_999)
    assert column.odd_cells == "1 of 10,000 cells is not a number, the first '12o5' in row 6,001"
    assert [row["a"] for row in read(path)][5999:6002] == [5999, None, 6001]


def test_an_odd_cell_beyond_the_first_block_does_not_change_what_the_column_is(tmp_path):
    cells = ["1234567.5"] * 600_000 + ["odd"] + ["2"] * 10
    path = write(tmp_path / "a.csv", "a,y", *(f"{cell},{i % 2}" for i, cell in enumerate(cells)))

    column = column_of(path, "a")
    assert (column.type, column.num_values) == ("float", 600_010)
    assert column.odd_cells == "1 of 600,011 cells is not a number, the first 'odd' in row 600,001"


def test_a_word_among_few_numbers_is_a_kind_and_not_a_mistake(tmp_path):
    """Numbers of cylinders have `rotary` among them (Cars93 of R's package MASS)."""
    path = write(tmp_path / "a.csv", "c,y", *(f"{'rotary' if i == 56 else 3 + i % 5},{i % 2}" for i in range(93)))

    assert column_of(path, "c").type == "string"
    assert column_of(path, "c").note == "text, since 1 cell is not a number, such as 'rotary' in row 57"


def test_one_odd_cell_of_a_small_column_of_many_numbers_is_a_mistake(tmp_path):
    path = write(tmp_path / "a.csv", "c,y", *(f"{'6.2x' if i == 30 else i * 1.5},{i % 2}" for i in range(43)))

    assert column_of(path, "c").odd_cells == "1 of 43 cells is not a number, the first '6.2x' in row 31"


def test_a_column_of_codes_that_are_mostly_numbers_is_text_and_said(tmp_path):
    cells = ["V57" if i % 50 == 7 else str(200 + i) for i in range(1000)]
    path = write(tmp_path / "a.csv", "a,y", *(f"{cell},{i % 2}" for i, cell in enumerate(cells)))

    column = column_of(path, "a")
    assert column.type == "string"
    assert column.note == "text, since 20 cells are not numbers, such as 'V57' in row 8"
    assert read(path)[7]["a"] == "V57"


@pytest.mark.parametrize("where", [0, 600_000], ids=["first block", "late"])
def test_leading_zeros_mean_text_wherever_they_are(tmp_path, where):
    cells = ["00501" if i == where else "10115" for i in range(600_001)]
    path = write(tmp_path / "a.csv", "zip,y", *(f"{cell},{i % 2}" for i, cell in enumerate(cells)))

    column = column_of(path, "zip")
    assert (column.type, column.values) == ("string", ("00501", "10115"))
    assert column.note == "text, since '00501' begins with a zero"


def test_zero_itself_and_decimals_below_one_are_numbers(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,y", "0,0.5,0", "0 ,0.25,1", "1,1,1")

    assert types(path) == {"a": "int64", "b": "float", "y": "int64"}


def test_types_can_be_said(tmp_path):
    path = write(tmp_path / "a.csv", "zip,code,y", "501,007,0", "10115,x,1", "9,3,1")

    assert types(path, types={"zip": "text", "code": "number"}) == {"zip": "string", "code": "int64", "y": "int64"}
    assert [(r["zip"], r["code"]) for r in read(path, types={"zip": "text", "code": "number"})] == [
        ("501", 7), ("10115", None), ("9", 3),
    ]  # fmt: skip
    assert "the first 'x' in row 2" in str(column_of(path, "code", types={"code": "number"}).odd_cells)


def test_types_can_be_said_of_parquet(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", zip=[501, 10115], amount=["$1,200", "?"], y=[0, 1])
    stated = {"zip": "text", "amount": "number"}

    assert read(path, types=stated) == [
        {"zip": "501", "amount": 1200, "y": 0},
        {"zip": "10115", "amount": None, "y": 1},
    ]
    assert types(path) == {"zip": "int64", "amount": "string", "y": "int64"}  # Parquet says itself what it holds


def test_a_text_that_only_has_placeholders_stays_text(tmp_path):
    path = write(tmp_path / "a.csv", "a,y", "unknown,0", "none,1", ",1")

    assert [row["a"] for row in read(path)] == ["unknown", "none", None]


def test_structs_of_parquet_are_columns_and_what_has_no_meaning_is_left_out_and_said(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet",
        home=[{"city": "Bern", "at": {"x": 1.5}}, None],
        vector=[[0.5], []],
        blob=[b"x", b"y"],
        fixed=pa.array([b"\x00\xff", b"\x01\xff"], pa.binary(2)),
        big=pa.array([2**63 + 2048, 1], pa.uint64()),
        y=[0, 1],
    )

    assert read(path) == [
        {"home.city": "Bern", "home.at.x": 1.5, "big": float(2**63 + 2048), "y": 0},
        {"home.city": None, "home.at.x": None, "big": 1.0, "y": 1},
    ]
    assert inspect(path).notes == [
        "Column 'vector' is left out: it holds list<element: double>, neither numbers, text nor lists of categories.",
        "Column 'blob' is left out: it holds binary, neither numbers, text nor lists of categories.",
        "Column 'fixed' is left out: it holds fixed_size_binary[2], neither numbers, text nor lists of categories.",
    ]


def test_notes_say_how_the_file_is_written(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("größe;y\n1,5;0\n2,5;1\n".encode("cp1252"))

    assert inspect(path).notes == [
        "a.csv is separated by semicolons, with decimal commas, in cp1252. The encoding is a guess: if letters are "
        "wrong, say data.csv: {encoding: cp1250} for example."
    ]


def test_folders_named_by_column_and_value_are_columns(tmp_path):
    """As Hive and Spark write them. The type is that of all values: a month of 01 to 12 is text in each file."""
    for month, value in (("01", 1), ("12", 2)):
        for country in ("de", "a%20b", "__HIVE_DEFAULT_PARTITION__"):
            folder = tmp_path / "year=2024" / f"month={month}" / f"country={country}"
            folder.mkdir(parents=True)
            write(folder / "part-0.csv", "v,y", f"{value},0", f"{value},1")

    assert types(tmp_path) == {"v": "int64", "y": "int64", "year": "int64", "month": "string", "country": "string"}
    rows = read(tmp_path)
    assert {(row["v"], row["month"]) for row in rows} == {(1, "01"), (2, "12")}
    assert {row["country"] for row in rows} == {"de", "a b", None}
    assert {row["year"] for row in rows} == {2024}
    assert column_of(tmp_path, "country").num_values == 8
    assert inspect(tmp_path, drop=["year", "month"]).names == ["v", "y", "country"]
    assert inspect(tmp_path, types={"year": "text"}).column("year").type == "string"


def test_a_column_of_the_file_counts_for_more_than_its_folder(tmp_path):
    (tmp_path / "v=9").mkdir()
    write(tmp_path / "v=9" / "a.csv", "v,y", "1,0", "2,1")

    assert [row["v"] for row in read(tmp_path)] == [1, 2]


def test_folders_of_another_depth_are_refused(tmp_path):
    for folder in ("a=1", "a=1/b=2"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "t.csv", "v,y", "1,0")

    with pytest.raises(DataError, match="are not all equally deep"):
        inspect(tmp_path)


def test_dates_are_not_said_to_be_codes(tmp_path):
    path = write(tmp_path / "a.csv", "day,y", *(f"0{i % 9 + 1}.10.19{i % 80 + 10},{i % 2}" for i in range(100)))

    assert (column_of(path, "day").type, column_of(path, "day").note) == ("string", "dates as %d.%m.%Y")

import bz2
import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubetfx.errors import DataError
from kubetfx.tables import blocks, text_table
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.files import Format
from kubetfx.tables.table_file import Cut

CELLS = st.one_of(
    st.text(alphabet="ab1,\"\n\r' é", max_size=6),
    st.sampled_from(["", "NA", '5" pipe', 'say "so"', "a\nb", "a\r\nb", "-1.5"]),
)


def read_all(path: Path, columns: list[str], *, cut: Cut | None = None) -> list[tuple]:
    """Every row, block by block: the block's number, the row's within it, and its cells."""
    rows = []
    options = CsvOptions(missing_values=())
    for segment in blocks.segments(str(path), format_of(path), options, first_block=0, cut=cut or Cut()):
        wanted = [block.number for block in segment.blocks]
        for block, found in blocks.read_blocks(segment, wanted, columns=columns, numbers=[]):
            assert len(found.index) + len(found.bad) == block.num_rows
            for index, row in zip(found.index, found.table.to_pylist(), strict=True):
                rows.append((block.number, int(index), *row.values()))
    return rows


def format_of(path: Path) -> Format:
    return "parquet" if path.suffix == ".parquet" else "csv"


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=30),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    block_bytes=st.integers(5, 60),
    is_packed=st.booleans(),
)
def test_blocks_of_a_csv_hold_every_row_once(tmp_path, monkeypatch, rows, line_end, quoting, block_bytes, is_packed):
    monkeypatch.setattr(text_table, "BLOCK_BYTES", block_bytes)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows([("x", "y"), *rows])
    path = tmp_path / ("rows.csv.gz" if is_packed else "rows.csv")
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if is_packed else content)

    found = read_all(path, ["x", "y"])

    whole = csv.reader(io.StringIO(text.getvalue(), newline=""))  # Python 3.11 writes a lone \r without quotes
    assert [list(row[2:]) for row in found] == [row for row in whole if len(row) == 2][1:]


@pytest.mark.parametrize("content", [b'x,y\n5" pipe,1\nb,2\n', b'x,y\n5" pipe,1\n"b\n,"",",2\n'], ids=["stray", "both"])
def test_quote_within_a_cell_opens_nothing(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)

    found = read_all(path, ["x"])

    assert [row[2] for row in found] == [cells[0] for cells in csv.reader(io.StringIO(content.decode(), newline=""))][
        1:
    ]


def test_blank_lines_a_byte_order_mark_and_a_missing_last_line_end_are_no_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf\n\nx,y\r\n\r\n1,2\r\n\r\n\r\n3,4")

    assert [row[2:] for row in read_all(path, ["x", "y"])] == [("1", "2"), ("3", "4")]


def test_quote_that_is_never_closed_is_an_error_and_takes_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(text_table, "MAX_ROW_BYTES", 5_000)
    path = tmp_path / "rows.csv"
    path.write_text('x,y\n1,"2\n' + "3,4\n" * 5_000)

    with pytest.raises(DataError, match="one of them is never closed"):
        read_all(path, ["x"])


def test_header_may_be_long(tmp_path):
    names = [f"column {number:06d}" for number in range(20_000)]
    path = tmp_path / "rows.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")

    assert list(blocks.column_types(str(path), "csv", UNKNOWN_CSV)) == names
    assert [row[2] for row in read_all(path, [names[-1]])] == ["1"]


@pytest.mark.parametrize("row_group_size", [7, 40, 100])
def test_blocks_of_a_parquet_file_hold_every_row_once(tmp_path, row_group_size):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": range(100), "unused": [0] * 100}), path, row_group_size=row_group_size)

    found = read_all(path, ["x"], cut=Cut(block_rows=15, segment_blocks=2))

    assert [row[2] for row in found] == list(range(100))
    assert {number for number, *_ in found} == set(range(max(number for number, *_ in found) + 1))


def test_only_the_wanted_blocks_are_read(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": range(60)}), path)
    (segment,) = blocks.segments(str(path), "parquet", UNKNOWN_CSV, first_block=5, cut=Cut(block_rows=20))

    found = list(blocks.read_blocks(segment, [6], columns=["x"], numbers=[]))

    assert [(block.number, rows.table["x"].to_pylist()) for block, rows in found] == [(6, list(range(20, 40)))]


def test_file_that_changed_since_it_was_cut_is_an_error(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x\n1\n2\n")
    (segment,) = blocks.segments(str(path), "csv", UNKNOWN_CSV, first_block=0, cut=Cut())
    path.write_text("x\n1\n")

    with pytest.raises(DataError, match="changed since its rows were counted"):
        list(blocks.read_blocks(segment, [0], columns=["x"], numbers=[]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"", "is empty. A CSV file starts with"),
        ("rows.csv", b"PAR1", "is a Parquet file. Rename it"),
        ("rows.csv", gzip.compress(b"x\n1\n", mtime=0), "is packed by gzip. Unpack it, or rename it to .csv.gz"),
        (
            "rows.csv",
            b"PK\x03\x04\x14\x00\x06\x00",
            "is a ZIP archive or an Excel workbook. Unpack it, or save the sheet",
        ),
        ("rows.csv", b"x,x\n1,2\n", "several columns of one name. Received twice: x"),
        ("rows.csv", bz2.compress(b"x\n1\n"), "is packed by bzip2. Unpack it, or rename it to .csv.bz2"),
        ("rows.csv.gz", b"x\n1\n", "cannot be read"),
        ("rows.parquet", b"x\n1\n", "is not a Parquet file"),
        ("rows.parquet", b"", "is not a Parquet file"),
    ],
)
def test_unreadable_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError, match=message):
        blocks.column_types(str(path), format_of(path), UNKNOWN_CSV)


def test_packed_file_that_was_cut_short_is_an_error(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"1\n" * 100_000)[:-200])

    with pytest.raises(DataError, match="Is it whole"):
        list(blocks.segments(str(path), "csv", UNKNOWN_CSV, first_block=0, cut=Cut()))


@pytest.mark.parametrize("quote", [None, '"'], ids=["found", "stated"])
def test_rows_within_a_cell_are_a_bad_row_unless_the_quote_is_stated(tmp_path, quote):
    path = tmp_path / "rows.csv"
    path.write_text('x,y,z\n1,2,a\n3,4,"\n5,6,b\n7,8,"c\n9,10,d\n')

    (segment,) = blocks.segments(str(path), "csv", CsvOptions(quote=quote), first_block=0, cut=Cut())
    ((block, rows),) = blocks.read_blocks(segment, [0], columns=["x", "z"], numbers=["x"])

    assert block.num_rows == 3
    swallowed = [] if quote else ["Column 'z' has 3 rows within its quotes, as if a quote were stray."]
    assert [bad.reason for bad in rows.bad] == swallowed
    assert rows.table.column("z").to_pylist() == (["a", "\n5,6,b\n7,8,c", "d"] if quote else ["a", "d"])

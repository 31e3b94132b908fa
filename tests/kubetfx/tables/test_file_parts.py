"""Parts of a file have its rows, each once and in order, wherever the file is cut."""

import csv
import random

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from kubetfx.tables import file_parts, text_table
from kubetfx.tables.blocks import open_table, read_blocks
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.file_parts import look_at, parts_of_csv, parts_of_row_groups, pieces_of
from kubetfx.tables.table_file import Cut, TableFile

TABLE = pa.table({"i": list(range(1_000)), "s": [f"text {i}" for i in range(1_000)]})
CELLS = ["", "a", "b c", "1,5", 'he said "no"', "two\nlines", '"', '","', "\n", "é", 'x"\ny', "\r\n"]


def rows_of(file: TableFile) -> list[tuple[object, ...]]:
    types = dict.fromkeys(file.types(), pa.string())
    return [tuple(row.values()) for batch in file.stream(types) for row in batch.to_pylist()]


def parts_of(file: TableFile, part_bytes: int) -> list[TableFile]:
    return parts_of_csv(file, [look_at(piece) for piece in pieces_of(file, part_bytes=part_bytes)])


def write(path, text: str, options: CsvOptions = UNKNOWN_CSV) -> TableFile:
    path.write_text(text, newline="")
    return open_table(str(path), "csv", options)


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("cells", [CELLS[:3], CELLS], ids=["without quotes", "with quotes"])
@pytest.mark.parametrize("seed", range(3))
def test_parts_of_csv_have_the_rows_of_the_file(tmp_path, monkeypatch, cells, ends, seed):
    chosen = random.Random(seed)
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator=ends)
        writer.writerow(["number", "word", "last"])
        writer.writerows([number, *chosen.choices(cells, k=2)] for number in range(200))
    table = open_table(str(tmp_path / "a.csv"), "csv", UNKNOWN_CSV)
    for part_bytes, chunk_bytes in [(1_000, 2**23), (97, 31), (700, 64), (13, 5)]:
        monkeypatch.setattr(file_parts, "_CHUNK_BYTES", chunk_bytes)

        parts = parts_of(table, part_bytes)

        assert len(parts) > 1
        assert [row for part in parts for row in rows_of(part)] == rows_of(table)


def test_every_byte_may_be_the_cut(tmp_path):
    table = write(tmp_path / "a.csv", 'a,b\n1,"x\ny"\n2,"""q"",\n"\n3,z\n')
    whole = rows_of(table)
    for part_bytes in range(1, 30):
        parts = parts_of(table, part_bytes)
        assert [row for part in parts for row in rows_of(part)] == whole


def test_file_with_stray_quotes_is_one_part(tmp_path):
    options = CsvOptions(delimiter=",", quote='"')
    table = write(tmp_path / "a.csv", "size,word\n" + '5" pipe,long\n4,short\n' * 100, options)
    assert parts_of(table, 100) == [table]


def test_file_without_quotes_is_cut_whatever_marks_it_has(tmp_path):
    table = write(tmp_path / "a.csv", "size,word\n" + '5" pipe,long\n4,short\n' * 100, CsvOptions(quote=""))
    parts = parts_of(table, 500)
    assert len(parts) == 5
    assert [row for part in parts for row in rows_of(part)] == rows_of(table)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv.gz", None), ("a.csv", "# a comment\na,b\n" + "1,2\n" * 500), ("b.csv", "a,b\n1,2\n")],
    ids=["packed", "with comments", "small"],
)
def test_what_is_read_from_its_beginning_or_small_has_no_pieces(tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        with pa.CompressedOutputStream(str(path), "gzip") as file:
            file.write(b"a,b\n" + b"1,2\n" * 500)
    else:
        path.write_text(content)
    options = CsvOptions(comment="#") if content and content.startswith("#") else UNKNOWN_CSV
    assert pieces_of(open_table(str(path), "csv", options), part_bytes=100) == []


def test_parts_of_parquet_are_row_groups(tmp_path):
    path = str(tmp_path / "a.parquet")
    pq.write_table(TABLE, path, row_group_size=100)
    table = open_table(path, "parquet", UNKNOWN_CSV)
    size = pq.read_metadata(path).row_group(0).total_byte_size

    parts = parts_of_row_groups(table, part_bytes=2 * size)

    assert [part.row_groups for part in parts[:2]] == [(0, 1), (2, 3)]
    assert [row for part in parts for row in rows_of(part)] == rows_of(table)
    assert parts_of_row_groups(table, part_bytes=2**30) == [table]


@pytest.mark.parametrize("kind", ["arrow", "orc"])
def test_parts_of_other_files_with_row_groups(tmp_path, kind):
    path = str(tmp_path / f"a.{kind}")
    if kind == "arrow":
        pa.feather.write_feather(TABLE, path, chunksize=100)
    else:
        with pa.orc.ORCWriter(path, stripe_size=1_024, batch_size=100) as writer:
            for start in range(0, 1_000, 100):
                writer.write(TABLE.slice(start, 100))
    table = open_table(path, kind, UNKNOWN_CSV)

    parts = parts_of_row_groups(table, part_bytes=1)

    assert len(parts) > 1
    assert [row for part in parts for row in rows_of(part)] == rows_of(table)


def test_arrow_stream_is_one_part(tmp_path):
    path = str(tmp_path / "a.arrow")
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        for batch in TABLE.to_batches(max_chunksize=100):
            writer.write_batch(batch)
    table = open_table(path, "arrow", UNKNOWN_CSV)
    assert parts_of_row_groups(table, part_bytes=1) == [table]


@pytest.mark.parametrize("cells", [CELLS[:3], CELLS], ids=["without quotes", "with quotes"])
def test_blocks_of_a_large_file_are_cut_side_by_side_and_have_its_rows(tmp_path, monkeypatch, cells):
    chosen = random.Random(1)
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["number", "word"])
        writer.writerows([number, chosen.choice(cells)] for number in range(500))
    monkeypatch.setattr(file_parts, "PART_BYTES", 700)
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 128)
    table = open_table(str(tmp_path / "a.csv"), "csv", UNKNOWN_CSV)
    found = {}
    for cores in (1, 4):
        monkeypatch.setattr(file_parts, "num_cores", lambda cores=cores: cores)
        found[cores] = list(file_parts.segments_of(table, first_block=7, cut=Cut()))

    assert found[1] == found[4]
    blocks = [block for segment in found[1] for block in segment.blocks]
    assert [block.number for block in blocks] == list(range(7, 7 + len(blocks)))
    assert len(blocks) > 20
    numbers = [
        int(number)
        for segment in found[1]
        for _, rows in read_blocks(segment, [b.number for b in segment.blocks], columns=["number"], numbers=())
        for number in rows.table.column("number").to_pylist()
    ]
    assert numbers == list(range(500))

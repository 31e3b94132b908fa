"""One table, written in every format that is read: as a stream for training, and as blocks for predictions."""

import bz2
import gzip
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather, orc

from kubetfx.components.data import tables
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.tables import blocks, text_table
from kubetfx.tables.csv_options import UNKNOWN_CSV
from kubetfx.tables.files import find_table
from kubetfx.tables.table_file import Cut

ROWS = [
    {"i": n, "f": None if n % 5 == 0 else n / 4, "s": f"ä{n % 7}", "t": {"u": n % 3}, "y": n % 2} for n in range(50)
]
FLAT = [{**{k: row[k] for k in ("i", "f", "s")}, "t.u": row["t"]["u"], "y": row["y"]} for row in ROWS]
TABLE = pa.Table.from_pylist(ROWS)


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_bytes() -> bytes:
    return pd.DataFrame(FLAT).to_csv(index=False).encode()


def write_stream(path: str) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=20)


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content))


WRITERS: dict[str, Callable[[str], object]] = {
    "rows.parquet": lambda path: pq.write_table(TABLE, path, row_group_size=20),
    "rows.feather": lambda path: feather.write_feather(TABLE, path, chunksize=20, compression="zstd"),
    "rows.arrow": write_stream,
    "rows.orc": lambda path: orc.write_table(TABLE, path),
    "rows.jsonl": lambda path: Path(path).write_bytes(b"\xef\xbb\xbf" + lines(ROWS)),
    "rows.ndjson": lambda path: Path(path).write_bytes(b"\n" + lines(ROWS).replace(b"\n", b"\r\n")[:-2]),
    "rows.jsonl.zst": lambda path: Path(path).write_bytes(zstd(lines(ROWS))),
    "rows.jsonl.gz": lambda path: Path(path).write_bytes(
        gzip.compress(lines(ROWS[:9])) + gzip.compress(lines(ROWS[9:]))
    ),
    "rows.csv.bz2": lambda path: Path(path).write_bytes(bz2.compress(csv_bytes())),
    "rows.csv.zst": lambda path: Path(path).write_bytes(zstd(csv_bytes())),
    "rows.tsv.bz2": lambda path: Path(path).write_bytes(bz2.compress(csv_bytes().replace(b",", b"\t"))),
}


def streamed(path: Path, **fields: Any) -> list[dict[str, Any]]:
    data = DataConfig.model_validate({"path": str(path), "label": "y", **fields})
    files = tables.find_files(data)
    columns = tables.inspect_table(files, data).columns
    return [
        row
        for file in files.paths
        for block in tables.read_blocks(file, columns, file_format=files.format, data=data)
        for row in block.to_pylist()
    ]


def cut(path: Path, columns: list[str], *, numbers: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all blocks, and the reasons of the bad ones."""
    files = find_table(path)
    rows, reasons = [], []
    for file in files.paths:
        for segment in blocks.segments(file, files.format, UNKNOWN_CSV, first_block=0, cut=Cut(15, 2)):
            wanted = [block.number for block in segment.blocks]
            for block, found in blocks.read_blocks(segment, wanted, columns=columns, numbers=numbers):
                assert len(found.index) + len(found.bad) == block.num_rows
                rows += found.table.to_pylist()
                reasons += [bad.reason for bad in found.bad]
    return rows, reasons


@pytest.mark.parametrize("name", WRITERS)
def test_table_is_the_same_in_every_format(tmp_path, monkeypatch, name):
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 200)
    WRITERS[name](str(tmp_path / name))

    assert streamed(tmp_path) == FLAT
    rows, reasons = cut(tmp_path, ["s", "t.u", "f"], numbers=("t.u", "f"))
    assert [dict(row) for row in rows] == [{"s": row["s"], "t.u": row["t.u"], "f": row["f"]} for row in FLAT]
    assert reasons == []


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.csv.bz2"])
def test_folders_that_name_columns_are_columns_of_predictions_too(tmp_path, name):
    for country in ("de", "a%20b"):
        folder = tmp_path / "year=2024" / f"country={country}"
        folder.mkdir(parents=True)
        WRITERS[name](str(folder / name))

    rows, _ = cut(tmp_path, ["country", "i", "year"], numbers=("year", "i"))

    assert [row["country"] for row in rows] == ["a b"] * 50 + ["de"] * 50
    assert {str(row["year"]) for row in rows} == {"2024"}
    assert (
        blocks.column_types(find_table(tmp_path).paths[0], find_table(tmp_path).format, UNKNOWN_CSV)["year"] == "string"
    )


def test_types_of_json_lines_are_those_of_all_lines(tmp_path, monkeypatch):
    """However late a value comes: whole numbers become decimal ones, and what has no type in common text."""
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 40)
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"a": 1, "zip": "00501", "mixed": 1, "flag": True, "y": n % 2} for n in range(9)]
    path.write_bytes(lines([*rows, {"a": 1.5, "late": 2**70, "mixed": "x", "y": 1}]) + b'{"a": NaN, "y": 0}\n')

    found = streamed(path)

    assert [type(row["a"]) for row in found[:10]] == [float] * 10
    assert (found[0]["zip"], found[0]["mixed"], found[9]["mixed"]) == ("00501", "1", "x")
    assert (found[0]["flag"], found[0]["late"], found[9]["late"]) == ("true", None, float(2**70))
    assert found[10]["a"] is None
    texts, _ = cut(path, ["mixed", "flag"])
    assert [row["mixed"] for row in texts] == ["1"] * 9 + ["x", None]
    assert texts[0]["flag"] == "true"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'a': 1}", "The line is not JSON: "),
        ("[1, 2]", "The line holds no object. Received: [1, 2]. Write an object per line."),
        ('{"a": "\\ud800"}', "The line is not JSON: "),
    ],
)
def test_line_that_is_no_object_ends_training_and_is_left_out_of_predictions(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1, "y": 0}}\n\n{line}\n{{"a": 2, "y": 1}}\n')

    with pytest.raises(DataError, match=rf"rows\.jsonl, line 3: {re.escape(message)}"):
        streamed(path)


def test_file_of_no_lines_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"rows\.jsonl has no rows"):
        streamed(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.feather", b"FEA1\0\0", "is a Feather file of version 1. Write it again"),
        ("rows.arrow", b"a,y\n1,2\n", "is not an Arrow file. Say what it is, data.format: csv"),
        ("rows.orc", b"", "cannot be read: File size too small"),
        ("rows.arrow", b"", "is empty: it is not an Arrow file"),
        ("rows.csv.zst", zstd(csv_bytes())[:-20], "cannot be read"),
        ("rows.csv.bz2", csv_bytes(), "cannot be read"),
        ("rows.jsonl", bz2.compress(b"{}"), "The line is not JSON"),
    ],
)
def test_broken_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{re.escape(name)}.*{re.escape(message)}"):
        streamed(tmp_path)


def test_infinite_and_missing_numbers_of_a_frame_are_read_as_pandas_writes_them(tmp_path):
    frame = pd.DataFrame({"x": [1.0, math.nan, 3.0], "s": ["a", None, "c"], "y": [0, 1, 0]})
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    frame.to_feather(tmp_path / "rows.feather")

    of_lines = streamed(tmp_path / "rows.jsonl")

    assert of_lines == streamed(tmp_path / "rows.feather")
    assert [row["x"] for row in of_lines] == [1.0, None, 3.0]


def test_lists_of_json_lines_are_lists(tmp_path):
    rows = [{"tags": [["A"], ["A", "B"], [], None][n % 4], "y": n % 2} for n in range(20)]
    (tmp_path / "rows.jsonl").write_bytes(lines(rows))

    found, reasons = cut(tmp_path, ["tags"])

    assert ([row["tags"] for row in found], reasons) == ([row["tags"] for row in rows], [])

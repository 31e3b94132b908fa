"""What a scan finds does not depend on how a file is cut."""

import csv
import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tfx.dsl.components.base import base_beam_executor

from kubetfx.components.data import block_work, column_scan, file_scan, table_shards, tables, text_scan
from kubetfx.components.data.block_work import run_here
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.tables import csv_file

PART_BYTES = 600
ROWS = 400
BEAM = ["--direct_running_mode=in_memory", "--direct_num_workers=2"]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Of a node, with Beam's arguments."""

    def Do(self, *_: Any) -> None:
        """Nothing: it is only asked for a pipeline."""


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 200)
    monkeypatch.setattr(csv_file, "BYTES_PER_COLUMN", 1)
    monkeypatch.setattr(csv_file, "JOINED_ROWS", 1)


def profile(path: Path, monkeypatch, part_bytes: int, *, run: Any = None, **fields: Any) -> TableProfile:
    monkeypatch.setattr(table_shards, "PART_BYTES", part_bytes)
    monkeypatch.setattr(table_shards, "COLUMN_BYTES", 0)
    data = DataConfig.model_validate({"path": str(path), "label": "y", **fields})
    return tables._inspect_table(tables.find_files(data), data, run or functools.partial(run_here, threads=2))


def write(path: Path, columns: dict[str, Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def stretches(*parts: str | Sequence[str] | Callable[[int], str]) -> list[str]:
    """A column of rows of one kind after the other: a cell, cells in turn, or what a function makes of the row."""
    length = ROWS // len(parts)
    cells = []
    for number, part in enumerate(parts):
        for row in range(number * length, (number + 1) * length):
            cells.append(part(row) if callable(part) else part if isinstance(part, str) else part[row % len(part)])
    return cells + [""] * (ROWS - len(cells))


COLUMNS = {
    "whole numbers": stretches(lambda row: str(row % 7)),
    "numbers that differ": stretches(lambda row: str(row * 3)),
    "numbers that differ, but for two": stretches(lambda row: str(min(row, ROWS - 2))),
    "whole, then decimal": stretches(("3", "4"), ("1.5", "2")),
    "decimal, then whole": stretches(("1.5", "2"), ("3", "4")),
    "decimal, then codes": stretches(("1.5", "2"), ("3", "4"), ("007", "8")),
    "whole, then codes": stretches(("1", "2"), ("3", "4"), ("007", "8")),
    "decimal, then spelled codes": stretches(("1.5", "2"), ("007", "$8")),
    "missing, then whole": stretches("", "", ("3", "4")),
    "missing, then decimal, then whole": stretches("", ("0.5", ""), ("3", "4")),
    "missing, then words": stretches("", "", ("red", "green")),
    "missing, then numbers, then words": stretches("", ("1", "2"), ("red", "green")),
    "missing everywhere": stretches(""),
    "whole, then words": stretches(("1", "2"), ("red", "green")),
    "words, then numbers": stretches(("red", "green"), ("1", "2")),
    "one word among numbers": [*stretches(str)[:-60], "oops", *map(str, range(59))],
    "few words among numbers": stretches(lambda row: "a" if row % 97 == 90 else str(row)),
    "words from a fourth on": stretches(("1", "2"), ("a", "b"), ("1", "2"), ("1", "2")),
    "many digits": stretches(("1", "2"), "12345678901234567890"),
    "large numbers": stretches(lambda row: str(2**62 - row)),
    "negative numbers": stretches(lambda row: str(-(2**61) * (row % 3) - row)),
    "currencies": stretches(("1", "2"), ("$3", "4"), ("EUR 5", "6")),
    "percentages, then numbers": stretches(("1%", "2%"), ("3", "4"), ("5%", "6")),
    "numbers, then percentages": stretches(("0", "2"), ("3%", "4%")),
    "thousands": stretches(("1", "2"), ('"1,200"'.strip('"'), "7")),
    "placeholders": stretches(("1", "?"), ("-", "2")),
    "dates": stretches(lambda row: f"2024-{row % 12 + 1:02d}-{row % 28 + 1:02d}"),
    "days that reveal the format late": stretches("03/04/2024", ("05/06/2024", "07/08/2024"), "25/12/2024"),
    "months that reveal the format late": stretches("03/04/2024", ("05/06/2024", "07/08/2024"), "12/25/2024"),
    "dates of two formats": stretches(("25/12/2024",), ("12/25/2024", "25/12/2024")),
    "dates, then words": stretches(("2024-01-02", "2024-03-04"), ("soon", "late")),
    "missing, then dates": stretches("", "", lambda row: f"{row % 28 + 1:02d}/05/2024"),
    "dates with a gap": [*stretches("2024-01-02")[:-30], "soon", *["2024-05-06"] * 29],
    "lists": stretches(lambda row: ";".join("abcd"[: row % 4 + 1])),
    "words": stretches(lambda row: f"word {row % 11}"),
    "names": stretches(lambda row: f"name {row}"),
    "names, two of one": stretches(lambda row: f"name {min(row, ROWS - 2)}"),
    "quoted": stretches(('say "no", twice', "two\nlines"), ("a", "b")),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("part_bytes", [PART_BYTES, 1_500])
def test_profile_of_a_csv_file_is_that_of_its_parts(tmp_path, monkeypatch, small_blocks, name, part_bytes):
    path = write(tmp_path / "a.csv", {"x": COLUMNS[name], "y": stretches(("no", "yes"))})
    parts = []
    pass_over = file_scan._pass_over
    monkeypatch.setattr(file_scan, "_pass_over", lambda *given, **named: parts.append(1) or pass_over(*given, **named))

    whole = profile(path, monkeypatch, 2**20)
    assert not parts

    assert profile(path, monkeypatch, part_bytes) == whole
    assert len(parts) > 1


def test_numbers_have_the_same_type_wherever_a_file_is_cut(tmp_path, monkeypatch, small_blocks):
    """5 and 5.0 are equal, but are written otherwise into the artifact."""
    path = write(tmp_path / "a.csv", {**COLUMNS, "y": stretches(("0", "1"))})
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 4_000)
    assert repr(profile(path, monkeypatch, 20_000)) == repr(profile(path, monkeypatch, 2**20))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))])
def test_profile_of_any_table_is_that_of_its_parts(tmp_path, monkeypatch, small_blocks, seed):
    chosen = random.Random(seed)
    pool = ["", "0", "1", "02", "3.5", "-7", "$4", "5%", "1,000", "word", "?", "2024-01-02", "03/04/2024", "1e5", "a;b"]
    columns = {}
    for number in range(30):
        kinds = [chosen.sample(pool, chosen.choice([1, 1, 2, 4])) for _ in range(chosen.randint(0, 3))]
        columns[f"x{number}"] = stretches(chosen.sample(pool[1:], 2), *kinds)
    path = write(tmp_path / "a.csv", {**columns, "y": stretches(("0", "1"))})
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 3_000)
    assert profile(path, monkeypatch, 10_000) == profile(path, monkeypatch, 2**22)


def test_beam_finds_what_threads_find(tmp_path, monkeypatch, small_blocks):
    path = write(tmp_path / "a.csv", {**COLUMNS, "y": stretches(("0", "1"))})
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 4_000)
    executor = Executor(Executor.Context(beam_pipeline_args=BEAM))
    run = functools.partial(block_work.run, executor=executor, folder=tmp_path)
    assert profile(path, monkeypatch, 20_000, run=run) == profile(path, monkeypatch, 20_000)


def test_values_are_held_once_whatever_the_order_in_which_parts_come(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", {"x": COLUMNS["words"], "z": COLUMNS["names"], "y": stretches(("0", "1"))})
    whole = profile(path, monkeypatch, 2**20)
    sizes = []

    def shuffled(work: Any, items: Sequence[Any]) -> Any:
        if not isinstance(work, file_scan.ScanParts):
            return run_here(work, items, threads=1)
        states = [work.state_of(item) for item in random.Random(3).sample(items, len(items))]
        merged = work.merged(states[:5])
        for passes in merged.values():
            scans = [passed.over._scans["x"].counts for passed in passes.values()]
            sizes.extend(len(scan._distinct) for scan in scans)
        return work.result(work.merged([merged, work.merged(states[5:])]))

    assert profile(path, monkeypatch, PART_BYTES, run=shuffled) == whole
    assert sizes[0] == 11
    assert set(sizes[1:]) == {0}


def test_several_files_of_which_one_is_cut(tmp_path, monkeypatch, small_blocks):
    data = tmp_path / "data"
    data.mkdir()
    write(data / "a.csv", {"x": COLUMNS["words"][:20], "y": stretches(("0", "1"))[:20]})
    write(data / "b.csv", {"x": COLUMNS["words"], "y": stretches(("0", "1"))})
    write(data / "c.csv", {"x": ["1"] * 20, "y": stretches(("0", "1"))[:20]})
    with pytest.raises(DataError, match="holds int64") as whole:
        profile(data, monkeypatch, 2**20)
    with pytest.raises(DataError, match="holds int64") as parts:
        profile(data, monkeypatch, 1_000)
    assert str(parts.value) == str(whole.value)


def broken(columns: dict[str, Sequence[str]], row: int, line: str) -> str:
    lines = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    lines.insert(row, line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x,z,y", r"row 350 repeats the header, as if"),
        ("1,2", r"line 351: the header has 3 columns, this row has 2"),
        ('"3,1,1\n3,1,1\n3,1,1\n3",1,1', r"row 350 has 4 rows within the quotes of one cell"),
    ],
    ids=["a header", "a ragged row", "a stray quote"],
)
def test_error_says_the_row_of_the_file(tmp_path, monkeypatch, small_blocks, line, words):
    columns = {"x": COLUMNS["whole numbers"], "z": COLUMNS["whole numbers"], "y": stretches(("0", "1"))}
    path = tmp_path / "a.csv"
    path.write_text(broken(columns, 350, line))
    for part_bytes in (2**20, PART_BYTES):
        with pytest.raises(DataError, match=words):
            profile(path, monkeypatch, part_bytes)


def test_part_that_could_be_read_the_second_time_is_taken(tmp_path, monkeypatch, small_blocks):
    path = write(tmp_path / "a.csv", {"x": COLUMNS["one word among numbers"], "y": stretches(("0", "1"))})
    whole = profile(path, monkeypatch, 2**20)
    pass_over, tries = file_scan._pass_over, []

    def once_broken(part: Any, plan: Any, *, rows_before: int = 0) -> Any:
        tries.append(part.start)
        if len(tries) == 3:
            raise DataError("the store was away")
        return pass_over(part, plan, rows_before=rows_before)

    monkeypatch.setattr(file_scan, "_pass_over", once_broken)
    assert profile(path, monkeypatch, PART_BYTES, run=functools.partial(run_here, threads=1)) == whole
    assert tries.count(tries[2]) == 2


def test_values_that_occur_twice_are_looked_for_at_the_beginning_of_a_large_file(tmp_path, monkeypatch, small_blocks):
    monkeypatch.setattr(column_scan, "MAX_UNIQUE", 100)
    monkeypatch.setattr(column_scan, "MAX_DISTINCT", 10)
    late = write(tmp_path / "late.csv", {"x": COLUMNS["names, two of one"], "y": stretches(("0", "1"))})
    names = [f"name {row}" if row != 60 else "name 3" for row in range(ROWS)]
    early = write(tmp_path / "early.csv", {"x": names, "y": stretches(("0", "1"))})
    for path, repeat in ((early, True),):
        found = [profile(path, monkeypatch, part_bytes).column("x") for part_bytes in (2**20, PART_BYTES)]
        assert [column.values_repeat for column in found] == [repeat, repeat]
        assert [column.num_distinct for column in found] == [None, None]
    assert profile(late, monkeypatch, PART_BYTES).column("x").num_distinct is None


@pytest.mark.parametrize("in_order", [True, False], ids=["small first", "large first"])
def test_profile_of_row_groups_is_that_of_the_file(tmp_path, monkeypatch, in_order):
    rows = list(range(ROWS))
    unsigned = [row % 5 for row in rows[: ROWS // 2]] + [2**63 + row for row in rows[ROWS // 2 :]]
    table = pa.table(
        {
            "i": pa.array(rows, pa.int32()),
            "u": pa.array(unsigned if in_order else unsigned[::-1], pa.uint64()),
            "f": pa.array([row / 7 for row in rows], pa.float32()),
            "t": pa.array([f"2024-01-{row % 28 + 1:02d}" for row in rows]),
            "c": pa.array([row % 3 for row in rows], pa.int8()).dictionary_encode(),
            "l": pa.array([[f"a{row % 3}", "b"] if row % 4 else None for row in rows]),
            "b": pa.array([b"x"] * ROWS),
            "y": pa.array([row % 2 for row in rows]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50)

    whole = profile(tmp_path / "a.parquet", monkeypatch, 2**30)
    parts = profile(tmp_path / "a.parquet", monkeypatch, 1)

    assert repr(parts) == repr(whole)
    assert "'b' is left out" in whole.file_notes[0]


def test_a_fraction_of_odd_cells_in_one_part_does_not_decide_about_the_column(tmp_path, monkeypatch):
    """As one, the file would have been read to its end."""
    odd = stretches(str, str, lambda row: "x" if row % 3 else "1", str)
    path = write(tmp_path / "a.csv", {"x": odd, "y": stretches(("0", "1"))})
    monkeypatch.setattr(csv_file, "JOINED_ROWS", 1)
    monkeypatch.setattr(csv_file, "BYTES_PER_COLUMN", 1)
    monkeypatch.setattr(csv_file, "STREAM_BYTES", 100)
    monkeypatch.setattr(text_scan, "MIN_HOPELESS", 10)
    whole, parts = (profile(path, monkeypatch, part_bytes).column("x") for part_bytes in (2**20, 400))
    assert parts == whole
    assert "67 cells are not numbers" in str(whole.note)

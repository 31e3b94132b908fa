"""Which of Beam's modes a node runs in on one machine, and what is said about it."""

import os
import re
from pathlib import Path

import pytest

from benchmarks.beam_mode import CODE_PATH, break_even, with_break_even
from kubetfx.components.data import beam_mode

FEW, MANY = 9_999, 10_000
MEASURED = beam_mode.BREAK_EVEN_ROWS


@pytest.fixture(autouse=True)
def number_of_rows(monkeypatch):
    monkeypatch.setattr(beam_mode, "BREAK_EVEN_ROWS", MANY)


@pytest.mark.parametrize("arguments", [None, [], [beam_mode.DIRECT_RUNNER]], ids=["none", "empty", "default runner"])
def test_without_arguments_there_is_no_beam(arguments):
    assert beam_mode.is_in_process(arguments)
    assert beam_mode.describe(arguments or [], num_rows=MANY) == "read in blocks, without Beam"


def test_few_rows_are_read_in_memory():
    chosen = beam_mode.with_running_mode(["--direct_num_workers=2"], num_rows=FEW)
    assert chosen == ["--direct_num_workers=2", "--direct_running_mode=in_memory"]


def test_many_rows_are_read_in_processes():
    chosen = beam_mode.with_running_mode(["--direct_num_workers=3"], num_rows=MANY)
    assert chosen == ["--direct_num_workers=3", "--direct_running_mode=multi_processing"]


@pytest.mark.parametrize(("quota", "workers"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1)])
def test_as_many_workers_as_the_container_has_cores(monkeypatch, tmp_path, quota, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(beam_mode, "CPU_QUOTA", tmp_path / "cpu.max")
    beam_mode.CPU_QUOTA.write_text(quota)
    assert beam_mode._num_workers([]) == workers
    assert beam_mode._num_workers(["--direct_num_workers=3"]) == 3


def test_as_many_processes_as_cores_unless_it_is_said_how_many(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(beam_mode, "CPU_QUOTA", tmp_path / "no cgroup")
    chosen = beam_mode.with_running_mode(["--temp_location=/tmp"], num_rows=MANY)
    assert chosen[1:] == ["--direct_running_mode=multi_processing", "--direct_num_workers=4"]


@pytest.mark.parametrize("workers", [["--direct_num_workers=1"], ["--direct_num_workers", "1"]], ids=["=", "apart"])
def test_one_worker_needs_no_process(workers):
    assert beam_mode.with_running_mode(workers, num_rows=MANY)[-1] == "--direct_running_mode=in_memory"


@pytest.mark.parametrize(
    "arguments",
    [["--direct_running_mode=multi_threading"], ["--direct_running_mode", "in_memory"], ["--runner=FlinkRunner"]],
    ids=["a mode", "a mode apart", "another runner"],
)
def test_what_the_user_says_stays(arguments):
    assert beam_mode.with_running_mode(arguments, num_rows=MANY) == arguments


def test_the_choice_and_its_reason_are_said():
    few = beam_mode.describe(["--direct_num_workers=2"], num_rows=FEW)
    assert few.startswith(f"read by Beam in memory, fewer than {MANY:,} rows: --direct_num_workers=2")
    many = beam_mode.describe(["--direct_num_workers=2"], num_rows=MANY)
    assert many.startswith(f"read by Beam in processes, no fewer than {MANY:,} rows")
    named = beam_mode.describe(["--direct_running_mode=multi_threading"], num_rows=FEW)
    one = beam_mode.describe(["--direct_num_workers=1"], num_rows=MANY)
    assert one.startswith("read by Beam in memory, one worker: ")
    assert named == "read by Beam in threads: --direct_running_mode=multi_threading"
    assert beam_mode.describe(["--runner=FlinkRunner"], num_rows=FEW) == "read by Beam: --runner=FlinkRunner"


def test_where_processes_never_gain_there_are_none(monkeypatch):
    monkeypatch.setattr(beam_mode, "BREAK_EVEN_ROWS", None)
    assert (
        beam_mode.with_running_mode(["--direct_num_workers=2"], num_rows=MANY)[-1] == "--direct_running_mode=in_memory"
    )
    said = beam_mode.describe(["--direct_num_workers=2"], num_rows=MANY)
    assert said.startswith("read by Beam in memory, faster than in processes: --direct_num_workers=2")


# The measurement


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ({10_000: (11.0, 40.5), 100_000: (20.0, 45.0)}, 600_000),  # 10 s + 0.1 ms a row, 40 s + 0.05 ms a row
        ({10_000: (11.0, 41.0), 100_000: (20.0, 50.0)}, None),  # as much a row
        ({10_000: (11.0, 41.0), 100_000: (20.0, 52.0)}, None),
        ({10_000: (11.0, 200.95), 100_000: (20.0, 205.5)}, None),  # 3,800,000 rows, of which nothing is known
    ],
    ids=["lines meet", "parallel", "apart", "far away"],
)
def test_break_even_is_where_the_lines_through_the_measured_seconds_meet(seconds, rows):
    by_mode = {n: dict(zip(("in_memory", "multi_processing"), values, strict=True)) for n, values in seconds.items()}
    assert break_even(by_mode) == rows


@pytest.mark.parametrize(("rows", "line"), [(1_200_000, "= 1_200_000"), (None, "= None")])
def test_benchmark_writes_the_number_into_the_code(rows, line):
    before = CODE_PATH.read_text(encoding="utf-8")
    after = with_break_even(before, rows)
    changed = [new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert changed == [f"BREAK_EVEN_ROWS: int | None {line}"]


def test_number_in_the_code_is_the_measured_one():
    readme = (Path(__file__).parents[3] / "benchmarks" / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"<!-- beam_mode -->(.*)<!-- /beam_mode -->", readme, re.DOTALL)
    number = re.search(r"Processes gain from about ([\d,]+) rows on", section)
    assert (int(number[1].replace(",", "")) if number else None) == MEASURED
    assert number or "Processes gain at no number of rows" in section

"""Beam's modes on one machine, for those who have the nodes run on Beam: from how many rows on processes gain.

    python -m benchmarks.beam_mode                       # up to 300,000 rows of 20 numbers, about seven minutes
    python -m benchmarks.beam_mode --rows 20000 400000 --modes in_memory multi_threading multi_processing

Each run is `kubetfx run` in a fresh workspace, with `beam.arguments` that name the mode; counted are the nodes that
Beam does the work of. Seconds grow along a line with the rows: processes begin higher, since each imports everything,
and gain with each row if there are cores for them. Where the lines meet is the number of rows that is written into
components/data/beam_mode.py, and with the table into benchmarks/README.md.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from benchmarks import pipeline, pipeline_data
from benchmarks.measured_process import ROOT
from benchmarks.peers.work import Work
from benchmarks.readme import machine, write_section

MODES = ("in_memory", "multi_threading", "multi_processing")
COMPARED = ("in_memory", "multi_processing")
"""Modes that the number of rows decides between."""
NODES = ("TableExampleGen", "StatisticsGen", "Transform", "Evaluator")
"""Nodes that Beam does the work of."""
ROWS = (20_000, 150_000, 300_000)
COLUMNS = 20
MAX_EXTRAPOLATION = 10
"""Times the most rows that were measured; where lines meet beyond, they might as well never meet."""
CODE_PATH = ROOT / "components" / "data" / "beam_mode.py"


def main() -> int:
    """Measure every number of rows in every mode, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beam_mode", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), help="two sizes or more")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(COMPARED), help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    if len(set(arguments.rows)) < 2 or not set(COMPARED) <= set(arguments.modes):
        parser.error(f"a break-even takes two sizes and the modes {' and '.join(COMPARED)}")
    modes = [mode for mode in MODES if mode in arguments.modes]
    seconds = {rows: measure(rows, modes, workers=arguments.workers) for rows in sorted(set(arguments.rows))}
    found = break_even(seconds)
    text = "\n".join(lines(seconds, found, workers=arguments.workers))
    write_section("beam_mode", f"{machine(busy=arguments.busy)} {text}")
    CODE_PATH.write_text(with_break_even(CODE_PATH.read_text(encoding="utf-8"), found), encoding="utf-8")
    return 0


def measure(rows: int, modes: Sequence[str], *, workers: int) -> dict[str, float]:
    """Seconds of Beam's nodes by mode."""
    seconds = {}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        work = pipeline_data.numbers(
            Path(folder) / "data", name="modes", rows=rows, columns=COLUMNS, classes=2, epochs=1, batch_size=10_000
        )
        for mode in modes:
            output = Path(folder) / mode
            output.mkdir()
            beam_arguments = [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"]
            seconds[mode] = _seconds(work, output, beam_arguments)
            print(f"{rows:,} rows {mode}: {seconds[mode]:.1f} s", file=sys.stderr, flush=True)
    return seconds


def _seconds(work: Work, output: Path, beam_arguments: list[str]) -> float:
    document = pipeline.kubetfx_config(work) | {"beam": {"arguments": beam_arguments}}
    config_path = output / "pipeline.yaml"
    config_path.write_text(yaml.safe_dump(document, sort_keys=False))
    run = pipeline.run_config(config_path)
    return sum(run.nodes[node] for node in NODES)


def lines(seconds: Mapping[int, Mapping[str, float]], found: int | None, *, workers: int) -> Iterator[str]:
    """The report, in Markdown."""
    modes = list(next(iter(seconds.values())))
    yield f"{workers} workers, {COLUMNS} columns; {', '.join(NODES)} together."
    yield ""
    yield f"| rows | {' | '.join(f'{mode}, s' for mode in modes)} |"
    yield "|---|" + "---|" * len(modes)
    for rows, by_mode in seconds.items():
        yield f"| {rows:,} | {' | '.join(f'{by_mode[mode]:.1f}' for mode in modes)} |"
    yield ""
    if found is None:
        yield "Processes gain at no number of rows that these say anything about."
    else:
        yield f"Processes gain from about {found:,} rows on, where the lines through these points meet."


def break_even(seconds: Mapping[int, Mapping[str, float]]) -> int | None:
    """Rows at which processes are as fast as one thread, to two digits.

    Args:
        seconds: by mode, of two numbers of rows or more.

    Returns:
        None if processes gain nothing with each row, or catch up only far beyond what was measured.
    """
    rows = sorted(seconds)
    alone, processes = (np.polyfit(rows, [seconds[n][mode] for n in rows], 1) for mode in COMPARED)
    gained_a_row, lost_at_start = alone[0] - processes[0], processes[1] - alone[1]
    if gained_a_row <= 0 or lost_at_start > gained_a_row * MAX_EXTRAPOLATION * rows[-1]:
        return None
    meet = max(lost_at_start / gained_a_row, 1.0)
    return int(float(f"{meet:.1e}"))


def with_break_even(code: str, rows: int | None) -> str:
    """components/data/beam_mode.py with another number of rows."""
    number = "None" if rows is None else f"{rows:_}"
    return re.sub(r"^(BREAK_EVEN_ROWS: int \| None = ).*$", rf"\g<1>{number}", code, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())

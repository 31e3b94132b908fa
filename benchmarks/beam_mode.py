"""Beam's modes on one machine, for those who have the nodes run on Beam: from how many rows on processes gain.

    python -m benchmarks.beam_mode                       # 50,000 and 400,000 rows of 20 numbers, about ten minutes
    python -m benchmarks.beam_mode --rows 20000 100000 --workers 4

Each run is `kubetfx run` in a fresh workspace, with `beam.arguments` that name the mode; counted are the nodes that
Beam does the work of. The table of benchmarks/README.md is written from there, and `components/beam_mode.py` holds the
number of rows that it says.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from benchmarks import pipeline, pipeline_data
from benchmarks.examples import machine, write_report
from benchmarks.peers.work import Work

MODES = ("in_memory", "multi_threading", "multi_processing")
NODES = ("TableExampleGen", "StatisticsGen", "Transform", "Evaluator")
"""Nodes that Beam does the work of."""
ROWS = (50_000, 400_000)
COLUMNS = 20


def main() -> int:
    """Measure every number of rows in every mode, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beam_mode", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: the cores")
    arguments = parser.parse_args()
    seconds = {rows: measure(rows, workers=arguments.workers) for rows in sorted(arguments.rows)}
    write_report("beam_mode", "\n".join(lines(seconds, workers=arguments.workers)))
    return 0


def measure(rows: int, *, workers: int) -> dict[str, float]:
    """Seconds of Beam's nodes by mode."""
    seconds = {}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        work = pipeline_data.numbers(
            Path(folder) / "data", name="modes", rows=rows, columns=COLUMNS, classes=2, epochs=1, batch_size=10_000
        )
        for mode in MODES:
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


def lines(seconds: Mapping[int, Mapping[str, float]], *, workers: int) -> Iterator[str]:
    """The report, in Markdown."""
    yield f"{machine()}. {workers} workers, {COLUMNS} columns; {', '.join(NODES)} together."
    yield ""
    yield f"| rows | {' | '.join(f'{mode}, s' for mode in MODES)} |"
    yield "|---|" + "---|" * len(MODES)
    for rows, by_mode in seconds.items():
        yield f"| {rows:,} | {' | '.join(f'{by_mode[mode]:.1f}' for mode in MODES)} |"
    found = break_even(seconds)
    yield ""
    if found is None:
        yield "Processes did not gain at any of these sizes."
    else:
        yield f"Processes gain from about {found:,} rows on."


def break_even(seconds: Mapping[int, Mapping[str, float]]) -> int | None:
    """Rows at which processes are as fast as one thread, between two sizes; None if they never are."""
    before: tuple[int, float] | None = None
    for rows, by_mode in sorted(seconds.items()):
        lost = by_mode["multi_processing"] - by_mode["in_memory"]
        if lost <= 0:
            if before is None:
                return rows
            share = before[1] / (before[1] - lost)
            return math.ceil(before[0] + share * (rows - before[0]))
        before = rows, lost
    return None


if __name__ == "__main__":
    sys.exit(main())

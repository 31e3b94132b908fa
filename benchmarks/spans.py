"""The run of the next day, with a window of 30 spans: beside one in a fresh workspace, and beside one of a single span.

    python -m benchmarks.spans [--rows N] [--repeat N] [--busy]

Each span has 100,000 rows of 20 columns. Whole processes from a cold start, in turn: day 31, 32 and so on in a
workspace that has seen the days before; the same window in a fresh workspace; and one span alone in a fresh workspace.
The first should take at most 1.3 times what the work on one span and the training on the window take together. Puts the
figures into benchmarks/README.md. Exit code 1: the goal is missed.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.measured_process import run_process
from benchmarks.readme import machine, write_section

GOAL = 1.3
SPANS = 30
NUMBERS, CATEGORIES = 15, 5
NEXT, FRESH, ALONE = "the next day", "the same window in a fresh workspace", "one span alone in a fresh workspace"
TRAINER = "Trainer"


@dataclass(frozen=True)
class Run:
    """A whole command."""

    wall_seconds: float
    cpu_seconds: float
    nodes: dict[str, float]


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spans", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="of a span")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    found: dict[str, list[Run]] = {NEXT: [], FRESH: [], ALONE: []}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as temporary:
        folder = Path(temporary)
        for day in range(1, SPANS + 1):
            write_span(folder / "data", day, arguments.rows)
        config = folder / "pipeline.yaml"
        config.write_text(yaml.safe_dump(document(folder / "data")))
        known = folder / "known"
        run(config, known)
        for number in range(arguments.repeat):
            write_span(folder / "data", SPANS + 1 + number, arguments.rows)
            found[NEXT].append(run(config, known))
            for name, window in ((FRESH, SPANS), (ALONE, 1)):
                found[name].append(run(config, folder / "fresh", "--set", f"data.window.spans={window}"))
                shutil.rmtree(folder / "fresh")
            print(number, {name: round(runs[-1].wall_seconds, 1) for name, runs in found.items()}, flush=True)
    ratio = ratio_of(found)
    text = report(found, ratio, rows=arguments.rows)
    write_section("spans", f"{machine(busy=arguments.busy)}\n\n{text}")
    print(text)
    return int(ratio > GOAL)


def write_span(data: Path, day: int, rows: int) -> None:
    """Write the rows of a day.

    Args:
        data: folder of all.
        day: from 1.
        rows: how many.
    """
    random = np.random.default_rng(day)
    numbers = {f"number_{i}": random.normal(size=rows).round(4) for i in range(NUMBERS)}
    categories = {f"category_{i}": random.integers(0, 10 * (i + 1), rows) for i in range(CATEGORIES)}
    says = numbers["number_0"] + numbers["number_1"] * numbers["number_2"] + (categories["category_0"] > 4)
    columns: dict[str, Any] = {**numbers, **{name: [f"c{v}" for v in values] for name, values in categories.items()}}
    columns["label"] = np.where(says + random.normal(size=rows) > 0.5, "yes", "no").tolist()
    month, of_month = divmod(day - 1, 28)
    place = data / f"2026-{month + 1:02d}-{of_month + 1:02d}"
    place.mkdir(parents=True)
    pq.write_table(pa.table(columns), place / "part.parquet")


def document(data: Path) -> dict[str, Any]:
    """Return the config.

    Args:
        data: folder of all spans.
    """
    return {
        "name": "events",
        "data": {"path": f"{data}/{{YYYY}}-{{MM}}-{{DD}}/*.parquet", "label": "label", "window": {"spans": SPANS}},
        "model": {"kind": "network", "hidden_units": [64, 32]},
        "training": {"epochs": 1, "batch_size": 4_096},
        "evaluation": {"thresholds": {"accuracy": {"at_least": 0.0, "better_than_baseline": False}}},
    }


def run(config: Path, workspace: Path, *arguments: str) -> Run:
    """Run the pipeline.

    Args:
        config: pipeline.yaml.
        workspace: folder.
        arguments: The arguments of the command, besides.

    Returns:
        What it took.
    """
    command = [sys.executable, "-m", "kubetfx", "run", str(config), "--format", "json"]
    measured = run_process([*command, "--set", f"workspace={workspace}", *arguments])
    nodes = {node["id"]: node["seconds"] for node in json.loads(measured.stdout)["nodes"]}
    return Run(measured.wall_seconds, measured.cpu_seconds, nodes)


def ratio_of(found: dict[str, list[Run]]) -> float:
    """Return the time of the next day by that of one span, each with the training of the window.

    Args:
        found: the runs.
    """
    training = statistics.median(one.nodes[TRAINER] for one in found[NEXT])
    alone = statistics.median(one.wall_seconds - one.nodes[TRAINER] for one in found[ALONE])
    return statistics.median(one.wall_seconds for one in found[NEXT]) / (alone + training)


def report(found: dict[str, list[Run]], ratio: float, *, rows: int) -> str:
    """Return the table.

    Args:
        found: the runs.
        ratio: of the goal.
        rows: The rows of a span.
    """
    nodes = ("TableExampleGen", "StatisticsGen", "Transform", TRAINER, "Evaluator")
    lines = [
        f"| run | wall s | CPU s | {' | '.join(f'{node}, s' for node in nodes)} |",
        "|---" * (3 + len(nodes)) + "|",
    ]
    for name, runs in found.items():
        cells = [
            statistics.median(one.wall_seconds for one in runs),
            statistics.median(one.cpu_seconds for one in runs),
        ]
        cells += [statistics.median(one.nodes[node] for one in runs) for node in nodes]
        lines.append(f"| {name} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")
    verdict = "reached" if ratio <= GOAL else "missed"
    lines.append("")
    lines.append(
        f"{SPANS} spans of {rows:,} rows and {NUMBERS + CATEGORIES} columns in the window, medians of "
        f"{len(found[NEXT])}. The next day takes {ratio:.2f} times what the work on one span and the training on the "
        f"window take together (goal: at most {GOAL}: {verdict})."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

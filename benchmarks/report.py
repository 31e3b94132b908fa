"""What the report of a run costs: seconds of the node Report, and bytes of the page.

    python -m benchmarks.report [--columns N] [--repetitions N]

Runs the penguins, and a table of a thousand columns of numbers with one epoch, each in a fresh workspace: the node's
seconds are those of that run, in which TensorFlow is imported by then. The same work is then done again in this
process, several times, for a median that does not hang on what else the machine did at that moment.

Puts the figures into benchmarks/README.md. Exit code 1: a report costs more than LIMITS.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.readme import machine, write_section
from kubetfx import run_record
from kubetfx.components.report import render, run_report
from kubetfx.components.report.collect import collect
from kubetfx.components.report.facts import Settings
from kubetfx.config.loading import load_config

MARK = "report"
LIMITS = {"penguins": (2.0, 1_000_000), "wide": (5.0, 5_000_000)}
"""Seconds and bytes."""
WIDE_ROWS = 2_000
WIDE_CONFIG = """\
name: wide
data: {path: data, label: label}
training: {epochs: 1}
evaluation: {thresholds: {auc: {at_least: 0, better_than_baseline: false}}}
"""
PENGUINS = Path(__file__).parents[1] / "examples" / "penguins"


@dataclass(frozen=True)
class Cost:
    """What a report costs."""

    name: str
    columns: int
    node_seconds: float
    """In the run."""
    wall_seconds: list[float]
    """Wall seconds of collecting and rendering again."""
    cpu_seconds: list[float]
    render_seconds: float
    """Render seconds of rendering alone, which the runner does once more."""
    num_bytes: int

    @property
    def is_within_limits(self) -> bool:
        """Whether neither time nor size is too large."""
        seconds, num_bytes = LIMITS[self.name]
        return statistics.median(self.wall_seconds) <= seconds and self.num_bytes <= num_bytes


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--columns", type=int, default=1_000, help="Result of the wide table.")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        projects = [_penguins(Path(folder) / "penguins"), _wide(Path(folder) / "wide", options.columns)]
        costs = [measure(path, repetitions=options.repetitions) for path in projects]
    table = _table(costs)
    print(table)
    write_section(MARK, table)
    return 0 if all(cost.is_within_limits for cost in costs) else 1


def _penguins(folder: Path) -> Path:
    shutil.copytree(PENGUINS, folder, ignore=shutil.ignore_patterns(".kubetfx"))
    return folder / "pipeline.yaml"


def _wide(folder: Path, num_columns: int) -> Path:
    """Return a table in which the first ten columns say what the label is."""
    (folder / "data").mkdir(parents=True)
    generator = np.random.default_rng(0)
    values = generator.normal(size=(WIDE_ROWS, num_columns)).astype(np.float32)
    columns = {f"column_{index}": values[:, index] for index in range(num_columns)}
    label = np.where(values[:, :10].sum(axis=1) + generator.normal(size=WIDE_ROWS) > 0, "yes", "no")
    pyarrow.csv.write_csv(pa.table({**columns, "label": label}), folder / "data" / "wide.csv")
    (folder / "pipeline.yaml").write_text(WIDE_CONFIG)
    return folder / "pipeline.yaml"


def measure(path: Path, *, repetitions: int) -> Cost:
    """Run a pipeline, and make its report again."""
    command = [sys.executable, "-m", "kubetfx", "run", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    config = load_config(path)
    record = run_record.find(config.workspace_path, None)
    node = record.node(run_record.REPORT_NODE)
    assert node is not None
    assert node.seconds is not None
    sources, settings = run_report.sources_of(record, {}, ask_model=True), Settings.of(config)
    wall, cpu, rendering = [], [], []
    for _ in range(repetitions + 1):
        started, started_cpu = time.perf_counter(), time.process_time()
        facts = collect(sources, settings)
        collected = time.perf_counter()
        html = render.report(facts, record)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - started_cpu)
        rendering.append(time.perf_counter() - collected)
    return Cost(
        name=config.name,
        columns=len(facts.data.columns) if facts.data else 0,
        node_seconds=node.seconds,
        wall_seconds=wall[1:],  # the first has the imports
        cpu_seconds=cpu[1:],
        render_seconds=statistics.median(rendering[1:]),
        num_bytes=len(html.encode()),
    )


def _table(costs: Sequence[Cost]) -> str:
    repetitions = len(costs[0].wall_seconds)
    lines = [
        machine(),
        "",
        "| table | node Report in a fresh run, s | "
        f"again in one process, s: median of {repetitions} (lowest to highest) | of CPU, s | "
        "rendering alone, s | page, kB | at most |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        seconds, num_bytes = LIMITS[cost.name]
        spread = f"{min(cost.wall_seconds):.2f} to {max(cost.wall_seconds):.2f}"
        lines.append(
            f"| {cost.name}, {cost.columns:,} columns | {cost.node_seconds:.1f} | "
            f"{statistics.median(cost.wall_seconds):.2f} ({spread}) | {statistics.median(cost.cpu_seconds):.2f} | "
            f"{cost.render_seconds:.2f} | {cost.num_bytes / 1000:,.0f} | {seconds:g} s, {num_bytes / 1000:,.0f} kB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""Whole runs of a long table at several sizes, and on a Beam engine with external workers beside this machine alone.

    python -m benchmarks.scale [--rows N [N ...]] [--workers N [N ...]] [--epochs N] [--busy] [--dry]

The sizes are in the order of their rows. Between the first and the last, time and processor time grow by a power of the
rows: 1 is linear. With `--workers` the smallest size runs through Prism too, with a pool of so many workers' slots each
on this machine, whose processor time is counted with the run's; that needs Go (docs/scale.md). Puts the figures into
benchmarks/README.md, unless `--dry`.
Exit code 1: a goal is missed: MAX_BYTES at each size, MAX_EXPONENT, or with workers MAX_TIMES.
"""

import argparse
import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks import pipeline_data
from benchmarks.pipeline import Run, kubetfx_config, run_config
from benchmarks.readme import machine, write_section
from tests.scale.engine import Turns, pool, prism, worker_environment

MAX_BYTES = 3e9
"""Maximum number of bytes of memory that the run's process and its children take, at any size."""
MAX_EXPONENT = 1.05
"""By which processor time may grow with the rows."""
MAX_TIMES = 2.0
"""The processor time of a run on an engine, in times of that of a run here."""
ENGINE_NODES = ("TableExampleGen", "StatisticsGen", "ExampleValidator", "Transform", "Evaluator")


@dataclass(frozen=True)
class Measured:
    """A run."""

    rows: int
    workers: int
    """External ones; 0: it ran on this machine alone."""
    run: Run
    worker_cpu_seconds: float

    @property
    def cpu_seconds(self) -> float:
        """Cpu seconds of the run and its workers."""
        return self.run.cpu_seconds + self.worker_cpu_seconds


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000_000, 30_000_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    parser.add_argument("--dry", action="store_true", help="print the figures, and leave benchmarks/README.md as it is")
    arguments = parser.parse_args()
    sizes = sorted(arguments.rows)
    with tempfile.TemporaryDirectory(prefix="kubetfx-scale-") as folder:
        here = [_measured(Path(folder), rows, epochs=arguments.epochs) for rows in sizes]
        there = [
            _measured(Path(folder), sizes[0], epochs=arguments.epochs, workers=workers) for workers in arguments.workers
        ]
    text, missed = _report(here, there)
    text = f"{machine(busy=arguments.busy)}\n\n{text}"
    print(text)
    if not arguments.dry:
        write_section("scale", text)
    return int(missed)


def _measured(folder: Path, rows: int, *, epochs: int, workers: int = 0) -> Measured:
    place = folder / f"{rows}-{workers}"
    work = pipeline_data.make(f"{rows}x20", folder / f"data-{rows}")
    config = kubetfx_config(work)
    config["training"]["epochs"] = epochs
    with contextlib.ExitStack() as stack:
        pools = stack.enter_context(_engine(place, workers, config)) if workers else []
        place.mkdir(exist_ok=True)
        (place / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        before = sum(map(_cpu_seconds, pools))
        run = run_config(place / "pipeline.yaml")
        return Measured(rows, workers, run, sum(map(_cpu_seconds, pools)) - before)


@contextlib.contextmanager
def _engine(folder: Path, workers: int, config: dict[str, Any]) -> Iterator[list[psutil.Process]]:
    """Prism and pools, which the config then names; the pools' processes."""
    folder.mkdir()
    environment = worker_environment(folder / "environment")
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(prism(folder))
        pools = [stack.enter_context(pool(folder / f"pool-{number}", environment)) for number in range(workers)]
        address = stack.enter_context(Turns(pools)).address
        config["beam"] = {
            "runner": "PortableRunner",
            "endpoint": engine.address,
            "environment": {"type": "EXTERNAL", "config": address},
            "timeout": 600,
        }
        yield [psutil.Process(each.process.pid) for each in pools]


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the cpu seconds of a pool, and of the workers that it started and that are gone."""
    times = process.cpu_times()
    living = [child.cpu_times() for child in process.children(recursive=True)]
    own = times.user + times.system + times.children_user + times.children_system
    return float(own + sum(child.user + child.system for child in living))


def _report(here: Sequence[Measured], there: Sequence[Measured]) -> tuple[str, bool]:
    """Return the figures, and whether a goal is missed."""
    lines = ["| rows | wall seconds | CPU seconds | CPU microseconds per row | peak GB |", "|---|---|---|---|---|"]
    for each in here:
        per_row = each.cpu_seconds / each.rows * 1e6
        lines.append(
            f"| {each.rows:,} | {each.run.wall_seconds:.1f} | {each.cpu_seconds:.1f} | {per_row:.1f} | "
            f"{each.run.peak_bytes / 1e9:.2f} |"
        )
    goals = {f"peak at most {MAX_BYTES / 1e9:.0f} GB": all(each.run.peak_bytes <= MAX_BYTES for each in here)}
    if len(here) > 1:
        growth = math.log(here[-1].rows / here[0].rows)
        exponent = math.log(here[-1].cpu_seconds / here[0].cpu_seconds) / growth
        wall = math.log(here[-1].run.wall_seconds / here[0].run.wall_seconds) / growth
        lines += ["", f"Processor time grows with the rows to the power of {exponent:.3f}, wall time {wall:.3f}."]
        goals[f"exponent at most {MAX_EXPONENT}"] = exponent <= MAX_EXPONENT
    lines += ["", *_nodes(here)]
    if there:
        lines += ["", *_engines(here[0], there)]
        goals[f"on an engine at most {MAX_TIMES:.0f} times the CPU"] = all(
            each.cpu_seconds <= MAX_TIMES * here[0].cpu_seconds for each in there
        )
    lines += ["", "; ".join(f"{goal}: {'reached' if is_met else 'missed'}" for goal, is_met in goals.items()) + "."]
    return "\n".join(lines), not all(goals.values())


def _nodes(runs: Sequence[Measured]) -> Iterator[str]:
    """Yield where the time goes."""
    yield "| wall seconds | " + " | ".join(f"{each.rows:,} rows" for each in runs) + " |"
    yield "|---|" + "---|" * len(runs)
    for name in runs[0].run.nodes:
        yield f"| {name} | " + " | ".join(f"{each.run.nodes[name]:.1f}" for each in runs) + " |"


def _engines(here: Measured, there: Sequence[Measured]) -> Iterator[str]:
    nodes = ", ".join(ENGINE_NODES)
    yield f"| {here.rows:,} rows | CPU seconds | of them workers | wall seconds of {nodes} | metrics |"
    yield "|---|---|---|---|---|"
    for each in (here, *there):
        name = f"Prism, {each.workers} worker{'s' * (each.workers > 1)}" if each.workers else "this machine"
        seconds = ", ".join(f"{each.run.nodes[node]:.1f}" for node in ENGINE_NODES)
        metrics = json.dumps({name: round(value, 6) for name, value in each.run.metrics.items()})
        yield f"| {name} | {each.cpu_seconds:.1f} | {each.worker_cpu_seconds:.1f} | {seconds} | {metrics} |"


if __name__ == "__main__":
    sys.exit(main())

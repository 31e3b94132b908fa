"""Two checkouts in turn: `kubetfx run` on the examples in fresh workspaces, and which metrics differ.

    python -m benchmarks.checkouts ../before --examples penguins flights digits --repeat 3

The other checkout is one of the same dependencies, whose examples have their data; it runs in this environment.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measured_process import ROOT, run_process

TOLERANCE = 1e-3
"""By which a metric may differ."""


@dataclass(frozen=True)
class Run:
    """One run of one checkout."""

    wall_seconds: float
    cpu_seconds: float
    metrics: dict[str, float]


def main() -> int:
    """Measure, and print a line per example; 1 if a metric differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkouts", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="folder of the other checkout")
    parser.add_argument("--examples", nargs="+", default=["penguins", "flights", "digits"])
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default: %(default)s)")
    arguments = parser.parse_args()
    is_equal = True
    for example in arguments.examples:
        runs: dict[Path, list[Run]] = {arguments.before.resolve(): [], ROOT: []}
        for _ in range(arguments.repeat):
            for checkout, done in runs.items():
                done.append(_run(checkout, example))
        before, now = runs.values()
        differing = _differing(before[0].metrics, now[0].metrics)
        is_equal &= not differing
        wall = [statistics.median(run.wall_seconds for run in done) for done in (before, now)]
        cpu = [statistics.median(run.cpu_seconds for run in done) for done in (before, now)]
        print(
            f"{example}: {wall[0]:.1f} s before, {wall[1]:.1f} s now, {wall[1] / wall[0]:.2f} of it; CPU {cpu[0]:.1f} "
            f"and {cpu[1]:.1f} s; metrics that differ: {differing or 'none'}",
            flush=True,
        )
    return not is_equal


def _run(checkout: Path, example: str) -> Run:
    name = "kubetfx" if (checkout / "kubetfx").is_dir() else "pipeline"  # before decision 13
    with tempfile.TemporaryDirectory() as workspace:
        config = checkout / "examples" / example / "pipeline.yaml"
        command = [
            sys.executable,
            "-m",
            name,
            "run",
            str(config),
            "--set",
            f"workspace={workspace}",
            "--format",
            "json",
        ]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = run_process(command, environment=environment, folder=checkout)
    metrics = json.loads(done.stdout)["metrics"]
    return Run(done.wall_seconds, done.cpu_seconds, metrics)


def _differing(before: dict[str, float], now: dict[str, float]) -> dict[str, tuple[float, float | None]]:
    """Return metrics of before that are gone, or differ by more than the tolerance."""
    found = {name: (value, now.get(name)) for name, value in before.items()}
    return {n: (a, b) for n, (a, b) in found.items() if b is None or abs(a - b) > TOLERANCE * max(1.0, abs(a))}


if __name__ == "__main__":
    sys.exit(main())

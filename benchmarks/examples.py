"""Time, memory and score of the examples, each run by the command that a user types.

    python -m benchmarks.examples [penguins|flights|digits|seedlings|reviews|strikes ...] [--runs N]

Puts the figures into benchmarks/README.md. Exit code 1: an example misses a bound, be it of its yaml or of BOUNDS.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measured_process import ROOT, run_process
from benchmarks.readme import machine, write_section
from kubetfx.config.loading import load_config

KUBETFX = Path(sys.executable).parent / "kubetfx"
WITH_BASELINE = ("flights", "reviews")
"""Examples that a logistic regression is trained on too."""


@dataclass(frozen=True)
class Bounds:
    """What an example may take on two cores."""

    wall_seconds: float
    memory_bytes: float


BOUNDS = {
    "penguins": Bounds(60, 2e9),
    "flights": Bounds(300, 4e9),
    "digits": Bounds(120, 2e9),
    "seedlings": Bounds(300, 3e9),
    "reviews": Bounds(120, 3e9),
    "strikes": Bounds(120, 3e9),
}


@dataclass(frozen=True)
class ProcessRun:
    """One `kubetfx run` from start to end."""

    wall_seconds: float
    peak_bytes: int
    """Largest sum of the resident memory of the process and its children; what they share counts once for each."""
    document: dict[str, Any]
    """What `--format json` printed."""

    @property
    def seconds_by_part(self) -> dict[str, float]:
        """Seconds of each node, and of other work: start of Python, imports, the check of the data, the summary."""
        nodes = {node["id"]: node["seconds"] for node in self.document["nodes"]}
        return {**nodes, "outside the nodes": self.wall_seconds - sum(nodes.values())}


@dataclass(frozen=True)
class Measurement:
    """The runs of an example."""

    name: str
    fresh: list[ProcessRun]
    """Each in a workspace of its own."""
    again: list[ProcessRun]
    """Each the same command in the same workspace."""
    metric: str
    claim: str
    """The score that the yaml promises, as written there."""
    baseline: float | None

    @property
    def score(self) -> float:
        """Score of the worst run. They differ only where training can't be reproduced."""
        return float(min(run.document["metrics"][self.metric] for run in self.fresh))

    def misses(self) -> Iterator[str]:
        """Yield the bounds that were missed, in words."""
        bounds = BOUNDS[self.name]
        decimals = len(self.claim.partition(".")[2])
        if round(self.score, decimals) < float(self.claim):
            yield f"{self.name}: {self.metric} {self.score:.4f}, and the yaml promises {self.claim}"
        if self.baseline is not None and self.score < self.baseline:
            yield f"{self.name}: {self.metric} {self.score:.4f}, and a logistic regression has {self.baseline:.4f}"
        if (seconds := statistics.median(run.wall_seconds for run in self.fresh)) > bounds.wall_seconds:
            yield f"{self.name}: {seconds:.1f} s, and may take {bounds.wall_seconds:g} s"
        if (peak := max(run.peak_bytes for run in self.fresh)) > bounds.memory_bytes:
            yield f"{self.name}: {peak / 1e9:.2f} GB, and may take {bounds.memory_bytes / 1e9:g} GB"
        if any(run.document["changed"] for run in self.again):
            yield f"{self.name}: an unchanged second run executed a node"


def main() -> int:
    """Measure the examples that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.examples", description="Measure the examples.")
    parser.add_argument("names", nargs="*", metavar="EXAMPLE", help=f"{' or '.join(BOUNDS)}; all by default")
    parser.add_argument("--runs", type=int, default=3, help="fresh workspaces to run each in (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.names} - {*BOUNDS}):
        parser.error(f"there is no example {unknown[0]!r}. Known: {', '.join(BOUNDS)}")
    if arguments.runs < 1:
        parser.error(f"--runs must be at least 1. Received: {arguments.runs}")
    misses: list[str] = []
    for name in arguments.names or BOUNDS:
        measurement = measure(name, num_runs=arguments.runs)
        text = report(measurement, busy=arguments.busy)
        print(f"{name}\n\n{text}\n")
        write_section(name, text)
        misses += measurement.misses()
    for miss in misses:
        _say(f"Missed: {miss}")
    return 1 if misses else 0


def measure(name: str, *, num_runs: int) -> Measurement:
    """Run an example in fresh workspaces, and in each once more without a change.

    Raises:
        SystemExit: a run did not push a model.
    """
    config_path = ROOT / "examples" / name / "pipeline.yaml"
    metric, claim = read_claim(config_path)
    if (prepare := config_path.with_name("prepare.py")).exists():
        subprocess.run([sys.executable, str(prepare)], check=True)
    runs: dict[str, list[ProcessRun]] = {"fresh": [], "again": []}
    baseline = None
    for number in range(1, num_runs + 1):
        with tempfile.TemporaryDirectory(prefix=f"kubetfx-{name}-") as folder:
            workspace = Path(folder) / "workspace"
            for kind, done in runs.items():
                run = run_pipeline(config_path, workspace)
                done.append(run)
                _say(f"{name} {kind}, {number} of {num_runs}: {run.wall_seconds:.1f} s, {run.peak_bytes / 1e9:.2f} GB")
            if name in WITH_BASELINE and number == num_runs:
                _say(f"{name}: training a logistic regression")
                baseline = _baseline(name, workspace)
    return Measurement(name, runs["fresh"], runs["again"], metric, claim, baseline)


def _baseline(name: str, workspace: Path) -> float:
    """Return what a logistic regression scores on the rows of a run; of texts, on their tf-idf."""
    from benchmarks import logistic_regression, text  # they import TensorFlow, which takes seconds

    if name == "reviews":
        return text.run_sklearn(workspace, text="review", label="sentiment").accuracy
    return logistic_regression.auc(workspace)


def run_pipeline(config_path: Path, workspace: Path) -> ProcessRun:
    """`kubetfx run` as a process of its own.

    Raises:
        SystemExit: it did not push a model.
    """
    command = [str(KUBETFX), "run", str(config_path), "--set", f"workspace={workspace}", "--format", "json"]
    finished = run_process(command)
    return ProcessRun(finished.wall_seconds, finished.peak_bytes, json.loads(finished.stdout))


def read_claim(config_path: Path) -> tuple[str, str]:
    """Return the first metric with a lower bound, and the score that it has to reach.

    The score is the one that the opening comment of the yaml gives, or else that bound.
    """
    thresholds = load_config(config_path).evaluation.thresholds
    metric, bound = next((name, t.at_least) for name, t in thresholds.items() if t.at_least is not None)
    comment = re.match(r"(#.*\n)*", config_path.read_text(encoding="utf-8"))
    claim = re.search(rf"\b{metric}\b\D*?(\d\.\d+)", comment[0] if comment else "", re.IGNORECASE)
    return metric, claim[1] if claim else str(bound)


def report(measurement: Measurement, *, busy: bool) -> str:
    """Return the figures of an example, in Markdown.

    Args:
        measurement: The measurement of the example.
        busy: whether other jobs ran meanwhile.
    """
    fresh, again = measurement.fresh, measurement.again
    scores = [run.document["metrics"][measurement.metric] for run in fresh]
    score = f"{measurement.metric} {_spread(scores, decimals=4)}"
    if measurement.baseline is not None:
        score += f"; logistic regression: {measurement.baseline:.4f}"
    return "\n".join(
        [
            machine(busy=busy),
            "",
            f"| median of {len(fresh)} (lowest to highest) | fresh workspace | run again |",
            "|---|---|---|",
            f"| wall, seconds | {_spread([r.wall_seconds for r in fresh])} "
            f"| {_spread([r.wall_seconds for r in again])} |",
            f"| peak memory, GB | {_spread([r.peak_bytes / 1e9 for r in fresh], decimals=2)} "
            f"| {_spread([r.peak_bytes / 1e9 for r in again], decimals=2)} |",
            f"| score on the eval split | {score} | the same model |",
            "",
            "| seconds, median | fresh workspace | run again |",
            "|---|---|---|",
            *(
                f"| {part} | {_seconds_of(part, fresh)} | {_seconds_of(part, again)} |"
                for part in fresh[0].seconds_by_part
            ),
        ]
    )


def _spread(values: Sequence[float], *, decimals: int = 1) -> str:
    low, middle, high = (f"{f(values):.{decimals}f}" for f in (min, statistics.median, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def _seconds_of(part: str, runs: Sequence[ProcessRun]) -> str:
    return f"{statistics.median(run.seconds_by_part[part] for run in runs):.1f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

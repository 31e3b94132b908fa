"""`kubetfx cross-validate` beside the loop that a course on scikit-learn and Keras teaches, on the same folds.

    python -m benchmarks.cross_validation [--repeat N] [--busy]

The work is that of a course: 61,878 rows of 93 numbers in nine classes, layers of 200, 175, 150, 75 and 25 units,
rmsprop, batches of 1,000 rows, five folds of five epochs. Both are whole processes from a cold start, in turn; the loop
is given the folds of the other. Puts the figures into benchmarks/README.md. Exit code 1: the goal is missed.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import yaml

from benchmarks import pipeline_data
from benchmarks.measured_process import run_process
from benchmarks.pipeline import kubetfx_config
from benchmarks.readme import machine, write_section

GOAL = 1.1
"""Times the wall seconds of the loop, at most."""
WORK = {"hidden_units": [200, 175, 150, 75, 25], "batch_size": 1_000, "epochs": 5}
METRICS = ("accuracy", "cross_entropy")
OURS, LOOP = "kubetfx cross-validate", "a loop by hand"


@dataclass(frozen=True)
class Run:
    """Cross-validation, once."""

    wall_seconds: float
    cpu_seconds: float
    fold_seconds: float
    """Fold seconds of a fold, on average."""
    scores: dict[str, list[float]]
    """By metric, a value per fold."""


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cross_validation", description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    found: dict[str, list[Run]] = {OURS: [], LOOP: []}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        work = pipeline_data.make("61878", Path(folder) / "data")
        config = kubetfx_config(work)
        config["data"]["splits"] = {"train": 0.8, "validation": 0, "eval": 0.2}  # a fold trains on all that it may
        config["model"] |= {"kind": "network", "hidden_units": WORK["hidden_units"], "dropout": 0.0}
        config["training"] |= {"optimizer": "rmsprop", "learning_rate": 0.001}
        config["training"] |= {"batch_size": WORK["batch_size"], "epochs": WORK["epochs"]}
        config["evaluation"] = {"metrics": list(METRICS), "cross_validation": {"folds": 5}}
        for number in range(arguments.repeat):
            output = Path(folder) / str(number)
            output.mkdir()
            (output / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            found[OURS].append(_ours(output))
            found[LOOP].append(_loop(output, label=work.label))
            for name, runs in found.items():
                print(f"{name}: {runs[-1].wall_seconds:.1f} s", flush=True)
    ratio = _median(found[OURS], "wall_seconds") / _median(found[LOOP], "wall_seconds")
    lines = [
        "| | seconds | of CPU | per fold | accuracy | cross entropy |",
        "|---|---|---|---|---|---|",
        *(_line(name, runs) for name, runs in found.items()),
    ]
    text = (
        f"Medians of {arguments.repeat}; scores are means over the folds, and their standard deviations. "
        f"{machine(busy=arguments.busy)}\n\n"
        + "\n".join(lines)
        + f"\n\n{ratio:.2f} times the loop's wall time (goal: {GOAL})."
    )
    print(text)
    write_section("cross-validation", text)
    return 0 if ratio <= GOAL else 1


def _ours(output: Path) -> Run:
    command = [sys.executable, "-m", "kubetfx", "cross-validate", str(output / "pipeline.yaml"), "--format", "json"]
    run = run_process(command)
    document = json.loads(run.stdout)
    table = pq.read_table(document["predictions"])
    kept = [name for name in table.schema.names if name not in ("repeat", "prediction", "probabilities")]
    pa_csv.write_csv(table.select(kept), output / "folds.csv")
    (record,) = output.glob(f".kubetfx/*/runs/{document['run']}/run.json")
    nodes = json.loads(record.read_text(encoding="utf-8"))["nodes"]
    seconds = sum(node["seconds"] for node in nodes if node["id"].startswith("Fold"))
    scores = {name: [fold["metrics"][name] for fold in document["folds"]] for name in METRICS}
    return Run(run.wall_seconds, run.cpu_seconds, seconds / len(document["folds"]), scores)


def _loop(output: Path, *, label: str) -> Run:
    (output / "work.json").write_text(json.dumps(WORK), encoding="utf-8")
    paths = [str(output / name) for name in ("folds.csv", "work.json", "result.json")]
    module = "benchmarks.peers.handwritten_folds"
    run = run_process([sys.executable, "-m", module, paths[0], label, "fold", *paths[1:]])
    folds = json.loads((output / "result.json").read_text(encoding="utf-8"))
    scores = {name: [fold[name] for fold in folds] for name in METRICS}
    return Run(run.wall_seconds, run.cpu_seconds, statistics.fmean(fold["seconds"] for fold in folds), scores)


def _median(runs: list[Run], name: str) -> float:
    return float(statistics.median(getattr(run, name) for run in runs))


def _line(name: str, runs: list[Run]) -> str:
    times = (_median(runs, key) for key in ("wall_seconds", "cpu_seconds", "fold_seconds"))
    scores = (f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" for values in runs[0].scores.values())
    return f"| {name} | {' | '.join(f'{seconds:.1f}' for seconds in times)} | {' | '.join(scores)} |"


if __name__ == "__main__":
    sys.exit(main())

"""Training in several processes of this machine, beside training in one.

    python -m benchmarks.distributed_training [--size SIZE] [--epochs N] [--repeat N] [--busy]

Whole runs of the same table in turn, each with one epoch and with N: the difference is what an epoch costs, without the
start of the processes. All processes share the cores of this machine, so a second worker makes nothing faster here:
what counts is how many CPU seconds the same steps take. Nothing in the network is drawn at random, so the strategies
that add up gradients are to reach the loss of one process. Puts the figures into benchmarks/README.md.
Exit code 1: two workers take more than GOAL times the CPU seconds of one, or reach another loss.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import pipeline_data
from benchmarks.pipeline import kubetfx_config, run_config
from benchmarks.readme import machine, write_section

GOAL = 1.25
SAME_LOSS = 1e-3
"""Relative difference of the validation loss, which the order of sums may make."""
STRATEGIES: dict[str, dict[str, Any] | None] = {
    "one process": None,
    "mirrored, 2 devices": {"strategy": "mirrored", "workers": 2},
    "multi_worker, 2 processes": {"strategy": "multi_worker", "workers": 2},
    "parameter_server, 2 workers": {"strategy": "parameter_server", "workers": 2, "parameter_servers": 1},
}


@dataclass(frozen=True)
class Run:
    """A run of the pipeline."""

    cpu_seconds: float
    loss: float
    """Loss of the validation, after the last epoch."""
    staleness: float | None


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distributed_training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", default="600000x20", help="of the table, as benchmarks.pipeline names it")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4_096)
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    found: dict[tuple[str, int], list[Run]] = {}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        work = pipeline_data.make(arguments.size, Path(folder) / "data")
        for number in range(arguments.repeat):
            for name, distribution in STRATEGIES.items():
                for epochs in (1, arguments.epochs):
                    output = Path(folder) / f"{name}-{epochs}-{number}"
                    output.mkdir()
                    config = kubetfx_config(work)
                    config["model"] = {**config.get("model", {}), "kind": "network", "dropout": 0.0}
                    config["model"]["hidden_units"] = [256, 128]
                    config["training"] |= {"epochs": epochs, "batch_size": arguments.batch_size}
                    if distribution is not None:
                        config["training"]["distribution"] = distribution
                    (output / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
                    found.setdefault((name, epochs), []).append(_run(output))
    lines = [
        "| training in | CPU seconds per epoch | of one process | of the run with one epoch | validation loss |",
        "|---|---|---|---|---|",
    ]
    per_epoch: dict[str, float] = {}
    losses: dict[str, float] = {}
    for name in STRATEGIES:
        starts, ends = found[name, 1], found[name, arguments.epochs]
        start, end = (statistics.median(run.cpu_seconds for run in runs) for runs in (starts, ends))
        per_epoch[name] = (end - start) / (arguments.epochs - 1)
        losses[name] = statistics.median(run.loss for run in ends)
        ratio = per_epoch[name] / per_epoch["one process"]
        lines.append(f"| {name} | {per_epoch[name]:.2f} | {ratio:.2f} | {start:.1f} | {losses[name]:.5f} |")
    synchronous = "multi_worker, 2 processes"
    ratio = per_epoch[synchronous] / per_epoch["one process"]
    difference = abs(losses[synchronous] / losses["one process"] - 1)
    stale = [
        run.staleness for run in found["parameter_server, 2 workers", arguments.epochs] if run.staleness is not None
    ]
    is_reached = ratio <= GOAL and difference <= SAME_LOSS
    text = (
        f"{arguments.size.replace('x', ' by ')}, batches of {arguments.batch_size:,} rows, layers of 256 and 128 "
        f"units, medians of {arguments.repeat}. {machine(busy=arguments.busy)}\n\n"
        + "\n".join(lines)
        + f"\n\nTwo synchronous workers take {ratio:.2f} times the CPU seconds (goal: {GOAL}), and their validation "
        f"loss differs by {difference:.1e}. A commit to the parameter server was {statistics.median(stale):.2f} "
        "commits of others late on average."
    )
    print(text)
    write_section("distributed training", text)
    return 0 if is_reached else 1


def _run(output: Path) -> Run:
    run = run_config(output / "pipeline.yaml")
    (history,) = output.glob(".kubetfx/*/artifacts/Trainer/model/*/history.json")
    document = json.loads(history.read_text(encoding="utf-8"))
    loss = document["history"]["val_loss"][-1]
    return Run(run.cpu_seconds, loss, document.get("team", {}).get("mean_staleness"))


if __name__ == "__main__":
    sys.exit(main())

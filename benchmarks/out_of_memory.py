"""Training on rows that are kept in files, beside training on rows that are kept in memory.

    python -m benchmarks.out_of_memory [--size SIZE] [--repeat N] [--busy]

Whole runs of the same table in turn, with a `training.cache_bytes` that all rows fit into, and with 0. An epoch's rows
per second are those of the median epoch; the first, which builds the graph, is left out. Puts the figures into
benchmarks/README.md.
Exit code 1: rows in files are trained on at less than GOAL of the rate.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks import pipeline_data
from benchmarks.pipeline import kubetfx_config, run_config
from benchmarks.readme import machine, write_section

GOAL = 0.8
_PLACES = {"memory": 2**34, "files": 0}
"""`training.cache_bytes` by where the rows are."""


@dataclass(frozen=True)
class Trained:
    """A training, as its history.json has it."""

    rows_per_second: float
    cpu_seconds: float
    peak_bytes: int


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.out_of_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="600000x20", help="of the table, as benchmarks.pipeline names it")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    found: dict[str, list[Trained]] = {place: [] for place in _PLACES}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        work = pipeline_data.make(arguments.size, Path(folder) / "data")
        for number in range(arguments.repeat):
            for place, cache_bytes in _PLACES.items():
                output = Path(folder) / f"{place}-{number}"
                output.mkdir()
                config = kubetfx_config(work)
                config["training"] |= {"cache_bytes": cache_bytes, "epochs": 5}
                (output / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
                found[place].append(_trained(output))
    medians = {place: statistics.median([run.rows_per_second for run in runs]) for place, runs in found.items()}
    ratio = medians["files"] / medians["memory"]
    lines = ["| rows are in | rows per second of an epoch | CPU seconds of the run | peak GB |", "|---|---|---|---|"]
    for place, runs in found.items():
        cpu = statistics.median([run.cpu_seconds for run in runs])
        peak = statistics.median([run.peak_bytes for run in runs])
        lines.append(f"| {place} | {medians[place]:,.0f} | {cpu:.1f} | {peak / 1e9:.2f} |")
    verdict = "reached" if ratio >= GOAL else "missed"
    text = (
        f"{arguments.size.replace('x', ' by ')}, medians of {arguments.repeat}. {machine(busy=arguments.busy)}\n\n"
        + "\n".join(lines)
        + f"\n\nIn files {ratio:.2f} of the rate (goal: {GOAL}: {verdict})."
    )
    print(text)
    write_section("out of memory", text)
    return 0 if ratio >= GOAL else 1


def _trained(output: Path) -> Trained:
    run = run_config(output / "pipeline.yaml")
    (history,) = output.glob(".kubetfx/*/artifacts/Trainer/model/*/history.json")
    document = json.loads(history.read_text(encoding="utf-8"))
    seconds = statistics.median(document["seconds"][1:])
    return Trained(document["rows"] / seconds, run.cpu_seconds, run.peak_bytes)


if __name__ == "__main__":
    sys.exit(main())

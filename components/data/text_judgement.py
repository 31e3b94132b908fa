"""The statistics of the texts in a split, and the judgement of what is unusual: another script, unknown words,
gibberish. text_statistics.py counts them; the report reads them without pyarrow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kubetfx.artifacts import TRAIN

MIN_CELLS = 20
"""Minimum number of cells of a split for a judgement."""
MUCH_OF_SCRIPTS = 0.1
"""Share of letters in another script than in the training rows from which on it is reported."""
MANY_UNKNOWN = 0.15
"""Excess of the share of unknown words from which on it is reported."""
FEW_KNOWN = 0.5
"""Expected share of unknown words from which on they are not judged."""
STRANGE_CELLS, STRANGE_SHARE = 5, 0.02
"""Excess of strange cells of a split below which nothing is reported."""


@dataclass(frozen=True)
class TextStatistics:
    """Statistics of the texts of a split."""

    column: str
    split: str
    cells: int
    empty: int
    scripts: dict[str, float]
    """Shares of scripts among the letters, the largest first."""
    median_words: int
    most_words: int
    """Length that 99 of 100 cells do not exceed."""
    entropy: float
    """Entropy of the characters, in bits."""
    unknown: float
    """Share of words that no training row has; for training rows, that no other one has."""
    strange: float
    """Share of cells that are in another language, or in no language."""


def judge(found: Sequence[TextStatistics]) -> Iterator[tuple[str, str, str]]:
    """Compare the splits of a column with its training rows, and these with each other.

    Args:
        found: The statistics of all splits.

    Yields:
        A split, and a finding about it: a title and a description.
    """
    trained = next((one for one in found if one.split == TRAIN and one.cells >= MIN_CELLS), None)
    for one in found:
        if trained is not None and one.cells >= MIN_CELLS:
            for title, said in _judged(one, trained):
                yield one.split, title, said


@dataclass(frozen=True)
class Changes:
    """How far texts are from the training rows."""

    scripts: float
    """Share of the letters that are in a script that the training rows have less of."""
    unknown_words: float | None
    """Share of the words that no training row has, above what is expected. None: half of them are expected to be."""
    strange_texts: float
    """Share of the cells with hardly a known word, or the same words again and again, above what is expected."""


def changes_of(one: TextStatistics, trained: TextStatistics) -> Changes:
    """Return how far texts are from those of the training rows.

    Args:
        one: the statistics of the texts.
        trained: those of the training rows.
    """
    is_other = one.split != TRAIN
    more = (share - trained.scripts.get(name, 0.0) for name, share in one.scripts.items())
    unknown = one.unknown - trained.unknown if trained.unknown < FEW_KNOWN else None
    return Changes(sum(change for change in more if change > 0), unknown, one.strange - is_other * trained.strange)


def _judged(one: TextStatistics, trained: TextStatistics) -> Iterator[tuple[str, str]]:
    is_other = one.split != TRAIN
    changes = changes_of(one, trained)
    if is_other and changes.scripts > MUCH_OF_SCRIPTS:
        name = max(one.scripts, key=lambda script: one.scripts[script] - trained.scripts.get(script, 0.0))
        before = trained.scripts.get(name, 0.0)
        yield "Another script", f"{one.scripts[name]:.1%} of the letters are {name}, of the training rows {before:.1%}."
    if changes.unknown_words is None:
        return
    if is_other and changes.unknown_words > MANY_UNKNOWN:
        yield (
            "Unknown words",
            f"{one.unknown:.1%} of the words are in no training row, where {trained.unknown:.1%} were expected: they "
            "are in another language, or about another subject.",
        )
    number = round(one.strange * one.cells)
    if changes.strange_texts > STRANGE_SHARE and number >= STRANGE_CELLS:
        yield (
            "Strange texts",
            f"{number:,} cells ({one.strange:.1%}) have words that hardly another row has, or the same words again and "
            "again: they are of another language, or of none.",
        )

"""The statistics of the texts in a split, and the judgement of what is unusual.

Unusual are another script, unknown words, gibberish. text_statistics.py counts them; the report reads them without
pyarrow.
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
"""Number of strange cells of a split below which they are not judged, and the excess of their share from which on they
are reported.
"""


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

    @property
    def num_strange(self) -> int:
        """Number of cells that are in another language, or in no language."""
        return round(self.strange * self.cells)


def judge(found: Sequence[TextStatistics]) -> Iterator[tuple[str, str, str]]:
    """Compare the splits of a column with its training rows, and these with each other.

    Args:
        found: The statistics of all splits.

    Yields:
        A split, and a finding about it: a title and a description.
    """
    trained = next((one for one in found if one.split == TRAIN), None)
    if trained is None:
        return
    for one in found:
        for title, said in _judged(one, trained):
            yield one.split, title, said


@dataclass(frozen=True)
class Changes:
    """How far texts are from the training rows. None: too few cells, or too many unknown words, for a judgement."""

    scripts: float | None
    """Share of the letters that are in a script that the training rows have less of."""
    unknown_words: float | None
    """Share of the words that no training row has, above what is expected. None: half of them are expected to be."""
    strange_texts: float | None
    """Share of the cells with hardly a known word, or the same words again and again, above what is expected. None: as
    for `unknown_words`, or there are hardly any such cells.
    """


def changes_of(one: TextStatistics, trained: TextStatistics) -> Changes:
    """Return how far texts are from those of the training rows, as far as that can be judged.

    Args:
        one: the statistics of the texts.
        trained: those of the training rows.
    """
    if min(one.cells, trained.cells) < MIN_CELLS:
        return Changes(None, None, None)
    is_other = one.split != TRAIN
    more = (share - trained.scripts.get(name, 0.0) for name, share in one.scripts.items())
    scripts = sum(change for change in more if change > 0)
    if trained.unknown >= FEW_KNOWN:
        return Changes(scripts, None, None)
    strange = one.strange - is_other * trained.strange if one.num_strange >= STRANGE_CELLS else None
    return Changes(scripts, one.unknown - trained.unknown, strange)


def _judged(one: TextStatistics, trained: TextStatistics) -> Iterator[tuple[str, str]]:
    is_other = one.split != TRAIN
    changes = changes_of(one, trained)
    if is_other and (changes.scripts or 0) > MUCH_OF_SCRIPTS:
        name = max(one.scripts, key=lambda script: one.scripts[script] - trained.scripts.get(script, 0.0))
        before = trained.scripts.get(name, 0.0)
        yield "Another script", f"{one.scripts[name]:.1%} of the letters are {name}, of the training rows {before:.1%}."
    if is_other and (changes.unknown_words or 0) > MANY_UNKNOWN:
        yield (
            "Unknown words",
            f"{one.unknown:.1%} of the words are in no training row, where {trained.unknown:.1%} were expected: they "
            "are in another language, or about another subject.",
        )
    if (changes.strange_texts or 0) > STRANGE_SHARE:
        yield (
            "Strange texts",
            f"{one.num_strange:,} cells ({one.strange:.1%}) have words that hardly another row has, or the same words "
            "again and again: they are of another language, or of none.",
        )

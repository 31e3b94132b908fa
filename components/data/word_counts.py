"""Counts the words in the cells of a column, which shows whether it is text, and how long its messages are."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.models.columns.column_profile import LENGTH_STEP, MAX_LENGTH, SPACELESS, Texts

_WORDS_AND_SIGNS = rf"[{SPACELESS}]|[\pL\pM\pN]+|[^\s\pL\pM\pN']"
"""Pattern of a word, as cleaning splits texts; contractions and elisions are two words there, too."""


class WordCounts:
    """Counts of the words of a column of text."""

    def __init__(self) -> None:
        """Start without cells."""
        self._num_words = 0
        self._lengths = np.zeros(MAX_LENGTH // LENGTH_STEP + 1, np.int64)

    def add(self, cells: pa.StringArray) -> None:
        """Count a block.

        Args:
            cells: Its cells.
        """
        cells = cells.drop_null()
        size = pc.binary_length(cells)
        is_foreign = pc.not_equal(size, pc.utf8_length(cells))
        texts = cells.filter(pc.or_(pc.greater(size, LENGTH_STEP), is_foreign))  # shorter cells are in the first bucket
        self._num_words += len(cells)
        if len(texts):
            words = pc.count_substring_regex(texts, r"\S+")
            spaceless = pc.count_substring_regex(cells.filter(is_foreign), f"[{SPACELESS}]")
            more = pc.sum(words).as_py() - len(texts) + (pc.sum(spaceless).as_py() or 0)
            self._num_words += more
            lengths = pc.count_substring_regex(texts, _WORDS_AND_SIGNS).to_numpy(zero_copy_only=False)
            buckets = np.clip((lengths - 1) // LENGTH_STEP, 0, len(self._lengths) - 1)
            self._lengths += np.bincount(buckets, minlength=len(self._lengths))
        self._lengths[0] += len(cells) - len(texts)

    def merge(self, later: "WordCounts") -> None:
        """Add the counts of another part of the column.

        Args:
            later: The counts of that part.
        """
        self._num_words += later._num_words
        self._lengths += later._lengths

    @property
    def texts(self) -> Texts | None:
        """The counts; None if no cell has more than one word."""
        has_texts = self._num_words > self._lengths.sum()  # each cell is in a bucket, and counts as one word
        return Texts(self._num_words, tuple(self._lengths.tolist())) if has_texts else None


def num_words(cells: pa.Array) -> int:
    """Return how many words cells have together.

    Args:
        cells: (rows,) string.
    """
    counts = WordCounts()
    counts.add(cells.cast(pa.string()))
    return counts.texts.num_words if counts.texts else len(cells) - cells.null_count

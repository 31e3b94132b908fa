"""Statistics of the texts in a column: scripts, words that training rows do not have, entropy, lengths.

They show which splits have texts in another language than the training rows, or in no language. No language is built
in. A word is known if a training row has it or, for training rows, if another training row has it: so these show how
many words are unknown in any split of the same texts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.artifacts import TRAIN
from kubetfx.components.data.block_work import BlockWork
from kubetfx.components.data.text_judgement import TextStatistics
from kubetfx.models.columns.column_profile import MAX_LENGTH, SPACELESS

if TYPE_CHECKING:
    from kubetfx.components.data.example_parts import Part  # it imports TFX

SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Thai", "Hangul", "Han"),
    *("Hiragana", "Katakana"),
)
"""Scripts that are counted separately; all others count as one."""
OTHER_SCRIPT = "other"
MAX_CELLS = 200_000
"""Approximate number of cells over all splits; of a larger table some row groups are read."""
WORDS_OF_CELL, UNKNOWN_OF_CELL = 5, 0.8
"""Number of words, and share of unknown ones, from which on a cell is in another language, or in no language."""
MOST_WORDS, MOST_CHARACTERS = 256, 2_000
"""Words of a cell that count at most among those of a split, and characters of it that are counted: a cell with a word
a million times does not decide what is usual.
"""
REPEATED_WORDS, LITTLE_ENTROPY = 20, 0.5
"""The same for repetition: number of words, and the entropy as a share of that of different words, below which a cell
is in no language.
"""


@dataclass
class Counts:
    """Sums over the cells of a split."""

    cells: int = 0
    empty: int = 0
    letters: Array = field(default_factory=lambda: np.zeros(len(SCRIPTS) + 1, np.int64))
    """By script."""
    lengths: Array = field(default_factory=lambda: np.zeros(MAX_LENGTH + 1, np.int64))
    """Number of cells by their number of words."""
    characters: dict[int, int] = field(default_factory=dict)
    """Number of characters by code point."""
    words: dict[str, int] = field(default_factory=dict)
    """Number of cells that have each word."""
    num_words: int = 0
    num_unknown: int = 0
    num_strange: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the counts of both."""
        plain = {name: getattr(self, name) + getattr(other, name) for name in self._ADDED}
        return Counts(
            **plain, characters=_added(self.characters, other.characters), words=_added(self.words, other.words)
        )

    _ADDED: ClassVar = ("cells", "empty", "letters", "lengths", "num_words", "num_unknown", "num_strange")


def _added(first: dict[Any, int], second: dict[Any, int]) -> dict[Any, int]:
    for key, number in second.items():
        first[key] = first.get(key, 0) + number
    return first


@dataclass(frozen=True)
class _CountTexts(BlockWork["Part", tuple[str, Counts], dict[str, Counts], dict[str, Counts]]):
    """Counts words in each split."""

    column: str
    known: pa.Array | None = None
    """Words of the training rows, against which unknown words are counted; None: words are collected."""
    known_to_others: pa.Array | None = None
    """Words that several training rows have."""

    def blocks(self, item: "Part") -> Iterator[tuple[str, Counts]]:
        cells = pc.fill_null(item.group.read([self.column]).column(0).cast(pa.string()), "")
        words = _words_of(cells)
        if self.known is None:
            yield item.split, _described(cells, words)
        else:
            known = self.known_to_others if item.split == TRAIN else self.known
            yield item.split, _compared(words, known)

    def create(self) -> dict[str, Counts]:
        return {}

    def add_block(self, state: dict[str, Counts], block: tuple[str, Counts]) -> dict[str, Counts]:
        split, counts = block
        return self.merge(state, {split: counts})

    def merge(self, first: dict[str, Counts], second: dict[str, Counts]) -> dict[str, Counts]:
        return {name: first.get(name, Counts()) + second.get(name, Counts()) for name in {**first, **second}}

    def result(self, state: dict[str, Counts]) -> dict[str, Counts]:
        return state


@dataclass(frozen=True)
class Described:
    """A column of text."""

    splits: list[TextStatistics]
    """Statistics of each split."""
    words: pa.Array
    """(words,) string: those that the training rows have."""


def describe(
    column: str, parts: Sequence["Part"], *, num_rows: int, run: Callable[[Any, Sequence["Part"]], Any]
) -> Described:
    """Return what is known of a column of text.

    Args:
        column: its name.
        parts: row groups of all splits.
        num_rows: Their number of rows.
        run: Executes the work on the row groups.
    """
    every = max(-(-num_rows // MAX_CELLS), 1)
    some = [part for part in parts if part.number % every == 0]
    counts: dict[str, Counts] = run(_CountTexts(column), some)
    words = counts.get(TRAIN, Counts()).words
    known = pa.array(list(words), pa.string())
    to_others = pa.array([word for word, cells in words.items() if cells > 1], pa.string())
    compared: dict[str, Counts] = run(_CountTexts(column, known, to_others), some)
    return Described([statistics_of(column, split, own + compared[split]) for split, own in counts.items()], known)


def compare(cells: pa.Array, known: pa.Array) -> Counts:
    """Return counts of what is compared with training rows, without the words and characters themselves.

    Args:
        cells: (rows,) string.
        known: words of the training rows.
    """
    cells = pc.fill_null(cells, "")
    words = _words_of(cells)
    return replace(_described(cells, words), words={}, characters={}) + _compared(words, known)


def _words_of(cells: pa.Array) -> pa.ListArray:
    """Return (cells,) lists of words in lower case.

    In scripts without spaces each character is a word, and a number is `0`.
    """
    plain = pc.utf8_lower(pc.utf8_normalize(cells, "NFKC"))
    for pattern, replacement in (
        (r"(?i)</?[a-z!][^<>]*>|\b(?:https?|ftp)://\S+|&#?\w+;", " "),
        (r"\pN+", "0"),
        (rf"([{SPACELESS}])", r" \1 "),
        (r"[^\pL\pM0]+", " "),
    ):
        plain = pc.replace_substring_regex(plain, pattern, replacement)
    return pc.split_pattern(pc.utf8_trim_whitespace(plain), " ")


def _described(cells: pa.Array, words: pa.ListArray) -> Counts:
    lengths, _, flat = _flat(words)
    encoded = flat.dictionary_encode()
    number = max(len(encoded.dictionary), 1)
    pairs = np.unique(_pairs(lengths, encoded, number))
    cells = pc.utf8_slice_codeunits(cells, 0, MOST_CHARACTERS)
    by_script = [pc.sum(pc.count_substring_regex(cells, rf"\p{{{name}}}")).as_py() or 0 for name in SCRIPTS]
    letters = pc.sum(pc.count_substring_regex(cells, r"\pL")).as_py() or 0
    text = "".join(pc.utf8_lower(cells).to_pylist())
    codes, numbers = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_counts=True)
    return Counts(
        cells=len(cells),
        empty=int((lengths == 0).sum()),
        letters=np.array([*by_script, max(letters - sum(by_script), 0)], np.int64),
        lengths=np.bincount(np.minimum(lengths, MAX_LENGTH), minlength=MAX_LENGTH + 1),
        characters=dict(zip(codes.tolist(), numbers.tolist(), strict=True)),
        words=dict(zip(encoded.dictionary.to_pylist(), np.bincount(pairs % number).tolist(), strict=True)),
        num_words=int(np.minimum(lengths, MOST_WORDS).sum()),
    )


def _compared(words: pa.ListArray, known: pa.Array | None) -> Counts:
    lengths, firsts, flat = _flat(words)
    is_unknown = pc.invert(pc.is_in(flat, known)).to_numpy(zero_copy_only=False)
    before = np.append(0, np.cumsum(is_unknown))
    unknown = before[firsts + lengths] - before[firsts]
    is_foreign = (lengths >= WORDS_OF_CELL) & (unknown >= UNKNOWN_OF_CELL * lengths)
    is_repeated = (lengths >= REPEATED_WORDS) & (_entropies(lengths, flat) < LITTLE_ENTROPY)
    counted = np.rint(unknown * (np.minimum(lengths, MOST_WORDS) / np.maximum(lengths, 1)))
    return Counts(num_unknown=int(counted.sum()), num_strange=int((is_foreign | is_repeated).sum()))


def _entropies(lengths: Array, flat: pa.Array) -> Array:
    """Return (cells,) the entropy of the words of each cell, as a share of that of as many different words."""
    encoded = flat.dictionary_encode()
    number = max(len(encoded.dictionary), 1)
    pairs, times = np.unique(_pairs(lengths, encoded, number), return_counts=True)
    lost = np.bincount(pairs // number, times * np.log2(times), len(lengths))
    most = np.log2(np.maximum(lengths, 2))
    found: Array = 1 - lost / np.maximum(lengths, 1) / most
    return found


def _pairs(lengths: Array, encoded: pa.DictionaryArray, number: int) -> Array:
    """Return (words,) int64: a number for the cell and the word of each, by the number of different words."""
    owners = np.repeat(np.arange(len(lengths)), lengths)
    found: Array = owners * number + encoded.indices.to_numpy().astype(np.int64)
    return found


def _flat(words: pa.ListArray) -> tuple[Array, Array, pa.Array]:
    """Return the number of words of each cell, where they begin, and all words.

    Empty strings between spaces do not count.
    """
    flat = words.flatten()
    is_word = pc.not_equal(flat, "").to_numpy(zero_copy_only=False)
    before = np.append(0, np.cumsum(is_word))
    ends = before[np.cumsum(pc.list_value_length(words).to_numpy())]
    firsts = np.append(0, ends[:-1]) if len(ends) else ends
    return ends - firsts, firsts, flat.filter(pa.array(is_word))


def statistics_of(column: str, split: str, counts: Counts) -> TextStatistics:
    """Return the statistics of cells.

    Args:
        column: of the cells.
        split: of the cells, or another word for them.
        counts: of the cells.
    """
    letters = counts.letters / max(counts.letters.sum(), 1)
    shares = sorted(zip((*SCRIPTS, OTHER_SCRIPT), letters.tolist(), strict=True), key=lambda one: -one[1])
    numbers = np.array(list(counts.characters.values()), np.float64)
    numbers /= max(numbers.sum(), 1)
    below = np.cumsum(counts.lengths)
    return TextStatistics(
        column=column,
        split=split,
        cells=counts.cells,
        empty=counts.empty,
        scripts={name: share for name, share in shares if share},
        median_words=int(np.searchsorted(below, 0.5 * counts.cells)),
        most_words=int(np.searchsorted(below, 0.99 * counts.cells)),
        entropy=float(-(numbers * np.log2(numbers)).sum()),
        unknown=counts.num_unknown / max(counts.num_words, 1),
        strange=counts.num_strange / max(counts.cells, 1),
    )

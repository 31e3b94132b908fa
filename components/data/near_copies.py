"""Finds texts that are copies of each other, or nearly so, disregarding case, punctuation and numbers.

Two texts are near copies if they share MIN_SHARED of their shingles, runs of SHINGLE bytes, as the least values of hash
functions estimate it: A. Broder, "On the resemblance and containment of documents", 1997. Texts that share one of the
bands of values are compared (J. Leskovec, A. Rajaraman, J. Ullman, "Mining of Massive Datasets", chapter 3), so
that the work grows with the number of texts, not with its square. The result is deterministic, and does not depend
on the order of the rows.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import BlockWork
from kubetfx.components.data.column_roles import choose_role
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.features import TEXT

MIN_SHARED = 0.8
"""Minimum share of common shingles of near copies."""
MIN_BYTES = 40
"""Minimum length of a normalized text; shorter texts are equal by coincidence, and do not count as copies."""
FEW_ROWS, FEW_SHARE = 20, 0.01
"""Maximum number of rows with near copies of one text, and their maximum share: more of them are messages of one kind
rather than copies.
"""
SHINGLE = 8
BANDS, BAND = 8, 4
"""Number of bands of least values, and values per band: of texts that share 0.8 of their shingles, 98 of 100 share a
band.
"""
MAX_TEXTS = 4_000_000
"""Maximum number of different texts; with more, only texts that are equal after normalization count as copies."""
_DRAWN = np.random.Generator(np.random.PCG64(0)).integers(0, 2**32, size=(2, BANDS * BAND), dtype=np.uint32)
_FACTORS, _TERMS = _DRAWN[0] | np.uint32(1), _DRAWN[1]
"""Coefficients of the hash functions, which are linear permutations of 32 bits."""
_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
_BLOCK_BYTES = 2**17
"""Number of texts that are processed together: the intermediate results stay in the processor's cache."""
_REPLACED = (
    (r"(?i)</?[a-z!][^<>]*>|\b(?:https?|ftp)://\S+|\bwww\.\S+|&#?\w+;", " "),
    (r"\pN+", "0"),
    (r"[^\pL\pM0]+", " "),
)
"""Patterns for RE2: tags, addresses and entities; numbers; signs."""

ReadTexts = Callable[[Any], Iterator[tuple[str, pa.Array]]]
"""Takes an item, such as a row group, and yields splits and the texts of some of their rows."""


@dataclass
class Texts:
    """Different texts of a split."""

    keys: Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    """(texts,) sorted keys; equal for texts that are equal after normalization."""
    rows: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """(texts,) the number of rows with each text."""
    least: Array = field(default_factory=lambda: np.zeros((0, BANDS * BAND), np.uint32))
    """(texts, values): the least value of each hash function over the shingles."""
    num_cells: int = 0
    """Number of rows of the split, including those that are left out."""

    @classmethod
    def of(cls, parts: Sequence["Texts"]) -> "Texts":
        """Return the texts of all parts.

        Args:
            parts: The parts, in any order.
        """
        rows, least = (np.concatenate([getattr(one, name) for one in (cls(), *parts)]) for name in ("rows", "least"))
        every = np.concatenate([one.keys for one in (cls(), *parts)])
        keys, first, inverse = np.unique(every, return_index=True, return_inverse=True)
        num_cells = sum(one.num_cells for one in parts)
        return cls(keys, np.bincount(inverse, rows, len(keys)).astype(np.int64), least[first], num_cells)


@dataclass(frozen=True)
class FindTexts(BlockWork[Any, tuple[str, Texts], dict[str, list[Texts]], dict[str, Texts]]):
    """Finds the different texts of each split."""

    read: ReadTexts

    def blocks(self, item: Any) -> Iterator[tuple[str, Texts]]:
        """Read the texts of an item.

        Args:
            item: see `read`.

        Yields:
            A split, and some of its texts.
        """
        for split, cells in self.read(item):
            yield split, texts_of(cells)

    def create(self) -> dict[str, list[Texts]]:
        """Return the state of no texts."""
        return {}

    def add_block(self, state: dict[str, list[Texts]], block: tuple[str, Texts]) -> dict[str, list[Texts]]:
        """Return the texts of both."""
        split, texts = block
        return self.merge(state, {split: [texts]})

    def merge(self, first: dict[str, list[Texts]], second: dict[str, list[Texts]]) -> dict[str, list[Texts]]:
        """Return the texts of both."""
        return {name: [*first.get(name, []), *second.get(name, [])] for name in sorted({*first, *second})}

    def result(self, state: dict[str, list[Texts]]) -> dict[str, Texts]:
        """Return the texts by split."""
        return {name: Texts.of(parts) for name, parts in state.items()}


@dataclass(frozen=True)
class Groups:
    """Texts that have near copies, or several rows."""

    keys: Array
    """(texts,) uint64, sorted."""
    groups: Array
    """(texts,) uint64: the key of the group, that of one of its texts."""
    num_rows: int = 0
    """Number of rows with one of the texts."""
    num_groups: int = 0

    def of(self, keys: Array) -> tuple[Array, Array]:
        """Find the groups of rows.

        Args:
            keys: (rows,) of `keys_of`.

        Returns:
            (rows,) bool, whether the row is in a group; and (rows,) uint64, the group if it is.
        """
        if not len(self.keys):
            return np.zeros(len(keys), bool), np.zeros(len(keys), np.uint64)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.keys[place] == keys, self.groups[place]


@dataclass(frozen=True)
class NearCopies:
    """The groups of the texts in a column."""

    column: str
    groups: Groups

    @property
    def note(self) -> str:
        """Notes on them, a sentence."""
        return (
            f"Column {self.column!r}: {self.groups.num_rows:,} rows have the text of another row, or nearly so. "
            f"They form {self.groups.num_groups:,} groups, each in one split."
        )


def text_columns(profile: TableProfile, *, label: str, config: FeaturesConfig) -> list[str]:
    """Return the columns of text, as SchemaGen will find them.

    Args:
        profile: The profile of the table.
        label: the column that is predicted.
        config: the section `features`, of which the columns count that it names.
    """
    others = (column for column in profile.columns if column.name != label)
    return [one.name for one in others if choose_role(one, num_rows=profile.num_rows, config=config)[0] == TEXT]


def longest_text(profile: TableProfile, names: Iterable[str]) -> str | None:
    """Return the column with the most words; None where there is none.

    Args:
        profile: The profile of the table.
        names: of the columns of text.
    """
    found = {name: profile.column(name).texts for name in names}
    words = {name: texts.num_words for name, texts in found.items() if texts}
    return max(words, key=lambda name: (words[name], name), default=None)


def texts_of(cells: pa.Array) -> Texts:
    """Return the different texts of some cells.

    Args:
        cells: (rows,) string; missing and short ones are left out.
    """
    plain = plain_texts(cells)
    plain = plain.filter(pc.fill_null(pc.greater_equal(pc.binary_length(plain), MIN_BYTES), False))
    counted = pc.value_counts(plain)
    texts = counted.field("values")
    if not len(texts):
        return Texts(num_cells=len(cells))
    keys = _digests(texts)
    order = np.argsort(keys)
    rows = counted.field("counts").to_numpy()[order].astype(np.int64)
    return Texts(keys[order], rows, _least_values(texts)[order], len(cells))


def keys_of(cells: pa.Array) -> Array:
    """Return the key of each text, (rows,) uint64: 0 if the text is missing or too short to have copies.

    Args:
        cells: (rows,) string.
    """
    plain = plain_texts(cells)
    is_long = pc.fill_null(pc.greater_equal(pc.binary_length(plain), MIN_BYTES), False).to_numpy(zero_copy_only=False)
    keys = np.zeros(len(cells), np.uint64)
    keys[is_long] = _digests(plain.filter(pa.array(is_long)))
    return keys


def plain_texts(cells: pa.Array) -> pa.Array:
    """Return normalized texts: letters in lower case, `0` for each number, and single spaces.

    Args:
        cells: (rows,) string.
    """
    plain = pc.utf8_normalize(cells.cast(pa.string()), "NFKC")
    for pattern, replacement in _REPLACED:
        plain = pc.replace_substring_regex(plain, pattern, replacement)
    return pc.utf8_lower(pc.utf8_trim_whitespace(plain))


def find_groups(texts: Mapping[str, Texts], *, num_rows: int) -> Groups:
    """Find texts that are near copies of each other.

    Args:
        texts: The texts by split, which are compared across all splits.
        num_rows: The number of rows of all splits.

    Returns:
        The groups of near copies that are not messages of one kind.
    """
    every = Texts.of(list(texts.values()))
    group = _connected(every.least if len(every.keys) <= MAX_TEXTS else every.least[:, :0])
    rows = np.bincount(group, every.rows)
    is_group = (rows > 1) & (rows <= max(FEW_ROWS, FEW_SHARE * num_rows))
    lowest = np.full(len(rows), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, group, every.keys)
    kept = is_group[group]
    return Groups(every.keys[kept], lowest[group][kept], int(rows[is_group].sum()), int(is_group.sum()))


def _connected(least: Array) -> Array:
    """Return (texts,) int64: the number of the group of each, from 0."""
    from scipy import sparse

    pairs = [_pairs(least, slice(start, start + BAND)) for start in range(0, least.shape[1], BAND)]
    first, second = np.concatenate(pairs or [np.zeros((0, 2), np.int64)]).T
    graph = sparse.coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(least), len(least)))
    groups: Array = sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def _pairs(least: Array, band: slice) -> Array:
    """Return (pairs, 2) int64: near copies among the texts with a common band, each paired with the first of them."""
    keys = np.zeros(len(least), np.uint64)
    for values in least[:, band].T:
        keys = keys * _MULTIPLIER + values  # other texts with the same key are not similar
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    others = np.flatnonzero(first[inverse] != np.arange(len(least)))
    alike = (least[others] == least[first[inverse[others]]]).mean(axis=1) >= MIN_SHARED
    return np.stack([first[inverse[others[alike]]], others[alike]], axis=1)


def _digests(texts: pa.Array) -> Array:
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts.cast(pa.binary()).to_pylist())
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _least_values(texts: pa.Array) -> Array:
    """Return (texts, values) uint32: the least values for texts of SHINGLE bytes or more."""
    contents = texts.cast(pa.binary()).to_pylist()
    ends = np.cumsum(np.fromiter(map(len, contents), np.int64))
    cuts = np.flatnonzero(np.diff(ends // _BLOCK_BYTES, prepend=0)) + 1
    blocks = [contents[start:end] for start, end in pairwise([0, *cuts.tolist(), len(contents)]) if end > start]
    return np.concatenate([_least_values_of(block) for block in blocks])


def _least_values_of(contents: Sequence[bytes]) -> Array:
    joined = np.frombuffer(b"".join(contents), np.uint8)
    lengths = np.fromiter(map(len, contents), np.int64)
    starts = np.cumsum(lengths) - lengths
    shingles = np.lib.stride_tricks.sliding_window_view(joined, SHINGLE)
    inside = np.ones(len(shingles), bool)
    for back in range(1, SHINGLE):  # a shingle must not span two texts
        inside[starts[1:] - back] = False
    numbers = np.ascontiguousarray(shingles[inside]).view("<u8").ravel().astype(np.uint64)
    mixed = (((numbers ^ (numbers >> np.uint64(29))) * _MULTIPLIER) >> np.uint64(32)).astype(np.uint32)
    counts = lengths - SHINGLE + 1
    firsts = np.cumsum(counts) - counts
    permutations = zip(_FACTORS, _TERMS, strict=True)
    return np.stack([np.minimum.reduceat(mixed * factor + term, firsts) for factor, term in permutations], axis=1)


def leaders_of(cells: pa.Array) -> Array:
    """Return the first near copy of each text, (rows,) int64: itself where there is none before it.

    Args:
        cells: (rows,) string.
    """
    is_copy, groups = find_groups({"": texts_of(cells)}, num_rows=len(cells)).of(keys_of(cells))
    found: Array = np.arange(len(cells))
    _, first, inverse = np.unique(groups[is_copy], return_index=True, return_inverse=True)
    found[is_copy] = np.flatnonzero(is_copy)[first][inverse]
    return found


def num_copied(own: Texts, trained: Texts, groups: Groups) -> int:
    """Return how many rows of a split have a text with a near copy in another.

    Args:
        own: The texts of the split.
        trained: The texts of the other split.
        groups: The groups of all texts.
    """
    seen = groups.groups[np.isin(groups.keys, trained.keys)]
    is_known, group = groups.of(own.keys)
    return int(own.rows[is_known & np.isin(group, seen)].sum())

"""Finds rows that share all features: in different splits, or with different labels.

Each row becomes a number, its key: equal features have equal keys, whatever the order of the rows. In a large table the
columns with the most values are read first, since rows that differ in these differ; all columns are read only if
keys repeat. If there are very many keys, every k-th is kept, with all of its rows.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import BlockWork
from kubetfx.components.data.example_parts import Part
from kubetfx.components.data.table_profile import TableProfile

MAX_CELLS = 12_000_000
"""Number of columns that are read first."""
MAX_KEYS = 1_000_000
"""Approximate number of keys that are kept."""
FEW = 0.001
"""Share of rows with repeated keys below which these are not examined."""
_MISSING = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Rows:
    """Keys and labels of the rows of a split that are kept."""

    keys: Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    labels: Array = field(default_factory=lambda: np.zeros(0))
    """Labels of the rows: class indices, or numbers."""
    class_counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    """Number of all rows by class; empty for numbers."""

    def __add__(self, other: "Rows") -> "Rows":
        """Return the rows of both."""
        keys, labels = (np.concatenate([getattr(one, name) for one in (self, other)]) for name in ("keys", "labels"))
        if not len(self.class_counts) or not len(other.class_counts):
            return Rows(keys, labels, self.class_counts if len(self.class_counts) else other.class_counts)
        return Rows(keys, labels, self.class_counts + other.class_counts)


RowsBySplit = dict[str, Rows]


@dataclass(frozen=True)
class ReadKeys(BlockWork[Part, tuple[str, Rows], RowsBySplit, RowsBySplit]):
    """Reads the key and the label of every row."""

    columns: Sequence[str]
    """Columns that keys are computed from, in the same order for all blocks."""
    label: str
    classes: Sequence[str]
    """Empty for numbers."""
    every: int = 1
    """One of this many keys is kept."""

    def blocks(self, item: Part) -> list[tuple[str, Rows]]:
        """Return the rows of a row group."""
        block = item.group.read([*self.columns, self.label])
        labels = self._labels(block.column(self.label))
        counts = np.bincount(labels.astype(np.int64), minlength=len(self.classes)) if self.classes else None
        keys = row_keys(block.select(list(self.columns)))
        kept = keys % np.uint64(self.every) == 0
        rows = Rows(keys[kept], labels[kept])
        return [(item.split, rows if counts is None else Rows(rows.keys, rows.labels, counts))]

    def create(self) -> RowsBySplit:
        """Return the state of no rows."""
        return {}

    def add_block(self, state: RowsBySplit, block: tuple[str, Rows]) -> RowsBySplit:
        """Return the rows of both."""
        split, rows = block
        return self.merge(state, {split: rows})

    def merge(self, first: RowsBySplit, second: RowsBySplit) -> RowsBySplit:
        """Return the rows of both."""
        return {name: first.get(name, Rows()) + second.get(name, Rows()) for name in {**first, **second}}

    def result(self, state: RowsBySplit) -> RowsBySplit:
        """Return the rows by split."""
        return state

    def _labels(self, column: pa.Array) -> Array:
        if not self.classes:
            numbers: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return numbers
        encoded = column.dictionary_encode()
        known = pc.index_in(encoded.dictionary.cast(pa.string()), pa.array(list(self.classes), pa.string()))
        numbers = known.to_numpy(zero_copy_only=False)[encoded.indices.to_numpy()]
        return numbers.astype(np.float64)


def row_keys(block: pa.RecordBatch) -> Array:
    """Compute a number for each row that is equal for equal rows.

    Args:
        block: The block of examples.

    Returns:
        (rows,) uint64.
    """
    keys = np.zeros(block.num_rows, np.uint64)
    for column in block.columns:
        keys = _mixed(keys * np.uint64(3) + _numbers(column))
    return keys


def _numbers(column: pa.Array) -> Array:
    """Return a number for each cell, (rows,) uint64."""
    if pa.types.is_null(column.type):
        return np.full(len(column), _MISSING)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        filled = pc.fill_null(column, 0) if column.null_count else column
        values = filled.to_numpy(zero_copy_only=False)
        values = (
            (values + 0.0).view(np.uint64) if values.dtype == np.float64 else values.astype(np.int64).view(np.uint64)
        )
        numbers = _mixed(values)
    else:
        encoded = column.dictionary_encode()
        contents = encoded.dictionary.cast(pa.binary()).to_pylist()
        digests = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
        indices = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
        numbers = np.frombuffer(digests, "<u8")[indices] if contents else np.zeros(len(column), np.uint64)
    return (
        np.where(column.is_null().to_numpy(zero_copy_only=False), _MISSING, numbers) if column.null_count else numbers
    )


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix the bits of whole numbers with SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def most_distinct(profile: TableProfile, columns: Sequence[str]) -> list[str]:
    """Sort columns by how well they distinguish rows.

    Args:
        profile: The profile of the table.
        columns: some of its columns.

    Returns:
        Those with the most values first.
    """

    def rank(name: str) -> tuple[float, str]:
        column = profile.column(name)
        known = column.num_decimals if column.type == "float" else column.num_distinct
        is_text = column.type == "string"
        return (-known if known is not None else -math.inf if not is_text else -1e6), name

    return sorted(columns, key=rank)


def share_of_repeats(rows: RowsBySplit) -> float:
    """Compute how often keys repeat.

    Args:
        rows: The rows of all splits.

    Returns:
        The share of rows whose key another row has, 0 to 1.
    """
    keys = np.concatenate([one.keys for one in rows.values()]) if rows else np.zeros(0, np.uint64)
    _, counts = np.unique(keys, return_counts=True)
    return float(counts[counts > 1].sum() / max(len(keys), 1))


@dataclass(frozen=True)
class LabelNoise:
    """Rows that share all features with rows of another label, and how good a model can be because of them."""

    rows: int
    total_rows: int
    """Number of rows that were examined."""
    ceiling: float
    """The best possible accuracy or, for numbers, the best possible share of explained variance, over all rows."""


def label_noise(rows: Mapping[str, Rows], *, is_class: bool) -> LabelNoise:
    """Count rows that share all features and differ in the label.

    Args:
        rows: The rows of all splits.
        is_class: whether the label is a class.

    Returns:
        The result; without such rows the ceiling is 1.
    """
    keys = np.concatenate([one.keys for one in rows.values()])
    labels = np.concatenate([one.labels for one in rows.values()])
    order = np.lexsort((labels, keys))
    keys, labels = keys[order], labels[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(keys)))
    differ = labels[np.append(starts[1:], len(keys)) - 1] != labels[starts]  # they are sorted within a key
    if not differ.any():
        return LabelNoise(0, len(keys), 1.0)
    if is_class:
        runs = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]) | (labels[1:] != labels[:-1])))
        lengths = np.diff(np.append(runs, len(keys)))
        most = np.maximum.reduceat(lengths, np.searchsorted(runs, starts))
        ceiling = float(most.sum() / len(keys))
    else:
        means = np.add.reduceat(labels, starts) / sizes
        within = float(((labels - np.repeat(means, sizes)) ** 2).sum())
        ceiling = 1 - within / float(((labels - labels.mean()) ** 2).sum())
    return LabelNoise(int(sizes[differ].sum()), len(keys), ceiling)

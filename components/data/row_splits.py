"""Assigns the rows of a table to splits, as `data.splits` says: by a hash, a column, time, or the file."""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.components.data.near_copies import NearCopies, keys_of
from kubetfx.config.data_section import Splits
from kubetfx.errors import DataError
from kubetfx.tables.spelled_dates import understand

_SPELLINGS = {
    TRAIN: ("train", "training", "learn"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    EVAL: ("eval", "evaluation", "test", "testing", "holdout"),
}
"""Spellings of the names of splits in a column, in lower case."""


@dataclass(frozen=True)
class RowSplits:
    """The rule that assigns rows to splits; it can be pickled."""

    config: Splits
    buckets: Sequence[int]
    """Cumulative numbers of hash buckets of the splits, in order."""
    names: Sequence[str]
    """Names of the splits, in order."""
    bounds: Sequence[float] = ()
    """By time: the first number of each split except the first; for dates, microseconds since 1970."""
    date_format: str | None = None
    """By time: the format of dates; None: the column holds numbers."""
    newest: frozenset[str] = frozenset()
    """By span: the files of the newest span."""
    near_copies: NearCopies | None = None
    """By row: groups of texts, each of which stays in one split."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads; none: all of them, or no column at all."""
        return self.config.columns

    def split(self, block: pa.RecordBatch, *, file: str) -> Array:
        """Find the splits of rows.

        Args:
            block: The rows, with pictures as paths, and at least the columns that the rule reads.
            file: The file of the rows; relative to the folder of the table if splits have their own files.

        Returns:
            (rows,) int64: the index of the split.

        Raises:
            DataError: a row has no value in the deciding column, or one that does not name a split.
        """
        if self.config.files:
            return np.full(block.num_rows, self.names.index(str(split_of_file(file, self.config.files))))
        for name in self.columns:
            if num_missing := block.column(name).null_count:
                raise DataError(
                    f"{file}: the column that determines the split has no value in {num_missing:,} rows. Received: "
                    f"data.splits with {name!r}. Fill it in, remove those rows, or split by another rule."
                )
        if self.config.by == "column":
            return _named(block.column(self.columns[0]), self.names, column=self.columns[0])
        if self.config.by == "time":
            return by_time(times_of(block.column(self.columns[0]), self.date_format), self.bounds)
        buckets = self.buckets
        if self.config.by == "span":
            if file in self.newest:
                return np.full(block.num_rows, self.names.index(EVAL))
            buckets = buckets[: self.names.index(EVAL)]  # it is the last split
        if self.columns:
            return hashed(row_keys(block.select(list(self.columns))), buckets)
        found = hashed_with_copies_apart(row_keys(block), buckets)
        return found if self.near_copies is None else self._together(self.near_copies, block, found)

    def _together(self, near_copies: NearCopies, block: pa.RecordBatch, found: Array) -> Array:
        """Return the splits of rows; a row of a group gets the split of its group's key."""
        is_copy, groups = near_copies.groups.of(keys_of(block.column(near_copies.column)))
        if is_copy.any():
            found[is_copy] = hashed(pa.array(groups[is_copy]).cast(pa.string()), self.buckets)
        return found


def split_of_file(file: str, patterns: Mapping[Any, str]) -> str | None:
    """Find the split of a file.

    Args:
        file: The path relative to the folder of the table.
        patterns: The globs by split.

    Returns:
        The first split whose glob matches; None if none matches.
    """
    return next((split for split, pattern in patterns.items() if fnmatch.fnmatchcase(file, pattern)), None)


def _named(cells: pa.Array, names: Sequence[str], *, column: str) -> Array:
    coded = pc.utf8_lower(pc.utf8_trim_whitespace(cells.cast(pa.string()))).dictionary_encode()
    indices = []
    for cell in coded.dictionary.to_pylist():
        split = next((split for split, spellings in _SPELLINGS.items() if cell in spellings), None)
        if split is None:
            known = ", ".join(spellings[0] for spellings in _SPELLINGS.values())
            raise DataError(
                f"data.splits.column: a cell of {column!r} names no split. Received: {cell!r}. Known: {known}."
            )
        if split not in names:
            raise DataError(
                f"data.splits.column: rows of {column!r} are for the split {split!r}, whose fraction is 0. Set "
                f"data.splits.{split} to another fraction; the fraction only says that the split exists."
            )
        indices.append(names.index(split))
    splits: Array = np.array(indices, np.int64)[coded.indices.to_numpy()]
    return splits


def by_time(times: pa.Array, bounds: Sequence[float]) -> Array:
    """Find the part of each row in time.

    Args:
        times: (rows,) numbers.
        bounds: The first number of each part except the first.

    Returns:
        (rows,) int64: the index of the part.
    """
    found = np.zeros(len(times), np.int64)
    for bound in bounds:
        found += pc.greater_equal(times, bound).to_numpy(zero_copy_only=False)
    return found


def times_of(cells: pa.Array, date_format: str | None) -> pa.Array:
    """Read cells as numbers that rise with time.

    Args:
        cells: numbers, or dates.
        date_format: The format of the cells if they are dates; None: they are numbers.

    Returns:
        Numbers; for dates, microseconds since 1970.
    """
    return cells if date_format is None else understand(cells, date_format).times


def hashed(keys: pa.Array, buckets: Sequence[int]) -> Array:
    """Find the splits of rows by a hash.

    The rule of TFX's ExampleGen: SHA-256 of the row, as a number, modulo the number of buckets.

    Args:
        keys: (rows,) string: what is hashed.
        buckets: The cumulative numbers of buckets of the splits, in order; fewer than 2^32 in all.

    Returns:
        (rows,) int64: the index of the split.
    """
    return _splits_of(_digests(keys), buckets)


def hashed_with_copies_apart(keys: pa.Array, buckets: Sequence[int]) -> Array:
    """Find the splits of rows by a hash that includes n for the n-th copy of a row.

    Otherwise equal rows would all be in one split, and a table with few distinct rows would be split unevenly. The
    first copy has the split that `hashed` assigns.

    Args:
        keys: (rows,) string: what is hashed.
        buckets: The cumulative numbers of buckets of the splits, in order; fewer than 2^32 in all.

    Returns:
        (rows,) int64: the index of the split.
    """
    digests = _digests(keys)
    copies = _copy_numbers(digests[:, :2].copy().view(np.uint64).ravel())
    later = np.flatnonzero(copies)
    if len(later):
        texts = keys.take(pa.array(later)).to_pylist()
        numbered = [f"{text}\x1e{number}" for text, number in zip(texts, copies[later].tolist(), strict=True)]
        digests[later] = _digests(pa.array(numbered, pa.string()))
    return _splits_of(digests, buckets)


def _digests(keys: pa.Array) -> Array:
    """Return (rows, 8) uint32: the words of SHA-256, the most significant first."""
    sha256 = hashlib.sha256
    digests = b"".join([sha256(key).digest() for key in keys.cast(pa.binary()).to_pylist()])
    return np.frombuffer(digests, ">u4").reshape(-1, 8).astype(np.uint32)


def _splits_of(digests: Array, buckets: Sequence[int]) -> Array:
    remainder = np.zeros(len(digests), np.uint64)
    for word in digests.T.astype(np.uint64):  # long division: 32 bits at a time
        remainder = ((remainder << np.uint64(32)) | word) % np.uint64(buckets[-1])
    return np.searchsorted(np.asarray(buckets), remainder.astype(np.int64), side="right")


def _copy_numbers(values: Array) -> Array:
    """Return (rows,) int64: how many equal values are before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(values) else np.zeros(0, bool)
    copies = np.zeros(len(values), np.int64)
    if is_first.all():
        return copies
    starts = np.flatnonzero(is_first)
    copies[order] = np.arange(len(values)) - np.repeat(starts, np.diff([*starts, len(values)]))
    return copies


def row_keys(block: pa.RecordBatch) -> pa.Array:
    """Serialize the content of each row as one text that does not depend on the order of the columns.

    TFX uses the serialized tf.Example for this, whose features are in an order that changes from process to process.
    Decimal numbers count with 32 bits, so that rows keep the splits of earlier versions, whose examples had 32 bits.

    Args:
        block: The rows as in the table, with pictures as paths.

    Returns:
        (rows,) string.
    """
    columns = [block.column(name) for name in sorted(block.schema.names)]
    narrow = [c.cast(pa.float32()) if pa.types.is_float64(c.type) else c for c in columns]
    texts = [column.cast(pa.string()) for column in narrow]
    return pc.binary_join_element_wise(*texts, "\x1f", null_handling="replace", null_replacement="\x00")

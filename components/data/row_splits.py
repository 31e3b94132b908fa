"""Which split each row of a table belongs to, as `data.splits` says: by a hash, a column, time, or the file."""

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.config.data_section import Splits
from kubetfx.errors import DataError

_ISO_DATE = r"^\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?)?"
_SPELLINGS = {
    TRAIN: ("train", "training", "learn"),
    VALIDATION: ("validation", "valid", "val", "dev"),
    EVAL: ("eval", "evaluation", "test", "testing", "holdout"),
}
"""Of the names of splits in a column, in lower case."""


@dataclass(frozen=True)
class RowSplits:
    """The rule by which rows are split; it can be pickled."""

    config: Splits
    buckets: Sequence[int]
    """Cumulated numbers of hash buckets of the splits, in their order."""
    names: Sequence[str]
    """Of the splits, in their order."""
    bounds: Sequence[float | str] = ()
    """By time: the first value of each split but the first."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule looks at; none: all of them, or no column at all."""
        return self.config.columns

    def split(self, block: pa.RecordBatch, *, file: str) -> np.ndarray:
        """Find the splits of rows.

        Args:
            block: the rows, pictures by their paths; of at least the columns that the rule looks at.
            file: that they are of, relative to the folder of the table.

        Returns:
            (rows,) int64: the index of the split.

        Raises:
            DataError: a row has no value in the column that decides, or one that names no split.
        """
        if self.config.files:
            return np.full(block.num_rows, self.names.index(str(split_of_file(file, self.config.files))))
        for name in self.columns:
            if num_missing := block.column(name).null_count:
                raise DataError(
                    f"{file}: the column that decides about the split has no value in {num_missing:,} rows. Received: "
                    f"data.splits with {name!r}. Fill it in, take those rows away, or split by another rule."
                )
        if self.config.by == "column":
            return _named(block.column(self.columns[0]), self.names, column=self.columns[0])
        if self.config.by == "time":
            return _by_time(block.column(self.columns[0]), self.bounds)
        if self.columns:
            return hashed(row_keys(block.select(list(self.columns))), self.buckets)
        return hashed(with_copies_told_apart(row_keys(block)), self.buckets)


def split_of_file(file: str, patterns: Mapping[Any, str]) -> str | None:
    """Find the split of a file.

    Args:
        file: relative to the folder of the table.
        patterns: globs by split.

    Returns:
        The first split whose glob matches; None: none does.
    """
    return next((split for split, pattern in patterns.items() if fnmatch.fnmatchcase(file, pattern)), None)


def _named(cells: pa.Array, names: Sequence[str], *, column: str) -> np.ndarray:
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
                f"data.splits.{split} to another fraction; it only says that there is such a split."
            )
        indices.append(names.index(split))
    return np.array(indices, np.int64)[coded.indices.to_numpy()]


def _by_time(cells: pa.Array, bounds: Sequence[float | str]) -> np.ndarray:
    found = np.zeros(len(cells), np.int64)
    for bound in bounds:
        found += pc.greater_equal(cells, pa.scalar(bound, cells.type)).to_numpy(zero_copy_only=False)
    return found


def time_bounds(blocks: Iterable[pa.Array], buckets: Sequence[int], *, column: str) -> tuple[float | str, ...]:
    """Find where the splits begin in time. Rows of one time are never divided.

    Args:
        blocks: the cells of the column: numbers, or text whose order is that of time.
        buckets: cumulated numbers of hash buckets of the splits.
        column: its name, for the error.

    Returns:
        The first value of each split but the first.

    Raises:
        DataError: text that is no ISO date, so that its order is not that of time.
    """
    values = pa.chunked_array(list(blocks)).drop_null().combine_chunks()
    if pa.types.is_string(values.type):
        wrong = values.filter(pc.invert(pc.match_substring_regex(values, _ISO_DATE)))
        if len(wrong):
            raise DataError(
                "data.splits by time: numbers or dates such as 2024-05-01 are needed. Received: "
                f"{wrong[0].as_py()!r} in column {column!r}."
            )
    order = pc.sort_indices(values)
    shares = [bucket / buckets[-1] for bucket in buckets[:-1]]
    positions = [min(round(share * len(values)), len(values) - 1) for share in shares]
    return tuple(values[order[position].as_py()].as_py() for position in positions) if len(values) else ()


def hashed(keys: pa.Array, buckets: Sequence[int]) -> np.ndarray:
    """Find the splits of rows by a hash.

    The rule of TFX's ExampleGen: SHA-256 of the row, as a number, modulo the number of buckets.

    Args:
        keys: (rows,) string: what is hashed.
        buckets: cumulated numbers of buckets of the splits, in order; fewer than 2^32 in all.

    Returns:
        (rows,) int64: the index of the split.
    """
    sha256 = hashlib.sha256
    digests = b"".join([sha256(key).digest() for key in keys.cast(pa.binary()).to_pylist()])
    words = np.frombuffer(digests, ">u4").reshape(-1, 8).astype(np.uint64)
    remainder = np.zeros(len(words), np.uint64)
    for word in words.T:  # long division: 32 bits at a time
        remainder = ((remainder << np.uint64(32)) | word) % np.uint64(buckets[-1])
    return np.searchsorted(np.asarray(buckets), remainder.astype(np.int64), side="right")


def row_keys(block: pa.RecordBatch) -> pa.Array:
    """Write the content of each row as one text, whatever the order of the columns.

    TFX takes the serialized tf.Example for this, whose features are in an order that changes from process to process.
    Decimal numbers count with 32 bits: their splits are those of the time when examples had no more.

    Args:
        block: rows as the table has them, pictures by their paths.

    Returns:
        (rows,) string.
    """
    columns = [block.column(name) for name in sorted(block.schema.names)]
    narrow = [c.cast(pa.float32()) if pa.types.is_float64(c.type) else c for c in columns]
    texts = [column.cast(pa.string()) for column in narrow]
    return pc.binary_join_element_wise(*texts, "\x1f", null_handling="replace", null_replacement="\x00")


def with_copies_told_apart(keys: pa.Array) -> pa.Array:
    """Number the copies of a row, so that equal rows do not all go to one split.

    A table of few distinct rows would otherwise be split by those few. The first of its kind keeps its key.

    Args:
        keys: (rows,) string.

    Returns:
        (rows,) string: the n-th copy, from 1, has its number at the end.
    """
    codes = keys.dictionary_encode()
    if len(codes.dictionary) == len(keys):
        return keys
    indices = codes.indices.to_numpy()
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ranks = np.arange(len(ordered)) - np.repeat(starts, np.diff([*starts, len(ordered)]))
    copies = np.empty(len(keys), np.int64)
    copies[order] = ranks
    is_copy = pa.array(copies > 0)
    numbered = pc.binary_join_element_wise(keys, pa.array(copies).cast(pa.string()), "\x1e")
    return pc.if_else(is_copy, numbered, keys)

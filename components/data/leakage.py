"""Finds columns that reveal the label, in a sample of the training rows: single columns, and sums of columns.

Each column is judged only by its predictions for rows that were left out: a copy of the label, its logarithm, its
classes under other names, and row numbers of a table sorted by label are all found in this way. A column that
honestly predicts nine tenths is not a leak, so only near-perfect prediction counts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array

MAX_ROWS = 20_000
"""Maximum number of rows in a sample."""
MAX_CELLS = 2_000_000
"""Maximum number of cells in a sample: a table with many columns is judged by fewer rows."""
MIN_ROWS = 50
"""Minimum number of rows for a judgement; a fifth as many must not be of the most frequent class."""
ALMOST_ALL = 0.99
"""Minimum share of the mistakes of guessing that a leak avoids."""
ALMOST_NOTHING = 1e-4
"""Maximum share of the variance of an amount's ranks that a leak leaves unexplained: last year's value of a series
leaves more.
"""
MUCH, SLACK = 0.9, 1.05
"""For a column with few values: the minimum share of that variance that it explains; and the maximum factor of
unexplained variance compared with values that are ranges of the label.
"""
ROWS_PER_CLASS = 10
BIN_ROWS = 4
"""Number of neighbours, by value, that predict each other's label."""
ROWS_OF_SUM = 2_000
"""Maximum number of columns in which sums are searched."""
MAX_PARTS = 16
"""Maximum number of terms of a sum."""
_EXACT, _ROUNDED = 1e-8, 1e-4
"""Shares of the label's variance that a sum leaves unexplained: with any weights, and with the weights 1 and -1."""


@dataclass(frozen=True)
class Leak:
    """Columns that reveal the label, with the evidence in words."""

    columns: tuple[str, ...]
    evidence: str


def find_leaks(rows: pa.RecordBatch, label: str, *, is_class: bool) -> list[Leak]:
    """Find columns that reveal the label.

    Args:
        rows: a sample of the training rows: the label, which is never missing, and the features.
        label: The name of its column.
        is_class: Whether it is a class rather than an amount.

    Returns:
        A leak for each column that alone predicts the label, and one for columns that add up to it.
    """
    labels = rows.column(label)
    cells = {name: rows.column(name) for name in rows.schema.names if name != label and _is_plain(rows.column(name))}
    alone = _Classes(labels) if is_class else _Amounts(labels)
    if not alone.can_judge:
        return []
    found = {name: evidence for name, column in cells.items() if (evidence := alone.judge(name, column))}
    leaks = [Leak((name,), evidence + _of_identifier(cells[name])) for name, evidence in found.items()]
    if is_class:
        return leaks
    numbers = {name: column for name, column in cells.items() if name not in found and _is_number(column)}
    total = _find_sum(numbers, _as_floats(labels), label)
    return [*leaks, *([total] if total else [])]


def told_by_groups(labels: pa.Array, groups: Array, *, is_class: bool) -> float:
    """Compute how similar the labels within groups of rows are.

    Args:
        labels: (rows,) the labels.
        groups: (rows,) int64: the number of the group of each, from 0.
        is_class: Whether the label is a class rather than an amount.

    Returns:
        The share of the uncertainty of guessing that is resolved by the other rows of a row's group, at most 1; 0 for
        too few rows.
    """
    if not len(labels):
        return 0.0
    alone = _Classes(labels) if is_class else _Amounts(labels)
    return alone.told_by(groups) if alone.can_judge else 0.0


def _of_identifier(column: pa.Array) -> str:
    is_identifier = pa.types.is_integer(column.type) and len(column.unique()) == len(column)
    return ", and is another number in every row, as an identifier is" if is_identifier else ""


def _is_number(column: pa.Array) -> bool:
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _is_plain(column: pa.Array) -> bool:
    return column.null_count < len(column) and (_is_number(column) or bool(pa.types.is_string(column.type)))


def _as_floats(column: pa.Array) -> Array:
    """Return (rows,) float64; NaN where a cell is missing."""
    floats: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return floats


def _groups(column: pa.Array) -> Array:
    """Return (rows,) int64, by which rows are grouped.

    Rows with one number have one value, or a few next to each other; missing cells are a value.
    """
    if not _is_number(column):
        codes: Array = column.dictionary_encode("encode").indices.to_numpy()
        return codes
    _, groups = np.unique(_starts(_as_floats(column)) // BIN_ROWS, return_inverse=True)
    return np.cumsum(np.bincount(groups) > 1)[groups]  # a row on its own joins those before it


def _starts(values: Array) -> Array:
    """Return (rows,) int64: how many rows have a smaller value; NaN is the largest."""
    order = np.argsort(values)
    ordered = values[order]
    is_new = np.ones(len(values), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]) & ~(np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    starts = np.empty(len(values), np.int64)
    starts[order] = np.maximum.accumulate(np.where(is_new, np.arange(len(values)), 0))
    return starts


class _Classes:
    """What a column says about classes."""

    def __init__(self, labels: pa.Array) -> None:
        encoded = labels.dictionary_encode("encode")
        self._labels = encoded.indices.to_numpy().astype(np.int64)
        self._num_classes = len(encoded.dictionary)
        counts = np.bincount(self._labels)
        self._guessed = int(counts.argmax())
        self._guess_mistakes = len(labels) - int(counts.max())

    @property
    def can_judge(self) -> bool:
        return len(self._labels) >= MIN_ROWS and self._guess_mistakes >= MIN_ROWS / 5

    def judge(self, name: str, column: pa.Array) -> str | None:
        mistakes = self._mistakes(column)
        if mistakes > (1 - ALMOST_ALL) * self._guess_mistakes:
            return None
        right, guessed = (1 - errors / len(self._labels) for errors in (mistakes, self._guess_mistakes))
        return f"{name!r} alone predicts {right:.1%} of the labels, of which guessing finds {guessed:.1%}"

    def told_by(self, groups: Array) -> float:
        return 1 - self._by_value(groups) / self._guess_mistakes

    def _mistakes(self, column: pa.Array) -> int:
        """Return the number of rows whose class the column does not predict.

        Their class is predicted from other rows with the same value or, for a number, from a few bounds.
        """
        if not _is_number(column):
            return self._by_value(column.dictionary_encode("encode").indices.to_numpy().astype(np.int64))
        starts = _starts(_as_floats(column))
        by_value = self._by_value(starts)
        return min(by_value, self._by_bounds(starts)) if self._are_few else by_value

    @property
    def _are_few(self) -> bool:
        """Whether a class has too few rows to be between bounds other than by chance."""
        return self._num_classes <= len(self._labels) / ROWS_PER_CLASS

    def _by_value(self, values: Array) -> int:
        """Count mistakes by value; a row with a unique value is assigned to the most frequent class."""
        most, sizes, classes = self._largest(values)
        is_said = 2 * most > sizes + 1
        guessed = int(((sizes == 1) & (classes == self._guessed)).sum())
        return len(values) - int(most[is_said].sum()) - guessed

    def _by_bounds(self, values: Array) -> int:
        """Return the number of mistakes if each class is between two bounds.

        Every further change of the class is one.
        """
        most, sizes, classes = self._largest(values)
        runs = 1 + int((classes[1:] != classes[:-1]).sum())
        return int((sizes - most).sum()) + max(runs - self._num_classes, 0)

    def _largest(self, values: Array) -> tuple[Array, Array, Array]:
        """Return, for each value in order, the rows of its most frequent class, all of its rows, and that class."""
        pairs, counts = np.unique(values * self._num_classes + self._labels, return_counts=True)
        order = np.lexsort((counts, pairs // self._num_classes))
        pairs, counts = pairs[order], counts[order]
        of_value = pairs // self._num_classes
        is_last = np.append(of_value[1:] != of_value[:-1], True)
        totals = np.diff(np.cumsum(counts)[is_last], prepend=0)
        return counts[is_last], totals, pairs[is_last] % self._num_classes


class _Amounts:
    """What a column says about amounts: the prediction for a row is the mean rank of the other rows of its group."""

    def __init__(self, labels: pa.Array) -> None:
        starts = _starts(_as_floats(labels))
        ranks = starts + np.bincount(starts, minlength=len(starts))[starts] / 2
        self._ranks = ranks - ranks.mean()
        self._sorted = np.sort(self._ranks)
        self._spread = float((self._ranks**2).sum())

    @property
    def can_judge(self) -> bool:
        return len(self._ranks) >= MIN_ROWS and self._spread > 0

    def judge(self, name: str, column: pa.Array) -> str | None:
        groups = _groups(column)
        left = self._left_open(groups, self._ranks)
        if left > 1 - MUCH:
            return None
        sizes, means = np.bincount(groups), np.bincount(groups, self._ranks)
        order = np.argsort(means / np.maximum(sizes, 1), kind="stable")
        in_order = np.repeat(np.arange(len(order)), sizes[order])
        at_best = self._left_open(in_order, self._sorted)  # if the values were ranges of the label
        if left > SLACK * at_best + ALMOST_NOTHING:
            return None
        if len(column.unique()) <= len(column) / ROWS_PER_CLASS:
            return f"{name!r} is the label in steps: each of its values covers a separate range of labels"
        return f"{name!r} alone predicts the label: {1 - left:.2%} of the variance of its ranks"

    def told_by(self, groups: Array) -> float:
        return 1 - self._left_open(groups, self._ranks)

    def _left_open(self, groups: Array, ranks: Array) -> float:
        """Return the share of the ranks' variance that the other rows of a group do not explain."""
        counts = np.bincount(groups)[groups]
        sums = np.bincount(groups, ranks)[groups]
        means = np.where(counts > 1, (sums - ranks) / np.maximum(counts - 1, 1), 0)
        return float(((ranks - means) ** 2).sum()) / self._spread


def _find_sum(numbers: Mapping[str, pa.Array], labels: Array, label: str) -> Leak | None:
    """Return columns that add up to the label: the smallest set that matching pursuit finds."""
    names = [name for name, column in numbers.items() if column.null_count < len(column) / 2]
    if len(names) < 2 or not np.isfinite(labels).all():
        return None
    every = math.ceil(len(labels) / ROWS_OF_SUM)
    cells = np.stack([_as_floats(numbers[name])[::every] for name in names], axis=1)
    labels = labels[::every]
    chosen = _pursued(cells, labels)
    known = np.isfinite(cells[:, chosen]).all(axis=1)
    cells, labels = cells[np.ix_(known, chosen)], labels[known]
    if len(labels) < max(MIN_ROWS, 3 * len(chosen)):
        return None
    parts = list(range(len(chosen)))
    left = _fit(cells, labels)[1]
    if left > _ROUNDED:
        return None
    for part in reversed(range(len(chosen))):
        fewer = [other for other in parts if other != part]
        if fewer and _fit(cells[:, fewer], labels)[1] <= max(_EXACT, 2 * left):
            parts = fewer
    weights, left = _fit(cells[:, parts], labels)
    if len(parts) < 2:
        return None
    is_sum = bool((np.abs(np.abs(weights) - 1) < 0.01).all())
    if left > (_ROUNDED if is_sum else _EXACT):
        return None
    columns = tuple(names[chosen[part]] for part in parts)
    terms = [("- " if weight < 0 else "+ ") + repr(name) for name, weight in zip(columns, weights, strict=True)]
    weighted = f"a weighted sum of {', '.join(map(repr, columns[:-1]))} and {columns[-1]!r}"
    return Leak(columns, f"{' '.join(terms).removeprefix('+ ') if is_sum else weighted} is {label!r}, up to rounding")


def _pursued(cells: Array, labels: Array) -> list[int]:
    """Return the columns that best explain the label, one after the other. Missing cells count as the mean."""
    known = np.isfinite(cells)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, cells, 0).sum(axis=0) / counts
    centred = np.where(known, cells - means, 0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    centred /= np.where(lengths > 0, lengths, 1)
    target = left = labels - labels.mean()
    chosen: list[int] = []
    for _ in range(min(MAX_PARTS, cells.shape[1])):
        likeness = np.abs(left @ centred)
        likeness[chosen] = -1
        chosen.append(int(likeness.argmax()))
        solution, *_ = np.linalg.lstsq(centred[:, chosen], target, rcond=None)
        left = target - centred[:, chosen] @ solution
        if left @ left <= 1e-18 * (target @ target):
            break
    return chosen


def _fit(cells: Array, labels: Array) -> tuple[Array, float]:
    """Return weights by least squares, and the share of the label's variance that they leave unexplained."""
    centred, target = cells - cells.mean(axis=0), labels - labels.mean()
    scale = np.abs(centred).max(axis=0)
    scale[scale == 0] = 1
    weights, *_ = np.linalg.lstsq(centred / scale, target, rcond=None)
    left = target - centred / scale @ weights
    return weights / scale, float(left @ left / (target @ target or 1))

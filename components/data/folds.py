"""Which rows a fold of cross-validation holds out, and which it trains on.

The folds are scikit-learn's; folds in time are implemented here, since scikit-learn's would divide rows of the same
time.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.components.data.block_work import run_here
from kubetfx.components.data.row_splits import by_time, times_of
from kubetfx.components.data.time_bounds import time_bounds
from kubetfx.config.cross_validation_section import CrossValidationConfig
from kubetfx.config.section import Section
from kubetfx.errors import DataError

LEFT_OUT = -1
"""The split of rows that a fold does not use: those that are newer than what it holds out."""


class FoldRule(Section):
    """How rows are assigned to folds."""

    folds: CrossValidationConfig
    """The section, with its defaults filled in."""
    validation: float
    """Share of the remaining rows that validates the training. 0: the held-out rows do."""
    seed: int
    """`training.seed`."""
    without: tuple[str, ...] = ()
    """Splits whose rows are in no fold: `eval`, so that it can judge the mean of the folds' models, and `validation` if
    that mean is calibrated.
    """

    @property
    def splits(self) -> list[str]:
        """Names of the splits of a fold, in their order."""
        return [TRAIN, *([VALIDATION] if self.validation else []), EVAL]

    def describe(self) -> str:
        """Describe how rows are assigned to folds."""
        names = {EVAL: "evaluation", VALIDATION: "validation"}
        splits = " and ".join(f"the {names[split]} split" for split in self.without)
        outside = f"; rows of {splits} are in none" if splits else ""
        return f"{self._cut()}{outside}"

    def _cut(self) -> str:
        folds = self.folds
        if folds.time is not None:
            return f"{folds.folds} folds that follow each other by {folds.time!r}, each predicted from older rows alone"
        of_groups = f" of whole groups by {folds.group!r}" if folds.group is not None else ""
        stratified = ", each with the classes in the shares of the table" if folds.stratified else ""
        repeats = f", {folds.repeats} times" if folds.repeats > 1 else ""
        return f"{folds.folds} folds{of_groups}{repeats}{stratified}; seed {self.seed}"


@dataclass(frozen=True)
class Keys:
    """The data that determines the folds of rows."""

    label: pa.Array
    """(rows,)."""
    by: pa.Array | None
    """(rows,) the group or the time of each row; None: each row is on its own."""
    date_format: str | None = None
    """Date format of times; None: they are numbers."""
    leaders: Array | None = None
    """(rows,) the row whose fold each row is in, mostly itself: near copies follow the first of them. None: always
    itself.
    """

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.label)


def fold_splits(rule: FoldRule, number: int, keys: Keys) -> Array:
    """Find the split of each row in one fold.

    Args:
        rule: The rule.
        number: The number of the fold, from 0 to `folds` times `repeats`.
        keys: The keys of all rows.

    Returns:
        (rows,) int64: the index in `rule.splits`, or LEFT_OUT.

    Raises:
        DataError: there are fewer rows, groups, points in time, or rows of a class than folds.
    """
    check(rule, keys)
    repeat, fold = divmod(number, rule.folds.folds)
    if rule.folds.time is not None:
        return _in_time(rule, fold, keys)
    seed = rule.seed + repeat
    groups = None if keys.by is None else codes(keys.by)
    training, held_out = _cut(rule, keys, groups, seed=seed)[fold]
    found = np.zeros(len(keys), np.int64)
    found[held_out] = len(rule.splits) - 1
    if rule.validation:
        found[_validation(training, groups, rule.validation, seed=seed)] = 1
    return found if keys.leaders is None else found[keys.leaders]


def _cut(rule: FoldRule, keys: Keys, groups: Array | None, *, seed: int) -> list[tuple[Array, Array]]:
    """Return the training rows and the held-out rows of each fold."""
    from sklearn import model_selection  # the import takes a second

    labels = codes(keys.label) if rule.folds.stratified else np.zeros(len(keys), np.int64)
    kind = model_selection.StratifiedKFold if groups is None else model_selection.StratifiedGroupKFold
    return list(kind(rule.folds.folds, shuffle=True, random_state=seed).split(labels, labels, groups))


def _validation(training: Array, groups: Array | None, share: float, *, seed: int) -> Array:
    """Return the validation rows, out of those that are not held out; whole groups, if there are groups."""
    from sklearn import model_selection

    kind = model_selection.ShuffleSplit if groups is None else model_selection.GroupShuffleSplit
    own = None if groups is None else groups[training]
    try:
        ((_, chosen),) = kind(1, test_size=share, random_state=seed).split(training, groups=own)
    except ValueError:  # too few
        return training[:0]
    rows: Array = training[chosen]
    return rows


def _in_time(rule: FoldRule, fold: int, keys: Keys) -> Array:
    """Return folds in time.

    Each holds out the rows after those of the folds before it, and trains on all older rows.
    """
    assert keys.by is not None
    assert rule.folds.time is not None
    part = by_time(times_of(keys.by, keys.date_format), _bounds(rule, keys))
    found = np.where(part <= fold, 0, np.where(part == fold + 1, len(rule.splits) - 1, LEFT_OUT))
    older = np.flatnonzero(found == 0)
    if rule.validation and len(older):
        times = keys.by.take(pa.array(older))
        shares = [round((1 - rule.validation) * 1_000), 1_000]
        (bound,) = _bounds_of(times, shares, rule, keys)
        found[older[by_time(times_of(times, keys.date_format), [bound]) == 1]] = 1
    return found


def _bounds(rule: FoldRule, keys: Keys) -> tuple[float, ...]:
    assert keys.by is not None
    assert rule.folds.time is not None
    return _bounds_of(keys.by, range(1, rule.folds.folds + 2), rule, keys)


def _bounds_of(times: pa.Array, shares: Sequence[int], rule: FoldRule, keys: Keys) -> tuple[float, ...]:
    assert rule.folds.time is not None
    run = functools.partial(run_here, threads=1)
    return time_bounds([[times]], iter, shares, column=rule.folds.time, date_format=keys.date_format, run=run)


def check(rule: FoldRule, keys: Keys) -> None:
    """Check that every fold can be made.

    Args:
        rule: The rule.
        keys: The keys of all rows.

    Raises:
        DataError: there are fewer rows, groups, points in time, or rows of a class than folds.
    """
    folds = rule.folds.folds
    if len(keys) < folds:
        raise _too_few(f"fewer rows than folds. Received: {len(keys):,} rows", folds, most=len(keys))
    if keys.by is not None:
        (column,) = rule.folds.columns.values()
        if missing := keys.by.null_count:
            raise DataError(
                f"Cross-validation: the column that decides about the folds has no value in {missing:,} rows. "
                f"Received: {column!r}. Fill it in, take those rows away, or make folds by another rule."
            )
        if rule.folds.time is not None:
            if len(set(_bounds(rule, keys))) < folds:
                known = len(keys.by.unique())
                raise _too_few(f"too few points in time. Received: {known:,} in {column!r}", folds, most=known - 1)
        elif (number := len(keys.by.unique())) < folds:
            raise _too_few(f"fewer groups than folds. Received: {number:,} in {column!r}", folds, most=number)
    if rule.folds.stratified:
        name, number = min(_counts(keys.label).items(), key=lambda one: (one[1], str(one[0])))
        if number < folds:
            raise _too_few(
                f"a class with fewer rows than folds. Received: {number:,} of {name!r}",
                folds,
                most=number,
                other="; or let folds differ in their classes, stratified: false",
            )


def _too_few(problem: str, folds: int, *, most: int, other: str = "") -> DataError:
    remedy = f"Lower evaluation.cross_validation.folds to {most}" if most >= 2 else "Give more data"
    return DataError(f"Cross-validation has {problem}, and {folds} folds. {remedy}{other}.")


def missing_classes(keys: Keys, splits: Array) -> list[str]:
    """Find classes that a fold holds out without a training row.

    This happens, for example, because all of their rows are in one group.

    Args:
        keys: The keys of all rows.
        splits: The splits of `fold_splits`.

    Returns:
        Their names, sorted.
    """
    trained, held_out = (_counts(keys.label.filter(pa.array(found))) for found in (splits == 0, splits == splits.max()))
    return sorted(str(name) for name in held_out.keys() - trained.keys())


def codes(cells: pa.Array) -> Array:
    """Return a number for each cell, equal for equal cells.

    Args:
        cells: The cells, without nulls.
    """
    found: Array = cells.dictionary_encode().indices.to_numpy()
    return found


def _counts(cells: pa.Array) -> Mapping[Any, int]:
    return Counter({one["values"]: one["counts"] for one in pc.value_counts(cells).to_pylist()})


def concatenated(arrays: Sequence[pa.Array]) -> pa.Array:
    """Return arrays of one type, concatenated.

    Args:
        arrays: At least one array.
    """
    return pa.chunked_array(arrays).combine_chunks()

"""Columns whose values are groups of rows, such as the rows of a customer, that several splits share.

Rows of a group have similar labels, so metrics on rows of groups that the model has seen are too good.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.artifacts import TRAIN
from kubetfx.components.data import leakage
from kubetfx.components.data.example_parts import Part
from kubetfx.components.data.row_copies import ReadKeys, RowsBySplit
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.features import Features

Run = Callable[[ReadKeys, Sequence[Part]], RowsBySplit]

MIN_GROUPS, ROWS_PER_GROUP, MAX_ALONE = 20, 20, 0.9
"""Minimum number of groups, maximum average number of their rows, and the share of rows that may be groups."""
ROWS_WITHOUT_NAME = 5
"""The same maximum for a column that is not named like an identifier: larger groups are categories."""
MUCH_TOLD, MUCH_SHARED = 0.5, 0.5
"""Minimum share of the label that other rows of a group explain, and minimum share of the rows in groups that training
has too.
"""
SMOOTH = 0.5
"""Share of a group's information from which on its neighbours give it too: then the numbers are amounts rather than
groups.
"""
MAX_COLUMNS = 20
"""Maximum number of columns that are examined."""


@dataclass(frozen=True)
class SharedGroups:
    """Groups of the training rows that another split has too."""

    column: str
    split: str
    share: float
    """Share of the rows of the split."""

    @property
    def are_many(self) -> bool:
        """Whether they make the metrics of the split too good."""
        return self.share >= MUCH_SHARED


def find_shared_groups(
    parts: Sequence[Part],
    features: Features,
    profile: TableProfile,
    sample: pa.RecordBatch,
    *,
    run: Run,
) -> Iterator[SharedGroups]:
    """Find groups that reveal the label, and how many of them other splits share.

    Args:
        parts: row groups of all splits.
        features: The roles of the columns.
        profile: The profile of the table.
        sample: some of the training rows: the label, and the columns to look into.
        run: Executes the work on the row groups.

    Yields:
        One for each column and each split except the training split.
    """
    is_class = bool(features.classes)
    columns = [profile.column(name) for name in sample.schema.names if name != features.label]
    likely = [column for column in columns if _may_be_groups(column, profile.num_rows)]
    for column in likely[:MAX_COLUMNS]:
        every = max(math.ceil(profile.num_rows / leakage.MAX_ROWS), 1)
        rows = run(ReadKeys((column.name,), features.label, features.classes, every=every), parts)
        trained = rows.get(TRAIN)
        if trained is None or not _are_groups(column, trained.keys):
            continue
        told = _told(pa.array(trained.labels), trained.keys, is_class=is_class)
        if told < MUCH_TOLD or _is_smooth(column, sample, features, told):
            continue
        for split, own in rows.items():
            share = float(np.isin(own.keys, trained.keys).mean()) if len(own.keys) else 0.0
            if split != TRAIN:
                yield SharedGroups(column.name, split, share)


def _rows_per_group(column: ColumnProfile) -> int:
    return ROWS_PER_GROUP if column.has_identifier_name else ROWS_WITHOUT_NAME


def _may_be_groups(column: ColumnProfile, num_rows: int) -> bool:
    """Return whether a column has a number of distinct values that is plausible for groups.

    They were counted up to a limit.
    """
    if column.type == "float" or column.dates or column.lists or not column.values_repeat:
        return False
    number = column.num_distinct
    return number is None or max(MIN_GROUPS, num_rows / _rows_per_group(column)) <= number < num_rows


def _are_groups(column: ColumnProfile, keys: Array) -> bool:
    """Return whether enough training rows share their group with others, but not too many."""
    number = len(np.unique(keys))
    return max(MIN_GROUPS, len(keys) / _rows_per_group(column)) <= number < len(keys) * MAX_ALONE


def _told(labels: pa.Array, groups: Array, *, is_class: bool) -> float:
    return leakage.told_by_groups(labels, np.unique(groups, return_inverse=True)[1], is_class=is_class)


def _is_smooth(column: ColumnProfile, sample: pa.RecordBatch, features: Features, told: float) -> bool:
    """Return whether a number is an amount: each value says about the same about the label as the next one."""
    if column.type == "string" or column.has_identifier_name:
        return False
    known = sample.filter(sample.column(column.name).is_valid())
    values, first = np.unique(known.column(column.name).to_numpy(), return_index=True)
    labels = known.column(features.label).take(pa.array(first))
    pairs = np.arange(len(values)) // 2
    return leakage.told_by_groups(labels, pairs, is_class=bool(features.classes)) > SMOOTH * told

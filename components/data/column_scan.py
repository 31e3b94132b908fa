"""Counts of one column over the blocks of a table: its extremes, its distinct values, and how many are missing."""

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data.word_counts import WordCounts
from kubetfx.models.columns.column_profile import CellType, ColumnProfile
from kubetfx.tables.as_text import texts_of

ARROW_TYPES: Mapping[CellType, pa.DataType] = {
    "int64": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
}

MAX_DISTINCT = 10_000
"""Distinct values of a column are counted up to this number."""
MAX_FLOAT_VALUES = 1_000
"""Distinct values of a column of decimal numbers are kept up to this number."""
MAX_UNIQUE = 1_000_000
"""As long as no value has occurred twice, values are remembered up to this number, to recognize an identifier."""


def to_type(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Convert a column's block.

    Args:
        array: the cells.
        target: One of ARROW_TYPES.

    Returns:
        The cells in that type, with NaN as null.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(target):
        return texts_of(array)
    if pa.types.is_floating(array.type) and pa.types.is_integer(target):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    if array.type != target:
        array = array.cast(target, safe=not (pa.types.is_uint64(array.type) and pa.types.is_float64(target)))
    if not pa.types.is_float64(target) or not pc.any(pc.is_nan(array)).as_py():
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, target), array)


class ColumnScan:
    """Counts of one column over its blocks."""

    def __init__(self, name: str, column_type: CellType, *, max_unique: int | None = None) -> None:
        """Start counting a column.

        Args:
            name: Its name.
            column_type: of its cells.
            max_unique: Number of values that are remembered as long as none has occurred twice. Default: MAX_UNIQUE.
        """
        self._column = ColumnProfile(name, column_type)
        self._distinct: pa.Array | None = pa.nulls(0, ARROW_TYPES[column_type])  # pa.array imports pandas
        """None: there are too many."""
        self._has_more = False
        """Whether another part of the column had too many values."""
        self._max_unique = MAX_UNIQUE if max_unique is None else max_unique
        self._pending: list[pa.Array] = []
        """Blocks to be merged into the distinct values, many at once, since each merge visits all distinct values
        again.
        """
        self._num_pending = 0
        self._sum = 0
        self._words = WordCounts() if column_type == "string" else None

    @property
    def is_whole(self) -> bool:
        """Whether all numbers so far are whole."""
        return self._column.type == "int64"

    @property
    def num_different(self) -> int:
        """Number of distinct values so far, as far as they are remembered."""
        self._merge()
        return MAX_DISTINCT + 1 if self._distinct is None or self._has_more else len(self._distinct)

    def as_float(self) -> "ColumnScan":
        """Return the counts of whole numbers, for a column in which decimal numbers have occurred."""
        if self._column.type == "float":
            return self
        self._merge()
        wider = ColumnScan(self._column.name, "float")
        wider._column = replace(self._column, type="float", values_repeat=False)
        distinct = self._distinct
        if distinct is not None and len(distinct) > MAX_DISTINCT:
            distinct = None
        wider._distinct = None if distinct is None else distinct.cast(pa.float64(), safe=False)
        wider._has_more = self._has_more
        return wider

    def add(self, array: pa.Array) -> None:
        """Count a block.

        Args:
            array: the cells.

        Raises:
            pa.ArrowInvalid: a value is not of the column's type.
        """
        column = self._column
        array = to_type(array, ARROW_TYPES[column.type])
        num_values = len(array) - array.null_count
        minimum, maximum = column.minimum, column.maximum
        if column.type != "string" and num_values:
            lowest, highest = pc.min_max(array).as_py().values()
            minimum = min(known(minimum, lowest), default=None)
            maximum = max(known(maximum, highest), default=None)
            if column.type == "int64":
                self._sum += _sum_of(array, largest=max(-lowest, highest))
        self._column = replace(column, num_values=column.num_values + num_values, minimum=minimum, maximum=maximum)
        if self._words is not None:
            self._words.add(array)
        if self._distinct is not None:
            self._pending.append(array)
            self._num_pending += num_values
            if self._num_pending > max(len(self._distinct), MAX_DISTINCT):
                self._merge()
        elif column.type != "float" and not column.values_repeat:
            self._note_repeats(len(array.unique().drop_null()), num_values)

    def _merge(self) -> None:
        if self._distinct is None:
            return
        merged = pa.chunked_array([self._distinct, *self._pending]).unique().drop_null()
        self._note_repeats(len(merged), len(self._distinct) + self._num_pending)
        self._distinct = merged if len(merged) <= (self._max_unique if self._is_unique else MAX_DISTINCT) else None
        self._pending, self._num_pending = [], 0

    @property
    def _is_unique(self) -> bool:
        """Whether no value has occurred twice, which is not tracked for decimal numbers."""
        return self._column.type != "float" and not self._column.values_repeat

    def merged(self, later: "ColumnScan") -> "ColumnScan":
        """Merge the counts of two parts of a column, which must not be used again.

        Args:
            later: The counts of later rows, text if these are text.

        Returns:
            The counts of both.
        """
        if self._column.type != later._column.type:
            return self.as_float().merged(later.as_float())
        self.take_values(later)
        ours, theirs = self._column, later._column
        self._column = replace(
            ours,
            num_values=ours.num_values + theirs.num_values,
            values_repeat=ours.values_repeat or theirs.values_repeat,
            minimum=min(known(ours.minimum, theirs.minimum), default=None),
            maximum=max(known(ours.maximum, theirs.maximum), default=None),
        )
        self._sum += later._sum
        if self._words is not None and later._words is not None:
            self._words.merge(later._words)
        return self

    def take_values(self, later: "ColumnScan") -> None:
        """Take over the distinct values from another part of the column, so that they are held once.

        Args:
            later: The counts of the other part, which keep everything else.
        """
        if self._column.type != later._column.type:
            return
        self._merge()
        later._merge()
        self._has_more |= later._has_more or self._distinct is None or later._distinct is None
        held = [values for values in (self._distinct, later._distinct) if values is not None]
        if held:
            union = pa.chunked_array(held).unique()
            self._note_repeats(len(union), sum(map(len, held)))
            is_kept = self._is_unique and not later._column.values_repeat
            self._distinct = union if is_kept or len(union) <= MAX_DISTINCT else None
        later._distinct, later._has_more = pa.nulls(0, ARROW_TYPES[self._column.type]), False

    def _note_repeats(self, num_distinct: int, num_values: int) -> None:
        if self._column.type != "float" and num_distinct < num_values:
            self._column = replace(self._column, values_repeat=True)

    def column(self) -> ColumnProfile:
        """Return the profile of the column."""
        self._merge()
        column = self._column
        if self._words is not None:
            self._column = column = replace(self._column, texts=self._words.texts)
        if self._column.type == "int64" and self._column.num_values:
            self._column = replace(self._column, mean=self._sum / self._column.num_values)
        if self._column.type == "float":
            lowest, highest = (None if one is None else float(one) for one in (column.minimum, column.maximum))
            self._column = replace(column, minimum=lowest, maximum=highest)
            if self._distinct is None or self._has_more:
                return replace(self._column, num_distinct=None, num_decimals=None)
            few = len(self._distinct) <= MAX_FLOAT_VALUES
            values = tuple(sorted(self._distinct.to_pylist())) if few else ()
            return replace(self._column, num_distinct=None, num_decimals=len(self._distinct), values=values)
        if self._distinct is None or self._has_more or len(self._distinct) > MAX_DISTINCT:
            return replace(self._column, num_distinct=None)
        return with_values(self._column, tuple(sorted(self._distinct.to_pylist())))


def _sum_of(array: pa.Array, *, largest: int) -> int:
    """Sum numbers, exactly for int64, so that the result does not depend on how the rows are cut."""
    if largest * len(array) < 2**63:
        return int(pc.sum(array).as_py())
    high, low = pc.sum(pc.shift_right(array, 32)), pc.sum(pc.bit_wise_and(array, 2**32 - 1))
    return int((high.as_py() << 32) + low.as_py())


def with_values(column: ColumnProfile, values: tuple[int | float | str, ...]) -> ColumnProfile:
    """Add the distinct values of a column, unless there are too many.

    Args:
        column: The profile without values.
        values: The values, sorted.

    Returns:
        The column.
    """
    if len(values) > MAX_DISTINCT:
        return replace(column, num_distinct=None, values=())
    repeat = column.values_repeat or len(values) < column.num_values
    return replace(column, num_distinct=len(values), values=values, values_repeat=repeat)


def known(*numbers: float | None) -> list[float]:
    """Filter out unknown numbers, such as the extremes of a column without values.

    Args:
        numbers: Numbers or None.

    Returns:
        The known numbers.
    """
    return [number for number in numbers if number is not None]

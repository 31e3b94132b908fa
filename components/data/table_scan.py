"""One pass over a table's blocks: the type of each column, its extremes, and what distinct values it has.

Knows Arrow and no file: what is read, and in which order, is tables.py's to say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data.table_profile import Column, TableProfile
from kubetfx.errors import DataError
from kubetfx.models.columns.column_profile import CellType

ARROW_TYPES: Mapping[CellType, pa.DataType] = {
    "int64": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
}

MAX_DISTINCT = 10_000
"""Distinct values of a column are counted up to this number."""
MAX_UNIQUE = 1_000_000
"""As long as no value was seen twice, values are remembered up to this number, to tell an identifier."""


def _type_of(arrow_type: pa.DataType, *, path: str, name: str) -> CellType:
    if pa.types.is_dictionary(arrow_type):
        return _type_of(arrow_type.value_type, path=path, name=name)
    if pa.types.is_integer(arrow_type):
        return "int64"
    if pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type) or pa.types.is_null(arrow_type):
        return "float"
    is_binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if pa.types.is_nested(arrow_type) or any(is_such(arrow_type) for is_such in is_binary):
        raise DataError(
            f"{path}: column {name!r} is no plain number or text. Received: {arrow_type}. "
            f"Leave it out: data.drop: [{name}]"
        )
    return "string"  # text, booleans, dates and times


def to_type(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Return a column's block in one of ARROW_TYPES. NaN becomes null.

    Args:
        array: the block.
        target: the type.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type != target:
        array = array.cast(target)
    if not pa.types.is_float64(target) or not pc.any(pc.is_nan(array)).as_py():
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, target), array)


def scan(batches: Iterator[pa.RecordBatch], path: str, *, names: list[str]) -> TableProfile:
    """Return the profile of a file.

    Args:
        batches: its blocks.
        path: its name, for errors.
        names: of its columns. Those that no block has are of type float, without a value.

    Raises:
        DataError: a column holds neither numbers nor text.
    """
    scans: dict[str, _ColumnScan] = {}
    num_rows = 0
    for batch in batches:
        num_rows += batch.num_rows
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name not in scans:
                scans[name] = _ColumnScan(name, _type_of(array.type, path=path, name=name))
            try:
                scans[name].add(array)
            except pa.ArrowInvalid as error:
                raise DataError(f"{path}: column {name!r}: {error}. Leave it out: data.drop: [{name}]") from None
    return TableProfile(tuple(scans[n].column() if n in scans else Column(n, "float") for n in names), num_rows)


class _ColumnScan:
    """Counts of one column over its blocks."""

    def __init__(self, name: str, column_type: CellType) -> None:
        self._column = Column(name, column_type)
        self._distinct: pa.Array | None = pa.array([], ARROW_TYPES[column_type])
        """None: there are too many."""
        self._pending: list[pa.Array] = []
        """Blocks to be merged into the distinct values, many at once: each time looks at all distinct values again."""
        self._num_pending = 0
        self._sum = 0.0

    def add(self, array: pa.Array) -> None:
        column = self._column
        array = to_type(array, ARROW_TYPES[column.type])
        num_values = len(array) - array.null_count
        minimum, maximum = column.minimum, column.maximum
        if column.type == "int64" and num_values:
            self._sum += pc.sum(array.cast(pa.float64(), safe=False)).as_py()
        if column.type != "string" and num_values:
            extremes = pc.min_max(array).as_py()
            minimum, maximum = _least(minimum, extremes["min"]), _greatest(maximum, extremes["max"])
        self._column = replace(column, num_values=column.num_values + num_values, minimum=minimum, maximum=maximum)
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
        is_unique = self._column.type != "float" and not self._column.values_repeat
        self._distinct = merged if len(merged) <= (MAX_UNIQUE if is_unique else MAX_DISTINCT) else None
        self._pending, self._num_pending = [], 0

    def _note_repeats(self, num_distinct: int, num_values: int) -> None:
        if self._column.type != "float" and num_distinct < num_values:
            self._column = replace(self._column, values_repeat=True)

    def column(self) -> Column:
        self._merge()
        if self._column.type == "int64" and self._column.num_values:
            self._column = replace(self._column, mean=self._sum / self._column.num_values)
        if self._column.type == "float":
            num_decimals = None if self._distinct is None else len(self._distinct)
            return replace(self._column, num_distinct=None, num_decimals=num_decimals)
        if self._distinct is None:
            return replace(self._column, num_distinct=None)
        if len(self._distinct) > MAX_DISTINCT:
            return replace(self._column, num_distinct=None)
        return _with_values(self._column, tuple(sorted(self._distinct.to_pylist())))


def _with_values(column: Column, values: tuple[int | str, ...]) -> Column:
    if len(values) > MAX_DISTINCT:
        return replace(column, num_distinct=None, values=())
    repeat = column.values_repeat or len(values) < column.num_values
    return replace(column, num_distinct=len(values), values=values, values_repeat=repeat)


def _least(a: float | None, b: float | None) -> float | None:
    return min((x for x in (a, b) if x is not None), default=None)


def _greatest(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)


def check_same_columns(first: TableProfile, second: TableProfile, *, first_path: str, path: str) -> None:
    """Refuse a file that lacks columns of the first, or has others.

    Args:
        first: profile of the first file.
        second: of the other one.
        first_path: name of the first file, for errors.
        path: of the other one.

    Raises:
        DataError: it does.
    """
    if set(first.names) != set(second.names):
        missing = sorted(set(first.names) - set(second.names))
        extra = sorted(set(second.names) - set(first.names))
        differences = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"also has {', '.join(extra)}"] * bool(extra)
        raise DataError(
            f"{path} does not have the columns of {first_path}. Received: it {' and '.join(differences)}. "
            "Mend the file, narrow data.path, or leave the columns out with data.drop."
        )


def merge(first: TableProfile, second: TableProfile, *, sources: dict[str, str], path: str) -> TableProfile:
    """Return the profile of two files together.

    Args:
        first: of the files before.
        second: of one more, with the same columns.
        sources: in which file each column had its first value; it is kept up to date.
        path: name of the second file.

    Raises:
        DataError: a column holds numbers in one and text in the other.
    """
    columns = []
    for ours in first.columns:
        theirs = second.column(ours.name)
        if ours.num_values and theirs.num_values:
            columns.append(_merged_column(ours, theirs, source=sources[ours.name], path=path))
        else:
            columns.append(ours if ours.num_values else theirs)
        if theirs.num_values:
            sources.setdefault(ours.name, path)
    return TableProfile(tuple(columns), first.num_rows + second.num_rows)


def _merged_column(first: Column, second: Column, *, source: str, path: str) -> Column:
    column_type = first.type
    if {first.type, second.type} == {"int64", "float"}:
        column_type = "float"
    elif first.type != second.type:
        raise DataError(
            f"{path}: column {second.name!r} holds {second.type}. Received: {first.type} in {source}. "
            f"Make the files agree, or leave the column out: data.drop: [{second.name}]"
        )
    merged = Column(
        first.name,
        column_type,
        first.num_values + second.num_values,
        None,
        first.values_repeat or second.values_repeat,
        _least(first.minimum, second.minimum),
        _greatest(first.maximum, second.maximum),
    )
    if column_type == "float":
        return merged
    if first.mean is not None and second.mean is not None:
        total = first.mean * first.num_values + second.mean * second.num_values
        merged = replace(merged, mean=total / merged.num_values)
    if first.num_distinct is None or second.num_distinct is None:
        return replace(merged, values_repeat=True)  # not known, and so not taken for an identifier
    return _with_values(merged, tuple(sorted({*first.values, *second.values})))

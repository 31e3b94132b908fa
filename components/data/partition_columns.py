"""Profiles the columns that the folders of a table name."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa

from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.table_scan import scan
from kubetfx.config.data_section import Stated
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.tables.partitions import columns_of


def profile_columns(
    rows: Mapping[str, int], *, drop: Collection[str], known: Collection[str], stated: Mapping[str, Stated]
) -> list[ColumnProfile]:
    """Profile the columns in the names of files, by the values of all files.

    Args:
        rows: number of rows by file.
        drop: columns that are left out.
        known: Columns of the files themselves, which take precedence.
        stated: The column types that the user gives.

    Returns:
        The columns.
    """
    values = {path: columns_of(path) for path in rows}
    names = [name for name in dict.fromkeys(n for own in values.values() for n in own) if name not in {*drop, *known}]
    found = []
    for name in names:
        by_file = {path: own.get(name) for path, own in values.items()}
        block = pa.record_batch([pa.array(list(by_file.values()), pa.string())], names=[name])
        (column,) = scan(functools.partial(iter, [block]), name, names=[name], stated=stated, decimal=".").columns
        num_values = sum(rows[path] for path, value in by_file.items() if value is not None)
        found.append(replace(column, num_values=num_values, values_repeat=True))
    return found


def contradictions(path: str, profile: TableProfile) -> dict[str, str]:
    """Find columns of a file that contradict the name of its folder; the cells of the file take precedence.

    Args:
        path: The path of the file.
        profile: The profile of the file.

    Returns:
        A sentence for each.
    """
    said = {}
    for name, value in columns_of(path).items():
        column = profile.column(name) if name in profile.names else None
        other = None if column is None else _other_cell(column, value, num_rows=profile.num_rows)
        if other:
            said[name] = (
                f"Column {name!r} is in {path.rpartition('/')[2]} and in the name of its folder, {name}={value}, and "
                f"they differ: {other}. The cells of the file are used."
            )
    return said


def _other_cell(column: ColumnProfile, value: str | None, *, num_rows: int) -> str | None:
    """Return a cell that contradicts the name of the folder, or None."""
    if column.num_values < num_rows:
        return None if value is None and not column.num_values else "some of the cells are missing"
    others = (cell for cell in column.values if str(cell) != value and cell != _as_number(value))
    other = next(others, None)
    if other is not None:
        return f"a cell is {other!r}"
    return None if column.values else "the cells have many values"


def _as_number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None

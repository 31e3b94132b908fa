"""Columns that the folders of a table name, as Hive and Spark write them: `year=2024/country=de/part.parquet`."""

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from urllib.parse import unquote

import pyarrow as pa

from kubetfx.components.data.table_profile import Column
from kubetfx.components.data.table_scan import scan
from kubetfx.config.data_section import Stated

MAX_DEPTH = 5
"""Folders within each other, at most."""
_FOLDER = re.compile(r"([^=/]+)=([^/]*)")
_MISSING = "__HIVE_DEFAULT_PARTITION__"


def columns_of(path: str) -> dict[str, str | None]:
    """Read the columns in the name of a file: those of the folders directly above it that are named `column=value`.

    Args:
        path: of the file.

    Returns:
        Values by column, from the outer folder to the inner one; None is a missing cell.
    """
    found: dict[str, str | None] = {}
    for folder in reversed(path.split("/")[:-1]):
        named = _FOLDER.fullmatch(folder)
        if named is None:
            break
        value = unquote(named[2])
        found[unquote(named[1])] = None if value in ("", _MISSING) else value
    return dict(reversed(found.items()))


def cells(value: str | None, num_rows: int) -> pa.StringArray:
    """Repeat a value for the rows of a file.

    Args:
        value: of the folder.
        num_rows: how often.

    Returns:
        (num_rows,) string.
    """
    return pa.array([value], pa.string()).take(pa.nulls(num_rows, pa.int32()).fill_null(0))


def profile_columns(
    rows: Mapping[str, int], *, drop: Collection[str], known: Collection[str], stated: Mapping[str, Stated]
) -> list[Column]:
    """Find out what the columns in the names of files hold, by the values of all files.

    Args:
        rows: number of rows by file.
        drop: columns that are left out.
        known: columns of the files themselves, which count for more.
        stated: types of columns that the user says.

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

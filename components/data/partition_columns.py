"""What the columns hold that the folders of a table name."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa

from kubetfx.components.data.table_profile import Column
from kubetfx.components.data.table_scan import scan
from kubetfx.config.data_section import Stated
from kubetfx.tables.partitions import columns_of


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

"""Columns that the folders of a table name, as Hive and Spark write them: `year=2024/country=de/part.parquet`."""

import re
from urllib.parse import unquote

import pyarrow as pa

MAX_DEPTH = 5
"""Folders within each other, at most."""
_FOLDER = re.compile(r"([^=/]+)=([^/]*)")
_MISSING = "__HIVE_DEFAULT_PARTITION__"


def columns_of(path: str) -> dict[str, str | None]:
    """Read the columns in the name of a file: those of the folders directly above it that are named `column=value`.

    Args:
        path: The path of the file.

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
        value: The value in the folder's name.
        num_rows: The number of rows of the file.

    Returns:
        (num_rows,) string.
    """
    return pa.array([value], pa.string()).take(pa.nulls(num_rows, pa.int32()).fill_null(0))

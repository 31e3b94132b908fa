"""Rows that are in memory: JSON, dicts, pandas and Arrow, as the same blocks of Arrow that files are read in."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.errors import DataError
from kubetfx.tables import json_bytes
from kubetfx.tables.files import check_names
from kubetfx.tables.table_file import BadRow, Rows

Columns = Mapping[str, pa.ChunkedArray | list[Any]]
"""Columns by name. Values whose type in Arrow is not known yet are a list."""


def read_json(path: Path) -> Columns:
    """Read the rows of a JSON file.

    Args:
        path: The path of a document: a list of objects, one object, or the body of a REST request with `instances`.

    Returns:
        The columns.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"The rows cannot be read. Received: {path}, where {error}") from None
    return columns_of(document.get("instances", [document]) if isinstance(document, dict) else document)


def columns_of(rows: Any) -> Columns:
    """Make columns of rows.

    Args:
        rows: an Arrow table or record batch, a pandas frame, or a list of dicts, whose missing keys are missing cells.

    Returns:
        The columns by name, all of one length.

    Raises:
        DataError: it is something else, or has no rows.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        check_names(rows.column_names, "The table")
        columns: Columns = dict(zip(rows.column_names, rows.columns, strict=True))
        num_rows = rows.num_rows
    elif _is_frame(rows):
        check_names(list(map(str, rows.columns)), "The frame")
        columns = {str(name): _of_series(rows[name]) for name in rows.columns}
        num_rows = len(rows)
    elif isinstance(rows, Sequence) and not isinstance(rows, str) and all(isinstance(row, Mapping) for row in rows):
        names = dict.fromkeys(key for row in rows for key in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        num_rows = len(rows)
    else:
        raise DataError(
            "The rows cannot be read: a list of objects, a row each, was expected. "
            f"Received: {type(rows).__name__}. Give a path, a pandas frame, an Arrow table, or a list of dicts."
        )
    if not num_rows or not columns:
        raise DataError("There are no rows. Received: a table without any.")
    return columns


def as_given(table: pa.Table, rows: Any) -> Any:
    """Return a table in the form in which its rows were given.

    Args:
        table: has a row per given row.
        rows: what `columns_of` takes. For a pandas frame a frame with its index is returned, in which each field of a
            struct is a column; otherwise the table itself.
    """
    if not _is_frame(rows):
        return table
    frame = table.flatten().to_pandas()
    frame.index = rows.index
    return frame


def _is_frame(rows: Any) -> bool:
    """Return whether something is a pandas frame, without importing pandas."""
    return type(rows).__module__.partition(".")[0] == "pandas" and type(rows).__name__ == "DataFrame"


def _of_series(series: Any) -> pa.ChunkedArray | list[Any]:
    """Return a column of a frame. pandas has NaN for missing text too."""
    try:
        return pa.chunked_array([pa.Array.from_pandas(series)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return [None if isinstance(value, float) and np.isnan(value) else value for value in series.tolist()]


def rows_of(
    columns: Columns, *, names: Sequence[str], numbers: Sequence[str], lists: Collection[str] = frozenset()
) -> Rows:
    """Make one block of columns, in which each cell is one value, or a list of texts.

    Args:
        columns: that there are.
        names: The names of those to read.
        numbers: of those whose cells are numbers: true is 1 there, and elsewhere the text `true`.
        lists: of those whose cells may be lists.

    Returns:
        The rows; those with a cell that is not one value, or not a number where one is needed, are bad.
    """
    bad: dict[int, BadRow] = {}
    arrays: dict[str, Any] = {}
    for name in names:
        values = columns[name]
        if not isinstance(values, list):
            arrays[name] = values
            continue
        kept: list[Any] = []
        for index, value in enumerate(values):
            try:
                is_several = name in lists and isinstance(value, list | tuple)
                kept.append(_texts(value) if is_several else _cell(value, is_number=name in numbers))
            except ValueError as error:
                kept.append(None)
                takes = "numbers" if name in numbers else "text"
                reason = f"Column {name!r} holds {takes}. Received: {_shortened(value)}{error}."
                bad.setdefault(index, BadRow(index, reason, _shortened(value)))
        if name in lists and any(isinstance(value, list) for value in kept):
            kept = [value if value is None or isinstance(value, list) else [str(value)] for value in kept]
        arrays[name] = _array(kept)
    table = pa.table({name: arrays[name] for name in names})
    mask = np.ones(table.num_rows, bool)
    mask[list(bad)] = False
    return Rows(table.filter(pa.array(mask)) if bad else table, np.flatnonzero(mask), list(bad.values()))


def _cell(value: Any, *, is_number: bool) -> Any:
    """Return one value; ValueError for several."""
    if isinstance(value, bool):
        return float(value) if is_number else str(value).lower()
    if json_bytes.is_json(value):
        try:
            return json_bytes.from_json(value)
        except DataError:
            raise ValueError(", which is not base64") from None
    if isinstance(value, dict | list | tuple):
        raise ValueError("")
    if is_number and isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("") from None
    return value


def _texts(values: Sequence[Any]) -> list[str]:
    """Return the values of a list; ValueError if one of them is none."""
    cells = [_cell(value, is_number=False) for value in values]
    return ["" if cell is None else str(cell) for cell in cells]


def _array(values: list[Any]) -> pa.Array:
    """Return values of one type as Arrow has it, and of several as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([value if value is None else str(value) for value in values], pa.string())


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."

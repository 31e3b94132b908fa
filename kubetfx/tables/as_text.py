"""Cells of Arrow as text, and lists in text: `a, b` is one of two values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array

LIST_SEPARATOR = "\x1f"
"""Between the values of what comes as a list: no text has it."""
FOUND_SEPARATORS = (";", "|", ",")
"""Between the values of a list in text; they are looked for in this order."""


def texts_of(cells: pa.Array) -> pa.StringArray:
    """Return cells as text.

    Whole numbers that come as decimal ones are without a point, points in time in UTC, lists with LIST_SEPARATOR
    between their values.

    Args:
        cells: Cells of any type that can be written as text.
    """
    if pa.types.is_string(cells.type):
        return cells
    if is_list(cells.type):
        return _joined(cells.cast(pa.list_(pa.string())))
    if pa.types.is_timestamp(cells.type) and cells.type.tz is not None:
        cells = cells.cast(pa.timestamp(cells.type.unit, "UTC"))
    if pa.types.is_floating(cells.type) and cells.null_count < len(cells):
        whole = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
        if pc.all(pc.equal(whole, pc.round(whole))).as_py() and pc.max(pc.abs(whole)).as_py() < 2**63:
            cells = whole.cast(pa.int64())
    return cells.cast(pa.string())


def is_list(arrow_type: pa.DataType) -> bool:
    """Return whether cells are lists, of whatever kind.

    Args:
        arrow_type: of the cells.
    """
    return any(
        is_such(arrow_type) for is_such in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    )


def _joined(lists: pa.ListArray) -> pa.StringArray:
    """Return one text per list; null for an empty one."""
    values = pa.ListArray.from_arrays(lists.offsets, pc.fill_null(lists.values, ""))
    texts = pc.binary_join(values, LIST_SEPARATOR)
    return pc.if_else(pc.and_(lists.is_valid(), pc.not_equal(texts, "")), texts, pa.scalar(None, pa.string()))


def lists_of(texts: pa.StringArray, separator: str) -> pa.ListArray:
    """Take lists apart.

    Args:
        texts: the cells.
        separator: between the values of a list.

    Returns:
        The values of each cell, without spaces around them and without empty ones; null where there is none.
    """
    lists = pc.split_pattern(pc.fill_null(texts, ""), separator)
    values = pc.utf8_trim_whitespace(lists.flatten())
    is_value = pc.not_equal(values, "")
    rows = pc.list_parent_indices(lists).filter(is_value).to_numpy()
    lengths = np.bincount(rows, minlength=len(texts))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.filter(is_value), mask=pa.array(lengths == 0))


def padded(lists: pa.ListArray) -> Array:
    """Return lists as one array, as a request has them.

    Args:
        lists: of text.

    Returns:
        (rows, length of the longest, at least 1) object; "" where a list has ended.
    """
    rows = [values or [] for values in lists.to_pylist()]
    array = np.full((len(rows), max(map(len, rows), default=1) or 1), "", object)
    for row, values in enumerate(rows):
        array[row, : len(values)] = [value or "" for value in values]
    return array


def in_utf8(texts: Array) -> Array:
    """Return texts as bytes.

    Args:
        texts: (...) object, of str.

    Returns:
        (...) object.
    """
    return np.array([text.encode() for text in texts.flat], object).reshape(texts.shape)

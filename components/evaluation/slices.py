"""Slices: rows with the same value in a column, or the same combination of values in several.

Rows whose cell is missing form a slice too, so that each row is in exactly one slice per specification.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array

SliceKey = tuple[tuple[str, Any], ...]
"""Columns and their values: bytes, int, float, or None where the cell is missing. Empty: all rows."""

OVERALL: SliceKey = ()
MISSING = "(missing)"


def rows_by_slice(specs: Sequence[tuple[str, ...]], columns: Mapping[str, Array]) -> Iterator[tuple[SliceKey, Array]]:
    """Yield each slice with the positions of its rows.

    Args:
        specs: The columns of each set of slices.
        columns: Cells (rows,) object by column, None if missing.
    """
    for spec in specs:
        names = tuple(sorted(spec))
        cells = [columns[name] for name in names]
        number_of: defaultdict[tuple[Any, ...], int] = defaultdict()
        number_of.default_factory = number_of.__len__  # the next number for a new key
        numbers = np.fromiter(map(number_of.__getitem__, zip(*cells, strict=True)), np.int64, len(cells[0]))
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(number_of)))
        for key, positions in zip(number_of, np.split(order, ends[:-1]), strict=True):
            yield tuple(zip(names, key, strict=True)), positions


def cells_of(array: pa.Array) -> Array:
    """Return cells for slicing, (rows,) object: text as bytes, as in TFMA; None if missing.

    Args:
        array: a column of examples.
    """
    if pa.types.is_string(array.type):
        array = array.cast(pa.binary())
    encoded = array.dictionary_encode()
    values = np.array([*encoded.dictionary.to_pylist(), None], object)
    cells: Array = values[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()]
    return cells


def slice_name(key: SliceKey) -> str:
    """Name a slice.

    Args:
        key: The key of the slice.

    Returns:
        `column=value`, several joined by a comma.
    """
    return ", ".join(f"{name}={_shown(value)}" for name, value in key)


def _shown(value: Any) -> str:
    if value is None:
        return MISSING
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

"""Slices: rows that have one value in a column, or one combination of values in several."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SliceKey = tuple[tuple[str, Any], ...]
"""Columns and their values: bytes, int or float. Empty: all rows."""

OVERALL: SliceKey = ()


def rows_by_slice(specs: Sequence[tuple[str, ...]], columns: Mapping[str, Array]) -> Iterator[tuple[SliceKey, Array]]:
    """Yield each slice with the positions of its rows. A row with a missing cell is in no slice.

    Args:
        specs: the columns of each kind of slice.
        columns: cells (rows,) object by column, None where one is missing.
    """
    for spec in specs:
        names = tuple(sorted(spec))
        cells = [columns[name] for name in names]
        number_of: defaultdict[tuple[Any, ...], int] = defaultdict()
        number_of.default_factory = number_of.__len__  # the next number for a key that is new
        numbers = np.fromiter(map(number_of.__getitem__, zip(*cells, strict=True)), np.int64, len(cells[0]))
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(number_of)))
        for key, positions in zip(number_of, np.split(order, ends[:-1]), strict=True):
            if None not in key:
                yield tuple(zip(names, key, strict=True)), positions


def slice_name(key: SliceKey) -> str:
    """Name a slice.

    Args:
        key: of the slice.

    Returns:
        `column=value`, several joined by a comma.
    """
    return ", ".join(
        f"{name}={value.decode(errors='replace') if isinstance(value, bytes) else value}" for name, value in key
    )

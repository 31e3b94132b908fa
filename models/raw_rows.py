"""Rows of examples in the form in which a client sends them to `serving_default`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.tables.as_text import lists_of, padded

RawRow = dict[str, float | str | bytes | list[str]]


def raw_rows(
    block: pa.RecordBatch,
    *,
    inputs: Sequence[str],
    strings: Iterable[str],
    images: Iterable[str] = (),
    separators: Mapping[str, str] = MappingProxyType({}),
) -> list[RawRow]:
    """Return rows by column name.

    Args:
        block: The block of examples, with these columns.
        inputs: columns of the model.
        strings: those of them that hold text.
        images: those of them that hold images.
        separators: between the values of those that are lists.

    Returns:
        Numbers as float, text as str, images as bytes, lists of one length, filled up with ""; a missing cell is NaN
        or "".
    """
    texts = frozenset(strings).difference(images)
    columns: dict[str, list[Any]] = {name: block.column(name).to_pylist() for name in images}
    columns |= {
        name: padded(lists_of(block.column(name), separator)).tolist() for name, separator in separators.items()
    }
    columns |= {n: _values(block.column(n), is_text=n in texts) for n in inputs if n not in columns}
    return [{name: columns[name][row] for name in inputs} for row in range(block.num_rows)]


def _values(array: pa.Array, *, is_text: bool) -> list[float | str]:
    missing: Any = "" if is_text else math.nan
    values = array.to_pylist()
    return [missing if value is None else value if is_text else _number(value) for value in values]


def _number(value: float) -> float:
    """Return 17.4 where a source of 32 bits has 17.399999618530273, which is the same number to the network."""
    narrow = np.float32(value)
    return float(str(narrow)) if isinstance(value, float) and float(narrow) == value else float(value)

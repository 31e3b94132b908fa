"""Labels that arrive later, joined with the rows of a log by the values of key columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.errors import DataError
from kubetfx.serving.model_facts import ModelFacts
from kubetfx.tables import blocks
from kubetfx.tables.csv_options import CsvOptions
from kubetfx.tables.files import find_table
from kubetfx.tables.table_file import Cut

UNKNOWN_CLASS = -1
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Labels:
    """Labels by key. A key is stored as a 64-bit hash."""

    keys: tuple[str, ...]
    """Columns of the key."""
    kinds: Mapping[str, str]
    """`text`, `float32` or `float64`, by column of the key."""
    hashes: Array
    """(labels,) uint64, rising."""
    values: Array
    """(labels,) int64 index of the class, below 0 for one that the model does not know; or number."""
    duplicates: int
    """Number of rows of the file that repeat the key and label of another row."""
    contradictions: int
    """Number of rows whose key a later row has with another label: the later one counts."""
    unknown: int
    """Number of labels of a class that the model does not know."""
    missing: int
    """Number of rows without a label."""

    def find(self, columns: Mapping[str, Array]) -> tuple[Array, Array]:
        """Find the labels of rows.

        Args:
            columns: Columns (rows,) of the log, including those of the key.

        Returns:
            The positions of the rows with a label, and of their labels.
        """
        if not len(self.hashes) or not all(name in columns for name in self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        wanted = _hashed([_as_kind(columns[name], self.kinds[name]) for name in self.keys])
        place = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        rows = np.flatnonzero(self.hashes[place] == wanted)
        return rows, place[rows]


def read_labels(path: str, keys: Sequence[str], facts: ModelFacts, csv: CsvOptions) -> Labels:
    """Read labels from a table's file.

    Args:
        path: The path of a file with the key columns and the column of the label, or of a folder of them.
        keys: The names of the key columns.
        facts: The facts of the model, with the name of the label.
        csv: The dialect of CSV files.

    Returns:
        The labels.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    files = find_table(Path(path))
    types = blocks.column_types(files.paths[0], files.format, csv)
    wanted = [*keys, facts.label]
    if absent := [name for name in wanted if name not in types]:
        raise DataError(
            f"The file of labels lacks columns: {', '.join(absent)}. Received: {', '.join(types)}. It needs the key, "
            f"and the label {facts.label!r}."
        )
    kinds = {name: _kind(name, types[name], facts) for name in keys}
    numbers = [name for name, kind in kinds.items() if kind != "text"] + ([] if facts.classes else [facts.label])
    parts: list[pa.Table] = []
    for file in files.paths:
        for segment in blocks.segments(file, files.format, csv, first_block=0, cut=Cut()):
            numbered = [block.number for block in segment.blocks]
            for _, rows in blocks.read_blocks(segment, numbered, columns=wanted, numbers=numbers):
                parts.append(rows.table)
    table = pa.concat_tables(parts, promote_options="permissive")
    known = pc.is_valid(table.column(facts.label))
    missing = table.num_rows - (pc.sum(known).as_py() or 0)
    table = table.filter(known)
    hashes = _hashed([_cells(table.column(name), kinds[name]) for name in keys])
    values = _values(table.column(facts.label), facts)
    order = np.lexsort((np.arange(len(hashes)), hashes))
    hashes, values = hashes[order], values[order]
    same_key = hashes[1:] == hashes[:-1]
    same_label = values[1:] == values[:-1]
    last = np.append(~same_key, True) if len(hashes) else np.zeros(0, bool)
    return Labels(
        tuple(keys),
        kinds,
        hashes[last],
        values[last],
        duplicates=int((same_key & same_label).sum()),
        contradictions=int((same_key & ~same_label).sum()),
        unknown=int((values[last] == UNKNOWN_CLASS).sum()) if facts.classes else 0,
        missing=missing,
    )


def _kind(name: str, arrow_type: pa.DataType | None, facts: ModelFacts) -> str:
    if name in facts.columns:
        return {"string": "text", "float32": "float32"}.get(facts.columns[name], "float64")
    is_number = arrow_type is not None and (pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type))
    return "float64" if is_number else "text"


def _cells(column: Any, kind: str) -> Array:
    """Return cells of a file as `_as_kind` has those of a log."""
    if kind == "text":
        return _texts(column)
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"A key column of the labels is of numbers in the requests, and of text in the file. Received: {error}."
        ) from None
    return _as_kind(numbers.to_numpy(), kind)


def _texts(column: Any) -> Array:
    cells = column.to_pylist()
    found = np.empty(len(cells), object)
    found[:] = [_text(cell) for cell in cells]
    return found


def _text(cell: Any) -> bytes:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, bool):
        cell = str(cell).lower()
    return cell if isinstance(cell, bytes) else b"" if cell is None else str(cell).encode()


def _as_kind(cells: Array, kind: str) -> Array:
    if kind == "text":
        if cells.dtype == object:
            found = np.empty(len(cells), object)
            found[:] = [cell if isinstance(cell, bytes) else b"" for cell in cells]
            return found
        return _texts(pa.array(cells))
    if cells.dtype == object:
        cells = np.array([_number(cell) for cell in cells])
    return cells.astype(kind).astype(np.float64) + 0.0


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")


def _hashed(columns: Sequence[Array]) -> Array:
    from pandas.util import hash_array

    found = np.zeros(len(columns[0]), np.uint64)
    for cells in columns:
        found = found * _PRIME ^ hash_array(cells, categorize=False)
    return found


def _values(column: Any, facts: ModelFacts) -> Array:
    if not facts.classes:
        numbers: Array = column.cast(pa.float64()).to_numpy()
        return numbers
    place = {name.encode(): index for index, name in enumerate(facts.classes)}
    return np.array([place.get(_text(cell), UNKNOWN_CLASS) for cell in column.to_pylist()], np.int64)

"""JSON lines: an object per line, whose keys are columns. Those of an object in it are columns `a.b`."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from kubetfx.errors import DataError
from kubetfx.storage import locate
from kubetfx.tables import json_bytes, memory
from kubetfx.tables.csv_dialect import BYTE_ORDER_MARK, Dialect, open_bytes, open_text, skip
from kubetfx.tables.table_file import BadRow, Rows
from kubetfx.tables.text_table import BLOCK_BYTES, TextTable

_LINES = Dialect(quote="")
"""Options for text in which every line end ends a row."""
_UNFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)
"""What Arrow raises for values that have no type in common."""


@dataclass(frozen=True)
class JsonLinesTable(TextTable):
    """A file of JSON lines. A key that an object lacks is a missing cell."""

    path: str
    start: int
    dialect: Dialect = _LINES

    @classmethod
    def look_at(cls, path: str) -> "JsonLinesTable":
        """Open a file.

        Args:
            path: The path of the file.

        Returns:
            The file, of which the first bytes were read.
        """
        with open_bytes(path) as file:
            start = file.read(len(BYTE_ORDER_MARK))
        return cls(path, len(start) if start == BYTE_ORDER_MARK else 0)

    def types(self) -> dict[str, pa.DataType | None]:
        """Return the columns, and the types that all of their values have: text where they have none in common."""
        place = locate(self.path)
        if isinstance(place, Path):
            status = place.stat()
            return dict(_types(self, (status.st_ino, status.st_size, status.st_mtime_ns)))
        return dict(_types(self, place.info()))

    def stream(self, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Read the rows, whose cells have the types of the file's columns."""
        held = self.types()
        schema = pa.schema([(name, held[name]) for name in types])
        for rows in self.parsed(is_strict=True):
            yield pa.record_batch([_typed([row.get(f.name) for row in rows], f.type) for f in schema], schema=schema)

    def parsed(self, *, is_strict: bool) -> Iterator[list[dict[str, Any]]]:
        """Read the objects of all lines, some at a time.

        Args:
            is_strict: whether a line that holds something else is an error. Otherwise it is left out.

        Yields:
            Objects, in the order of their lines.

        Raises:
            DataError: there is such a line.
        """
        num_lines = 0
        with open_text(self.path, self.dialect) as file:
            skip(file, self.start)
            rest = b""
            while chunk := file.read(BLOCK_BYTES):
                *lines, rest = (rest + chunk).splitlines(keepends=True)
                if rest.endswith(b"\n"):
                    lines, rest = [*lines, rest], b""
                yield self._objects(lines, after=num_lines, is_strict=is_strict)
                num_lines += len(lines)
            yield self._objects([rest], after=num_lines, is_strict=is_strict)

    def _objects(self, lines: Sequence[bytes], *, after: int, is_strict: bool) -> list[dict[str, Any]]:
        rows = []
        for number, line in enumerate(lines, start=after + 1):
            try:
                if not line.isspace() and line:
                    rows.append(_object(line))
            except ValueError as error:
                if is_strict:
                    raise DataError(
                        f"{self.path}, line {number}: {error} Received: {_shown(line)}. Write an object per line."
                    ) from None
        return rows

    def _rows(self, content: bytes, *, num_rows: int, columns: Sequence[str], numbers: Sequence[str]) -> Rows:
        held = self.types()
        rows, index, bad = [], [], []
        lines = (line for line in content.splitlines() if line)
        for number, line in enumerate(lines):
            try:
                rows.append(_object(line))
                index.append(number)
            except ValueError as error:
                bad.append(BadRow(number, str(error), _shown(line)))
        values = {name: [row.get(name) for row in rows] for name in columns}
        lists = {name for name in columns if pa.types.is_list(held[name])}
        found = memory.rows_of(values, names=columns, numbers=numbers, lists=lists)
        numbered = np.array(index, np.int64)
        bad += [replace(row, index=int(numbered[row.index])) for row in found.bad]
        table = found.table
        for position, name in enumerate(columns):
            target = held[name]
            if name not in numbers and target is not None and not pa.types.is_nested(target):
                target = pa.string() if pa.types.is_boolean(target) else target
                table = table.set_column(position, name, table.column(position).cast(target))
        return Rows(table, numbered[found.index], bad)


@functools.lru_cache(maxsize=256)
def _types(table: JsonLinesTable, state: object) -> tuple[tuple[str, pa.DataType], ...]:
    """Return the type of each column; the state changes when the file does."""
    found: dict[str, pa.DataType] = {}
    for rows in table.parsed(is_strict=False):
        for name in dict.fromkeys(key for row in rows for key in row):
            held = _type_of([row.get(name) for row in rows])
            found[name] = _common(found.get(name, pa.null()), held)
    if not found:
        for _ in table.parsed(is_strict=True):
            pass  # what is wrong with its lines is the error
        raise DataError(f"{table.path} has no rows. A file of JSON lines has an object per line.")
    return tuple(found.items())


def _object(line: bytes) -> dict[str, Any]:
    """Return the object of a line, flat; ValueError for something else."""
    try:
        found = orjson.loads(line)
    except ValueError:
        try:
            found = json.loads(line)  # it takes NaN and long numbers
            json.dumps(found, ensure_ascii=False).encode()
        except ValueError as error:
            raise ValueError(f"The line is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ValueError("The line holds no object.")
    return _flat(found) if any(isinstance(value, dict) for value in found.values()) else found


def _flat(row: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        is_object = isinstance(value, dict) and not json_bytes.is_json(value)
        found = _flat(value, f"{before}{key}.") if is_object else {f"{before}{key}": value}
        if not flat.keys().isdisjoint(found):
            raise ValueError(f"Two of its keys are {next(iter(flat.keys() & found))!r}.")
        flat |= found
    return flat


def _type_of(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except _UNFIT:
        return pa.string()


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    try:
        both = pa.unify_schemas([pa.schema([("", t)]) for t in (first, second)], promote_options="permissive")
    except _UNFIT:
        return pa.string()
    return both.field(0).type


def _typed(values: list[Any], target: pa.DataType) -> pa.Array:
    if not pa.types.is_string(target):
        return pa.array(values, target)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, target)


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return text if len(text) <= 80 else text[:80] + "..."

"""A CSV file: its header, its rows as a stream of Arrow's blocks, and what is wrong with it, in words."""

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from kubetfx.errors import DataError
from kubetfx.storage import locate
from kubetfx.tables.csv_detection import detect
from kubetfx.tables.csv_dialect import BYTE_ORDER_MARK, Dialect, compression_of, not_decoded, open_bytes, open_text
from kubetfx.tables.csv_options import CsvOptions
from kubetfx.tables.csv_rows import careful_rows, is_decoded
from kubetfx.tables.files import check_names
from kubetfx.tables.spelled_numbers import understand
from kubetfx.tables.table_file import BadRow, Rows
from kubetfx.tables.text_table import MAX_ROW_BYTES, TextTable

_HEADER_BYTES = 2**16
"""Number of bytes that are read for a header, and sixteen times as many as long as it goes on."""
_OTHER_KINDS = {
    b"PAR1": "a Parquet file. Rename it to .parquet, or say what it is: data.format: parquet",
    b"ARROW1": "an Arrow file. Rename it to .arrow, or say what it is: data.format: arrow",
    b"\x1f\x8b\x08": "packed by gzip. Unpack it, or rename it to .csv.gz.",
    b"BZh": "packed by bzip2. Unpack it, or rename it to .csv.bz2.",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook. Unpack it, or save the sheet as CSV.",
    b"\xd0\xcf\x11\xe0": "an Excel workbook. Save the sheet as CSV.",
    b"\xfd7zXZ\x00": "packed by xz. Unpack it.",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard. Unpack it, or rename it to .csv.zst.",
    b"[{": "a JSON document. Write an object per line, into a file named .jsonl: jq -c '.[]' X > X.jsonl",
    b'{"': "JSON lines. Rename it to .jsonl, or say what it is: data.format: jsonl",
    b"<!DOCTYP": "a page of HTML, as servers answer with instead of a file. Fetch the table itself.",
    b"<!doctyp": "a page of HTML, as servers answer with instead of a file. Fetch the table itself.",
    b"<html": "a page of HTML, as servers answer with instead of a file. Fetch the table itself.",
    b"<?xml": "a document of XML. Write its table as CSV.",
    b"SQLite f": "a database of SQLite. Read it by data.source: kubetfx.tables.sql:read.",
}
"""What files that are not CSV begin with, and what to do."""
MIN_STRAY_DELIMITERS = 4
"""Where so many delimiters within a cell are just where they would make rows of its lines, that is not chance."""
_LINE_END = re.compile(rb"\n")
STREAM_BYTES = 4 * 2**20
BYTES_PER_COLUMN = 2**13
"""A stream reads blocks of this many bytes, more where there are thousands of columns; Arrow reads 32 of them ahead.
Memory is bounded by them."""
JOINED_ROWS, JOINED_BYTES = 2**13, 2**26
"""Blocks of a wide table, which have few rows, are put together up to one of these: each column of each costs time."""


def header(path: str, dialect: Dialect) -> tuple[tuple[str, ...], int]:
    """Read the names of the columns.

    The first name may be empty: pandas writes its index like that. A last one without a name, behind a delimiter at the
    end of each line, is `column_N`, and columns without a header are `column_1` and so on.

    Args:
        path: the file.
        dialect: Its dialect.

    Returns:
        The names, and the byte of the dialect's text at which the rows begin.

    Raises:
        DataError: the file is empty, no text, or not of the encoding; or a column has no name, or that of another.
    """
    _check_is_text(path)
    content = b""
    size = _HEADER_BYTES
    while True:
        with open_text(path, dialect) as file:
            content = file.read(size)
        skipped = len(content) - len(_without_marks(content))
        rows = careful_rows(content[skipped:], dialect)
        end, cells = next(((skipped + end, cells) for end, cells in rows if cells), (0, []))
        if end < len(content) or len(content) < size or size >= MAX_ROW_BYTES:
            break
        size *= 16  # the row may go on
    if not dialect.header and cells:
        return tuple(f"column_{number}" for number in range(1, len(cells) + 1)), skipped
    _check_header(cells, path, dialect)
    if not cells[-1] and len(cells) > 1:  # every line ends with a delimiter
        cells[-1] = f"column_{len(cells)}"
        check_names(cells, path)
    return tuple(cells), end


def _without_marks(content: bytes) -> bytes:
    """Return the beginning of a file without byte order marks, of which there may be several."""
    while content.startswith(BYTE_ORDER_MARK):
        content = content[len(BYTE_ORDER_MARK) :]
    return content


def _check_is_text(path: str) -> None:
    with open_bytes(path) as file:
        start = file.read(8)
    said = next((said for mark, said in _OTHER_KINDS.items() if start.startswith(mark)), None)
    if said:
        raise DataError(f"{path} is {said}")


def _check_header(names: list[str], path: str, dialect: Dialect) -> None:
    if not any(name.strip() for name in names):
        skipped = (
            f" after the {dialect.skip_rows:,} lines that data.csv.skip_rows leaves out" if dialect.skip_rows else ""
        )
        raise DataError(f"{path} is empty{skipped}. A CSV file starts with a line of column names.")
    if not all(map(is_decoded, names)):
        raise _undecoded(path)
    if "" in names[1:-1]:
        raise DataError(
            f"{path}: column {names.index('', 1) + 1} has no name. Received the header: {','.join(names)}. Name it; or "
            "leave out lines above the header: data.csv: {skip_rows: 1}"
        )
    check_names(names, path)


def _given_names(path: str, dialect: Dialect) -> list[str] | None:
    """Return the names of a file that has none; None for one with a header, where Arrow reads them."""
    return None if dialect.header else list(header(path, dialect)[0])


@dataclass(frozen=True)
class CsvTable(TextTable):
    """A CSV file, whose cells are all text."""

    path: str
    dialect: Dialect
    names: tuple[str, ...]
    """Names of the columns. The first may be empty."""
    start: int

    @classmethod
    def look_at(cls, path: str, options: CsvOptions) -> Self:
        """Find out how a file is written.

        Args:
            path: The path of the file.
            options: what is known of it.

        Returns:
            The file, whose header was read.

        Raises:
            DataError: it has no header, or is not text.
        """
        dialect = detect(path, options)
        names, start = header(path, dialect)
        return cls(path, dialect, names, start)

    @property
    def decimal(self) -> str:
        """The file's decimal mark."""
        return self.dialect.decimal

    @property
    def note(self) -> str:
        """How the file is written, unless that is plain CSV."""
        described = self.dialect.describe()
        return f"{Path(self.path).name} is {described}." if described else ""

    def types(self) -> dict[str, pa.DataType | None]:
        """Return the columns, which are text."""
        return dict.fromkeys(self.names, pa.string())

    def stream(self, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Read the rows with Arrow, whose cells become the given types."""
        block_bytes = max(STREAM_BYTES, BYTES_PER_COLUMN * len(types))
        try:
            blocks = pa_csv.open_csv(
                self._source(),
                read_options=pa_csv.ReadOptions(block_size=block_bytes, column_names=list(self.names)),
                parse_options=self.dialect.parse_options(),
                convert_options=self.dialect.convert_options(types, list(types)),
            )
            yield from _joined(blocks)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):  # a header without a line below, which is not an error here
                raise _explain(self.path, self.dialect, error, block_bytes=block_bytes) from None

    def check(self, batch: pa.RecordBatch, *, rows_before: int) -> None:
        """Refuse a cell whose lines would be rows: its quotes are stray ones, far from each other."""
        found = next(self._swallowing(batch), None)
        if found is not None:
            name, index, cell = found
            num_rows = self._rows_within(cell, self.names.index(name))
            raise DataError(
                f"{self.path}: row {rows_before + index + 1:,} has {num_rows:,} rows within the quotes of one cell, of "
                f"column {name!r}, as if a quote were stray. Received: {_shortened(cell)!r}. Leave the quote out, or "
                "close it in its row. If quotes mean nothing in this file, say data.csv: {quote: ''}; if the cell is "
                f"meant as it is, data.csv: {{quote: {self.dialect.quote!r}}}"
            )

    def _swallows(self, table: pa.Table) -> bool:
        return any(any(self._swallowing(batch)) for batch in table.to_batches())

    def _swallowing(self, batch: pa.RecordBatch) -> Iterator[tuple[str, int, str]]:
        """Yield cells whose lines would be rows: column, row and text."""
        for name, cells in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_string(cells.type) and _may_have_lines(cells):
                of_lines = pc.fill_null(pc.match_substring(cells, "\n"), False)
                for index in pc.indices_nonzero(of_lines).to_pylist():
                    cell = cells[index].as_py()
                    if self._rows_within(cell, self.names.index(name)):
                        yield name, index, cell

    def _rows_within(self, cell: str, position: int) -> int:
        """Return the rows that the lines of a cell would be, if its quotes were none.

        It is 0 if some would not be one, or if the user says what a quote is.
        """
        if not self.dialect.quote or self.dialect.quote_is_stated or "\n" not in cell:
            return 0
        before, after = position, len(self.names) - 1 - position
        first, *others, last = re.split(r"\r\n?|\n", cell)
        lines = [line.count(self.dialect.delimiter) for line in (first, *filter(None, others), last)]
        are_rows = lines == [after, *[before + after] * (len(lines) - 2), before]
        return len(lines) if are_rows and sum(lines) >= MIN_STRAY_DELIMITERS else 0

    def _source(self) -> pa.NativeFile:
        """Return the rows, without the header."""
        if self.dialect.is_plain:
            place = locate(self.path)
            file = self.path if isinstance(place, Path) else place.open_file()
            source = pa.input_stream(file, compression=compression_of(self.path))
        else:
            source = pa.PythonFile(open_text(self.path, self.dialect), mode="r")
        source.read(self.start)
        return source

    def _rows(self, content: bytes, *, num_rows: int, columns: Sequence[str], numbers: Sequence[str]) -> Rows:
        table = self._read_plain(content, {name: pa.float64() if name in numbers else pa.string() for name in columns})
        if table is None and numbers:
            table = self._read_plain(content, dict.fromkeys(columns, pa.string()))
        if table is not None and table.num_rows == num_rows and not self._swallows(table):
            rows = Rows(table, np.arange(num_rows))
        else:
            rows = self._read_carefully(content, columns)
        return replace(rows, table=self._understood(rows.table, numbers))

    def _understood(self, table: pa.Table, numbers: Sequence[str]) -> pa.Table:
        """Return a table whose columns of numbers, read as text, are plain numbers where they could be understood."""
        for name in numbers:
            index = table.schema.get_field_index(name)
            cells = table.column(index).combine_chunks()
            if pa.types.is_string(cells.type):
                found = understand(cells, decimal=self.dialect.decimal)
                table = table.set_column(index, name, pc.if_else(found.odd, cells, found.texts))
        return table

    def _read_plain(self, content: bytes, types: Mapping[str, pa.DataType]) -> pa.Table | None:
        """Return rows of a block, by Arrow; None if it finds something wrong with any of them."""
        try:
            return pa_csv.read_csv(
                pa.BufferReader(content),
                read_options=pa_csv.ReadOptions(
                    column_names=list(self.names), use_threads=False, block_size=len(content) + 1
                ),
                parse_options=self.dialect.parse_options(),
                convert_options=self.dialect.convert_options(types, list(types)),
            )
        except pa.ArrowInvalid:
            return None

    def _read_carefully(self, content: bytes, columns: Sequence[str]) -> Rows:
        """Return rows of a block, all cells as text, by the module csv: slow, and exact about what is wrong."""
        positions = {name: self.names.index(name) for name in columns}
        kept: dict[str, list[str | None]] = {name: [] for name in columns}
        index: list[int] = []
        bad: list[BadRow] = []
        rows = (cells for _, cells in careful_rows(content, self.dialect) if cells)
        for number, cells in enumerate(rows):
            reason = self._why_unreadable(cells, positions)
            if reason:
                bad.append(BadRow(number, reason, self.dialect.joined(cells)))
                continue
            index.append(number)
            for name, position in positions.items():
                kept[name].append(None if cells[position] in self.dialect.missing_values else cells[position])
        table = pa.table({name: pa.array(cells, pa.string()) for name, cells in kept.items()})
        return Rows(table, np.array(index, np.int64), bad)

    def _why_unreadable(self, cells: list[str], positions: dict[str, int]) -> str | None:
        if len(cells) != len(self.names):
            return f"The header has {len(self.names)} columns, this row has {len(cells)}."
        for name, position in positions.items():
            if not is_decoded(cells[position]):
                return f"Column {name!r} is not UTF-8."
            if num_rows := self._rows_within(cells[position], position):
                return f"Column {name!r} has {num_rows:,} rows within its quotes, as if a quote were stray."
        return None


def _joined(blocks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a stream, small ones put together."""
    held: list[pa.RecordBatch] = []
    for block in blocks:
        held.append(block)
        if sum(one.num_rows for one in held) >= JOINED_ROWS or sum(one.nbytes for one in held) >= JOINED_BYTES:
            yield from pa.Table.from_batches(held).combine_chunks().to_batches()
            held = []
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _may_have_lines(cells: pa.StringArray) -> bool:
    """Return whether there is a line end in the text of all cells, which is found sooner than in each."""
    text = cells.buffers()[2]
    return text is not None and _LINE_END.search(text) is not None


def read_whole(path: str, dialect: Dialect, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read a small table with all of its columns.

    Args:
        path: the file.
        dialect: Its dialect.
        types: by column, where they are known; columns that the file lacks are not looked for.

    Returns:
        The table. Arrow guesses the other types by all cells of a column.

    Raises:
        DataError: the file is wrong.
    """
    try:
        with open_text(path, dialect) as file:
            return pa_csv.read_csv(
                file,
                read_options=pa_csv.ReadOptions(column_names=_given_names(path, dialect)),
                parse_options=dialect.parse_options(),
                convert_options=dialect.convert_options(types, ()),
            )
    except pa.ArrowInvalid as error:
        raise _explain(path, dialect, error, block_bytes=2**20) from None  # what Arrow takes


def _explain(path: str, dialect: Dialect, error: pa.ArrowInvalid, *, block_bytes: int) -> DataError:
    """Return where a file that Arrow refused is wrong.

    This reads the file slowly, and is exact about lines inside quotes.
    """
    csv.field_size_limit(sys.maxsize)
    num_lines = 0  # before the row
    try:
        with io.TextIOWrapper(open_text(path, dialect), encoding="utf-8-sig", newline="") as file:
            rows = dialect.rows(file, strict=True)
            names = next((row for row in rows if row), [])
            if not names:
                return DataError(f"{path} is empty. A CSV file starts with a line of column names.")
            num_lines = rows.line_num
            for row in rows:
                num_lines = rows.line_num
                if row and len(row) != len(names):
                    first = "header" if dialect.header else "first row"
                    return DataError(
                        f"{path}, line {dialect.skip_rows + rows.line_num}: the {first} has {len(names)} columns, this "
                        f"row has {len(row)}. Received: {_shortened(dialect.joined(row))}. Fix the row; a delimiter "
                        f"({dialect.delimiter!r} here) inside a value needs quotes around it. Where the file is "
                        "written in another way, say how: data.csv, with skip_rows for lines above the header."
                    )
    except UnicodeDecodeError:
        return _undecoded(path)
    except csv.Error as csv_error:
        if "end of data" in str(csv_error):
            return DataError(
                f"{path}, line {dialect.skip_rows + num_lines + 1}: a quote begins in this row that no other one ends. "
                "Close it; if quotes mean nothing in this file, say data.csv: {quote: ''}"
            )
        line = dialect.skip_rows + rows.line_num
        other = "" if dialect.escape else r"; if a backslash stands before them, say data.csv: {escape: '\'}"
        return DataError(f"{path}, line {line}: {csv_error}. Fix the quotes of that line{other}.")
    if "straddling" in str(error):
        return DataError(
            f"{path} has a row that is too long for a CSV file. Received: more than {block_bytes:,} bytes. "
            "Write the table as Parquet."
        )
    return DataError(f"{path} cannot be read as CSV: {error}")


def _undecoded(path: str) -> DataError:
    """Return where a file is not UTF-8; it is, as far as `detect` has looked."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with open_bytes(path) as file:
        while chunk := file.read(2**20):
            num_pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return not_decoded(path, "utf-8", error, offset=offset - num_pending)
            offset += len(chunk)
    return DataError(f"{path} is not UTF-8: it ends in the middle of a character, at offset {offset}.")


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[:length] + "..."

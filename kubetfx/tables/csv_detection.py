"""How a CSV file is written, found by looking at its beginning, as far as nobody says it."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.tables.csv_dialect import Dialect, open_bytes
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.encoding_detection import encoding_of, has_byte_order_mark
from kubetfx.tables.files import COMPRESSIONS
from kubetfx.tables.spelled_numbers import understand

LOOKED_BYTES = 16 * 2**20
"""Number of bytes at the beginning of a file from which its encoding is detected."""
ROWS_BYTES = 2**20
"""Number of these bytes whose rows are examined."""
LOOKED_ROWS = 500
DELIMITERS = (",", ";", "\t", "|")
"""In the order in which they are preferred where the rows cannot tell."""
MIN_AGREEMENT = 0.9
"""Share of the rows that must have as many cells as the first one, where a delimiter is the right one."""
MAJORITY = 0.5
"""That share, where no delimiter has the other one: a few rows of a small file may be damaged."""

_ESCAPE = "\\"
"""Before quotes within quotes, in files of Spark, MySQL and others."""
_SEPARATOR_LINE = re.compile(r"sep=(.)(?:\r\n?|\n)", re.IGNORECASE)
"""The first line of a file, which tells Excel the delimiter."""
_OF_TABS = tuple(f".tsv{packed}" for packed in ("", *COMPRESSIONS))
_OF_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}\.\d{3}\s*")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


def detect(path: str, options: CsvOptions = UNKNOWN_CSV) -> Dialect:
    """Find out how a file is written.

    Args:
        path: the file.
        options: what is known. The rest is found by looking at the beginning of the file.

    Returns:
        The dialect.

    Raises:
        OSError: it cannot be opened.
        StorageError: the bucket cannot be read.
        DataError: it is not of the encoding that is said.
    """
    with open_bytes(path) as file:
        head = file.read(LOOKED_BYTES)
    stated = _stated_encoding(options.encoding, head) if options.encoding else None
    encoding, is_guess = (stated, False) if stated else encoding_of(head)
    dialect = Dialect(
        encoding=encoding,
        encoding_is_guess=is_guess,
        skip_rows=options.skip_rows or 0,
        comment=options.comment or "",
        missing_values=options.missing_values,
        quote_is_stated=options.quote is not None,
    )
    text = _decoded(head[:ROWS_BYTES], dialect.encoding)
    separator = None if options.skip_rows is not None else _SEPARATOR_LINE.match(text)
    if separator:
        dialect = replace(dialect, skip_rows=1)
    sample = _Sample(_rows_text(text, dialect), is_whole=len(head) < ROWS_BYTES)
    delimiters = (options.delimiter,) if options.delimiter else (separator[1],) if separator else DELIMITERS
    quotes = (options.quote,) if options.quote is not None else ('"', "'")
    if not options.delimiter and path.lower().endswith(_OF_TABS):
        delimiters = ("\t",)
    escapes = sample.escapes if options.escape is None else (options.escape,)
    dialect = sample.best(
        [replace(dialect, delimiter=d, quote=q, escape=e) for e in escapes for q in quotes for d in delimiters]
    )
    rows = sample.rows(dialect)
    decimal = options.decimal or _decimal(rows, dialect)
    unsure = None if options.decimal or decimal == "," else _thousands(rows, dialect)
    header = _has_header(rows, dialect.missing_values) if options.header is None else options.header
    return replace(dialect, decimal=decimal, header=header, unsure=unsure or "")


def _stated_encoding(encoding: str, head: bytes) -> str:
    name = codecs.lookup(encoding).name
    if name in ("utf-16", "utf-32") and not has_byte_order_mark(head):
        return f"{name}-le"
    return "utf-8" if name == "utf-8-sig" else name


def _decoded(head: bytes, encoding: str) -> str:
    """Return the text that bytes begin with. What is wrong with them is found when they are read."""
    return codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")


def _rows_text(text: str, dialect: Dialect) -> list[str]:
    lines = list(io.StringIO(text, newline=""))[dialect.skip_rows :]
    return [line for line in lines if not (dialect.comment and line.startswith(dialect.comment))]


@dataclass(frozen=True)
class _Sample:
    """The first lines of a file."""

    lines: list[str]
    is_whole: bool
    """Whether the file has no more."""

    @property
    def escapes(self) -> tuple[str, ...]:
        """What may stand before a quote within quotes."""
        return ("", _ESCAPE) if any(f'{_ESCAPE}"' in line for line in self.lines) else ("",)

    def _lines(self, dialect: Dialect) -> Iterator[str]:
        is_open = False
        for line in self.lines:
            rewritten = dialect.doubled(line, is_open=is_open)
            is_open = bool(dialect.escape) and dialect.is_open_after(rewritten, is_open=is_open)
            yield rewritten

    def rows(self, dialect: Dialect) -> list[list[str]]:
        """Return the cells of the first rows, blank ones left alone."""
        rows: list[list[str]] = []
        try:
            for row in dialect.rows(self._lines(dialect)):
                if row:
                    rows.append(row)
                if len(rows) > LOOKED_ROWS:
                    break
        except csv.Error:
            pass
        else:
            if len(rows) <= LOOKED_ROWS and not self.is_whole and len(rows) > 1:
                rows.pop()  # it may go on
        return rows

    def best(self, dialects: Sequence[Dialect]) -> Dialect:
        """Return the dialect in which the rows have the same number of cells, as many as possible.

        It is the first if none has.
        """
        for least in (MIN_AGREEMENT, MAJORITY):
            scores = [
                (
                    self._num_columns(dialect, least=least),
                    self._names_are_quoted(dialect),
                    len(self.escapes) > 1 and self._ends_cells(dialect),
                )
                for dialect in dialects
            ]
            if max(scores)[0] > 1:
                return dialects[scores.index(max(scores))]
        return dialects[0]

    def _num_columns(self, dialect: Dialect, *, least: float) -> float:
        """Return cells of the first row, where most rows have as many.

        It is 0 if they don't, or if there are fewer quotes.
        """
        rows = self.rows(dialect)
        if not rows:
            return 0
        num_columns = len(rows[0])
        agreement = sum(len(row) == num_columns for row in rows) / len(rows)
        if agreement < least:
            return 0
        if dialect.quote == "'" and not self._is_quoted(dialect):
            return 0
        return num_columns * agreement

    def _ends_cells(self, dialect: Dialect) -> bool:
        """Return whether each quote that ends the quoted part of a cell also ends the cell."""
        rows = dialect.rows(self._lines(dialect), strict=True)
        try:
            for _ in itertools.islice(rows, LOOKED_ROWS):
                pass
        except csv.Error as error:
            return "end of data" in str(error) and not self.is_whole
        return True

    def _names_are_quoted(self, dialect: Dialect) -> bool:
        """Return whether all cells of the first row are within single quotes, and the dialect takes them away."""
        text = self.lines[0].strip() if self.lines else ""
        edge = f"'{dialect.delimiter}'"
        num_cells = text.count(dialect.delimiter) + 1
        return dialect.quote == "'" and text[:1] + text[-1:] == "''" and text.count(edge) == num_cells - 1

    def _is_quoted(self, dialect: Dialect) -> bool:
        """Return whether single quotes are around cells, rather than within text."""
        edge = re.escape(dialect.delimiter)
        pattern = re.compile(rf"(^|{edge})'[^']*'(?={edge}|\r?\n|$)")
        quoted = sum(len(pattern.findall(line)) for line in self.lines[:LOOKED_ROWS])
        return 2 * quoted == sum(line.count("'") for line in self.lines[:LOOKED_ROWS]) > 0


def _decimal(rows: Sequence[Sequence[str]], dialect: Dialect) -> str:
    """Return the mark with which more cells are numbers."""
    marked = [cell for row in rows for cell in row if "," in cell or cell.count(".") > 1]
    if not marked:
        return "."
    texts = pa.array([cell for row in rows for cell in row if "," in cell or "." in cell], pa.string())
    with_point, with_comma = (understand(texts, decimal=mark).texts.is_valid() for mark in ".,")
    only_point = pc.and_(with_point, pc.invert(with_comma)).true_count
    only_comma = pc.and_(with_comma, pc.invert(with_point)).true_count
    if only_point or only_comma:
        return "," if only_comma > only_point else "."
    # Files with semicolons are of places whose decimal mark is the comma: `1,250` is one and a quarter there.
    has_comma = pc.any(pc.and_(with_comma, pc.match_substring(texts, ","))).as_py()
    return "," if dialect.delimiter == ";" and has_comma else "."


def _thousands(rows: Sequence[Sequence[str]], dialect: Dialect) -> str | None:
    """Return a number whose point may be one between thousands.

    Semicolons separate the cells, and all points are like that.
    """
    pointed = [cell for row in rows for cell in row if "." in cell and _NUMBER.fullmatch(cell.strip())]
    is_unsure = dialect.delimiter == ";" and all(map(_OF_THOUSANDS.fullmatch, pointed))
    return pointed[0].strip() if pointed and is_unsure else None


def _has_header(rows: Sequence[Sequence[str]], missing_values: Sequence[str]) -> bool:
    """Return whether the first row names the columns, rather than being like the rows below.

    It is a row like the others if it has numbers wherever they have, and text that occurs again below in the same
    column. Years and other whole numbers in a row, as names of columns, are names.
    """
    first, *others = rows or [[]]
    if not any(_NUMBER.fullmatch(cell.strip()) for cell in first) or not others:
        return True
    columns = list(zip(first, *(row for row in others if len(row) == len(first)), strict=True))
    repeats = False
    for cell, *below in columns:
        values = [value for value in below if value not in missing_values]
        are_numbers = bool(values) and all(_NUMBER.fullmatch(value.strip()) for value in values)
        if are_numbers and cell not in missing_values and not _NUMBER.fullmatch(cell.strip()):
            return True
        repeats |= bool(values) and not are_numbers and cell in values
    if repeats:
        return False
    return _are_labels([cell.strip() for cell in first if cell.strip()])


def _are_labels(cells: Sequence[str]) -> bool:
    """Return whether numbers name columns: they are years, or one after the other."""
    numbers = [int(cell) for cell in cells if _NUMBER.fullmatch(cell) and cell.isdigit()]
    if len(numbers) < sum(map(bool, map(_NUMBER.fullmatch, cells))):
        return False
    are_years = len(set(numbers)) == len(numbers) and all(1900 <= number <= 2100 for number in numbers)
    return are_years or (len(numbers) > 1 and all(b - a == 1 for a, b in itertools.pairwise(numbers)))

"""Where the rows of a CSV file end, found without parsing its cells where that is possible.

Quotes are those of RFC 4180: one opens a cell only at its start, and two within a cell are one.
"""

import csv
import sys
from collections.abc import Iterator

import numpy as np

from kubetfx.arrays import Array
from kubetfx.tables.csv_dialect import Dialect

_NEWLINE, _RETURN = b"\n"[0], b"\r"[0]


def count_rows(chunk: bytes, dialect: Dialect, *, is_end: bool) -> tuple[int, int]:
    """Count the whole rows at the beginning of a chunk of CSV.

    Args:
        chunk: starts where a row does.
        dialect: The dialect of the file.
        is_end: whether the file ends with it.

    Returns:
        The number of rows without blank lines, and the bytes that rows and blank lines have.
    """
    ends = _plain_row_ends(chunk, dialect)
    if ends is None:
        rows = [(end, bool(cells)) for end, cells in careful_rows(chunk, dialect, encoding="latin-1")]
        if rows and not is_end:
            rows.pop()  # it may go on in the next chunk
        return sum(is_row for _, is_row in rows), rows[-1][0] if rows else 0
    if is_end and chunk and (not len(ends) or ends[-1] < len(chunk)):
        ends = np.append(ends, len(chunk))
    if not len(ends):
        return 0, 0
    starts = np.concatenate([[0], ends[:-1]])
    num_blank = sum(chunk[a:b].strip(b"\r\n") == b"" for a, b in _short_lines(starts, ends))
    return len(ends) - num_blank, int(ends[-1])


def careful_rows(chunk: bytes, dialect: Dialect, *, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """Parse rows, however they are quoted.

    Args:
        chunk: starts where a row does.
        dialect: The dialect of the file.
        encoding: of the bytes.

    Yields:
        For each row the byte after it, and its cells; a blank line has none. Bytes that are not of the encoding become
        lone surrogates (PEP 383).
    """
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in chunk.splitlines(keepends=True):
            end += len(line)
            yield line.decode(encoding, "surrogateescape")

    csv.field_size_limit(sys.maxsize)
    for cells in dialect.rows(lines()):
        yield end, cells


def is_decoded(text: str) -> bool:
    """Return whether all bytes of a cell were of the encoding.

    Args:
        text: a cell of `careful_rows`.
    """
    return text.isascii() or not any("\udc80" <= character <= "\udcff" for character in text)


def _short_lines(starts: Array, ends: Array) -> Iterator[tuple[int, int]]:
    short = np.flatnonzero(ends - starts <= 2)
    return zip(starts[short].tolist(), ends[short].tolist(), strict=True)


def _plain_row_ends(chunk: bytes, dialect: Dialect) -> Array | None:
    """Return where rows end, found without looking at every byte in Python; None if that cannot tell.

    A quote opens a cell only at its start, and closes it only at its end. Where all quotes of a chunk are placed like
    that, a line end is the end of a row if the quotes before it are even in number.
    """
    if chunk.count(b"\r") != chunk.count(b"\r\n"):
        return None
    data = np.frombuffer(chunk, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    quotes = np.flatnonzero(data == ord(dialect.quote)) if dialect.quote else data[:0]
    if len(quotes):
        opening, closing = quotes[::2], quotes[1::2]
        before = data[opening[opening > 0] - 1]
        after = data[closing[closing < len(data) - 1] + 1]
        edges = (ord(dialect.delimiter), _NEWLINE, ord(dialect.quote))
        if not (np.isin(before, edges).all() and np.isin(after, (*edges, _RETURN)).all()):
            return None
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return ends + 1

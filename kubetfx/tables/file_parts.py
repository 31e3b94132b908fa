"""Files cut into parts that are read by themselves, from their first row to their last: what becomes a shard.

A part is a TableFile. A file of row groups is cut between these. A CSV file is cut where rows end, which quotes decide:
pieces of the file are looked at by themselves, each for the case that it begins within quotes and for the case that it
does not; put together, they say which is so. A file in which quotes are not only around cells is one part, and so is
one that has to be unpacked or decoded from its beginning.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.cores import num_cores
from kubetfx.storage import locate
from kubetfx.tables.columnar_table import ColumnarTable
from kubetfx.tables.csv_dialect import compression_of
from kubetfx.tables.csv_file import CsvTable
from kubetfx.tables.table_file import Cut, Segment, TableFile, neighbours, reading

PART_BYTES = 2**26
"""For a part, at least, if the file goes on: as much as a core reads in a second or so."""
_CHUNK_BYTES = 2**23
"""Chunk bytes of a piece that are looked at, at a time."""
_NEWLINE, _RETURN = b"\n"[0], b"\r"[0]


@dataclass(frozen=True)
class CsvPart(CsvTable):
    """Rows of a CSV file, from the byte at which one begins to that at which another one does."""

    end: int = 0

    @property
    def _row_bytes(self) -> int:
        return self.end - self.start

    def _source(self) -> pa.NativeFile:
        return _open(self.path).get_stream(self.start, self.end - self.start)


@dataclass(frozen=True)
class Piece:
    """Bytes of a CSV file, from wherever to wherever."""

    file: CsvTable
    start: int
    end: int


@dataclass(frozen=True)
class Quotes:
    """What a piece says of rows and quotes, by whether it begins within quotes: no, yes."""

    is_odd: bool = False
    """Whether the number of quotes is."""
    are_around_cells: tuple[bool, bool] = (True, True)
    """Whether each quote begins or ends a cell."""
    first_rows: tuple[int | None, int | None] = (None, None)
    """The byte of the file at which the first row begins; None: none begins in the piece."""


def size_of(path: str) -> int:
    """Return the bytes of a file.

    Args:
        path: on this machine or in a bucket.
    """
    place = locate(path)
    return int(place.stat().st_size if isinstance(place, Path) else place.info().num_bytes)


def pieces_of(file: TableFile, *, part_bytes: int) -> list[Piece]:
    """Divide a CSV file that can be cut.

    Args:
        file: A file of any format.
        part_bytes: of a piece.

    Returns:
        Its pieces; none if it is of another format, too small, or readable from its beginning only.
    """
    if not isinstance(file, CsvTable) or compression_of(file.path) or not file.dialect.is_plain:
        return []
    bounds = [*range(file.start, size_of(file.path), part_bytes), size_of(file.path)]
    if len(bounds) <= 2:
        return []
    return [Piece(file, start, end) for start, end in itertools.pairwise(bounds)]


def look_at(piece: Piece) -> Quotes:
    """Find the quotes and the first row of a piece.

    Args:
        piece: of a file.

    Returns:
        What it says, for both cases.

    Raises:
        DataError: the file cannot be read.
    """
    found = Quotes()
    with reading(piece.file.path), _open(piece.file.path) as file:
        for start in range(piece.start, piece.end, _CHUNK_BYTES):
            end = min(start + _CHUNK_BYTES, piece.end)
            first = max(start - 1, piece.file.start)  # the byte before, and the one after
            file.seek(first)
            found = _joined(found, _quotes_in(file.read(end + 1 - first), first, start, end, piece.file))
    return found


def parts_of_csv(file: CsvTable, found: Sequence[Quotes]) -> list[TableFile]:
    """Cut a CSV file.

    Args:
        file: the file.
        found: in its pieces, in their order.

    Returns:
        Its parts, in order: at most one per piece, and the file itself where its quotes do not say where rows end.
    """
    is_inside = False
    starts = [file.start]
    for number, quotes in enumerate(found):
        if not quotes.are_around_cells[is_inside]:
            return [file]
        if number and (row := quotes.first_rows[is_inside]) is not None:
            starts.append(row)
        is_inside ^= quotes.is_odd
    own: dict[str, Any] = {field.name: getattr(file, field.name) for field in fields(file)}
    ends = [*starts[1:], size_of(file.path)]
    return [CsvPart(**{**own, "start": start, "end": end}) for start, end in zip(starts, ends, strict=True)]


def parts_of_row_groups(file: ColumnarTable, *, part_bytes: int) -> list[TableFile]:
    """Cut a file of row groups.

    Args:
        file: the file.
        part_bytes: of a part, at least, if the file goes on.

    Returns:
        Its parts, in order; the file itself where there is one alone.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(file.path):
        sizes = file.row_group_bytes()
    groups = list(neighbours(sizes, at_least=part_bytes))
    return [file] if len(groups) < 2 else [replace(file, row_groups=tuple(group)) for group in groups]


def segments_of(file: TableFile, *, first_block: int, cut: Cut) -> Iterator[Segment]:
    """Cut a file into blocks of about the same number of rows, or of bytes for text.

    Threads count the rows of a large CSV file. How many they are does not change the blocks.

    Args:
        file: A file of any format.
        first_block: number of its first block.
        cut: how a file of row groups is cut.

    Yields:
        Segments, which together have every row once.

    Raises:
        DataError: the file cannot be read.
    """
    pieces = pieces_of(file, part_bytes=PART_BYTES)
    if not pieces or not isinstance(file, CsvTable):
        yield from file.segments(first_block=first_block, cut=cut)
        return
    number = first_block
    with ThreadPoolExecutor(num_cores()) as pool:
        parts = parts_of_csv(file, list(pool.map(look_at, pieces)))
        for segments in pool.map(lambda part: list(part.segments(first_block=0, cut=cut)), parts):
            for segment in segments:
                blocks = tuple(replace(block, number=number + index) for index, block in enumerate(segment.blocks))
                number += len(blocks)
                yield replace(segment, file=file, blocks=blocks)


def _open(path: str) -> pa.NativeFile:
    place = locate(path)
    return pa.OSFile(path) if isinstance(place, Path) else place.open_file()


def _quotes_in(content: bytes, first: int, start: int, end: int, file: CsvTable) -> Quotes:
    """Return the quotes between start and end; the content begins at `first`, and has one more byte on either side."""
    data = np.frombuffer(content, np.uint8)
    quote = file.dialect.quote
    if not quote or quote.encode() not in content:
        row = content.find(b"\n", 0, end - 1 - first) + 1
        found = first + row if row else None
        return Quotes(first_rows=(found, None))  # within quotes no row begins
    places = np.flatnonzero(data == ord(quote))
    places = places[(places >= start - first) & (places < end - first)]
    edges = [ord(file.dialect.delimiter), _NEWLINE, ord(quote)]
    begins = np.isin(data[np.maximum(places - 1, 0)], edges) | (places == 0)
    after = np.minimum(places + 1, len(data) - 1)
    ends = np.isin(data[after], [*edges, _RETURN]) | (places + 1 == len(data))
    lines = np.flatnonzero(data[: end - 1 - first] == _NEWLINE)
    num_before = np.searchsorted(places, lines)
    rows: list[int | None] = []
    are_around = []
    for is_inside in (0, 1):
        are_around.append(bool(begins[is_inside::2].all() and ends[1 - is_inside :: 2].all()))
        outside = lines[num_before % 2 == is_inside]
        rows.append(first + int(outside[0]) + 1 if len(outside) else None)
    return Quotes(bool(len(places) % 2), (are_around[0], are_around[1]), (rows[0], rows[1]))


def _joined(before: Quotes, after: Quotes) -> Quotes:
    """Return the quotes of two consecutive pieces."""
    cases = [(case, case ^ before.is_odd) for case in (0, 1)]  # the case of the second, by that of the first
    around = [before.are_around_cells[one] and after.are_around_cells[other] for one, other in cases]
    rows = [after.first_rows[b] if before.first_rows[a] is None else before.first_rows[a] for a, b in cases]
    return Quotes(before.is_odd ^ after.is_odd, (around[0], around[1]), (rows[0], rows[1]))

"""A table cut into blocks that are read one by one: for workers that share a file, and for resuming a job.

Cutting counts the rows on its own, so that what was made of them can be compared with it. A row that cannot be read is
a BadRow, and not the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from kubetfx.errors import DataError, StorageError
from kubetfx.tables import csv_file, parquet_file
from kubetfx.tables.csv_detection import detect
from kubetfx.tables.csv_dialect import Dialect, is_packed, open_text, skip
from kubetfx.tables.csv_file import MAX_ROW_BYTES
from kubetfx.tables.csv_options import CsvOptions
from kubetfx.tables.csv_rows import careful_rows, count_rows, is_decoded
from kubetfx.tables.files import Format, check_names
from kubetfx.tables.spelled_numbers import understand

CSV_BLOCK_BYTES = 4 * 2**20
_READ_BYTES = 2**20
"""Bytes of a column of a Parquet file that are read at a time."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows that are predicted, and written, at once."""

    number: int
    """Counted from 0 through all files of a table."""
    num_rows: int
    num_bytes: int = 0
    """Size in a CSV file, once it is unpacked."""


@dataclass(frozen=True)
class Cut:
    """How a Parquet file is cut."""

    block_rows: int = 65_536
    """Rows per block."""
    segment_blocks: int = 4
    """Blocks per segment, at most. A row group can only be read from its start: with short segments more rows are read
    just to be skipped, with long ones fewer workers share a large row group."""


@dataclass(frozen=True)
class Segment:
    """Consecutive blocks of a file that are read in one go: what Beam hands to a worker."""

    path: str
    format: Format
    blocks: tuple[Block, ...]
    start: int = 0
    """CSV: the byte at which the first block starts. Parquet: rows of the row groups before it."""
    row_groups: tuple[int, ...] = ()
    """Numbers of the row groups of a Parquet file that the blocks are in."""
    columns: tuple[str, ...] = ()
    """Names of the columns of a CSV file, in order."""
    dialect: Dialect = Dialect()  # noqa: RUF009 - it is frozen
    """Of a CSV file."""


@dataclass(frozen=True)
class BadRow:
    """A row without a prediction."""

    index: int
    """Within its block, from 0."""
    reason: str
    """Why there is none, as a sentence."""
    content: str
    """The row: JSON, or the line of the file if it has too many cells or too few."""


@dataclass(frozen=True)
class Rows:
    """The rows of a block that could be read."""

    table: pa.Table
    """The columns that were asked for."""
    index: np.ndarray
    """(rows,) int64: their numbers within the block, from 0."""
    bad: list[BadRow] = field(default_factory=list)
    """The other rows of the block."""


def column_types(path: str, file_format: Format, options: CsvOptions) -> dict[str, pa.DataType]:
    """Read the columns of a file.

    Args:
        path: the file, on this machine or in a bucket.
        file_format: what it is.
        options: what is known of CSV files.

    Returns:
        Types by name, in the file's order; the columns of a CSV file are text.

    Raises:
        DataError: the file cannot be read, or two columns have one name.
    """
    try:
        if file_format == "csv":
            return dict.fromkeys(csv_file.header(path, detect(path, options))[0], pa.string())
        schema = parquet_file.schema(path)
    except (OSError, EOFError, StorageError) as error:
        raise DataError(f"{path} cannot be read: {_one_line(error)}. Is it whole?") from None
    check_names(schema.names, path)
    return dict(zip(schema.names, schema.types, strict=True))


def segments(path: str, file_format: Format, options: CsvOptions, *, first_block: int, cut: Cut) -> Iterator[Segment]:
    """Cut a file into blocks of about the same number of rows, or of bytes for CSV.

    Args:
        path: the file.
        file_format: what it is.
        options: what is known of CSV files.
        first_block: number of its first block.
        cut: how a Parquet file is cut.

    Yields:
        Segments, which together have every row once.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if file_format == "parquet":
            yield from _parquet_segments(path, first_block=first_block, cut=cut)
        else:
            yield from _csv_segments(path, detect(path, options), first_block=first_block)
    except (pa.ArrowInvalid, OSError, EOFError, StorageError) as error:
        raise DataError(f"{path} cannot be read: {_one_line(error)}. Is it whole?") from None


def _parquet_segments(path: str, *, first_block: int, cut: Cut) -> Iterator[Segment]:
    with parquet_file.open_file(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    number = first_block
    for groups in _groups(sizes, at_least=cut.block_rows):
        num_rows = sum(sizes[group] for group in groups)
        rows = [min(cut.block_rows, num_rows - start) for start in range(0, num_rows, cut.block_rows)]
        for first in range(0, len(rows), cut.segment_blocks):
            part = rows[first : first + cut.segment_blocks]
            blocks = tuple(Block(number + index, size) for index, size in enumerate(part))
            yield Segment(path, "parquet", blocks, start=first * cut.block_rows, row_groups=tuple(groups))
            number += len(blocks)


def _groups(sizes: Sequence[int], *, at_least: int) -> Iterator[list[int]]:
    """Groups of neighbouring row groups, each with enough rows for a block."""
    pending: list[int] = []
    num_rows = 0
    for index, size in enumerate(sizes):
        pending.append(index)
        num_rows += size
        if num_rows >= at_least:
            yield pending
            pending, num_rows = [], 0
    if pending:
        yield pending


def _csv_segments(path: str, dialect: Dialect, *, first_block: int) -> Iterator[Segment]:
    header, start = csv_file.header(path, dialect)
    blocks = [Block(first_block + i, *block) for i, block in enumerate(_csv_blocks(path, dialect, start=start))]
    if is_packed(path) or not dialect.is_plain:  # there is no way into the middle
        yield Segment(path, "csv", tuple(blocks), start=start, columns=header, dialect=dialect)
        return
    for block in blocks:
        yield Segment(path, "csv", (block,), start=start, columns=header, dialect=dialect)
        start += block.num_bytes


def _csv_blocks(path: str, dialect: Dialect, *, start: int) -> Iterator[tuple[int, int]]:
    """Rows and bytes of each block."""
    with open_text(path, dialect) as file:
        skip(file, start)
        carried = b""
        is_end = False
        while not is_end:
            content = file.read(CSV_BLOCK_BYTES)
            is_end = len(content) < CSV_BLOCK_BYTES
            chunk = carried + content
            num_rows, length = count_rows(chunk, dialect, is_end=is_end)
            carried = chunk[length:]
            if len(carried) > MAX_ROW_BYTES:
                raise DataError(
                    f"{path} has a row of more than {MAX_ROW_BYTES:,} bytes. Received: {chunk[length : length + 40]!r}"
                    "... Correct its quotes: one of them is never closed."
                )
            if length:
                yield num_rows, length


def read_blocks(
    segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str]
) -> Iterator[tuple[Block, Rows]]:
    """Read blocks of a segment, one after the other.

    Args:
        segment: of `segments`.
        wanted: numbers of the blocks.
        columns: to read.
        numbers: those of them that may be read as float64 where all their cells are numbers; otherwise text.

    Yields:
        Each wanted block, and its rows.

    Raises:
        DataError: the file cannot be read, or changed since it was cut.
    """
    try:
        if segment.format == "parquet":
            yield from _read_parquet(segment, wanted, columns)
        else:
            yield from _read_csv(segment, wanted, columns=columns, numbers=numbers)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, StorageError) as error:
        raise DataError(f"{segment.path} cannot be read: {_one_line(error)}. Is it whole?") from None


def _read_parquet(segment: Segment, wanted: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[Block, Rows]]:
    ends = np.cumsum([block.num_rows for block in segment.blocks]).tolist()
    last = max((end for end, block in zip(ends, segment.blocks, strict=True) if block.number in wanted), default=0)
    batch_size = max(block.num_rows for block in segment.blocks)
    with parquet_file.open_file(segment.path, buffer_size=_READ_BYTES, pre_buffer=False) as file:
        batches = file.iter_batches(
            batch_size=batch_size, row_groups=list(segment.row_groups), columns=list(columns), use_threads=False
        )
        pieces = _cut(_without_first(batches, segment.start), [block.num_rows for block in segment.blocks])
        for end, block, table in zip(ends, segment.blocks, pieces, strict=False):
            if table.num_rows != block.num_rows:
                raise _changed(segment)
            if block.number in wanted:
                yield block, Rows(table.select(list(columns)), np.arange(block.num_rows))
            if end >= last:
                return


def _without_first(batches: Iterator[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches without the first rows."""
    for batch in batches:
        num_skipped = min(num_rows, batch.num_rows)
        num_rows -= num_skipped
        if num_skipped < batch.num_rows:
            yield batch.slice(num_skipped)


def _cut(batches: Iterator[pa.RecordBatch], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """Tables of the given numbers of rows; the last are shorter if the rows don't suffice."""
    rest: pa.RecordBatch | None = None
    for size in sizes:
        taken: list[pa.RecordBatch] = []
        missing = size
        while missing:
            batch = rest if rest is not None else next(batches, None)
            if batch is None:
                break
            taken.append(batch.slice(0, missing))
            rest = batch.slice(missing) if batch.num_rows > missing else None
            missing -= taken[-1].num_rows
        yield pa.Table.from_batches(taken) if taken else pa.table({})


def _read_csv(
    segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str]
) -> Iterator[tuple[Block, Rows]]:
    types = {name: pa.float64() if name in numbers else pa.string() for name in columns}
    with open_text(segment.path, segment.dialect) as file:
        skip(file, segment.start)
        for block in segment.blocks:
            if block.number not in wanted:
                skip(file, block.num_bytes)
                continue
            content = file.read(block.num_bytes)
            if len(content) != block.num_bytes:
                raise _changed(segment)
            table = _read_plain(content, segment, types)
            if table is None and numbers:
                table = _read_plain(content, segment, dict.fromkeys(columns, pa.string()))
            if table is not None and table.num_rows == block.num_rows:
                yield block, Rows(_understood(table, numbers, segment.dialect), np.arange(block.num_rows))
            else:
                rows = _read_carefully(content, segment, columns)
                yield block, replace(rows, table=_understood(rows.table, numbers, segment.dialect))


def _understood(table: pa.Table, numbers: Sequence[str], dialect: Dialect) -> pa.Table:
    """A table whose columns of numbers, read as text, are plain numbers where they could be understood."""
    for name in numbers:
        index = table.schema.get_field_index(name)
        cells = table.column(index).combine_chunks()
        if pa.types.is_string(cells.type):
            found = understand(cells, decimal=dialect.decimal)
            table = table.set_column(index, name, pc.if_else(found.odd, cells, found.texts))
    return table


def _read_plain(content: bytes, segment: Segment, types: Mapping[str, pa.DataType]) -> pa.Table | None:
    """Rows of a block of CSV, by Arrow; None if it finds something wrong with any of them."""
    names = list(segment.columns)
    try:
        return pa_csv.read_csv(
            pa.BufferReader(content),
            read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(content) + 1),
            parse_options=segment.dialect.parse_options(),
            convert_options=segment.dialect.convert_options(types, list(types)),
        )
    except pa.ArrowInvalid:
        return None


def _read_carefully(content: bytes, segment: Segment, columns: Sequence[str]) -> Rows:
    """Rows of a block of CSV, all cells as text, by the module csv: slow, and exact about what is wrong."""
    dialect = segment.dialect
    positions = {name: segment.columns.index(name) for name in columns}
    kept: dict[str, list[str | None]] = {name: [] for name in columns}
    index: list[int] = []
    bad: list[BadRow] = []
    rows = (cells for _, cells in careful_rows(content, dialect) if cells)
    for number, cells in enumerate(rows):
        reason = _why_unreadable(cells, segment.columns, positions)
        if reason:
            bad.append(BadRow(number, reason, dialect.joined(cells)))
            continue
        index.append(number)
        for name, position in positions.items():
            kept[name].append(None if cells[position] in dialect.missing_values else cells[position])
    table = pa.table({name: pa.array(cells, pa.string()) for name, cells in kept.items()})
    return Rows(table, np.array(index, np.int64), bad)


def _why_unreadable(cells: list[str], names: Sequence[str], positions: dict[str, int]) -> str | None:
    if len(cells) != len(names):
        return f"The header has {len(names)} columns, this row has {len(cells)}."
    for name, position in positions.items():
        if not is_decoded(cells[position]):
            return f"Column {name!r} is not UTF-8."
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _changed(segment: Segment) -> DataError:
    return DataError(f"{segment.path} changed since its rows were counted. Leave it as it is, and start again.")

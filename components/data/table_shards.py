"""Cuts the files of a table into shards: parts of similar size that can be read separately.

Their number depends on the bytes of the table, not on the number of its files or on the process that reads them.
"""

import functools
import itertools
from collections.abc import Sequence

from kubetfx.components.data.beam_mode import MAX_THREADS
from kubetfx.components.data.block_work import Each, Run
from kubetfx.config.data_section import DataConfig
from kubetfx.models.examples import read_ahead
from kubetfx.tables.blocks import open_table
from kubetfx.tables.columnar_table import ColumnarTable
from kubetfx.tables.csv_file import CsvTable
from kubetfx.tables.file_parts import (
    PART_BYTES,
    Quotes,
    look_at,
    parts_of_csv,
    parts_of_row_groups,
    pieces_of,
    size_of,
)
from kubetfx.tables.files import TableFiles
from kubetfx.tables.table_file import TableFile, neighbours, reading

MAX_SHARDS = 1_024
"""Approximate size of a shard. Each becomes one file per split, which all later nodes open."""
COLUMN_BYTES = 2**17
"""Minimum size of a part per column of the file: later nodes take time for each column of each shard, however few rows
it has there.
"""

Shard = tuple[TableFile, ...]
"""Files or parts of files with consecutive rows."""


def shards_of(files: TableFiles, data: DataConfig, run: Run) -> list[Shard]:
    """Cut a table.

    Args:
        files: The files of the table.
        data: the section of the config.
        run: Executes the work on many pieces.

    Returns:
        Shards, which together have every row once, in the order of the table; each of one span alone.

    Raises:
        DataError: a file cannot be read.
    """
    opened = opened_files(files.paths, files, data)
    total = sum(num_bytes for _, num_bytes in opened)
    parts = cut(opened, part_bytes=part_bytes_of(total), run=run)
    if not files.spans:
        return _grouped([part for own in parts for part in own], at_least=total // MAX_SHARDS)
    remaining = iter(parts)
    of_spans = [[part for own in itertools.islice(remaining, len(span.paths)) for part in own] for span in files.spans]
    return [shard for own in of_spans for shard in _grouped(own, at_least=total // MAX_SHARDS)]


def part_bytes_of(total: int) -> int:
    """Return the approximate size of the parts of a table.

    Args:
        total: The number of bytes of its files.
    """
    return max(PART_BYTES, total // MAX_SHARDS)


def opened_files(paths: Sequence[str], files: TableFiles, data: DataConfig) -> list[tuple[TableFile, int]]:
    """Open files, several at a time.

    Args:
        paths: The paths of the files.
        files: The files of the table.
        data: the section of the config.

    Returns:
        Each, and its bytes.

    Raises:
        DataError: a file cannot be read.
    """
    return list(read_ahead((functools.partial(_opened, path, files, data) for path in paths), threads=MAX_THREADS))


def cut(opened: Sequence[tuple[TableFile, int]], *, part_bytes: int, run: Run) -> list[list[tuple[TableFile, int]]]:
    """Cut files into parts that can be read separately.

    Args:
        opened: The files, each with its number of bytes.
        part_bytes: The minimum size of a part, except the last; more for files with many columns.
        run: Executes the work on many pieces.

    Returns:
        The parts of each file in order, each with its approximate size.

    Raises:
        DataError: a file cannot be read.
    """
    sizes = [max(part_bytes, len(file.types()) * COLUMN_BYTES) for file, _ in opened]
    pieces = [pieces_of(file, part_bytes=size) for (file, _), size in zip(opened, sizes, strict=True)]
    all_pieces = [piece for own in pieces for piece in own]
    found = iter(run(Each(look_at), list(enumerate(all_pieces))) if all_pieces else ())
    quotes = [list(itertools.islice(found, len(own))) for own in pieces]
    return [_parts(file, own, part_bytes=size) for file, own, size in zip(opened, quotes, sizes, strict=True)]


def _opened(path: str, files: TableFiles, data: DataConfig) -> tuple[TableFile, int]:
    with reading(path):
        return open_table(path, files.format, data.csv_options), size_of(path)


def _parts(opened: tuple[TableFile, int], quotes: Sequence[Quotes], *, part_bytes: int) -> list[tuple[TableFile, int]]:
    """Return the parts of a file, each with its approximate size."""
    file, num_bytes = opened
    parts = [file]
    if quotes and isinstance(file, CsvTable):
        parts = parts_of_csv(file, quotes)
    elif isinstance(file, ColumnarTable) and num_bytes:
        parts = parts_of_row_groups(file, part_bytes=part_bytes)
    return [(part, num_bytes // len(parts)) for part in parts]


def _grouped(parts: Sequence[tuple[TableFile, int]], *, at_least: int) -> list[Shard]:
    groups = neighbours([num_bytes for _, num_bytes in parts], at_least=at_least)
    return [tuple(parts[index][0] for index in group) for group in groups]

"""Tables of any format, file by file: opened, and cut into blocks that are read by themselves.

Blocks are for workers that share a file, and for resuming a job. Cutting counts the rows on its own, so that what was
made of them can be compared with it. A row that cannot be read is a BadRow, and not the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from kubetfx.tables import partitions
from kubetfx.tables.columnar_table import ColumnarTable
from kubetfx.tables.csv_file import CsvTable
from kubetfx.tables.csv_options import CsvOptions
from kubetfx.tables.file_parts import segments_of
from kubetfx.tables.files import Format
from kubetfx.tables.json_lines import JsonLinesTable
from kubetfx.tables.table_file import Block, Cut, Rows, Segment, TableFile, reading


def open_table(path: str, file_format: Format, options: CsvOptions) -> TableFile:
    """Look at the beginning of a file.

    Args:
        path: The path of the file, on this machine or in a bucket.
        file_format: what it is.
        options: what is known of CSV files.

    Returns:
        The file.

    Raises:
        DataError: it is not of the format.
    """
    if file_format == "csv":
        return CsvTable.look_at(path, options)
    return JsonLinesTable.look_at(path) if file_format == "jsonl" else ColumnarTable(path, file_format)


def column_types(path: str, file_format: Format, options: CsvOptions) -> dict[str, pa.DataType | None]:
    """Read the columns of a file, those that its folders name among them.

    Args:
        path: the file, on this machine or in a bucket.
        file_format: what it is.
        options: what is known of CSV files.

    Returns:
        Types by name, in the file's order; None where the values of each row say it.

    Raises:
        DataError: the file cannot be read, or two columns have one name.
    """
    with reading(path):
        held = open_table(path, file_format, options).types()
    return {**dict.fromkeys(partitions.columns_of(path), pa.string()), **held}


def segments(path: str, file_format: Format, options: CsvOptions, *, first_block: int, cut: Cut) -> Iterator[Segment]:
    """Cut a file into blocks of about the same number of rows, or of bytes for text.

    Args:
        path: the file.
        file_format: what it is.
        options: what is known of CSV files.
        first_block: number of its first block.
        cut: how a file of row groups is cut.

    Yields:
        Segments, which together have every row once.

    Raises:
        DataError: the file cannot be read.
    """
    with reading(path):
        yield from segments_of(open_table(path, file_format, options), first_block=first_block, cut=cut)


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
    file = segment.file
    of_folders = partitions.columns_of(file.path)
    with reading(file.path):
        held = file.types() if not of_folders.keys().isdisjoint(columns) else {}
        added = [name for name in columns if name in of_folders and name not in held]
        own = [name for name in columns if name not in added]
        for block, rows in file.read(segment, wanted, columns=own, numbers=[n for n in numbers if n in own]):
            table = rows.table
            for name in added:
                table = table.append_column(name, partitions.cells(of_folders[name], table.num_rows))
            yield block, replace(rows, table=table.select(list(columns)))

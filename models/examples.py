"""The one reader of examples: Parquet files of a split, row groups as blocks, and the columns that are wanted.

A column is plain: int64, double, string, or the bytes of pictures; a missing cell is null. What others need instead is
made of a block here: lists for TFDV, and serialized tf.Examples for signatures and executors that know nothing else.
Which tensors a preprocessing_fn reads is models/raw_inputs.py's. Decision 16 says why.
"""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kubetfx.engine.shared_places import place_of
from kubetfx.errors import DataError
from kubetfx.storage import is_url, list_files, locate, opened

SUFFIX = ".parquet"
BLOCK_ROWS = 65_536
BLOCK_CELLS = 2**23
"""Rows of a row group at most, and fewer where there are many columns: memory is bounded by a block."""
BLOCK_BYTES = 2**26
"""A row group ends after this many bytes, about: pictures are large."""

T = TypeVar("T")

_THREADS = min(os.cpu_count() or 1, 4)
"""Number of row groups that are read at a time."""


def block_rows(num_columns: int) -> int:
    """Return how many rows a row group has at most.

    Args:
        num_columns: The number of columns of the examples.
    """
    return max(1, min(BLOCK_ROWS, BLOCK_CELLS // max(num_columns, 1)))


def files_in(*places: str | Path) -> list[str]:
    """Return the files of a split, in order.

    Args:
        places: folders; or globs of all that is in one, as TFX's Trainer has them.

    Raises:
        DataError: the folder has files of another format: an earlier version of kubetfx wrote tf.Examples.
    """
    folders = [locate(place_of(str(place).removesuffix("*"))) for place in places]
    entries = sorted(str(path) for folder in folders for path in list_files(folder) if not path.name.startswith("."))
    others = [path.rpartition("/")[2] for path in entries if not path.endswith(SUFFIX)]
    if others:
        raise DataError(
            "These examples are not Parquet files: another ExampleGen wrote them, or an earlier version of kubetfx, "
            f"as tf.Examples. Received: {others[0]} in {folders[0]}. Run the pipeline again: they are written again."
        )
    return entries


def count_rows(files: Iterable[str]) -> int:
    """Return the number of rows of some files, according to their footers.

    Args:
        files: The files of examples.
    """
    return sum(footer.num_rows for footer in _footers(files))


def mean_row_bytes(files: Iterable[str]) -> float:
    """Return the mean number of bytes of a row, uncompressed, according to the files' footers.

    Args:
        files: The files of examples.
    """
    footers = _footers(files)
    sizes = [footer.row_group(group).total_byte_size for footer in footers for group in range(footer.num_row_groups)]
    return float(sum(sizes) / max(sum(footer.num_rows for footer in footers), 1))


@dataclass(frozen=True)
class RowGroup:
    """A block of a file that has not been read yet: what a thread or a worker of Beam is handed."""

    file: str
    """Path or URL."""
    number: int

    def num_rows(self, footer: Any) -> int:
        """Return how many rows it has.

        Args:
            footer: of the file.
        """
        return int(footer.row_group(self.number).num_rows)

    def read(self, columns: Sequence[str] | None = None, *, footer: Any = None) -> pa.RecordBatch:
        """Read it.

        Args:
            columns: those to read, and their order; None: all. One that the file does not have is null in every row.
            footer: of the file, where it was read before.

        Returns:
            Its rows.
        """
        with opened(self.file) as source, pq.ParquetFile(source, metadata=footer, pre_buffer=is_url(self.file)) as file:
            names = file.schema_arrow.names
            wanted = names if columns is None else columns
            present = set(names)
            table = file.read_row_group(self.number, [n for n in wanted if n in present], use_threads=False)
            num_rows = file.metadata.row_group(self.number).num_rows
        arrays = [_whole(table.column(name)) if name in present else pa.nulls(num_rows) for name in wanted]
        return pa.RecordBatch.from_arrays(arrays, names=list(wanted))


def row_groups(files: Iterable[str]) -> list[tuple[RowGroup, Any]]:
    """Return the blocks of some files in order, each with the footer of its file.

    Args:
        files: The files of examples.
    """
    names = list(files)
    pairs = zip(names, _footers(names), strict=True)
    return [(RowGroup(file, number), footer) for file, footer in pairs for number in range(footer.num_row_groups)]


def read_blocks(
    files: Iterable[str], columns: Sequence[str] | None = None, *, max_rows: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a split, a block at a time; threads read the next row groups meanwhile.

    Args:
        files: The files of the split.
        columns: those to read, and their order; None: all. One that the files do not have is null in every row.
        max_rows: rows of a block; None: a row group as it is.

    Yields:
        Blocks in the order of the files.
    """
    for block in read_groups(row_groups(files), columns):
        yield from in_parts(block, max_rows)


def read_groups(
    groups: Iterable[tuple[RowGroup, Any]], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read blocks; threads read the next ones meanwhile.

    Args:
        groups: The groups of `row_groups`.
        columns: those to read, and their order; None: all. One that the files do not have is null in every row.

    Returns:
        The blocks, in the order of the groups.
    """
    return read_ahead([functools.partial(group.read, columns, footer=footer) for group, footer in groups])


def read_ahead(reads: Iterable[Callable[[], T]], *, threads: int = _THREADS) -> Iterator[T]:
    """Call functions in threads, each a little before its result is asked for.

    Args:
        reads: the functions.
        threads: The number of threads that call them.

    Yields:
        What they return, in their order.
    """
    coming: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for read in reads:
            coming.append(pool.submit(read))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def first_rows(files: Iterable[str], number: int, columns: Sequence[str] | None = None) -> pa.RecordBatch | None:
    """Read the first rows of a split.

    Args:
        files: The files of the split.
        number: The maximum number of rows; there are fewer if the split has fewer.
        columns: those to read, and their order; None: all.

    Returns:
        The rows; None if there are none, or none are asked for.
    """
    found: list[pa.RecordBatch] = []
    for group, footer in row_groups(files):
        missing = number - sum(block.num_rows for block in found)
        if missing <= 0:
            break
        found.append(group.read(columns, footer=footer).slice(0, missing))
    return together(found)


def together(blocks: Sequence[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Return blocks as one; None if there is no row.

    Args:
        blocks: of one schema.
    """
    table = pa.Table.from_batches(blocks).combine_chunks() if blocks else None
    return table.to_batches()[0] if table is not None and table.num_rows else None


def as_lists(block: pa.RecordBatch) -> pa.RecordBatch:
    """Make lists of one value, null where the cell is missing: the shape in which TFDV takes examples.

    Nothing is copied of a column without missing cells. A column without any value is of Arrow's null type.

    Args:
        block: The block of examples.

    Returns:
        The same rows and columns.
    """
    return pa.RecordBatch.from_arrays([_as_list(array) for array in block.columns], names=block.schema.names)


def to_examples(block: pa.RecordBatch) -> list[bytes]:
    """Serialize rows as tf.Examples. A missing cell is a missing feature; decimal numbers have 32 bits.

    Args:
        block: The block of examples.

    Returns:
        One for each row.
    """
    from tfx_bsl.coders import example_coder  # it imports TensorFlow

    arrays = {name: array for name, array in zip(block.schema.names, block.columns, strict=True) if _has_values(array)}
    narrow = [array.cast(pa.float32()) if pa.types.is_float64(array.type) else array for array in arrays.values()]
    lists = as_lists(pa.RecordBatch.from_arrays(narrow, names=list(arrays)))
    found: list[bytes] = example_coder.RecordBatchToExamplesEncoder().encode(lists)
    return found


def footer_of(file: str) -> Any:
    """Return the footer of a file: its schema, and its row groups.

    Args:
        file: of examples.
    """
    with opened(file) as source:
        return pq.read_metadata(source)


def _footers(files: Iterable[str]) -> list[Any]:
    return list(read_ahead([functools.partial(footer_of, file) for file in files]))


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def in_parts(block: pa.RecordBatch, max_rows: int | None) -> Iterator[pa.RecordBatch]:
    """Cut a block.

    Args:
        block: of examples.
        max_rows: rows of a part; None: all.

    Yields:
        Its rows, nothing copied, in their order.
    """
    if max_rows is None:
        yield block
        return
    for start in range(0, block.num_rows, max_rows):
        yield block.slice(start, max_rows)


def _as_list(array: pa.Array) -> pa.Array:
    if not _has_values(array):
        return pa.nulls(len(array))
    if pa.types.is_list(array.type):
        return array
    if pa.types.is_string(array.type):
        array = array.cast(pa.binary())
    if not array.null_count:
        return pa.ListArray.from_arrays(pa.array(np.arange(len(array) + 1, dtype=np.int32)), array)
    is_null = array.is_null()
    offsets = np.concatenate([[0], np.cumsum(~is_null.to_numpy(zero_copy_only=False))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), array.drop_null(), mask=is_null)


def _has_values(array: pa.Array) -> bool:
    return int(array.null_count) < len(array)

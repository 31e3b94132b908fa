"""A Parquet file: its columns, and its rows as a stream of Arrow's blocks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kubetfx.errors import DataError
from kubetfx.storage import locate


def open_file(path: str, **options: object) -> pq.ParquetFile:
    """Return Arrow's reader of a Parquet file.

    Args:
        path: on this machine or in a bucket.
        options: of `pyarrow.parquet.ParquetFile`.
    """
    place = locate(path)
    return pq.ParquetFile(path if isinstance(place, Path) else place.open_file(), **options)


def schema(path: str) -> pa.Schema:
    """Read the columns of a Parquet file.

    Args:
        path: on this machine or in a bucket.

    Returns:
        Arrow's schema, in which each field of a struct is a column `a.b`.

    Raises:
        DataError: it is not a Parquet file.
    """
    try:
        with open_file(path) as file:
            return flattened(file.schema_arrow.empty_table()).schema
    except pa.ArrowInvalid:
        place = locate(path)
        size = place.stat().st_size if isinstance(place, Path) else place.info().num_bytes
        problem = "is empty: it is not a Parquet file" if size == 0 else "is not a Parquet file"
        raise DataError(f"{path} {problem}.") from None


def stream(path: str, columns: Sequence[str], *, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Read the rows of a Parquet file.

    Args:
        path: on this machine or in a bucket.
        columns: to read.
        batch_rows: rows at a time, at most.

    Yields:
        Batches with these columns.
    """
    with open_file(path) as file:
        for batch in file.iter_batches(batch_size=batch_rows, columns=list(columns)):
            yield from flattened(pa.Table.from_batches([batch])).to_batches()


def flattened(table: pa.Table) -> pa.Table:
    """Make each field of a struct a column of its own, named `a.b`.

    Args:
        table: with structs, or without.

    Returns:
        The table without structs.
    """
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table

"""Files of row groups, whose columns have types: Parquet, Arrow (Feather) and ORC."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from kubetfx.errors import DataError
from kubetfx.storage import locate
from kubetfx.tables.csv_dialect import open_bytes
from kubetfx.tables.files import Format, check_names
from kubetfx.tables.table_file import Block, Cut, Rows, Segment, TableFile, neighbours

BATCH_ROWS = 65_536
BATCH_CELLS = 2**21
"""Rows and cells of a batch of a stream, at most: memory is bounded by them."""
_READ_BYTES = 2**20
"""Bytes of a column of a Parquet file that are read at a time."""


class _RowGroups(ABC):
    """An open file."""

    schema: pa.Schema

    @abstractmethod
    def sizes(self) -> list[int]:
        """Return rows of each row group."""

    @abstractmethod
    def num_bytes(self) -> list[int]:
        """Return about the bytes of each row group, without reading any.

        There is one for the whole file if it has to be read from its beginning.
        """

    @abstractmethod
    def batches(
        self, columns: Sequence[str], *, batch_rows: int, row_groups: Sequence[int] | None
    ) -> Iterator[pa.RecordBatch]:
        """Return the rows of some row groups, or of all; of columns of the schema, and perhaps others."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Parquet(_RowGroups):
    words = "Parquet"

    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(_source(path), buffer_size=_READ_BYTES)
        self.schema = self._file.schema_arrow

    def sizes(self) -> list[int]:
        return [self._file.metadata.row_group(index).num_rows for index in range(self._file.num_row_groups)]

    def num_bytes(self) -> list[int]:
        footer = self._file.metadata
        return [footer.row_group(index).total_byte_size for index in range(footer.num_row_groups)]

    def batches(
        self, columns: Sequence[str], *, batch_rows: int, row_groups: Sequence[int] | None
    ) -> Iterator[pa.RecordBatch]:
        yield from self._file.iter_batches(
            batch_size=batch_rows, row_groups=row_groups, columns=list(columns), use_threads=row_groups is None
        )

    def close(self) -> None:
        self._file.close()


class _Arrow(_RowGroups):
    """Feather is Arrow's file format; what is written for sockets has no table of contents, and is read through."""

    words = "Arrow"

    def __init__(self, path: str) -> None:
        place = locate(path)
        self._source = pa.memory_map(path) if isinstance(place, Path) else place.open_file()
        start = self._source.read(6)
        self._source.seek(0)
        if start.startswith(b"FEA1"):
            raise DataError(
                f"{path} is a Feather file of version 1. Write it again: pandas.read_feather(...).to_feather(...)"
            )
        self._has_contents = start == b"ARROW1"
        with self._reader() as reader:
            self.schema = reader.schema

    def _reader(self, names: Sequence[str] | None = None) -> Any:
        fields = None if names is None else [i for i, field in enumerate(self.schema) if field.name in names]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        self._source.seek(0)
        return (pa.ipc.open_file if self._has_contents else pa.ipc.open_stream)(self._source, options=options)

    def _each(self, names: Sequence[str] | None, row_groups: Sequence[int] | None) -> Iterator[pa.RecordBatch]:
        reader = self._reader(names)
        if not self._has_contents:
            yield from (batch for i, batch in enumerate(reader) if row_groups is None or i in row_groups)
            return
        for index in range(reader.num_record_batches) if row_groups is None else row_groups:
            yield reader.get_batch(index)

    def sizes(self) -> list[int]:
        return [batch.num_rows for batch in self._each(self.schema.names[:1], None)]

    def num_bytes(self) -> list[int]:
        number = self._reader().num_record_batches if self._has_contents else 1
        return [self._source.size() // number] * number if number else []

    def batches(
        self, columns: Sequence[str], *, batch_rows: int, row_groups: Sequence[int] | None
    ) -> Iterator[pa.RecordBatch]:
        for batch in self._each(_roots(self.schema, columns), row_groups):
            yield from pa.Table.from_batches([batch]).to_batches(max_chunksize=batch_rows)

    def close(self) -> None:
        self._source.close()


class _Orc(_RowGroups):
    words = "ORC"

    def __init__(self, path: str) -> None:
        from pyarrow import orc

        self._file = orc.ORCFile(_source(path))
        self.schema = self._file.schema

    def sizes(self) -> list[int]:
        names = self.schema.names[:1]
        return [self._file.read_stripe(i, columns=names).num_rows for i in range(self._file.nstripes)]

    def num_bytes(self) -> list[int]:
        number = self._file.nstripes
        return [self._file.content_length // number] * number if number else []

    def batches(
        self, columns: Sequence[str], *, batch_rows: int, row_groups: Sequence[int] | None
    ) -> Iterator[pa.RecordBatch]:
        for index in range(self._file.nstripes) if row_groups is None else row_groups:
            stripe = self._file.read_stripe(index, columns=_roots(self.schema, columns))
            yield from pa.Table.from_batches([stripe]).to_batches(max_chunksize=batch_rows)

    def close(self) -> None:
        del self._file


_OPENED: Mapping[Format, type[_Parquet | _Arrow | _Orc]] = {"parquet": _Parquet, "arrow": _Arrow, "orc": _Orc}


@dataclass(frozen=True)
class ColumnarTable(TableFile):
    """A file of one of these formats. Each field of a struct is a column `a.b`."""

    path: str
    format: Format
    row_groups: tuple[int, ...] | None = None
    """Numbers of those that its stream has; None: all."""

    def _open(self) -> _Parquet | _Arrow | _Orc:
        opened = _OPENED[self.format]
        try:
            return opened(self.path)
        except pa.ArrowInvalid:
            place = locate(self.path)
            size = place.stat().st_size if isinstance(place, Path) else place.info().num_bytes
            problem = "is empty: it is not" if size == 0 else "is not"
            if self._is_torn():
                raise DataError(
                    f"{self.path} is not a Parquet file that is whole: it begins as one and ends otherwise. Received: "
                    f"{size:,} bytes. Copy or write it again."
                ) from None
            article = "a" if opened.words == "Parquet" else "an"
            raise DataError(
                f"{self.path} {problem} {article} {opened.words} file. Say what it is, data.format: csv for example."
            ) from None

    def _is_torn(self) -> bool:
        """Return whether it begins as a Parquet file, whose table of contents is at the end."""
        if self.format != "parquet":
            return False
        with open_bytes(self.path) as file:
            return file.read(4) == b"PAR1"

    def types(self) -> dict[str, pa.DataType | None]:
        """Return the columns as the file has them."""
        with self._open() as file:
            schema = _flattened(file.schema.empty_table()).schema
        check_names(schema.names, self.path)
        return dict(zip(schema.names, schema.types, strict=True))

    def stream(self, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Read the rows, which have the file's types."""
        batch_rows = min(max(BATCH_CELLS // max(len(types), 1), 1), BATCH_ROWS)
        with self._open() as file:
            yield from _selected(
                file.batches(list(types), batch_rows=batch_rows, row_groups=self.row_groups), list(types)
            )

    def row_group_bytes(self) -> list[int]:
        """Return about the bytes of each row group; a file that has to be read from its beginning has one."""
        with self._open() as file:
            return file.num_bytes()

    def segments(self, *, first_block: int, cut: Cut) -> Iterator[Segment]:
        """Cut the file by its row groups."""
        with self._open() as file:
            sizes = file.sizes()
        number = first_block
        for groups in neighbours(sizes, at_least=cut.block_rows):
            num_rows = sum(sizes[group] for group in groups)
            rows = [min(cut.block_rows, num_rows - start) for start in range(0, num_rows, cut.block_rows)]
            for first in range(0, len(rows), cut.segment_blocks):
                part = rows[first : first + cut.segment_blocks]
                blocks = tuple(Block(number + index, size) for index, size in enumerate(part))
                yield Segment(self, blocks, start=first * cut.block_rows, row_groups=tuple(groups))
                number += len(blocks)

    def read(
        self, segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str]
    ) -> Iterator[tuple[Block, Rows]]:
        """Read blocks by their row groups."""
        sizes = [block.num_rows for block in segment.blocks]
        ends = np.cumsum(sizes).tolist()
        last = max((end for end, block in zip(ends, segment.blocks, strict=True) if block.number in wanted), default=0)
        with self._open() as file:
            batches = file.batches(columns, batch_rows=max(sizes), row_groups=segment.row_groups)
            pieces = _cut(_without_first(_selected(batches, columns), segment.start), sizes)
            for end, block, table in zip(ends, segment.blocks, pieces, strict=False):
                if table.num_rows != block.num_rows:
                    raise segment.changed()
                if block.number in wanted:
                    yield block, Rows(table, np.arange(block.num_rows))
                if end >= last:
                    return


def _source(path: str) -> Any:
    place = locate(path)
    return path if isinstance(place, Path) else place.open_file()


def _roots(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Return the columns of a file that are wanted, or have a field that is."""
    wanted = {*columns, *(column[:end] for column in columns for end, mark in enumerate(column) if mark == ".")}
    return [name for name in schema.names if name in wanted]


def _selected(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield batches with the columns alone, fields of structs among them."""
    for batch in batches:
        yield from _flattened(pa.Table.from_batches([batch])).select(list(columns)).to_batches()


def _flattened(table: pa.Table) -> pa.Table:
    """Return a table in which each field of a struct is a column of its own, named `a.b`."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _without_first(batches: Iterator[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches without the first rows."""
    for batch in batches:
        num_skipped = min(num_rows, batch.num_rows)
        num_rows -= num_skipped
        if num_skipped < batch.num_rows:
            yield batch.slice(num_skipped)


def _cut(batches: Iterator[pa.RecordBatch], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """Yield tables of the given numbers of rows; the last are shorter if the rows don't suffice."""
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

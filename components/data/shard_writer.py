"""Writes examples in shards: one Parquet file per shard and split, with the rows of every split counted.

Whether Beam's workers write them or this process does, files and counts are the same. A worker that imports this needs
neither TFX nor TensorFlow, whose imports take longer than most shards. models/examples.py reads them.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import BlockWork
from kubetfx.models import examples as example_files
from kubetfx.storage import Location, locate, patiently

Counts = dict[str, int]
"""Rows by split."""


def shard_name(number: int, num_shards: int) -> str:
    """Return the name of the file of a shard, in the folder of a split.

    Args:
        number: The number of the shard, from 0.
        num_shards: The number of all shards.
    """
    return f"data-{number:05d}-of-{num_shards:05d}{example_files.SUFFIX}"


class ShardWriter:
    """The files of a shard. They get their final names when everything is written."""

    def __init__(
        self, split_folders: Mapping[str, str], schema: pa.Schema, *, number: int, num_shards: int, compression: str
    ) -> None:
        """Open the files.

        Args:
            split_folders: Paths or URLs of the folders by split.
            schema: The schema of the blocks that will be written.
            number: The number of the shard, from 0.
            num_shards: The number of all shards.
            compression: a codec of Parquet, or "none".
        """
        name = shard_name(number, num_shards)
        self._places = {split: locate(f"{folder}/{name}") for split, folder in split_folders.items()}
        is_elsewhere = not all(isinstance(place, Path) for place in self._places.values())
        self._folder = tempfile.TemporaryDirectory(prefix="kubetfx-shard-") if is_elsewhere else None
        self._asides = {split: self._aside(split, place) for split, place in self._places.items()}
        self._files = {
            split: _SplitFile(aside, schema, compression=compression) for split, aside in self._asides.items()
        }

    def write(self, split: str, block: pa.RecordBatch) -> None:
        """Write rows.

        Args:
            split: The split of the rows.
            block: The rows, in the schema of the files.
        """
        self._files[split].write(block)

    def close(self) -> dict[str, int]:
        """Finish the files, and say how many rows each split has."""
        for split, place in self._places.items():
            self._files[split].close()
            if isinstance(place, Path):
                os.replace(self._asides[split], place)
            else:
                with patiently():
                    place.upload(self._asides[split])
        if self._folder:
            self._folder.cleanup()
        return {split: file.num_rows for split, file in self._files.items()}

    def _aside(self, split: str, place: Location) -> Path:
        """Return the path of a file until it is complete: beside its place; or, for a bucket, on this machine."""
        if isinstance(place, Path):
            return place.with_name(f".{place.name}.partial")
        assert self._folder is not None
        return Path(self._folder.name) / f"{split}{example_files.SUFFIX}"


class _SplitFile:
    """A Parquet file whose row groups have the right size for readers, whatever the sizes of the written blocks."""

    def __init__(self, path: Path, schema: pa.Schema, *, compression: str) -> None:
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        self._writer = pq.ParquetWriter(path, schema, compression=compression, use_dictionary=texts)
        self._group_rows = example_files.block_rows(len(schema))
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self.num_rows = 0

    def write(self, block: pa.RecordBatch) -> None:
        self.num_rows += block.num_rows
        while block.num_rows:
            part = block.slice(0, self._group_rows - self._pending_rows)
            block = block.slice(part.num_rows)
            self._pending.append(part)
            self._pending_rows += part.num_rows
            self._pending_bytes += part.nbytes
            if self._pending_rows == self._group_rows or self._pending_bytes >= example_files.BLOCK_BYTES:
                self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending)
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self._pending = []
            self._pending_rows = self._pending_bytes = 0


@dataclass(frozen=True)
class WriteShards(BlockWork[tuple[int, Any], Counts, Counts, Counts]):
    """Writes numbered shards, each to one file per split; names and order do not depend on the process that writes.

    Rows never become Beam elements, which would cost more than everything else.
    """

    read: Callable[[Any], Iterator[tuple[pa.RecordBatch, Array]]]
    """Takes a shard; yields blocks, and the index of the split of each row."""
    split_folders: Mapping[str, str]
    schema: pa.Schema
    num_shards: int
    compression: str

    def blocks(self, item: tuple[int, Any]) -> Iterator[Counts]:
        """Write a shard.

        Args:
            item: its number, and the shard.

        Yields:
            Rows by split.
        """
        number, shard = item
        writer = ShardWriter(
            self.split_folders, self.schema, number=number, num_shards=self.num_shards, compression=self.compression
        )
        for block, splits in self.read(shard):
            for index, split in enumerate(self.split_folders):
                writer.write(split, block.filter(pa.array(splits == index)))
        yield writer.close()

    def create(self) -> Counts:
        """Return the state of no rows."""
        return dict.fromkeys(self.split_folders, 0)

    def add_block(self, state: Counts, block: Counts) -> Counts:
        """Return rows of both, by split."""
        return {split: state[split] + block[split] for split in state}

    def merge(self, first: Counts, second: Counts) -> Counts:
        """Return rows of both, by split."""
        return self.add_block(first, second)

    def result(self, state: Counts) -> Counts:
        """Return rows by split."""
        return state

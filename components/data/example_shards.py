"""Writing examples in shards: a Parquet file a split for each, and the rows of every split counted.

Whether Beam's workers write them or this process does, files and counts are the same. Reading is models/examples.py's.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import VALIDATION
from kubetfx.components.data import table_profile
from kubetfx.components.data.block_work import BlockWork
from kubetfx.config.data_section import Splits
from kubetfx.errors import DataError
from kubetfx.models import examples as example_files

PAYLOAD_FORMAT = example_gen_pb2.FORMAT_PARQUET
FILE_FORMAT = example_gen_pb2.FILE_FORMAT_PARQUET

MAX_DEVIATIONS = 4
"""By which the share of a split may differ from what was asked for: chance does so once in 16,000 times."""
Counts = dict[str, int]
"""Rows by split."""


class ShardWriter:
    """The files of a shard. They get their names when all is written."""

    def __init__(
        self, split_folders: Mapping[str, str], schema: pa.Schema, *, number: int, num_shards: int, compression: str
    ) -> None:
        """Open them.

        Args:
            split_folders: folder of each split, by its name.
            schema: of the blocks that are going to be written.
            number: of the shard, from 0.
            num_shards: of all.
            compression: a codec of Parquet, or "none".
        """
        name = f"data-{number:05d}-of-{num_shards:05d}{example_files.SUFFIX}"
        self._paths = {split: f"{folder}/{name}" for split, folder in split_folders.items()}
        self._files = {
            split: _SplitFile(_partial(path), schema, compression=compression) for split, path in self._paths.items()
        }

    def write(self, split: str, block: pa.RecordBatch) -> None:
        """Write rows.

        Args:
            split: that they belong to.
            block: the rows, in the schema that the files were opened with.
        """
        self._files[split].write(block)

    def close(self) -> dict[str, int]:
        """Finish the files, and say how many rows each split has."""
        for split, path in self._paths.items():
            self._files[split].close()
            os.replace(_partial(path), path)
        return {split: file.num_rows for split, file in self._files.items()}


class _SplitFile:
    """A Parquet file whose row groups are as large as readers want them, whatever the blocks are that come in."""

    def __init__(self, path: str, schema: pa.Schema, *, compression: str) -> None:
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


def _partial(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.partial"


@dataclass(frozen=True)
class WriteShards(BlockWork[tuple[int, Any], Counts, Counts, Counts]):
    """Writes numbered shards, each to a file per split, whose names and order do not depend on who does it.

    Rows never become elements of Beam, which would cost more than everything else.
    """

    read: Callable[[Any], Iterator[tuple[pa.RecordBatch, np.ndarray]]]
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
        """No rows."""
        return dict.fromkeys(self.split_folders, 0)

    def add_block(self, state: Counts, block: Counts) -> Counts:
        """Rows of both, by split."""
        return {split: state[split] + block[split] for split in state}

    def merge(self, first: Counts, second: Counts) -> Counts:
        """Rows of both, by split."""
        return self.add_block(first, second)

    def result(self, state: Counts) -> Counts:
        """Rows by split."""
        return state


def open_splits(examples: standard_artifacts.Examples, names: Iterable[str]) -> dict[str, str]:
    """Name the splits of an artifact, and make the folder of each.

    Args:
        examples: the artifact.
        names: of the splits, in their order.

    Returns:
        Folders by split.
    """
    splits = list(names)
    examples.split_names = artifact_utils.encode_split_names(splits)
    folders = {name: artifact_utils.get_split_uri([examples], name) for name in splits}
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    return folders


def describe(
    examples: standard_artifacts.Examples,
    counts: Mapping[str, int],
    profile: table_profile.TableProfile,
    *,
    label: str,
) -> None:
    """Leave on an artifact what later nodes and people want to know of it.

    Args:
        examples: the artifact, whose files are written.
        counts: rows by split.
        profile: what was found in the columns.
        label: name of the label's column.
    """
    examples.set_string_custom_property("num_examples", json.dumps(dict(counts)))
    table_profile.write(Path(examples.uri), profile, label=label)
    examples_utils.set_payload_format(examples, PAYLOAD_FORMAT)
    examples_utils.set_file_format(examples, example_gen_pb2.FileFormat.Name(FILE_FORMAT))


def unusual_shares(counts: Mapping[str, int], buckets: Mapping[str, int], *, unit: str) -> tuple[str, ...]:
    """Compare the shares of the splits with what was asked for.

    Args:
        counts: rows by split.
        buckets: what was asked for, as parts of a whole, by split.
        unit: what a row is, in the singular.

    Returns:
        A sentence for each share that differs by more than four standard deviations of a binomial distribution.
    """
    total, whole = sum(counts.values()), sum(buckets.values())
    said = []
    for name, bucket in buckets.items():
        asked, found = bucket / whole, counts[name] / total
        if abs(found - asked) > MAX_DEVIATIONS * math.sqrt(asked * (1 - asked) / total):
            said.append(
                f"The split {name!r} has {counts[name]:,} of {total:,} {unit}s, {found:.1%}, where {asked:.1%} were "
                f"asked for: {unit}s that belong together are in one split."
            )
    return tuple(said)


def check_splits(counts: Mapping[str, int], splits: Splits, *, unit: str) -> None:
    """Whether every split has something in it.

    Args:
        counts: rows by split.
        splits: the rule.
        unit: what a row is, in the singular.

    Raises:
        DataError: one has nothing.
    """
    empty = [name for name, count in counts.items() if not count]
    if empty:
        remedy = f"Give more {unit}s, or a larger fraction of them: data.splits.{empty[0]}"
        if splits.by == "column":
            remedy = f"Let cells of {splits.column!r} name it"
        elif splits.columns:
            remedy = f"{remedy}; or split by a column with more values than {', '.join(splits.columns)}"
        if empty[0] == VALIDATION:
            remedy = f"{remedy}; or do without it: train: 0.75, validation: 0 and eval: 0.25 in data.splits"
        raise DataError(f"The split {empty[0]!r} has no {unit}. Received {unit}s by split: {dict(counts)}. {remedy}")

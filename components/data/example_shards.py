"""Writing examples in shards: a Parquet file a split for each, and the rows of every split counted.

Whoever writes has a DoFn that takes a numbered shard and yields rows by split; whether Beam calls it or this process
does (components/data/beam_mode.py), files and counts are the same. Reading is models/examples.py's.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.data import beam_mode, table_profile
from kubetfx.errors import DataError
from kubetfx.models import examples as example_files

PAYLOAD_FORMAT = example_gen_pb2.FORMAT_PARQUET
FILE_FORMAT = example_gen_pb2.FILE_FORMAT_PARQUET


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
        """Write rows."""
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
        self.num_rows = 0

    def write(self, block: pa.RecordBatch) -> None:
        self.num_rows += block.num_rows
        while block.num_rows:
            room = self._group_rows - sum(pending.num_rows for pending in self._pending)
            self._pending.append(block.slice(0, room))
            block = block.slice(room)
            num_bytes = sum(pending.nbytes for pending in self._pending)
            if sum(p.num_rows for p in self._pending) == self._group_rows or num_bytes >= example_files.BLOCK_BYTES:
                self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending)
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
            self._pending = []


def _partial(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.partial"


def open_splits(examples: standard_artifacts.Examples, names: Iterable[str]) -> dict[str, str]:
    """Name the splits of an artifact, and make the folder of each: folders by split."""
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
    """Leave on an artifact what later nodes and people want to know of it."""
    examples.set_string_custom_property("num_examples", json.dumps(dict(counts)))
    table_profile.write(Path(examples.uri), profile, label=label)
    examples_utils.set_payload_format(examples, PAYLOAD_FORMAT)
    examples_utils.set_file_format(examples, example_gen_pb2.FileFormat.Name(FILE_FORMAT))


def write_shards(
    write: beam.DoFn,
    shards: Sequence[tuple[int, Any]],
    *,
    splits: Iterable[str],
    beam_arguments: Sequence[str],
    make_pipeline: Callable[[], beam.Pipeline],
    scratch: Path,
) -> dict[str, int]:
    """Have all shards written.

    Args:
        write: takes a numbered shard; yields splits and their rows.
        shards: each with its number.
        splits: their names.
        beam_arguments: Beam's command line, as the pipeline has it.
        make_pipeline: a pipeline with these arguments.
        scratch: a folder for a file that is removed again.

    Returns:
        Rows by split.
    """
    total = dict.fromkeys(splits, 0)
    if beam_mode.is_in_process(beam_arguments):
        for shard in shards:
            for split, count in write.process(shard):
                total[split] += count
        return total
    counts_path = scratch / "num_examples"
    with make_pipeline() as pipeline:
        (
            pipeline
            | "Shards" >> beam.Create(list(shards), reshuffle=len(shards) > 1)
            | "Write" >> beam.ParDo(write)
            | "Count" >> beam.CombinePerKey(sum)
            | "Format" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(str(counts_path), shard_name_template="")
        )
    total |= dict(json.loads(line) for line in counts_path.read_text(encoding="utf-8").splitlines())
    counts_path.unlink()
    return total


def check_splits(counts: Mapping[str, int], *, unit: str) -> None:
    """Whether every split has something in it.

    Args:
        counts: rows by split.
        unit: what a row is, in the singular.

    Raises:
        DataError: one has nothing.
    """
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise DataError(
            f"The split {empty[0]!r} has no {unit}. Received {unit}s by split: {dict(counts)}. Give more {unit}s, or a "
            f"larger fraction of them: data.splits.{empty[0]}"
        )

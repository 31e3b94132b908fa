"""Writing tf.Examples in shards: a TFRecord file a split for each, and the rows of every split counted.

Whoever writes has a DoFn that takes a numbered shard and yields rows by split; whether Beam calls it or this process
does (components/data/beam_mode.py), files and counts are the same.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs

from kubetfx.components.data import beam_mode, table_profile
from kubetfx.errors import DataError


class ShardWriter:
    """The files of a shard. They get their names when all is written."""

    def __init__(
        self, split_folders: Mapping[str, str], *, number: int, num_shards: int, compression_level: int
    ) -> None:
        """Open them.

        Args:
            split_folders: folder of each split, by its name.
            number: of the shard, from 0.
            num_shards: of all.
            compression_level: of GZIP: 0 stores, 9 takes longest.
        """
        name = f"data_tfrecord-{number:05d}-of-{num_shards:05d}.gz"
        options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=compression_level)
        self._paths = {split: f"{folder}/{name}" for split, folder in split_folders.items()}
        self._writers = {split: tf.io.TFRecordWriter(f"{path}.partial", options) for split, path in self._paths.items()}
        self._counts = dict.fromkeys(split_folders, 0)

    def write(self, split: str, record: bytes) -> None:
        """Write a serialized tf.Example."""
        self._writers[split].write(record)
        self._counts[split] += 1

    def close(self) -> dict[str, int]:
        """Finish the files, and say how many rows each split has."""
        for split, path in self._paths.items():
            self._writers[split].close()
            tf.io.gfile.rename(f"{path}.partial", path, overwrite=True)
        return self._counts


def open_splits(examples: standard_artifacts.Examples, names: Iterable[str]) -> dict[str, str]:
    """Name the splits of an artifact, and make the folder of each: folders by split."""
    splits = list(names)
    examples.split_names = artifact_utils.encode_split_names(splits)
    folders = {name: artifact_utils.get_split_uri([examples], name) for name in splits}
    for folder in folders.values():
        tf.io.gfile.makedirs(folder)
    return folders


def describe(
    examples: standard_artifacts.Examples,
    counts: Mapping[str, int],
    profile: table_profile.TableProfile,
    *,
    label: str,
    exec_properties: Mapping[str, Any],
) -> None:
    """Leave on an artifact what later nodes and people want to know of it."""
    examples.set_string_custom_property("num_examples", json.dumps(dict(counts)))
    table_profile.write(Path(examples.uri), profile, label=label)
    examples_utils.set_payload_format(examples, exec_properties[standard_component_specs.OUTPUT_DATA_FORMAT_KEY])
    examples_utils.set_file_format(examples, "tfrecords_gzip")


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

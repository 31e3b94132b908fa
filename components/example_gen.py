"""ExampleGen for CSV and Parquet: columns through Arrow into Parquet, block by block, a file a split.

Spans, versions, fingerprints and the hash buckets of splits are those of TFX's FileBasedExampleGen. Reading and
checking the table is components/data/tables.py's.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging
from google.protobuf import any_pb2, json_format, wrappers_pb2
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.components.example_gen.utils import generate_output_split_names
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from kubetfx.components.data import beam_mode, picture_columns, table_profile, tables, tfx_filesystem
from kubetfx.components.data.example_shards import (
    FILE_FORMAT,
    PAYLOAD_FORMAT,
    ShardWriter,
    check_splits,
    describe,
    open_splits,
    write_shards,
)
from kubetfx.config.data_section import DataConfig, Splits
from kubetfx.storage import is_url

if TYPE_CHECKING:
    from kubetfx.components.data.image_reading import Pictures

_Item = TypeVar("_Item")

IMAGE_COLUMNS = "image_columns"
"""Key of `features.image` beside those of the section `data` in the component's custom config."""
BUCKETS = 1_000
"""A split of fraction 0.7 is 700 of so many hash buckets."""
COMPRESSION = "snappy"


def splits_of(keys: pa.Array, buckets: Sequence[int]) -> np.ndarray:
    """Index of the split that each row belongs to.

    The rule of TFX's ExampleGen: SHA-256 of the row, as a number, modulo the number of buckets.

    Args:
        keys: the rows' contents, from row_keys.
        buckets: cumulated numbers of buckets of the splits, in order; fewer than 2^32 in all.

    Returns:
        (rows,) int64.
    """
    sha256 = hashlib.sha256
    digests = b"".join([sha256(key).digest() for key in keys.cast(pa.binary()).to_pylist()])
    words = np.frombuffer(digests, ">u4").reshape(-1, 8).astype(np.uint64)
    remainder = np.zeros(len(words), np.uint64)
    for word in words.T:  # long division: 32 bits at a time
        remainder = ((remainder << np.uint64(32)) | word) % np.uint64(buckets[-1])
    return np.searchsorted(np.asarray(buckets), remainder.astype(np.int64), side="right")


def row_keys(block: pa.RecordBatch) -> pa.Array:
    """The content of each row as one text, whatever the order of the columns.

    TFX takes the serialized tf.Example for this, whose features are in an order that changes from process to process.
    Decimal numbers count with 32 bits: their splits are those of the time when examples had no more.
    """
    columns = [block.column(name) for name in sorted(block.schema.names)]
    narrow = [c.cast(pa.float32()) if pa.types.is_float64(c.type) else c for c in columns]
    texts = [column.cast(pa.string()) for column in narrow]
    return pc.binary_join_element_wise(*texts, "\x1f", null_handling="replace", null_replacement="\x00")


@beam.typehints.with_input_types(tuple[int, str])
@beam.typehints.with_output_types(tuple[str, int])
class _WriteExamples(beam.DoFn):
    """Reads one file of the table and writes its rows to one Parquet file a split; yields rows by split.

    A row never becomes a Beam element of its own, which would cost more than everything else. The output is named
    after the number of the input file, so neither names nor order depend on how Beam spreads the work.
    """

    def __init__(
        self,
        columns: Sequence[table_profile.Column],
        *,
        files: tables.TableFiles,
        data: DataConfig,
        split_folders: dict[str, str],
        buckets: Sequence[int],
        pictures: "Pictures | None" = None,
    ) -> None:
        self._columns = columns
        self._files = files
        self._data = data
        self._split_folders = split_folders
        self._buckets = buckets
        self._pictures = pictures

    def process(self, numbered_file: tuple[int, str]) -> Iterator[tuple[str, int]]:
        number, path = numbered_file
        types = {c.name: pa.binary() if c.picture_reason else tables.ARROW_TYPES[c.type] for c in self._columns}
        schema = pa.schema(list(types.items()))
        writer = ShardWriter(
            self._split_folders, schema, number=number, num_shards=len(self._files.paths), compression=COMPRESSION
        )
        for block, keys in _one_ahead(self._keyed_blocks(path)):
            rows_in = splits_of(keys, self._buckets)
            for index, split in enumerate(self._split_folders):
                writer.write(split, block.filter(pa.array(rows_in == index)))
        yield from writer.close().items()

    def _keyed_blocks(self, path: str) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        for block in tables.read_blocks(path, self._columns, file_format=self._files.format, data=self._data):
            labelled = block.filter(block.column(self._data.label).is_valid())
            whole, keyed = self._with_pictures(labelled, path)
            yield whole, row_keys(keyed)

    def _with_pictures(self, block: pa.RecordBatch, path: str) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The rows whose picture can be used: with its bytes, and as they are in the table."""
        column = next((column for column in self._columns if column.picture_reason), None)
        if column is None or self._pictures is None:
            return block, block
        contents = self._pictures.read(block.column(column.name), table=path)
        usable = contents.is_valid()
        kept = block.filter(usable)
        return kept.set_column(kept.schema.names.index(column.name), column.name, contents.filter(usable)), kept


def _one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, of which a thread makes the next one meanwhile: reading lets go of the interpreter, and so does
    writing."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the table as examples, a folder a split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component; the exec properties are those of TFX's FileBasedExampleGen.

        Raises:
            DataError: the table cannot be read, or a split would be empty.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        data = unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        input_config = example_gen_pb2.Input()
        output_config = example_gen_pb2.Output()
        json_format.Parse(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], input_config)
        json_format.Parse(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], output_config)

        base = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        pattern = input_config.splits[0].pattern
        path = base if data.source else os.path.join(base, pattern)
        files = tables.find_files(data.model_copy(update={"path": path}))
        named = image_columns_of(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        profile = picture_columns.with_pictures(tables.inspect_table(files, data), files, data, named=named)
        tables.check_label(profile, data)
        pictures = None
        if (column := picture_columns.picture_column(profile)) is not None:
            from kubetfx.components.data import image_reading  # it imports TensorFlow

            pictures = image_reading.pictures_of(column, files, data, num_rows=profile.num_rows)

        names = generate_output_split_names(input_config, output_config)
        folders = open_splits(examples, names)
        buckets = np.cumsum([split.hash_buckets for split in output_config.split_config.splits]).tolist()
        write = _WriteExamples(
            profile.columns, files=files, data=data, split_folders=folders, buckets=buckets, pictures=pictures
        )
        if not beam_mode.is_in_process(self._beam_pipeline_args):
            beam_mode.prepare_workers(self._beam_pipeline_args)
        counts = write_shards(
            write,
            list(enumerate(files.paths)),
            splits=names,
            beam_arguments=self._beam_pipeline_args,
            make_pipeline=self._make_beam_pipeline,
            scratch=Path(examples.uri),
        )
        logging.info("Rows by split: %s", counts)
        describe(examples, counts, profile, label=data.label)
        check_splits(counts, unit="row")


def _pack(data: DataConfig, image_columns: Sequence[str]) -> example_gen_pb2.CustomConfig:
    packed = any_pb2.Any()
    document = data.model_dump(mode="json", exclude={"splits", "schema_file", "path", "statistics_rows"})
    images = {IMAGE_COLUMNS: list(image_columns)} if image_columns else {}
    packed.Pack(wrappers_pb2.StringValue(value=json.dumps(document | images)))
    return example_gen_pb2.CustomConfig(custom_config=packed)


def unpack(custom_config_json: str) -> DataConfig:
    """The `data` section that a component was made with, but for its path, splits and schema file."""
    document = _unpacked(custom_config_json)
    document.pop(IMAGE_COLUMNS, None)
    return DataConfig.model_validate({"path": "", **document})


def image_columns_of(custom_config_json: str) -> tuple[str, ...]:
    """`features.image` that a component was made with."""
    return tuple(_unpacked(custom_config_json).get(IMAGE_COLUMNS, ()))


def _unpacked(custom_config_json: str) -> dict[str, Any]:
    value = wrappers_pb2.StringValue()
    json_format.Parse(custom_config_json, example_gen_pb2.CustomConfig()).custom_config.Unpack(value)
    document: dict[str, Any] = json.loads(value.value)
    return document


class Driver(driver.FileBasedDriver):
    """TFX's driver, told by `data.path` alone which files there are.

    The path is looked at where the node runs: what a pipeline is put together on may not see the data.
    """

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Set base, pattern, span, version and fingerprint.

        Raises:
            DataError: the path matches no file.
        """
        tfx_filesystem.register()  # TFX looks for the files too, and takes their sizes and times for a fingerprint
        data = unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        path = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        files = tables.find_files(data.model_copy(update={"path": path}))
        resolved = {
            **exec_properties,
            standard_component_specs.INPUT_BASE_KEY: files.base,
            standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(_input_config(files.pattern)),
        }
        found: dict[str, Any] = super().resolve_exec_properties(resolved, pipeline_info, component_info)
        pictures = _fingerprint_of_pictures(
            files, data, named=image_columns_of(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        )
        return {**found, utils.FINGERPRINT_PROPERTY_NAME: found[utils.FINGERPRINT_PROPERTY_NAME] + pictures}


def _fingerprint_of_pictures(files: tables.TableFiles, data: DataConfig, *, named: Sequence[str]) -> str:
    """Empty for a table without pictures. What lies in a bucket has none, and is not scanned for it."""
    if any(is_url(path) for path in files.paths):
        return ""
    profile = picture_columns.with_pictures(tables.inspect_table(files, data), files, data, named=named)
    column = picture_columns.picture_column(profile)
    return f",pictures:{picture_columns.fingerprint(column, files, data)}" if column else ""


class TableExampleGen(FileBasedExampleGen):
    """TFX's FileBasedExampleGen over a table in CSV or Parquet files; `input_base` is the table's path."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, data: DataConfig, *, image_columns: Sequence[str] = ()) -> None:
        """Make the component.

        Args:
            data: the section of the config.
            image_columns: `features.image`.
        """
        super().__init__(
            input_base=data.path,
            input_config=_input_config("*"),
            output_config=_output_config(data.splits),
            custom_config=_pack(data, image_columns),
            output_data_format=PAYLOAD_FORMAT,
            output_file_format=FILE_FORMAT,
        )


def _input_config(pattern: str) -> example_gen_pb2.Input:
    return example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name="all", pattern=pattern)])


def _output_config(splits: Splits) -> example_gen_pb2.Output:
    fractions = {name: fraction for name, fraction in splits.model_dump().items() if fraction}
    return example_gen_pb2.Output(
        split_config=example_gen_pb2.SplitConfig(
            splits=[
                example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=round(fraction * BUCKETS))
                for name, fraction in fractions.items()
            ]
        )
    )

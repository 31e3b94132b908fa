"""ExampleGen: rows from a reader into Parquet, block by block, a file per shard and split.

Properties and artifact are those of TFX's FileBasedExampleGen. What is read, and which split a row belongs to, is a
reader's to say: components/data/table_reader.py, or image_folder.py.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import any_pb2, json_format, wrappers_pb2
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from kubetfx.components.data import block_work, image_notes, tfx_filesystem
from kubetfx.components.data.example_reader import ExampleReader
from kubetfx.components.data.example_shards import (
    FILE_FORMAT,
    PAYLOAD_FORMAT,
    WriteShards,
    check_splits,
    describe,
    open_splits,
)
from kubetfx.components.data.image_folder import ImageFolderReader
from kubetfx.components.data.table_reader import TableReader
from kubetfx.config.data_section import DataConfig, Splits

BUCKETS = 1_000
"""A split of fraction 0.7 is 700 of so many hash buckets."""
_IMAGE_COLUMNS = "image_columns"
"""Key of `features.image` beside those of the section `data` in the component's custom config."""


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the rows of the data as examples, a folder per split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component.

        Args:
            input_dict: empty.
            output_dict: `examples`.
            exec_properties: those of TFX's FileBasedExampleGen, as the driver resolved them.

        Raises:
            DataError: the data cannot be read, changed meanwhile, or would leave a split empty.
            AnomaliesError: more of the images are broken than `data.max_broken_fraction` allows.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        folder = Path(examples.uri)
        input_config, output_config = example_gen_pb2.Input(), example_gen_pb2.Output()
        json_format.Parse(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], input_config)
        json_format.Parse(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], output_config)
        buckets = {split.name: split.hash_buckets for split in output_config.split_config.splits}
        reader, data = _reader_of(exec_properties, pattern=input_config.splits[0].pattern)

        run = functools.partial(block_work.run, executor=self, folder=folder)
        source = reader.open(buckets, run)
        folders = open_splits(examples, buckets)
        write = WriteShards(source.read, folders, source.schema, len(source.shards), reader.compression)
        counts = run(write, list(enumerate(source.shards)))
        logging.info("%ss by split: %s", reader.unit.capitalize(), counts)
        check_splits(counts, unit=reader.unit)
        if source.report is not None:
            image_notes.write(folder, source.report)
        describe(examples, counts, source.profile, label=data.label)


class Driver(driver.FileBasedDriver):
    """TFX's driver, told by `data.path` alone which files there are.

    The path is looked at where the node runs: what a pipeline is put together on may not see the data.
    """

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Set base, pattern, span, version and fingerprint.

        Args:
            exec_properties: of the component.
            pipeline_info: not used.
            component_info: not used.

        Returns:
            The properties, completed.

        Raises:
            DataError: the path matches no file.
        """
        reader, _ = _reader_of(exec_properties)
        if (files := reader.files()) is None:
            known = {utils.SPAN_PROPERTY_NAME: 0, utils.VERSION_PROPERTY_NAME: None}
            return {**exec_properties, **known, utils.FINGERPRINT_PROPERTY_NAME: reader.fingerprint()}
        tfx_filesystem.register()  # TFX looks for the files too, and takes their sizes and times for a fingerprint
        base, pattern = files
        resolved = {
            **exec_properties,
            standard_component_specs.INPUT_BASE_KEY: base,
            standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(_input_config(pattern)),
        }
        found: dict[str, Any] = super().resolve_exec_properties(resolved, pipeline_info, component_info)
        found[utils.FINGERPRINT_PROPERTY_NAME] += reader.fingerprint()
        return found


class ExampleGen(FileBasedExampleGen):
    """TFX's FileBasedExampleGen over a table, or over images; `input_base` is where they are."""

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


def _reader_of(exec_properties: dict[str, Any], *, pattern: str = "") -> tuple[ExampleReader, DataConfig]:
    """The reader of a component, and the section `data`, without splits and schema file.

    Args:
        exec_properties: of the component.
        pattern: of the files of a table, once the driver has resolved it.
    """
    data, image_columns = _unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
    data = data.model_copy(update={"path": exec_properties[standard_component_specs.INPUT_BASE_KEY]})
    if data.format == "images":
        return ImageFolderReader(data), data
    if pattern and not data.source:
        data = data.model_copy(update={"path": os.path.join(data.path, pattern)})
    return TableReader(data, image_columns), data


def _pack(data: DataConfig, image_columns: Sequence[str]) -> example_gen_pb2.CustomConfig:
    packed = any_pb2.Any()
    document = data.model_dump(mode="json", exclude={"splits", "schema_file", "path", "statistics_rows"})
    images = {_IMAGE_COLUMNS: list(image_columns)} if image_columns else {}
    packed.Pack(wrappers_pb2.StringValue(value=json.dumps(document | images)))
    return example_gen_pb2.CustomConfig(custom_config=packed)


def _unpack(custom_config_json: str) -> tuple[DataConfig, tuple[str, ...]]:
    """What `_pack` packed: the section `data`, and `features.image`."""
    value = wrappers_pb2.StringValue()
    json_format.Parse(custom_config_json, example_gen_pb2.CustomConfig()).custom_config.Unpack(value)
    document = json.loads(value.value)
    image_columns = tuple(document.pop(_IMAGE_COLUMNS, ()))
    return DataConfig.model_validate({"path": "", **document}), image_columns


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

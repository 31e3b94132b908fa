"""ExampleGen: writes rows from a reader into Parquet, block by block, one file per shard and split.

Properties and artifact are those of TFX's FileBasedExampleGen. A reader decides what is read, and the split of each
row: components/data/table_reader.py, or image_folder.py.
"""

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import any_pb2, json_format, wrappers_pb2
from tfx.components.example_gen import utils
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs

from kubetfx.components.data import block_work, image_notes
from kubetfx.components.data.data_origin import data_origin
from kubetfx.components.data.example_reader import ALL
from kubetfx.components.data.example_shards import (
    FILE_FORMAT,
    PAYLOAD_FORMAT,
    check_splits,
    describe,
    open_splits,
    unusual_shares,
)
from kubetfx.components.data.shard_writer import WriteShards
from kubetfx.components.data.span_store import SpanStore
from kubetfx.components.declaration import Artifacts
from kubetfx.components.example_driver import FEATURES, Driver, input_config, reader_of
from kubetfx.config.data_section import DataConfig, FeaturesConfig, Splits
from kubetfx.provenance import write_origin

BUCKETS = 1_000
"""Number of hash buckets; a split of fraction 0.7 has 700 of them."""


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the rows of the data as examples, one folder per split."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
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
        inputs, output_config = example_gen_pb2.Input(), example_gen_pb2.Output()
        json_format.Parse(exec_properties[standard_component_specs.INPUT_CONFIG_KEY], inputs)
        json_format.Parse(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], output_config)
        buckets = {split.name: split.hash_buckets for split in output_config.split_config.splits}
        patterns = {split.name: split.pattern for split in inputs.splits}
        store = SpanStore.beside(examples.uri)
        reader, data = reader_of(exec_properties, patterns=patterns, store=store)

        run = functools.partial(block_work.run, executor=self, folder=folder)
        source = reader.open(buckets, run)
        folders = open_splits(examples, buckets)
        write = WriteShards(source.read, folders, source.schema, len(source.shards), reader.compression)
        if source.spans:
            counts = source.spans.write(write, source.shards, run)
            source.spans.describe(folder)
        else:
            counts = run(write, list(enumerate(source.shards)))
        logging.info("%ss by split: %s", reader.unit.capitalize(), counts)
        check_splits(counts, data.splits, unit=reader.unit)
        if source.report is not None:
            image_notes.write(folder, source.report)
        profile = source.profile
        if data.splits.by not in ("column", "span") and not data.splits.files:
            profile = replace(profile, split_notes=unusual_shares(counts, buckets, unit=reader.unit))
            for note in profile.split_notes:
                logging.warning("%s", note)
        describe(examples, counts, profile, label=data.label)
        fingerprint = exec_properties.get(utils.FINGERPRINT_PROPERTY_NAME)
        origin = data_origin(data.path, reader.table_files(), counts, fingerprint=fingerprint, store=store)
        write_origin(folder, origin)


class ExampleGen(FileBasedExampleGen):
    """TFX's FileBasedExampleGen over a table, or over images; `input_base` is where they are."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, data: DataConfig, *, features: FeaturesConfig | None = None) -> None:
        """Make the component.

        Args:
            data: the section of the config.
            features: the section of the config, of which the columns count that it names.
        """
        super().__init__(
            input_base=data.path,
            input_config=input_config({ALL: "*"}),
            output_config=_output_config(data.splits),
            custom_config=_pack(data, features or FeaturesConfig()),
            output_data_format=PAYLOAD_FORMAT,
            output_file_format=FILE_FORMAT,
        )


def _pack(data: DataConfig, features: FeaturesConfig) -> example_gen_pb2.CustomConfig:
    packed = any_pb2.Any()
    document = data.model_dump(mode="json", exclude={"schema_file", "path", "statistics_rows"})
    roles = features.by_role
    if (
        not data.splits.keeps_copies_together
    ):  # then they do not decide about the rows, and after an edit nothing is read again
        roles = {"image": roles["image"]}
    named = {key: list(names) for key, names in roles.items() if names}
    packed.Pack(wrappers_pb2.StringValue(value=json.dumps(document | ({FEATURES: named} if named else {}))))
    return example_gen_pb2.CustomConfig(custom_config=packed)


def _output_config(splits: Splits) -> example_gen_pb2.Output:
    return example_gen_pb2.Output(
        split_config=example_gen_pb2.SplitConfig(
            splits=[
                example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=round(fraction * BUCKETS))
                for name, fraction in splits.fractions.items()
            ]
        )
    )

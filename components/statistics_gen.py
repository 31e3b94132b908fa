"""StatisticsGen: TFDV's generators over blocks of columns, in this process; elsewhere TFX's own executor.

The columns are those of the profile that the ExampleGen left: the encoded bytes of images are none of them.

Top values and numbers of distinct values come from TFDV's sketches, which are exact up to 16,384 distinct values of a
column. Above `max_rows` a sample of the rows is looked at.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow as tf
from absl import logging
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from kubetfx.components.data import beam_mode, examples, histograms, table_profile

SAMPLE_SEED = 0


def sample_rate(num_rows: int, *, max_rows: int | None) -> float:
    """Share of the rows of a table that statistics look at."""
    return 1.0 if max_rows is None or num_rows <= max_rows else max_rows / num_rows


def statistics_of(blocks: Iterator[pa.RecordBatch]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """TFDV's statistics of a split."""
    generators = stats_impl.get_generators(stats_options.StatsOptions(), in_memory=True)
    accumulators = [generator.create_accumulator() for generator in generators]
    for block in blocks:
        pairs = zip(generators, accumulators, strict=True)
        accumulators = [generator.add_input(accumulator, block) for generator, accumulator in pairs]
    with histograms.on_arrays():
        return stats_impl.extract_statistics_output(accumulators, generators)


class Executor(tfx_executor.Executor):
    """Writes the statistics of each split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component."""
        examples_artifact = artifact_utils.get_single_instance(input_dict[standard_component_specs.EXAMPLES_KEY])
        statistics = artifact_utils.get_single_instance(output_dict[standard_component_specs.STATISTICS_KEY])
        splits = artifact_utils.decode_split_names(examples_artifact.split_names)
        profile = table_profile.read(Path(examples_artifact.uri))
        rate = sample_rate(profile.num_rows, max_rows=exec_properties.get("max_rows"))
        rates = json_utils.dumps(dict.fromkeys(splits, rate))
        if not beam_mode.is_in_process(self._beam_pipeline_args):
            beam_mode.choose_running_mode(self, num_rows=profile.num_rows)
            options = stats_options.StatsOptions(feature_allowlist=profile.described)
            properties = {
                **exec_properties,
                standard_component_specs.SAMPLE_RATE_BY_SPLIT_KEY: rates,
                standard_component_specs.STATS_OPTIONS_JSON_KEY: options.to_json(),
            }
            super().Do(input_dict, output_dict, properties)
            return
        self._log_startup(input_dict, output_dict, exec_properties)
        statistics.split_names = artifact_utils.encode_split_names(splits)
        statistics.span = examples_artifact.span
        statistics.set_json_value_custom_property(tfx_executor.SAMPLE_RATE_BY_SPLIT_PROPERTY_NAME, rates)
        for split in splits:
            files = tf.io.gfile.glob(f"{artifact_utils.get_split_uri([examples_artifact], split)}/*")
            blocks = _sampled(
                examples.read_blocks(files, [profile.column(name) for name in profile.described]), rate=rate
            )
            folder = Path(artifact_utils.get_split_uri([statistics], split))
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / tfx_executor.DEFAULT_FILE_NAME
            path.write_bytes(statistics_of(blocks).SerializeToString(deterministic=True))
            logging.info("Statistics for split %s written to %s.", split, folder)


def _sampled(blocks: Iterator[pa.RecordBatch], *, rate: float) -> Iterator[pa.RecordBatch]:
    if rate == 1:
        yield from blocks
        return
    generator = random.Random(SAMPLE_SEED)
    for block in blocks:
        chosen = [index for index in range(block.num_rows) if generator.random() < rate]
        if chosen:
            yield block.take(pa.array(chosen))


class StatisticsGenSpec(component_spec.ComponentSpec):
    """Channels and properties of StatisticsGen."""

    PARAMETERS = {"max_rows": component_spec.ExecutionParameter(type=int, optional=True)}
    INPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics)}


class StatisticsGen(base_beam_component.BaseBeamComponent):
    """Statistics of each split of the examples of TableExampleGen or ImageExampleGen."""

    SPEC_CLASS = StatisticsGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, examples: types.BaseChannel, *, max_rows: int | None = None) -> None:
        super().__init__(
            StatisticsGenSpec(
                examples=examples,
                max_rows=max_rows,
                statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
            )
        )

"""StatisticsGen: TFDV's generators over blocks of columns, in this process or on the workers of Beam.

The columns are those of the profile that the ExampleGen left: the encoded bytes of images are none of them.

Top values and numbers of distinct values come from TFDV's sketches, which are exact up to 16,384 distinct values of a
column. Above `max_rows` a sample of the rows is looked at.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from kubetfx.components.data import beam_mode, histograms, table_profile
from kubetfx.models.examples import RowGroup, as_lists, files_in, read_ahead, row_groups

SAMPLE_SEED = 0


def sample_rate(num_rows: int, *, max_rows: int | None) -> float:
    """Share of the rows of a table that statistics look at."""
    return 1.0 if max_rows is None or num_rows <= max_rows else max_rows / num_rows


class StatisticsCombiner(beam.CombineFn):
    """TFDV's statistics as work on blocks: by a loop here, or on the workers of Beam."""

    def __init__(self) -> None:
        self._generators = stats_impl.get_generators(stats_options.StatsOptions(), in_memory=True)

    def create_accumulator(self) -> list[Any]:
        """One for each of TFDV's generators."""
        return [generator.create_accumulator() for generator in self._generators]

    def add_input(self, accumulator: list[Any], block: pa.RecordBatch) -> list[Any]:
        """Look at a block whose columns are lists."""
        pairs = zip(self._generators, accumulator, strict=True)
        return [generator.add_input(part, block) for generator, part in pairs]

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        """What was found in several parts of the rows."""
        parts = zip(*accumulators, strict=True)
        return [generator.merge_accumulators(part) for generator, part in zip(self._generators, parts, strict=True)]

    def extract_output(self, accumulator: list[Any]) -> statistics_pb2.DatasetFeatureStatisticsList:
        """The statistics."""
        with histograms.on_arrays():
            return stats_impl.extract_statistics_output(accumulator, self._generators)


def statistics_of(blocks: Iterable[pa.RecordBatch]) -> statistics_pb2.DatasetFeatureStatisticsList:
    """TFDV's statistics of a split."""
    combiner = StatisticsCombiner()
    accumulator = combiner.create_accumulator()
    for block in blocks:
        accumulator = combiner.add_input(accumulator, block)
    return combiner.extract_output(accumulator)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the statistics of each split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component."""
        self._log_startup(input_dict, output_dict, exec_properties)
        examples_artifact = artifact_utils.get_single_instance(input_dict[standard_component_specs.EXAMPLES_KEY])
        statistics = artifact_utils.get_single_instance(output_dict[standard_component_specs.STATISTICS_KEY])
        splits = artifact_utils.decode_split_names(examples_artifact.split_names)
        profile = table_profile.read(Path(examples_artifact.uri))
        rate = sample_rate(profile.num_rows, max_rows=exec_properties.get("max_rows"))
        statistics.split_names = artifact_utils.encode_split_names(splits)
        statistics.span = examples_artifact.span
        rates = json_utils.dumps(dict.fromkeys(splits, rate))
        statistics.set_json_value_custom_property(tfx_executor.SAMPLE_RATE_BY_SPLIT_PROPERTY_NAME, rates)
        read = _ReadBlocks(profile.described, rate)
        work = {}
        for split in splits:
            groups = row_groups(files_in(artifact_utils.get_split_uri([examples_artifact], split)))
            folder = Path(artifact_utils.get_split_uri([statistics], split))
            folder.mkdir(parents=True, exist_ok=True)
            work[folder / tfx_executor.DEFAULT_FILE_NAME] = list(enumerate(group for group, _ in groups))
        if beam_mode.is_in_process(self._beam_pipeline_args):
            for path, numbered in work.items():
                blocks = read_ahead([functools.partial(read.read, one) for one in numbered])
                path.write_bytes(_serialized(statistics_of(block for block in blocks if block.num_rows)))
        else:
            beam_mode.choose_running_mode(self, num_rows=profile.num_rows)
            self._run_on_beam(work, read)

    def _run_on_beam(self, work: Mapping[Path, Sequence[tuple[int, RowGroup]]], read: "_ReadBlocks") -> None:
        with self._make_beam_pipeline() as pipeline:
            for path, numbered in work.items():
                name = path.parent.name
                (
                    pipeline
                    | f"Groups {name}" >> beam.Create(numbered, reshuffle=len(numbered) > 1)
                    | f"Read {name}" >> beam.ParDo(read)
                    | f"Combine {name}" >> beam.CombineGlobally(StatisticsCombiner())
                    | f"Write {name}" >> beam.Map(_write, str(path))
                )


def _serialized(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> bytes:
    serialized: bytes = statistics.SerializeToString(deterministic=True)
    return serialized


def _write(statistics: statistics_pb2.DatasetFeatureStatisticsList, path: str) -> None:
    Path(path).write_bytes(_serialized(statistics))


class _ReadBlocks(beam.DoFn):
    """Reads row groups of the examples for TFDV: all of their rows, or a sample."""

    def __init__(self, columns: Sequence[str], rate: float) -> None:
        self._columns = columns
        self._rate = rate

    def process(self, numbered: tuple[int, RowGroup]) -> Iterator[pa.RecordBatch]:
        block = self.read(numbered)
        if block.num_rows:
            yield block

    def read(self, numbered: tuple[int, RowGroup]) -> pa.RecordBatch:
        """The rows of a row group, or those that its own random numbers choose: the same wherever it is read."""
        number, group = numbered
        block = group.read(self._columns)
        if self._rate < 1:
            chosen = np.random.default_rng([SAMPLE_SEED, number]).random(block.num_rows) < self._rate
            block = block.filter(pa.array(chosen))
        return as_lists(block)


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

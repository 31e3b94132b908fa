"""StatisticsGen: TFDV's generators over blocks of columns.

The columns are those of ExampleGen's profile, without the encoded bytes of images.

Top values and numbers of distinct values come from TFDV's sketches, which are exact up to 16,384 distinct values of a
column. For tables above `max_rows` a sample of the rows is used.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.utils import json_utils

from kubetfx.artifacts import TIMES
from kubetfx.components.data import block_work, table_profile, tfx_patches
from kubetfx.components.data.beam_mode import MAX_THREADS
from kubetfx.components.data.block_work import BlockWork
from kubetfx.components.data.example_parts import Part, parts_of
from kubetfx.components.data.span_work import run_by_span
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.models.examples import as_lists, block_rows
from kubetfx.models.row_weights import weights_of
from kubetfx.tables import date_formats, spelled_dates
from kubetfx.tables.as_text import lists_of

SAMPLE_SEED = 0
THREADED_ROWS = 2**14
"""Rows of a block below which TFDV's Python takes longer than what it calls: then threads wait for each other."""
ODD_CELLS = "odd_cells"
"""Name of what statistics say of a column in which some cells mean nothing."""


def sample_rate(num_rows: int, *, max_rows: int | None) -> float:
    """Compute the share of a table's rows that statistics use.

    Args:
        num_rows: The number of rows of the table.
        max_rows: `data.statistics_rows`; None: no limit.

    Returns:
        The share, above 0 and at most 1.
    """
    return 1.0 if max_rows is None or num_rows <= max_rows else max_rows / num_rows


States = dict[str, list[Any]]
"""States of TFDV's generators, by split."""


class Statistics(
    BlockWork[Part, tuple[str, pa.RecordBatch], States, dict[str, statistics_pb2.DatasetFeatureStatisticsList]]
):
    """TFDV's statistics of each split: the states of its generators, which are combiners."""

    def __init__(
        self,
        splits: Sequence[str],
        columns: Sequence[str],
        *,
        dates: Mapping[str, str],
        separators: Mapping[str, str],
        rate: float,
        weight: str | None,
    ) -> None:
        """Say what is described.

        Args:
            splits: names of all, also of those without rows.
            columns: The columns of the examples.
            dates: formats of those that are dates.
            separators: of those that are lists.
            rate: share of the rows that are looked at.
            weight: the column that says how often a row counts; TFDV has weighted figures beside the others then.
        """
        self._dates = dates
        self._separators = separators
        self._splits = splits
        self._columns = columns
        self._rate = rate
        self._weight = weight
        options = stats_options.StatsOptions(weight_feature=weight)
        with tfx_patches.exact_top_values():
            self._generators = stats_impl.get_generators(options, in_memory=True)

    def depends_on(self, item: Part) -> tuple[Any, ...]:
        """Return what the state of a row group depends on besides its rows.

        Args:
            item: the row group, by whose number its sample is drawn.
        """
        sample = (self._rate, item.number) if self._rate < 1 else ()
        return self._columns, self._dates, self._separators, self._weight, sample

    def blocks(self, item: Part) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield the rows of a row group, or a sample of them.

        The sample has its own random numbers, and does not depend on where it is read.
        """
        block = item.group.read(self._columns)
        weights_of(block, self._weight)  # TFDV does not explain what is wrong with a missing column
        if self._rate < 1:
            chosen = np.random.default_rng([SAMPLE_SEED, item.number]).random(block.num_rows) < self._rate
            block = block.filter(pa.array(chosen))
        if block.num_rows:
            yield item.split, as_lists(self._with_lists(self._with_times(block)))

    def _with_lists(self, block: pa.RecordBatch) -> pa.RecordBatch:
        """Return the block with lists instead of the text that examples have of them."""
        for name, separator in self._separators.items():
            lists = lists_of(block.column(name).cast(pa.string()), separator).cast(pa.list_(pa.binary()))
            block = block.set_column(block.schema.get_field_index(name), name, lists)
        return block

    def _with_times(self, block: pa.RecordBatch) -> pa.RecordBatch:
        """Add to each column of dates the same as seconds since 1970, which has a range."""
        for name, date_format in self._dates.items():
            times = spelled_dates.understand(block.column(name).cast(pa.string()), date_format).times
            block = block.append_column(TIMES + name, pc.divide(times, date_formats.SECOND))
        return block

    def create(self) -> States:
        """Return the state of no splits, whose states are made with its first rows."""
        return {}

    def add_block(self, state: States, block: tuple[str, pa.RecordBatch]) -> States:
        """Add the rows to every generator."""
        split, rows = block
        before = state.get(split) or self._no_rows()
        pairs = zip(self._generators, before, strict=True)
        return state | {split: [generator.add_input(own, rows) for generator, own in pairs]}

    def merge(self, first: States, second: States) -> States:
        """Merge what each generator found in the splits that both have."""
        both = {}
        for split in first.keys() & second.keys():
            triples = zip(self._generators, first[split], second[split], strict=True)
            both[split] = [generator.merge_accumulators(own) for generator, *own in triples]
        return first | second | both

    def compact(self, state: States) -> States:
        """Drop the buffers of the sketches, which are a hundred times as large as what they say."""
        return {
            split: [generator.compact(own) for generator, own in zip(self._generators, found, strict=True)]
            for split, found in state.items()
        }

    def result(self, state: States) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
        """Return the statistics by split."""
        with tfx_patches.histograms_on_arrays():
            found = {
                split: stats_impl.extract_statistics_output(state.get(split) or self._no_rows(), self._generators)
                for split in self._splits
            }
        for statistics in found.values():
            _join_times(statistics)
        return found

    def _no_rows(self) -> list[Any]:
        return [generator.create_accumulator() for generator in self._generators]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the statistics of each split."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
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
        parts = parts_of(examples_artifact, splits)
        dates = {column.name: column.date_format for column in profile.columns if column.dates}
        separators = {column.name: column.lists.separator for column in profile.columns if column.lists}
        weight = exec_properties.get("weight")
        work = Statistics(splits, profile.described, dates=dates, separators=separators, rate=rate, weight=weight)
        odd = {column.name: column.odd_cells for column in profile.columns if column.odd_cells}
        folder = Path(statistics.uri)
        folder.mkdir(parents=True, exist_ok=True)
        max_threads = MAX_THREADS if block_rows(len(profile.described)) >= THREADED_ROWS else 1
        run = functools.partial(block_work.run, executor=self, folder=folder, max_threads=max_threads)
        by_split = run_by_span(
            work,
            parts,
            kind="statistics",
            examples=Path(examples_artifact.uri),
            output=statistics.uri,
            describe=lambda part: (part.group, (part.split, work.depends_on(part))),
            run=run,
        )
        for split, found in by_split.items():
            path = Path(artifact_utils.get_split_uri([statistics], split)) / tfx_executor.DEFAULT_FILE_NAME
            path.parent.mkdir(exist_ok=True)
            if split == splits[0]:
                _note_odd_cells(found, odd)
            path.write_bytes(found.SerializeToString(deterministic=True))


def _join_times(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> None:
    """Add the range of times to the statistics of a date column; the numeric column is not in the table."""
    (dataset,) = statistics.datasets
    by_name = {feature.path.step[0]: feature for feature in dataset.features}
    for name, times in by_name.items():
        if (own := by_name.get(name.removeprefix(TIMES))) is not None and own is not times:
            number = times.num_stats
            for key in ("min", "max", "mean", "median"):
                own.custom_stats.add(name=f"{TIMES}{key}", num=getattr(number, key))
            for histogram in number.histograms:
                if histogram.type == statistics_pb2.Histogram.STANDARD:
                    own.custom_stats.add(name=TIMES, histogram=histogram)
    kept = [feature for name, feature in by_name.items() if not name.startswith(TIMES)]
    del dataset.features[:]
    dataset.features.extend(kept)


def _note_odd_cells(statistics: statistics_pb2.DatasetFeatureStatisticsList, odd_cells: Mapping[str, str]) -> None:
    """Note the cells of numeric columns that are not numbers, over the whole table."""
    for feature in statistics.datasets[0].features:
        if said := odd_cells.get(feature.path.step[0]):
            feature.custom_stats.add(name=ODD_CELLS, str=said)


class StatisticsGen(Component, base_beam_component.BaseBeamComponent):
    """Statistics of each split of the examples.

    They are those of a sample where there are more than `max_rows`; weighted too, where a column has weights.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    INPUTS = {"examples": standard_artifacts.Examples}
    OUTPUTS = {"statistics": standard_artifacts.ExampleStatistics}
    PARAMETERS = {"max_rows": int, "weight": str}
    OPTIONAL = ("max_rows", "weight")

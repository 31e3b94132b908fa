"""Statistics against those of TFDV's own pipeline, on the same examples."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.data import table_profile
from kubetfx.components.statistics_gen import SAMPLE_SEED, Executor, sample_rate
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.examples import as_lists, files_in, read_blocks

COLUMNS = {
    "height": pa.array([1.5, None, 2.5, 4.0] * 50, pa.float64()),
    "year": pa.array([2007, 2008, None, 2009] * 50, pa.int64()),
    "island": pa.array(["Dream", "Biscoe", "", None] * 50),
    "times": pa.array([1.0, 0.5, 2.0, 0.0] * 50, pa.float64()),
    "empty": pa.array([None] * 200, pa.float64()),
    "empty text": pa.array([None] * 200, pa.string()),
    "infinite": pa.array([float("inf"), float("-inf"), 1.0, None] * 50, pa.float64()),
    "tiny and huge": pa.array([1e-40, -3e38, 3e38, 0.0] * 50, pa.float64()),
    "large": pa.array([2**62, -(2**63), None, 2**63 - 1] * 50, pa.int64()),
    "words": pa.array(["größe", "北京", " 🚀, so", None] * 50),
}
TYPES = {
    "height": "float",
    "year": "int64",
    "island": "string",
    "times": "float",
    "empty": "float",
    "empty text": "string",
    "infinite": "float",
    "tiny and huge": "float",
    "large": "int64",
    "words": "string",
}


def examples_artifact(folder: Path, *, row_group_size: int = 200) -> standard_artifacts.Examples:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    block = pa.RecordBatch.from_pydict(COLUMNS)
    for split in ("train", "eval"):
        (folder / f"Split-{split}").mkdir(parents=True)
        table = pa.Table.from_batches([block])
        pq.write_table(table, folder / f"Split-{split}" / "data.parquet", row_group_size=row_group_size)
    profile = table_profile.TableProfile(tuple(ColumnProfile(n, t, num_values=1) for n, t in TYPES.items()), 400)
    table_profile.write(folder, profile, label="island")
    return artifact


LOOP, THREADS = ["--direct_num_workers=1"], ["--direct_num_workers=3"]
BEAM = ["--direct_running_mode=in_memory", "--direct_num_workers=2"]
"""With two workers, Beam's direct runner makes two bundles of what it shuffles."""
EVERY_WAY = pytest.mark.parametrize("arguments", [LOOP, THREADS, BEAM], ids=["loop", "threads", "beam"])


def run(
    folder: Path,
    artifact: standard_artifacts.Examples,
    arguments: list[str],
    *,
    max_rows: int | None = None,
    weight: str | None = None,
):
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder)
    executor = Executor()
    executor._beam_pipeline_args = arguments
    executor.Do(
        {"examples": [artifact]},
        {"statistics": [statistics]},
        {"max_rows": max_rows, "weight": weight, "exclude_splits": "[]"},
    )
    assert artifact_utils.decode_split_names(statistics.split_names) == ["train", "eval"]
    return {split: tfdv.load_stats_binary(str(folder / f"Split-{split}" / "FeatureStats.pb")) for split in ("train",)}


def by_name(statistics):
    (dataset,) = statistics.datasets
    return {feature.path.step[0]: feature for feature in dataset.features}


def values_of(message, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is set in a message, with its place."""
    for field, value in message.ListFields():
        for index, entry in enumerate(value if field.is_repeated else [value]):
            where = f"{place}.{field.name}[{index}]"
            if field.message_type is None:
                yield where, entry
            else:
                yield from values_of(entry, where)


def of_tfdv(folder: Path, *, weight: str | None = None) -> statistics_pb2.DatasetFeatureStatisticsList:
    """What TFDV's own pipeline says about a split."""
    (block,) = read_blocks(files_in(folder))
    output = folder.parent / "theirs.pb"
    with beam.Pipeline(runner="DirectRunner", options=PipelineOptions(["--direct_num_workers=1"])) as pipeline:
        (
            pipeline
            | beam.Create([as_lists(block)])
            | tfdv.GenerateStatistics(tfdv.StatsOptions(weight_feature=weight))
            | tfdv.WriteStatisticsToBinaryFile(str(output))
        )
    return tfdv.load_stats_binary(str(output))


@EVERY_WAY
@pytest.mark.parametrize("weight", [None, "times"])
def test_statistics_and_schema_are_those_of_tfdv(tmp_path, arguments, weight):
    artifact = examples_artifact(tmp_path / "examples")
    ours = run(tmp_path / "ours", artifact, arguments, weight=weight)["train"]
    theirs = of_tfdv(tmp_path / "examples" / "Split-train", weight=weight)
    assert ours.datasets[0].weighted_num_examples == pytest.approx(theirs.datasets[0].weighted_num_examples)

    assert ours.datasets[0].num_examples == theirs.datasets[0].num_examples == 200
    assert by_name(ours).keys() == by_name(theirs).keys() == set(COLUMNS)
    for name, feature in by_name(theirs).items():
        found, expected = dict(values_of(by_name(ours)[name])), dict(values_of(feature))
        assert found.keys() == expected.keys(), name
        for place, value in expected.items():
            same = pytest.approx(value, rel=1e-5, nan_ok=True) if isinstance(value, float) else value
            assert found[place] == same, (name, place)
    schemas = [tfdv.infer_schema(statistics, infer_feature_shape=False) for statistics in (ours, theirs)]
    assert sorted(str(f) for f in schemas[0].feature) == sorted(str(f) for f in schemas[1].feature)


@pytest.mark.parametrize("arguments", [THREADS, BEAM], ids=["threads", "beam"])
def test_statistics_of_several_row_groups_are_those_of_a_loop(tmp_path, arguments):
    artifact = examples_artifact(tmp_path / "examples", row_group_size=40)  # sums of huge numbers cancel in each
    looped = run(tmp_path / "loop", artifact, LOOP)["train"]
    ours = run(tmp_path / "ours", artifact, arguments)["train"]

    assert ours.datasets[0].num_examples == looped.datasets[0].num_examples == 200
    if arguments == THREADS:
        assert ours.SerializeToString(deterministic=True) == looped.SerializeToString(deterministic=True)
    for name, feature in by_name(looped).items():
        found, expected = dict(values_of(by_name(ours)[name])), dict(values_of(feature))
        assert found.keys() == expected.keys(), name
        for place, value in expected.items():
            same = pytest.approx(value, rel=1e-5, nan_ok=True) if isinstance(value, float) else value
            assert found[place] == same, (name, place)


@EVERY_WAY
def test_above_max_rows_the_same_sample_is_looked_at_whatever_the_way(tmp_path, arguments):
    artifact = examples_artifact(tmp_path / "examples", row_group_size=50)
    statistics = run(tmp_path / "statistics", artifact, arguments, max_rows=200)["train"]
    chosen = sum((np.random.default_rng([SAMPLE_SEED, number]).random(50) < 0.5).sum() for number in range(4))
    assert 60 < chosen < 140
    assert statistics.datasets[0].num_examples == chosen


def test_share_of_the_sample_stands_on_the_statistics(tmp_path):
    artifact, statistics = examples_artifact(tmp_path / "examples"), standard_artifacts.ExampleStatistics()
    statistics.uri = str(tmp_path / "statistics")
    Executor().Do({"examples": [artifact]}, {"statistics": [statistics]}, {"max_rows": 200, "exclude_splits": "[]"})
    rates = statistics.get_json_value_custom_property(tfx_executor.SAMPLE_RATE_BY_SPLIT_PROPERTY_NAME)
    assert json.loads(rates) == {"train": 0.5, "eval": 0.5}


def test_split_without_rows_has_statistics_of_none(tmp_path):
    artifact = examples_artifact(tmp_path / "examples")
    (tmp_path / "examples" / "Split-train" / "data.parquet").unlink()
    assert run(tmp_path / "statistics", artifact, LOOP)["train"].datasets[0].num_examples == 0


@pytest.mark.parametrize(("num_rows", "max_rows", "rate"), [(10, None, 1), (10, 10, 1), (40, 10, 0.25)])
def test_rows_are_sampled_only_above_the_limit(num_rows, max_rows, rate):
    assert sample_rate(num_rows, max_rows=max_rows) == rate

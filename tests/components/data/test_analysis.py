"""The analysis as work on blocks against tf.Transform's own pipeline: the same graph, to rounding."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio import tf_example_record

from kubetfx.components.data import analysis, block_work
from kubetfx.components.transform import Executor
from kubetfx.models import preprocessing
from kubetfx.models.examples import row_groups, to_examples
from kubetfx.models.features import TEXT

SCHEMA = text_format.Parse(
    """
    feature { name: "height" type: FLOAT }
    feature { name: "island" type: BYTES }
    feature { name: "year" type: INT }
    tensor_representation_group {
      key: ""
      value {
        tensor_representation { key: "height" value { dense_tensor {
          column_name: "height" shape { dim { size: 1 } } default_value { float_value: nan } } } }
        tensor_representation { key: "island" value { dense_tensor {
          column_name: "island" shape { dim { size: 1 } } default_value { bytes_value: "" } } } }
        tensor_representation { key: "year" value { dense_tensor {
          column_name: "year" shape { dim { size: 1 } } default_value { int_value: 0 } } } }
      }
    }
    """,
    schema_pb2.Schema(),
)


ISLANDS = ("Dream", "Biscoe", "Torgersen, größer", "Dream", "", "Dream", "new\nline")
"""Texts, one of them the most frequent, and two that tf.Transform has no place for in a vocabulary."""
NUM_ROWS = 200
BLOCK = pa.RecordBatch.from_pydict(
    {
        "height": pa.array([row**1.5 if row % 7 else None for row in range(NUM_ROWS)], pa.float64()),
        "island": pa.array([ISLANDS[row % len(ISLANDS)] for row in range(NUM_ROWS)]),
        "year": pa.array([2_000 + row % 5 for row in range(NUM_ROWS)], pa.int64()),
    }
)
WAYS = {
    "loop": ["--direct_num_workers=1"],
    "threads": ["--direct_num_workers=3"],
    "beam": ["--direct_running_mode=in_memory", "--direct_num_workers=2"],
}
"""Beam's command line by how the row groups are gone through; with two workers Beam makes two bundles of them."""


def two_phases(inputs):
    height = tf.where(tf.math.is_nan(inputs["height"]), 0.0, inputs["height"])
    shifted = height - tft.min(height)  # known after the first pass over the data
    return {
        "scaled": tft.scale_to_z_score(tf.concat([height, height * 2], axis=1), elementwise=True),
        "of shifted": shifted / tft.max(shifted),
        "bucket": tft.bucketize(height, 4),
        "mean": height - tft.mean(height),
    }


def vocabularies(inputs):
    return {
        "island": tft.compute_and_apply_vocabulary(inputs["island"], vocab_filename="island", num_oov_buckets=1),
        "most frequent": tft.compute_and_apply_vocabulary(inputs["year"], top_k=2, vocab_filename="year"),
        "at least": tft.compute_and_apply_vocabulary(inputs["island"], frequency_threshold=67, default_value=-9),
        "shuffled": tft.compute_and_apply_vocabulary(inputs["island"], fingerprint_shuffle=True),
    }


def without_analyzers(inputs):
    return {"double": inputs["height"] * 2}


def parsed():
    spec = tft.tf_metadata.schema_utils.schema_as_feature_spec(SCHEMA).feature_spec
    return tf.io.parse_example(to_examples(BLOCK), spec)


def ours(folder: Path, preprocessing_fn, *, way: str = "loop") -> tft.TFTransformOutput:
    (folder / "temporary").mkdir(parents=True)
    pq.write_table(pa.Table.from_batches([BLOCK]), folder / "data.parquet", row_group_size=30)
    groups = [group for group, _ in row_groups([str(folder / "data.parquet")])]
    executor = Executor(Executor.Context(beam_pipeline_args=WAYS[way]))
    analysis.analyze(
        preprocessing_fn,
        SCHEMA,
        run=lambda phase: block_work.run(phase, groups, executor=executor, folder=folder),
        output=folder / "graph",
        temporary=folder / "temporary",
    )
    return tft.TFTransformOutput(str(folder / "graph"))


def theirs(folder: Path, preprocessing_fn) -> tft.TFTransformOutput:
    source = tf_example_record.TFExampleBeamRecord("memory", schema=SCHEMA)
    with beam.Pipeline(runner="DirectRunner") as pipeline, tft_beam.Context(temp_dir=str(folder / "temporary")):
        batches = pipeline | beam.Create(to_examples(BLOCK), reshuffle=False) | source.BeamSource()
        transform_fn = (batches, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))
    return tft.TFTransformOutput(str(folder / "graph"))


@pytest.mark.parametrize(
    "preprocessing_fn",
    [
        two_phases,
        pytest.param(vocabularies, marks=pytest.mark.long),
        pytest.param(without_analyzers, marks=pytest.mark.long),
    ],
)
def test_every_way_finds_features_vocabularies_and_schema_of_tf_transform(tmp_path, preprocessing_fn):
    expected = theirs(tmp_path / "theirs", preprocessing_fn)
    found = {way: ours(tmp_path / way, preprocessing_fn, way=way) for way in WAYS}
    rows, threaded = (found[way].transform_features_layer()(parsed()) for way in ("loop", "threads"))
    for name, tensor in rows.items():
        np.testing.assert_array_equal(threaded[name], tensor, err_msg=name)
    for way in ("loop", "beam"):
        assert_same(found[way], expected)


def test_tokens_of_texts_are_counted_in_parts(tmp_path, monkeypatch):
    schema = schema_pb2.Schema()
    schema.CopyFrom(SCHEMA)
    schema.feature[1].annotation.tag.append(TEXT)
    monkeypatch.setattr(preprocessing, "TEXT_ROWS", 7)
    seen = []

    def run(phase: analysis.Phase):
        phase.setup()
        seen.extend(len(list(phase.blocks(group))) for group in groups)
        return block_work.run_here(phase, groups, threads=2)

    pq.write_table(pa.Table.from_batches([BLOCK]), tmp_path / "data.parquet", row_group_size=30)
    groups = [group for group, _ in row_groups([str(tmp_path / "data.parquet")])]
    places = {"output": tmp_path / "graph", "temporary": tmp_path / "temporary"}
    analysis.analyze(vocabularies, schema, run=run, **places)

    assert seen == [5] * 6 + [3]
    found, expected = tft.TFTransformOutput(str(tmp_path / "graph")), ours(tmp_path / "whole", vocabularies)
    for name in ("island", "year"):
        assert found.vocabulary_by_name(name) == expected.vocabulary_by_name(name)


def assert_same(found: tft.TFTransformOutput, expected: tft.TFTransformOutput) -> None:
    rows, expected_rows = (output.transform_features_layer()(parsed()) for output in (found, expected))
    assert rows.keys() == expected_rows.keys()
    for name, tensor in expected_rows.items():
        # Beam adds up in batches of a size that it chooses anew each time: sums differ in their last digits.
        np.testing.assert_allclose(rows[name], tensor, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(tensor)), err_msg=name)
    assert found.transformed_metadata.schema == expected.transformed_metadata.schema
    folders = [Path(output.transform_savedmodel_dir, "assets") for output in (found, expected)]
    assets, expected_assets = (sorted(path.name for path in folder.glob("*")) for folder in folders)
    assert assets == expected_assets
    if "island" in assets:
        assert found.vocabulary_by_name("island") == expected.vocabulary_by_name("island")
        assert found.vocabulary_size_by_name("island") == expected.vocabulary_size_by_name("island")


@pytest.mark.parametrize(
    "preprocessing_fn",
    [
        lambda inputs: {"by key": tft.scale_to_z_score_per_key(inputs["height"][:, 0], key=inputs["island"][:, 0])},
        lambda inputs: {"weighted": tft.compute_and_apply_vocabulary(inputs["island"], weights=inputs["height"])},
    ],
    ids=["per key", "weighted vocabulary"],
)
def test_analyzer_that_is_not_known_here_is_left_to_beam_before_anything_is_written(tmp_path, preprocessing_fn):
    with pytest.raises(analysis.Unsupported):
        ours(tmp_path, preprocessing_fn)
    assert not (tmp_path / "graph").exists()

"""The analysis in this process against tf.Transform's on Beam: the same graph, to rounding."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import graph_tools
from tfx_bsl.tfxio import tf_example_record

from kubetfx.components.data import local_analysis

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


def example(row: int) -> bytes:
    made = tf.train.Example()
    if row % 7:
        made.features.feature["height"].float_list.value.append(row**1.5)
    made.features.feature["island"].bytes_list.value.append(ISLANDS[row % len(ISLANDS)].encode())
    made.features.feature["year"].int64_list.value.append(2_000 + row % 5)
    return made.SerializeToString()


EXAMPLES = [example(row) for row in range(200)]


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


def parsed(batch_size: int = 64):
    spec = tft.tf_metadata.schema_utils.schema_as_feature_spec(SCHEMA).feature_spec
    return lambda: (
        tf.data.Dataset.from_tensor_slices(EXAMPLES)
        .batch(batch_size)
        .map(lambda block: tf.io.parse_example(block, spec))
    )


def ours(folder: Path, preprocessing_fn) -> tft.TFTransformOutput:
    (folder / "temporary").mkdir(parents=True)
    local_analysis.analyze(preprocessing_fn, SCHEMA, parsed(), output=folder / "graph", temporary=folder / "temporary")
    return tft.TFTransformOutput(str(folder / "graph"))


def theirs(folder: Path, preprocessing_fn) -> tft.TFTransformOutput:
    source = tf_example_record.TFExampleBeamRecord("memory", schema=SCHEMA)
    with beam.Pipeline(runner="DirectRunner") as pipeline, tft_beam.Context(temp_dir=str(folder / "temporary")):
        batches = pipeline | beam.Create(EXAMPLES, reshuffle=False) | source.BeamSource()
        transform_fn = (batches, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(str(folder / "graph"))
    return tft.TFTransformOutput(str(folder / "graph"))


@pytest.mark.parametrize("preprocessing_fn", [two_phases, vocabularies, without_analyzers])
def test_features_vocabularies_and_schema_are_those_of_beam(tmp_path, preprocessing_fn):
    local, on_beam = ours(tmp_path / "ours", preprocessing_fn), theirs(tmp_path / "theirs", preprocessing_fn)
    (rows,) = parsed(len(EXAMPLES))()
    found, expected = local.transform_features_layer()(rows), on_beam.transform_features_layer()(rows)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # Beam adds up in batches of a size that it chooses anew each time: sums differ in their last digits.
        np.testing.assert_allclose(found[name], tensor, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(tensor)), err_msg=name)
    assert local.transformed_metadata.schema == on_beam.transformed_metadata.schema
    assets = {o: sorted(p.name for p in Path(o.transform_savedmodel_dir, "assets").glob("*")) for o in (local, on_beam)}
    assert assets[local] == assets[on_beam]
    if "island" in assets[local]:
        assert local.vocabulary_by_name("island") == on_beam.vocabulary_by_name("island")
        assert local.vocabulary_size_by_name("island") == on_beam.vocabulary_size_by_name("island")


@pytest.mark.parametrize(
    "preprocessing_fn",
    [
        lambda inputs: {"by key": tft.scale_to_z_score_per_key(inputs["height"][:, 0], key=inputs["island"][:, 0])},
        lambda inputs: {"weighted": tft.compute_and_apply_vocabulary(inputs["island"], weights=inputs["height"])},
    ],
    ids=["per key", "weighted vocabulary"],
)
def test_analyzer_that_is_not_known_here_is_left_to_beam_before_anything_is_written(tmp_path, preprocessing_fn):
    with pytest.raises(local_analysis.Unsupported):
        ours(tmp_path, preprocessing_fn)
    assert not (tmp_path / "graph").exists()


def test_columns_that_an_analyzer_depends_on_are_those_that_tf_transform_finds():
    with tf.Graph().as_default() as graph:
        inputs = {
            "a": tf.compat.v1.placeholder(tf.float32, [None, 1]),
            "b": tf.compat.v1.sparse_placeholder(tf.float32, [None, None]),
            "c": tf.compat.v1.placeholder(tf.float32, [None, 1]),
        }
        for tensors in ([inputs["a"] + 1], [inputs["b"].values * 2, inputs["a"]], [tf.constant(1.0)], []):
            theirs = graph_tools._retrieve_source_keys(tensors, inputs)
            assert local_analysis._source_keys(tensors, inputs) == theirs
        assert graph is tf.compat.v1.get_default_graph()

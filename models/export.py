"""The SavedModel: raw values in, names out, with the preprocessing in its graph.

    serving_default     raw columns by name, each (batch,)  ->  label, score, probabilities, classes; or value
    serving_examples    serialized tf.Examples (batch,)     ->  the same
    classification      serialized tf.Examples (batch,)     ->  classes, scores     TF Serving's Classify
    regression          serialized tf.Examples (batch,)     ->  outputs             TF Serving's Regress
    transform_features  serialized tf.Examples (batch,)     ->  features and label, for TFMA
    transform_columns   raw columns, one tensor a type      ->  features and label, as training sees them
    network             features by name, each (batch, ...) ->  probabilities or value, without any preprocessing

It is written by keras.export.ExportArchive: what tf.saved_model.save makes of a Keras 3 model does not run in
TensorFlow Serving (docs/decisions/0003-saved-model.md). Which columns are inputs is models/features.py's to say.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from kubetfx.artifacts import MODEL_FACTS, REQUEST
from kubetfx.models.features import MISSING_INTEGER, Features
from kubetfx.models.parsing import parse_examples
from kubetfx.models.raw_inputs import RawInputs, is_usual, usual_spec
from kubetfx.models.raw_rows import raw_rows
from kubetfx.serving.model_facts import ModelFacts, network_arguments
from kubetfx.serving.warmup import predict_request, write_warmup_requests

TRANSFORM_COLUMNS = "transform_columns"
"""Signature of the preprocessing alone, whose inputs are those of models/raw_inputs.py."""

NETWORK = "network"
"""Signature of the bare network, by which serving's preprocessing can be held against that of training."""

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
"""Method names that TF Serving's Classify and Regress ask of a signature:
tensorflow/python/saved_model/signature_constants."""


def export_model(
    model: keras.Model,
    transform_output: tft.TFTransformOutput,
    features: Features,
    path: Path,
    *,
    warmup_rows: pa.RecordBatch | None = None,
) -> None:
    """Write a trained model and its preprocessing as a SavedModel.

    Args:
        model: from features to probabilities (batch, classes), or to values (batch, 1).
        transform_output: the preprocessing.
        features: the columns.
        path: folder to write.
        warmup_rows: real rows with the columns of the model, to be replayed by the server before it answers.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    transform = transform_output.transform_features_layer()
    archive.track(transform)
    raw_spec = transform_output.raw_feature_spec()
    example_spec = {name: spec for name, spec in raw_spec.items() if name in features.inputs}
    answer = _Answer(model, features)

    def from_raw(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        columns = {column: raw[argument] for argument, column in columns_by_argument.items()}
        return answer(transform({name: _as_column(tensor, name, features) for name, tensor in columns.items()}))

    def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(transform(parse_examples(examples, example_spec)))

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = from_examples(inputs)
        return {"classes": answers["classes"], "scores": answers["probabilities"]}

    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": from_examples(inputs)["value"]}

    def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return transform(parse_examples(examples, raw_spec))

    def network(arguments: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"outputs": model({n: arguments[a] for n, a in zip(names, network_signature, strict=True)})}

    names = [tensor.name for tensor in model.inputs]
    specs = transform_output.transformed_feature_spec()  # Keras adapts them, as it does in training
    network_signature = {
        argument: tf.TensorSpec([None, *specs[name].shape], specs[name].dtype, argument)
        for argument, name in network_arguments(dict(zip(names, names, strict=True)), names).items()
    }
    # TensorFlow rewrites names that are no Python identifiers, so columns have a stand-in until the model is written.
    columns_by_argument = {f"column_{index}": name for index, name in enumerate(features.inputs)}
    raw_signature = {
        argument: tf.TensorSpec([None], raw_dtype(column, features), argument)
        for argument, column in columns_by_argument.items()
    }
    archive.add_endpoint("serving_default", from_raw, [raw_signature])
    archive.add_endpoint("serving_examples", from_examples, [tf.TensorSpec([None], tf.string, "examples")])
    archive.add_endpoint("transform_features", transform_features, [tf.TensorSpec([None], tf.string, "examples")])
    _add_transform_columns(archive, transform, raw_spec)
    archive.add_endpoint(NETWORK, network, [network_signature])
    if features.classes:
        archive.add_endpoint("classification", classify, [tf.TensorSpec([None], tf.string, "inputs")])
    else:
        archive.add_endpoint("regression", regress, [tf.TensorSpec([None], tf.string, "inputs")])
    archive.write_out(str(path), verbose=False)
    _complete_signatures(path, columns_by_argument)
    (path / MODEL_FACTS).parent.mkdir(exist_ok=True)
    columns = {name: spec.dtype.name for name, spec in raw_spec.items()}
    facts = ModelFacts(features.label, features.classes, features.inputs, columns, tuple(names))
    (path / MODEL_FACTS).write_text(json.dumps(asdict(facts), ensure_ascii=False), encoding="utf-8")
    if warmup_rows is not None:
        _write_warmup(path, warmup_rows, features)


def _write_warmup(path: Path, block: pa.RecordBatch, features: Features) -> None:
    rows = raw_rows(block, inputs=features.inputs, strings=features.strings)
    dtypes = {name: raw_dtype(name, features).as_numpy_dtype for name in features.inputs}
    write_warmup_requests(path, [predict_request(rows[:1], dtypes), predict_request(rows, dtypes)])
    whole = next((row for row in rows if not any(_is_missing(value) for value in row.values())), rows[0])
    (path / REQUEST).write_text(json.dumps({"instances": [whole]}, ensure_ascii=False, indent=1), encoding="utf-8")


def _is_missing(value: float | str) -> bool:
    return value == "" if isinstance(value, str) else math.isnan(value)


def raw_inputs_of(facts: ModelFacts) -> RawInputs:
    """How the columns of a model of tables are packed for its signature `transform_columns`."""
    return RawInputs(usual_spec(facts.columns))


def raw_dtype(column: str, features: Features) -> tf.DType:
    """Type of a column in `serving_default`. Integers come as float64, so that NaN can say that a cell is missing."""
    if column in features.strings:
        return tf.string
    return tf.float64 if column in features.integers else tf.float32


def _add_transform_columns(
    archive: keras.export.ExportArchive, transform: keras.layers.Layer, raw_spec: Mapping[str, Any]
) -> None:
    """Unless a frozen schema has columns read in a way of its own, which the facts have no place for."""
    if not is_usual(raw_spec):
        return
    raw_inputs = RawInputs(raw_spec)

    def transform_columns(packed: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return transform(raw_inputs.unpack(packed))

    archive.add_endpoint(TRANSFORM_COLUMNS, transform_columns, [raw_inputs.signature])


class _Answer:
    """From features to what a client reads."""

    def __init__(self, model: keras.Model, features: Features) -> None:
        self._model = model
        self._classes = features.classes
        self._inputs = [tensor.name for tensor in model.inputs]

    def __call__(self, transformed: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        outputs = self._model({name: transformed[name] for name in self._inputs}, training=False)
        if not self._classes:
            return {"value": outputs[:, 0]}
        classes = tf.constant(self._classes)
        return {
            "label": tf.gather(classes, tf.argmax(outputs, axis=1)),
            "score": tf.reduce_max(outputs, axis=1),
            "probabilities": outputs,
            "classes": tf.tile(classes[tf.newaxis, :], [tf.shape(outputs)[0], 1]),
        }


def _as_column(tensor: tf.Tensor, name: str, features: Features) -> tf.Tensor:
    column = tf.expand_dims(tensor, 1)
    if name not in features.integers:
        return column
    return tf.where(
        tf.math.is_finite(column), tf.cast(tf.round(column), tf.int64), tf.constant(MISSING_INTEGER, tf.int64)
    )


def _complete_signatures(path: Path, columns_by_argument: Mapping[str, str]) -> None:
    """Put into the signatures what TensorFlow's API has no way to say: column names, and methods of TF Serving."""
    file = path / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    signatures: Any = meta_graph.signature_def
    inputs = signatures["serving_default"].inputs
    renamed = {column: meta_graph_pb2.TensorInfo() for column in columns_by_argument.values()}
    for argument, column in columns_by_argument.items():
        renamed[column].CopyFrom(inputs[argument])
    inputs.clear()
    for column, info in renamed.items():
        inputs[column].CopyFrom(info)
    for name, method in {"classification": CLASSIFY_METHOD, "regression": REGRESS_METHOD}.items():
        if name in signatures:
            signatures[name].method_name = method
    file.write_bytes(saved_model.SerializeToString(deterministic=True))

"""The SavedModel: raw values in, names out, with preprocessing and decoding in its graph.

    serving_default     raw columns by name, each (batch,)  ->  label, score, probabilities, classes; or value
    serving_examples    serialized tf.Examples (batch,)     ->  the same
    classification      serialized tf.Examples (batch,)     ->  classes, scores     TF Serving's Classify
    regression          serialized tf.Examples (batch,)     ->  outputs             TF Serving's Regress
    transform_features  serialized tf.Examples (batch,)     ->  features and label, for TFMA
    transform_columns   raw columns, one tensor per type    ->  features and label, as training sees them
    network             features by name, each (batch, ...) ->  probabilities or value, without any preprocessing

A model that nobody serves, such as that of a fold of cross-validation, has the last two alone.

An image is the bytes of its file, under the name of its column and `_bytes`; a model that sees images also answers with
top_labels and top_scores, and has those of models/columns/image/pixel_signatures.py.

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
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from kubetfx.artifacts import MODEL_FACTS, REQUEST, SAVED_MODEL
from kubetfx.models.columns.image.pixels import Pixels
from kubetfx.models.features import IMAGE, Features
from kubetfx.models.parsing import parse_examples
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.raw_inputs import RawInputs, is_usual, usual_spec
from kubetfx.models.raw_rows import raw_rows
from kubetfx.models.saved_model_archive import SavedModelArchive
from kubetfx.models.warm_start import write_weights
from kubetfx.serving.model_facts import ModelFacts, network_arguments
from kubetfx.serving.warmup import predict_request, write_warmup_requests
from kubetfx.tables.json_bytes import to_json

BLOCK = 32
"""Pictures that are decoded at a time."""

RAW_DTYPES = {"string": tf.string, "int64": tf.float64, "float": tf.float32}
"""Types of columns in `serving_default`. Integers come as float64, so that NaN can say that a cell is missing."""

TRANSFORM_COLUMNS = "transform_columns"
"""Signature of the preprocessing alone, whose inputs are those of models/raw_inputs.py."""

NETWORK = "network"
"""Signature of the bare network, by which serving's preprocessing can be compared with that of training."""

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
"""Method names that TF Serving's Classify and Regress ask of a signature:
tensorflow/python/saved_model/signature_constants."""


def export_model(
    model: keras.Model,
    preprocessing: Preprocessing,
    features: Features,
    path: Path,
    *,
    pixels: Pixels | None = None,
    warmup_rows: pa.RecordBatch | None = None,
    is_served: bool = True,
) -> None:
    """Write a trained model and its preprocessing as a SavedModel.

    Args:
        model: from features to probabilities (batch, classes), or to values (batch, 1).
        preprocessing: without the columns of images.
        features: the columns.
        path: folder to write.
        pixels: what becomes of the column of images, if there is one.
        warmup_rows: real rows with the columns of the model, to be replayed by the server before it answers.
        is_served: whether clients will ask the model. Otherwise it has the signatures by which it is evaluated alone.
    """
    archive = SavedModelArchive(model, preprocessing)
    answers = _Answers(model, preprocessing, features, pixels)
    raw_spec = preprocessing.raw_spec
    columns_by_argument = _add_answers(archive, answers, preprocessing, features) if is_served else {}
    # A frozen schema may have columns read in a way of its own, which the facts have no place for.
    takes_columns = is_usual({name: raw_spec[name] for name in preprocessing.inputs.columns})
    if takes_columns:
        archive.add_endpoint(TRANSFORM_COLUMNS, preprocessing, preprocessing.inputs.signature)
    if is_served or not takes_columns:
        _add_transform_features(archive, preprocessing, features.separators)
    specs = _network_specs(model, preprocessing.feature_spec)
    _add_network(archive, model, specs)
    if pixels is not None:
        pixels.add_signatures(archive.add_endpoint, model, specs, answers.of_features)
    archive.write(path)
    if is_served:
        _complete_signatures(path, columns_by_argument)
    (path / MODEL_FACTS).parent.mkdir(exist_ok=True)
    columns = {name: spec.dtype.name for name, spec in raw_spec.items()}
    facts = ModelFacts(
        features.label,
        features.classes,
        features.inputs,
        columns,
        tuple(specs),
        pixels.facts() if pixels else None,
        features.separators,
    )
    (path / MODEL_FACTS).write_text(json.dumps(asdict(facts), ensure_ascii=False), encoding="utf-8")
    write_weights(path, model, features)
    if warmup_rows is not None:
        _write_warmup(path, warmup_rows, features)


def _add_answers(
    archive: SavedModelArchive, answers: "_Answers", preprocessing: Preprocessing, features: Features
) -> dict[str, str]:
    """Add the signatures that clients ask.

    Returns:
        The column's name by argument of `serving_default`.
    """
    separators = features.separators
    example_spec = {name: _cell(preprocessing.raw_spec[name], name in separators) for name in features.inputs}
    # TensorFlow rewrites names that are not Python identifiers, so columns have a stand-in until the model is written.
    columns_by_argument = {f"column_{index}": column for index, column in enumerate(features.columns.values())}

    def from_raw(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        given = {column.name: raw[argument] for argument, column in columns_by_argument.items()}
        return answers(_joined(given, separators))

    def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(_joined(parse_examples(examples, example_spec), separators))

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = of_examples(inputs)
        return {"classes": found["classes"], "scores": found["probabilities"]}

    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": of_examples(inputs)["value"]}

    raw_signature = {
        argument: tf.TensorSpec([None, None] if column.separator else [None], RAW_DTYPES[column.type], argument)
        for argument, column in columns_by_argument.items()
    }
    archive.add_endpoint("serving_default", from_raw, raw_signature)
    of_examples = archive.add_endpoint("serving_examples", from_examples, tf.TensorSpec([None], tf.string, "examples"))
    if features.classes:
        archive.add_endpoint("classification", classify, tf.TensorSpec([None], tf.string, "inputs"))
    else:
        archive.add_endpoint("regression", regress, tf.TensorSpec([None], tf.string, "inputs"))
    served_names = features.served_names
    return {argument: served_names[column.name] for argument, column in columns_by_argument.items()}


def _add_transform_features(
    archive: SavedModelArchive, preprocessing: Preprocessing, separators: Mapping[str, str]
) -> None:
    spec = {name: _cell(preprocessing.raw_spec[name], name in separators) for name in preprocessing.inputs.columns}

    def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return preprocessing(preprocessing.inputs.stack(_joined(parse_examples(examples, spec), separators)))

    archive.add_endpoint("transform_features", transform_features, tf.TensorSpec([None], tf.string, "examples"))


def _cell(column: Any, is_list: bool) -> Any:
    """Return how a column is parsed: (batch,) if it has one value per row."""
    if is_list:
        return tf.io.VarLenFeature(tf.string)
    return column._replace(shape=[]) if isinstance(column, tf.io.FixedLenFeature) else column


def _joined(columns: Mapping[str, Any], separators: Mapping[str, str]) -> dict[str, Any]:
    """Return columns of which each cell is one value: (batch,)."""
    found = dict(columns)
    for name in columns.keys() & separators.keys():
        values = columns[name]
        dense = tf.sparse.to_dense(values, "") if isinstance(values, tf.SparseTensor) else values
        found[name] = tf.strings.reduce_join(dense, axis=1, separator=separators[name])
    return found


def _network_specs(model: keras.Model, specs: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    """Return what the network takes, by name, in the order in which the signature `network` numbers it.

    Keras adapts what Transform makes in the same way as in training.
    """
    return {
        tensor.name: tf.TensorSpec([None, *specs[tensor.name].shape], specs[tensor.name].dtype)
        if tensor.name in specs
        else tf.TensorSpec(tensor.shape, tf.float32)  # what is made beside Transform
        for tensor in model.inputs
    }


def _add_network(archive: SavedModelArchive, model: keras.Model, specs: Mapping[str, tf.TensorSpec]) -> None:
    arguments = network_arguments(specs, list(specs))
    names = dict(zip(arguments, specs, strict=True))
    signature = {a: tf.TensorSpec(spec.shape, spec.dtype, a) for a, spec in arguments.items()}

    def network(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"outputs": model({name: raw[argument] for argument, name in names.items()}, training=False)}

    archive.add_endpoint(NETWORK, network, signature)


def _write_warmup(path: Path, block: pa.RecordBatch, features: Features) -> None:
    cells = {name: column.type for name, column in features.columns.items()}
    strings = [name for name, cell_type in cells.items() if cell_type == "string"]
    images = features.names(IMAGE)
    rows = raw_rows(block, inputs=features.inputs, strings=strings, images=images, separators=features.separators)
    served = features.served_names
    dtypes = {served[name]: RAW_DTYPES[cell_type].as_numpy_dtype for name, cell_type in cells.items()}
    requests = [{served[name]: value for name, value in row.items()} for row in rows]
    write_warmup_requests(path, [predict_request(requests[:1], dtypes), predict_request(requests, dtypes)])
    whole = next((row for row in requests if not any(_is_missing(value) for value in row.values())), requests[0])
    smallest = {
        served[name]: to_json(min((row[name] for row in rows), key=len))  # type: ignore[arg-type]  # all are bytes
        for name in features.names(IMAGE)
    }
    whole = {name: list(filter(None, value)) if isinstance(value, list) else value for name, value in whole.items()}
    document = json.dumps({"instances": [whole | smallest]}, ensure_ascii=False, indent=1)
    (path / REQUEST).write_text(document, encoding="utf-8")


def _is_missing(value: float | str | bytes | list[str]) -> bool:
    if isinstance(value, list):
        return not any(value)
    return math.isnan(value) if isinstance(value, float) else not value


def raw_inputs_of(facts: ModelFacts) -> RawInputs:
    """Find how columns are packed for the signature `transform_columns`.

    Args:
        facts: The facts of the model.

    Returns:
        The columns that preprocessing reads.
    """
    dtypes = {name: dtype for name, dtype in facts.columns.items() if name not in facts.image_columns}
    return RawInputs(usual_spec(dtypes))


class _Answers:
    """From raw columns to what a client reads."""

    def __init__(
        self, model: keras.Model, preprocessing: Preprocessing, features: Features, pixels: Pixels | None
    ) -> None:
        self._model = model
        self._preprocessing = preprocessing
        self._features = features
        self._pixels = pixels
        self._inputs = [tensor.name for tensor in model.inputs]

    def __call__(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the answer to the columns of the table, each (batch,)."""
        others = {n: tensor for n, tensor in columns.items() if self._pixels is None or n != self._pixels.column}
        features = self._preprocessing(self._preprocessing.inputs.stack(others)) if others else {}
        inputs = {name: features[name] for name in self._inputs if name in features}
        if self._pixels is None:
            return self.of_features(inputs)
        return self._answer(self._in_blocks(inputs, columns[self._pixels.column], self._pixels))

    def of_features(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the answer to all that the network takes, by name."""
        return self._answer(self._model(features, training=False))

    def _in_blocks(self, inputs: Mapping[str, tf.Tensor], contents: tf.Tensor, pixels: Pixels) -> tf.Tensor:
        """Return outputs for files (batch,), a few at a time: TFMA sends a thousand, which decoded fill the memory."""
        number = tf.maximum((tf.size(contents) + BLOCK - 1) // BLOCK, 1)
        shape = [None, self._model.output.shape[-1]]
        found = tf.TensorArray(tf.float32, size=number, element_shape=shape, infer_shape=False)

        def step(index: tf.Tensor, array: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            rows = slice(index * BLOCK, (index + 1) * BLOCK)
            block = {name: tensor[rows] for name, tensor in inputs.items()} | pixels.features(contents[rows])
            return index + 1, array.write(index, self._model(block, training=False))

        _, found = tf.while_loop(lambda index, _: index < number, step, (0, found), parallel_iterations=1)
        return tf.ensure_shape(found.concat(), shape)

    def _answer(self, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
        if not self._features.classes:
            return {"value": outputs[:, 0]}
        classes = tf.constant(self._features.classes)
        answer = {
            "label": tf.gather(classes, tf.argmax(outputs, axis=1)),
            "score": tf.reduce_max(outputs, axis=1),
            "probabilities": outputs,
            "classes": tf.tile(classes[tf.newaxis, :], [tf.shape(outputs)[0], 1]),
        }
        return answer if self._pixels is None else answer | self._most_likely(outputs, self._pixels.model.top_k)

    def _most_likely(self, outputs: tf.Tensor, k: int) -> dict[str, tf.Tensor]:
        scores, indices = tf.math.top_k(outputs, k=min(k, len(self._features.classes)))
        return {"top_labels": tf.gather(tf.constant(self._features.classes), indices), "top_scores": scores}


def _complete_signatures(path: Path, columns_by_argument: Mapping[str, str]) -> None:
    """Put into the signatures what TensorFlow's API has no way to say: column names, and methods of TF Serving."""
    file = path / SAVED_MODEL
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

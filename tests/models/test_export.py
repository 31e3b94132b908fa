"""Each signature of a SavedModel in tf.compat.v1's loader and a Session, which is how TensorFlow Serving runs it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.artifacts import REQUEST, WARMUP_REQUESTS
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.export import (
    CLASSIFY_METHOD,
    NETWORK,
    REGRESS_METHOD,
    TRANSFORM_COLUMNS,
    export_model,
)
from kubetfx.models.network import build_model
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.serving.model_facts import network_arguments, read_facts
from kubetfx.serving.saved_model import SavedModel
from kubetfx.serving.warmup import warm_up
from tests.models.conftest import make_rows, to_block, to_examples

TOLERANCE = 1e-6
WARMUP_ROWS = 4


@dataclass(frozen=True)
class Exported:
    """A SavedModel in the serving loader, and the Keras model and the preprocessing that it was made of."""

    path: Path
    preprocessed: Any
    model: keras.Model
    session: tf.compat.v1.Session
    signatures: Mapping[str, Any]

    def eager(self, rows: list[dict[str, Any]]) -> np.ndarray:
        """The model's outputs, (rows, outputs), without the SavedModel."""
        features = self.preprocessed.transform(rows)
        features.pop("label")
        return self.model(features, training=False).numpy()

    def run(self, signature: str, /, **inputs: Any) -> dict[str, np.ndarray]:
        definition = self.signatures[signature]
        assert set(inputs) == set(definition.inputs)
        feed = {definition.inputs[name].name: value for name, value in inputs.items()}
        return self.session.run({name: info.name for name, info in definition.outputs.items()}, feed)

    def run_raw(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """`serving_default`, with NaN and "" for what is missing."""
        inputs = {}
        for name, info in self.signatures["serving_default"].inputs.items():
            dtype = tf.DType(info.dtype)
            if dtype == tf.string:
                inputs[name] = np.array([(row[name] or "").encode() for row in rows], dtype=object)
            else:
                values = [math.nan if row[name] is None else row[name] for row in rows]
                inputs[name] = np.array(values, dtype=dtype.as_numpy_dtype)
        return self.run("serving_default", **inputs)


def export(preprocessed: Any, path: Path, rows: Sequence[dict[str, Any]] | None = None) -> Iterator[Exported]:
    """Write a network with random weights, and load it as TensorFlow Serving does."""
    keras.utils.set_random_seed(1)
    classes = preprocessed.features.classes
    network = build_model(
        preprocessed.output,
        model=ModelConfig(hidden_units=(8,), embedding_size=3, batch_normalization=True),
        features=preprocessed.config,
        num_outputs=len(classes) or 1,
    )
    head = keras.layers.Softmax() if classes else keras.layers.Rescaling(scale=800.0, offset=4_000.0)
    model = keras.Model(network.input, head(network.output))
    warmup_rows = to_block((rows or make_rows(4))[:WARMUP_ROWS])
    export_model(model, Preprocessing(preprocessed.output), preprocessed.features, path, warmup_rows=warmup_rows)
    session = tf.compat.v1.Session(graph=tf.Graph())  # not a context: that would make it everybody's default
    meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
    yield Exported(path, preprocessed, model, session, meta_graph.signature_def)
    session.close()


@pytest.fixture(scope="module")
def exported_binary(binary, export_folder) -> Iterator[Exported]:
    yield from export(binary, export_folder / "binary")


@pytest.fixture(scope="module")
def exported_multiclass(multiclass, export_folder) -> Iterator[Exported]:
    yield from export(multiclass, export_folder / "multiclass")


@pytest.fixture(scope="module")
def exported_regression(regression, export_folder) -> Iterator[Exported]:
    yield from export(regression, export_folder / "regression")


@pytest.fixture(params=["binary", "multiclass", "regression"])
def exported(request) -> Exported:
    return request.getfixturevalue(f"exported_{request.param}")


@pytest.fixture(params=["binary", "multiclass"])
def classifier(request) -> Exported:
    return request.getfixturevalue(f"exported_{request.param}")


def test_signatures_are_those_of_the_task(exported):
    own = "classification" if exported.preprocessed.features.classes else "regression"

    assert set(exported.signatures) - {"__saved_model_init_op"} == {
        "serving_default",
        "serving_examples",
        "transform_features",
        TRANSFORM_COLUMNS,
        NETWORK,
        own,
    }


def test_network_takes_features_without_any_preprocessing(exported, rows):
    features = exported.preprocessed.transform(rows)
    names = read_facts(exported.path).network_inputs

    answers = exported.run(NETWORK, **network_arguments(features, names))

    np.testing.assert_allclose(
        answers["outputs"], exported.eager(rows), rtol=3e-7, atol=TOLERANCE
    )  # a few of the last bits of float32


def test_warmup_requests_are_replayed_by_the_server(exported):
    model = SavedModel(exported.path)
    try:
        assert warm_up(model, exported.path) == 2
    finally:
        model.close()


def test_example_of_a_request_is_a_whole_row_of_the_data(exported):
    (row,) = json.loads((exported.path / REQUEST).read_text())["instances"]

    assert set(row) == set(exported.signatures["serving_default"].inputs)
    assert not any(value == "" or (isinstance(value, float) and math.isnan(value)) for value in row.values())
    assert exported.run_raw([row])


def test_model_without_examples_brings_no_requests(binary, tmp_path):
    network = build_model(binary.output, model=ModelConfig(), features=binary.config, num_outputs=2)
    export_model(network, Preprocessing(binary.output), binary.features, tmp_path / "model")

    assert not (tmp_path / "model" / REQUEST).exists()
    assert not (tmp_path / "model" / WARMUP_REQUESTS).exists()


def test_raw_rows_are_classified_as_by_the_keras_model(classifier, rows):
    expected = classifier.eager(rows)
    classes = classifier.preprocessed.features.classes

    answers = classifier.run_raw(rows)

    np.testing.assert_allclose(answers["probabilities"], expected, atol=TOLERANCE)
    np.testing.assert_allclose(answers["score"], expected.max(axis=1), atol=TOLERANCE)
    assert [label.decode() for label in answers["label"]] == [classes[index] for index in expected.argmax(axis=1)]
    assert [[name.decode() for name in names] for names in answers["classes"]] == [list(classes)] * len(rows)


def test_value_of_raw_rows_is_that_of_the_keras_model(exported_regression, rows):
    answers = exported_regression.run_raw(rows)

    assert set(answers) == {"value"}
    np.testing.assert_allclose(answers["value"], exported_regression.eager(rows)[:, 0], rtol=TOLERANCE)


def test_examples_are_answered_as_raw_rows_are(exported, rows, serialized):
    raw = exported.run_raw(rows)

    answers = exported.run("serving_examples", examples=serialized(rows))

    assert set(answers) == set(raw)
    for name, values in raw.items():
        if values.dtype == object:
            np.testing.assert_array_equal(answers[name], values)
        else:
            np.testing.assert_allclose(answers[name], values, rtol=TOLERANCE)


def test_classify_gives_classes_and_scores(classifier, rows, serialized):
    answers = classifier.run("classification", inputs=serialized(rows))

    assert set(answers) == {"classes", "scores"}
    np.testing.assert_allclose(answers["scores"], classifier.eager(rows), atol=TOLERANCE)
    assert answers["classes"].shape == answers["scores"].shape
    assert [name.decode() for name in answers["classes"][0]] == list(classifier.preprocessed.features.classes)


def test_regress_gives_outputs(exported_regression, rows, serialized):
    answers = exported_regression.run("regression", inputs=serialized(rows))

    assert set(answers) == {"outputs"}
    np.testing.assert_allclose(answers["outputs"], exported_regression.eager(rows)[:, 0], rtol=TOLERANCE)


def test_transform_features_gives_features_and_label(exported, rows, serialized):
    expected = exported.preprocessed.transform(rows)

    answers = exported.run("transform_features", examples=serialized(rows))

    assert set(answers) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(answers[name], values, atol=TOLERANCE)


def test_methods_are_those_that_serving_asks_for(exported):
    methods = {name: signature.method_name for name, signature in exported.signatures.items()}
    is_classifier = bool(exported.preprocessed.features.classes)

    if is_classifier:
        assert methods["classification"] == CLASSIFY_METHOD == tf.compat.v1.saved_model.CLASSIFY_METHOD_NAME
    else:
        assert methods["regression"] == REGRESS_METHOD == tf.compat.v1.saved_model.REGRESS_METHOD_NAME
    for name in ("serving_default", "serving_examples", "transform_features"):
        assert methods[name] == tf.compat.v1.saved_model.PREDICT_METHOD_NAME


def test_classify_and_regress_have_the_keys_and_types_of_serving(exported_binary, exported_regression):
    from tensorflow.compat.v1 import saved_model as v1

    classification, regression = (
        exported_binary.signatures["classification"],
        exported_regression.signatures["regression"],
    )

    assert set(classification.inputs) == {v1.CLASSIFY_INPUTS}
    assert set(classification.outputs) == {v1.CLASSIFY_OUTPUT_CLASSES, v1.CLASSIFY_OUTPUT_SCORES}
    assert classification.outputs[v1.CLASSIFY_OUTPUT_CLASSES].dtype == tf.string.as_datatype_enum
    assert classification.outputs[v1.CLASSIFY_OUTPUT_SCORES].dtype == tf.float32.as_datatype_enum
    assert set(regression.inputs) == {v1.REGRESS_INPUTS}
    assert set(regression.outputs) == {v1.REGRESS_OUTPUTS}
    assert regression.outputs[v1.REGRESS_OUTPUTS].dtype == tf.float32.as_datatype_enum


def test_inputs_are_the_columns_by_their_own_names(exported, odd_names):
    features = exported.preprocessed.features
    inputs = exported.signatures["serving_default"].inputs

    assert set(inputs) == set(features.inputs)
    assert set(odd_names.values()) <= set(inputs)
    for name, info in inputs.items():
        expected = {"string": tf.string, "int64": tf.float64, "float": tf.float32}[features.columns[name].type]
        assert tf.DType(info.dtype) == expected
        assert [dimension.size for dimension in info.tensor_shape.dim] == [-1]


def test_columns_of_odd_names_reach_the_model(exported_regression, rows, odd_names):
    """Each changes the answer: none is crossed with another."""
    (before,) = exported_regression.run_raw(rows[:1])["value"]

    for kind, other in {"float": 6.0, "integer": 46, "text": "island b", "dotted": "yes", "hashed": "name 7"}.items():
        changed = rows[0] | {odd_names[kind]: other}
        (after,) = exported_regression.run_raw([changed])["value"]
        assert after != before
        np.testing.assert_allclose(after, exported_regression.eager([changed])[0, 0], rtol=TOLERANCE)


def test_nan_and_empty_text_count_as_missing_in_every_signature(exported, rows, serialized):
    """The same rows, with the missing cells left out of the example and with NaN and "" in their place."""
    features = exported.preprocessed.features
    inputs = dict.fromkeys(features.inputs)
    gone = [rows[0] | inputs, *(rows[0] | {name: None} for name in features.inputs)]
    # An integer of a tf.Example has no NaN; there the cell can only be absent.
    filled = [
        {
            name: ("" if features.columns[name].type == "string" else math.nan)
            if value is None and (name not in features.columns or features.columns[name].type != "int64")
            else value
            for name, value in row.items()
        }
        for row in gone
    ]
    expected = exported.eager(gone)

    output = "probabilities" if features.classes else "value"
    own, own_output = ("classification", "scores") if features.classes else ("regression", "outputs")
    answers = {
        "raw": exported.run_raw(gone)[output],
        "absent": exported.run("serving_examples", examples=serialized(gone))[output],
        "filled": exported.run("serving_examples", examples=serialized(filled))[output],
        "own, absent": exported.run(own, inputs=serialized(gone))[own_output],
        "own, filled": exported.run(own, inputs=serialized(filled))[own_output],
    }

    assert np.isfinite(expected).all()
    for way, values in answers.items():
        np.testing.assert_allclose(values.reshape(expected.shape), expected, rtol=1e-5, atol=TOLERANCE, err_msg=way)
    for examples in (serialized(gone), serialized(filled)):
        transformed = exported.run("transform_features", examples=examples)
        for name, values in exported.preprocessed.transform(gone).items():
            np.testing.assert_allclose(transformed[name], values, atol=TOLERANCE)


def test_example_needs_no_label_to_be_answered(exported, rows, serialized):
    label = exported.preprocessed.features.label
    unlabelled = [{name: value for name, value in row.items() if name != label} for row in rows[:3]]

    answers = exported.run("serving_examples", examples=serialized(unlabelled))

    for name, values in exported.run_raw(rows[:3]).items():
        np.testing.assert_array_equal(answers[name], values)


def test_example_without_any_feature_is_a_row_without_any_cell(exported, rows, serialized):
    nothing = dict.fromkeys(rows[0])

    (row,) = exported.run_raw([nothing])["probabilities" if exported.preprocessed.features.classes else "value"]

    output = "probabilities" if exported.preprocessed.features.classes else "value"
    np.testing.assert_allclose(exported.run("serving_examples", examples=[b""])[output][0], row, rtol=1e-5)


def test_whole_number_that_came_as_a_decimal_is_rounded(exported_regression, rows, odd_names):
    name = odd_names["integer"]

    exact, near = exported_regression.run_raw([rows[0] | {name: 12}, rows[0] | {name: 12.0000001}])["value"]

    assert exact == near


def test_batch_of_no_rows_is_answered(exported, rows):
    for values in exported.run_raw([]).values():
        assert len(values) == 0


def test_saved_model_can_also_be_loaded_eagerly(exported_binary, rows, serialized):
    """TFMA does it that way."""
    loaded = tf.saved_model.load(str(exported_binary.path))

    answers = loaded.signatures["serving_examples"](examples=tf.constant(serialized(rows)))

    np.testing.assert_allclose(answers["probabilities"], exported_binary.eager(rows), atol=TOLERANCE)


def test_column_of_any_name_can_be_served(preprocess, tmp_path):
    """Where TensorFlow would rewrite or refuse a name, the column has a stand-in until the model is written."""
    keywords, stand_ins, arguments = ("class", "from"), ("column_1_", "an odd one"), ("inputs", "examples")
    names = [*keywords, *stand_ins, *arguments, "self", "name", "a b", "a_b"]
    table = [
        {name: (index * (number + 3) % 7) / 5 for number, name in enumerate(names)} | {"y": "ab"[index % 2]}
        for index in range(12)
    ]
    for exported in export(preprocess(table, label="y"), tmp_path / "model", table):
        np.testing.assert_allclose(exported.run_raw(table)["probabilities"], exported.eager(table), atol=TOLERANCE)


def test_served_dates_are_those_of_training(preprocess, tmp_path):
    """Also of cells that are none, of leap days, before 1970 and in other zones."""
    rows = [
        {
            "due": f"{i % 28 + 1}.{i % 12 + 1}.{1960 + i}",
            "at": f"2024-02-29T{i % 24:02d}:00:00{('Z', '+05:30', '-08:00')[i % 3]}",
            "signed": ("Feb 29, 2024", "March 3, 1969", None, "Jan 1, 2001 5:30 PM")[i % 4],
            "kind": "ab"[i % 2],
        }
        for i in range(48)
    ]
    dates = preprocess(rows, label="kind")
    asked = [*rows, {"due": "30.2.2000", "at": "", "signed": "soon"}, {"due": "2000-02-29", "at": None, "signed": None}]

    for exported in export(dates, tmp_path / "model", rows):
        assert {column.details["format"] for column in dates.features.by_type["date"]} == {
            "%d.%m.%Y", "%Y-%m-%d", "%b %d, %Y"}  # fmt: skip
        served = exported.run_raw([{"kind": None} | row for row in asked])["probabilities"]
        np.testing.assert_allclose(served, exported.eager(asked), atol=TOLERANCE)
        by_example = exported.run("serving_examples", examples=np.array(to_examples(asked), dtype=object))
        np.testing.assert_allclose(by_example["probabilities"], served, atol=TOLERANCE)

"""Weights of a served model as float16 and int8: what they take, and what they change."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.config.model_section import ModelConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, TrainingError
from kubetfx.models.export import export_model
from kubetfx.models.forest import Forest
from kubetfx.models.layers import fit_layers
from kubetfx.models.network import build_model, with_head
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.stored_weights import SMALLEST, RoundedNetwork, has_trees, with_rounded_weights
from kubetfx.models.training_record import Fitted
from kubetfx.serving.saved_model import SavedModel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

WORDS = [f"word{number}" for number in range(300)]
ROWS = [
    {
        "text": " ".join(WORDS[(i * step) % 300] for step in (1, 7, 11, 13, 17, 19)) + f" {i}",
        "size": i * 0.37 % 5,
        "kind": "ab"[i % 2],
    }
    for i in range(240)
]


@pytest.fixture(scope="module")
def texts(preprocess):
    return preprocess(ROWS, label="kind", text_encoder={"size": 32, "ngrams": 1})


@pytest.fixture(scope="module")
def trained(texts):
    features = texts.transform(ROWS)
    keras.utils.set_random_seed(0)
    network = build_model(texts.output, model=ModelConfig(members=1), features=texts.config, num_outputs=2)
    fit_layers(network, features)
    labels = features.pop("label").reshape(-1)
    model = with_head(network, labels=labels, is_classifier=True)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit({tensor.name: features[tensor.name] for tensor in model.inputs}, labels, epochs=3, verbose=0)
    return model, features, labels


def batches(trained, size: int = 64):
    model, features, labels = trained
    rows = {tensor.name: features[tensor.name] for tensor in model.inputs}
    dataset = tf.data.Dataset.from_tensor_slices((rows, labels[:, None])).batch(size)
    return dataset.repeat(), -(-len(labels) // size)


def test_float16_is_half_and_int8_a_quarter(trained):
    model, _, _ = trained
    exact = sum(variable.numpy().nbytes for variable in model.variables)

    halves, quarters = (RoundedNetwork(model, kind=kind).stored_bytes for kind in ("float16", "int8"))

    assert 0.5 * exact <= halves < 0.53 * exact
    assert 0.25 * exact <= quarters < 0.33 * exact


def test_weights_are_rounded_to_the_nearest_step_of_their_slice(trained):
    model, _, _ = trained
    large = [variable for variable in model.variables if len(variable.shape) > 1 and np.size(variable) >= SMALLEST]
    layer = RoundedNetwork(model, kind="int8")

    assert large
    for variable, stored in zip(model.variables, layer._stored, strict=True):
        values = variable.numpy()
        if len(stored) == 1:
            np.testing.assert_array_equal(stored[0].numpy(), values)
        else:
            step = np.abs(values).max(axis=tuple(range(values.ndim - 1))) / 127
            wide = stored[0].numpy() * stored[1].numpy()
            assert (np.abs(wide - values) <= step / 2 * 1.001).all()


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 1e-3), ("int8", 0.02)])
def test_what_rounding_changes_is_measured(trained, kind, tolerance):
    model, features, labels = trained
    rows = {tensor.name: features[tensor.name] for tensor in model.inputs}

    rounded = with_rounded_weights(Fitted(model, {"loss": [1.0]}), kind, batches(trained))

    exact, found = (one.predict(rows, verbose=0) for one in (model, rounded.model))
    said = rounded.history["stored_weights"]
    assert rounded.history["loss"] == [1.0]
    assert (said["kind"], said["rows"]) == (kind, len(labels))
    assert 0 < said["difference"] < tolerance
    assert said["difference"] == pytest.approx(np.abs(exact - found).max(), rel=1e-3)
    losses = [-np.log(answers[np.arange(len(labels)), labels]).mean() for answers in (exact, found)]
    assert said["losses"] == pytest.approx(losses, rel=1e-4)


def test_served_model_has_the_rounded_weights_alone(trained, texts, tmp_path):
    model, features, _ = trained
    rounded = with_rounded_weights(Fitted(model, {}), "int8", batches(trained)).model
    sizes = {}
    for name, one in (("exact", model), ("rounded", rounded)):
        export_model(one, Preprocessing(texts.output), texts.features, tmp_path / name)
        sizes[name] = (tmp_path / name / "variables" / "variables.data-00000-of-00001").stat().st_size
    served = SavedModel(tmp_path / "rounded")

    found = served.signature("serving_default")(
        {
            "text": np.array([row["text"].encode() for row in ROWS[:9]], object),
            "size": np.array([row["size"] for row in ROWS[:9]], np.float32),
        }
    )
    served.close()

    expected = rounded.predict({tensor.name: features[tensor.name][:9] for tensor in rounded.inputs}, verbose=0)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert sizes["rounded"] < 0.4 * sizes["exact"]


def test_trees_keep_their_digits(trained):
    model, _, _ = trained
    inputs = {tensor.name: tensor for tensor in model.inputs}
    trees = keras.Model(inputs, _Trees(name="trees")(model(inputs)))

    stored = with_rounded_weights(Fitted(trees, {}), "int8", batches(trained))

    assert stored.model is trees
    assert stored.history["stored_weights"] == {"kind": "float32", "why": "the cuts of trees need their digits"}
    assert has_trees(keras.Model(inputs, trees(inputs)))
    assert not has_trees(model)


class _Trees(Forest):
    """A forest without a tree."""

    def __init__(self, **options) -> None:
        keras.layers.Layer.__init__(self, **options)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape)

    def call(self, inputs):
        return inputs


def test_trees_by_themselves_are_refused(tmp_path):
    sections = {"name": "a", "data": {"path": "a.csv", "label": "b"}, "model": {"kind": "trees"}}

    with pytest.raises(ConfigError, match=r"of trees need all their digits\. Received: serving\.weights: int8"):
        PipelineConfig(tmp_path, **sections, serving={"weights": "int8"})


def test_rows_that_count_twice_do_so_in_what_is_measured(trained):
    model, features, labels = trained
    rows = {tensor.name: features[tensor.name] for tensor in model.inputs}
    weights = np.where(labels == 0, 3.0, 1.0)
    dataset = tf.data.Dataset.from_tensor_slices((rows, labels[:, None], weights)).batch(64).repeat()

    said = with_rounded_weights(Fitted(model, {}), "int8", (dataset, 4)).history["stored_weights"]

    answers = model.predict(rows, verbose=0)
    expected = np.average(-np.log(answers[np.arange(len(labels)), labels]), weights=weights)
    assert said["losses"][0] == pytest.approx(expected, rel=1e-4)


def test_model_that_sees_pictures_is_refused(monkeypatch, tmp_path):
    from types import SimpleNamespace

    from kubetfx.config.training_section import TrainingConfig
    from kubetfx.models import training
    from kubetfx.models.team import Team

    work = SimpleNamespace(pixels=SimpleNamespace(column="photo"), training=None)
    monkeypatch.setattr(training.Work, "of", lambda *_: work)
    arguments = SimpleNamespace(custom_config={"weights": "int8"})

    with pytest.raises(TrainingError, match=r"Received: serving.weights: int8, and the column 'photo'") as error:
        training.train(arguments, TrainingConfig(), Team())
    assert json.dumps(str(error.value))

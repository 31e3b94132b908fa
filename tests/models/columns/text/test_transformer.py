"""Transformers: from scratch with pre-training, and those of others as they are or trained on."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.text_section import TextEncoderConfig, TextFineTuneConfig, TextPretrainConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.columns.text.masked_tokens import pretrain
from kubetfx.models.columns.text.pretrained import prepare
from kubetfx.models.columns.text.pretrained_folder import PretrainedFolder
from kubetfx.models.columns.text.text_blocks import BLOCK
from kubetfx.models.columns.text.text_type import Text
from kubetfx.models.columns.text.transformer import Transformer, mean_vectors
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.network import build_model
from kubetfx.models.optimization import compile_model
from kubetfx.models.stored_weights import RoundedNetwork
from tests.models.columns.text.test_text_type import ODD, ROWS
from tests.models.test_export import TOLERANCE, export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

REFERENCES = Path(__file__).parent / "references"
SHAPE = Shape(vocabulary=40, positions=12, layers=3, heads=2, width=8, inner=16)
ENCODERS = {
    "transformer": {"kind": "transformer", "layers": 1, "heads": 2, "size": 8, "length": 16},
    "pretrained": {"pretrained": str(REFERENCES / "bert"), "length": 24},
    "fine-tuned": {"pretrained": str(REFERENCES / "roberta"), "fine_tune": {}, "length": 500},
}


@pytest.fixture(scope="module")
def prepared(preprocess):
    """Rows with an encoder of the above; each is prepared once."""
    return functools.cache(lambda name: preprocess(ROWS, label="liked", text_encoder=ENCODERS[name]))


@pytest.mark.long
@pytest.mark.parametrize("name", ENCODERS)
def test_a_raw_sentence_is_answered_in_the_session_of_the_servers_loader(name, prepared, tmp_path):
    asked = [*ROWS[:20], *({"review": text, "stars": 1.5} for text in ODD)]

    for exported in export(prepared(name), tmp_path / "model", ROWS):
        inputs = {
            "review": np.array([row["review"].encode() for row in asked], object),
            "stars": np.array([row["stars"] for row in asked], np.float32),
        }
        found = exported.run("serving_default", **inputs)["probabilities"]
        np.testing.assert_allclose(found, exported.eager(asked), atol=TOLERANCE)
        assert len(np.unique(found[:20], axis=0)) > 10
        spoilt = inputs | {"review": np.array([b"great \xff\xfe fun"] * len(asked), object)}
        assert np.isfinite(exported.run("serving_default", **spoilt)["probabilities"]).all()


@pytest.mark.long
def test_an_encoder_as_it_is_gives_the_vectors_of_its_library(prepared):
    text = "The service was friendly, and the food unbelievably good!"
    rows = prepared("pretrained")
    expected = json.loads((REFERENCES / "bert" / "expected.json").read_text(encoding="utf-8"))

    found = rows.transform([ROWS[0] | {"review": text}])["text_vectors"]

    assert expected["texts"][0] == text
    np.testing.assert_allclose(found, expected["vectors"][:1], atol=1e-5)


def test_a_model_with_fewer_places_than_the_length_has_shorter_rows(prepared):
    rows = prepared("fine-tuned")

    assert rows.transform(ROWS[:1])["text_pieces"].shape == (1, 1, 32)


@pytest.mark.long
def test_trees_have_the_vectors_too(prepared):
    rows = prepared("pretrained")
    features = {name: tf.constant(values) for name, values in rows.transform(ROWS[:3]).items()}

    assert Text().for_trees(features, rows.features.by_type["text"]) == {}  # as they are
    assert features["text_vectors"].shape == (3, 8)


@pytest.mark.parametrize("name", ["transformer", "fine-tuned"])
def test_weights_may_be_stored_as_int8(name, prepared):
    rows = prepared(name)
    network = build_model(rows.output, model=ModelConfig(members=1), features=rows.config, num_outputs=2)
    features = {n: values for n, values in rows.transform(ROWS[:8]).items() if n != "label"}
    inputs = {tensor.name: features[tensor.name] for tensor in network.inputs}

    found = RoundedNetwork(network, kind="int8")(inputs)

    np.testing.assert_allclose(found, network(inputs), atol=0.05)


def _layer(shape: Shape = SHAPE, **options) -> Transformer:
    layer = Transformer("text_tokens", shape, name="text_transformer", **options)
    inputs = keras.Input((1, SHAPE.positions), dtype="int64")
    keras.Model(inputs, layer(inputs))
    return layer


def _tokens(number: int) -> np.ndarray:
    chance = np.random.default_rng(1)
    tokens = chance.integers(1, SHAPE.vocabulary, (number, 1, SHAPE.positions))
    return np.where(np.arange(SHAPE.positions) < chance.integers(0, SHAPE.positions + 1, (number, 1, 1)), tokens, 0)


def test_vectors_depend_neither_on_other_texts_nor_on_blocks():
    layer, tokens = _layer(), _tokens(BLOCK * 2 + 5)

    found = layer(tokens).numpy()

    weights = layer.tensors()
    alone = np.stack([mean_vectors(weights, row, SHAPE).numpy() for row in tokens])
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert not found[(tokens == 0).all(axis=2)].any()


def test_units_are_dropped_in_training_alone():
    layer, tokens = _layer(dropout=0.5), _tokens(8)

    assert np.array_equal(layer(tokens), layer(tokens))
    assert not np.allclose(layer(tokens, training=True), layer(tokens, training=True))


# Pre-training


def _pretrained() -> tuple[Transformer, dict]:
    keras.utils.set_random_seed(0)
    layer = _layer(replace(SHAPE, layers=1))
    texts = np.random.default_rng(2).integers(1, SHAPE.vocabulary, (200, 1, 1)).repeat(SHAPE.positions, axis=2)
    return layer, pretrain(layer, texts, TextPretrainConfig(epochs=8, batch_size=16, learning_rate=0.03))


@pytest.mark.long
def test_hidden_tokens_are_guessed_ever_better_and_the_same_with_the_same_seed():
    (layer, found), (again, same) = (_pretrained() for _ in range(2))

    assert found["texts"] == 200
    assert found["val_loss"][-1] < 0.8 * found["val_loss"][0]
    assert found == same
    for one, two in zip(layer.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_texts_of_one_token_teach_nothing():
    tokens = np.zeros((5, 1, SHAPE.positions), np.int64)
    tokens[:, 0, 0] = 3

    assert pretrain(_layer(), tokens, TextPretrainConfig()) == {"texts": 0, "loss": [], "val_loss": []}


def test_the_network_is_pretrained_before_the_training(prepared):
    rows = prepared("transformer")
    config = FeaturesConfig(text_encoder=ENCODERS["transformer"] | {"pretrain": {"epochs": 2}})
    network = build_model(rows.output, model=ModelConfig(members=1), features=config, num_outputs=2)
    layer = network.get_layer("text_transformer")

    layer.fit_to(rows.transform(ROWS)["text_tokens"])

    assert layer.pretraining["texts"] == len(ROWS)
    assert len(layer.pretraining["loss"]) == 2


# Fine-tuning


def test_rates_fall_from_layer_to_layer_and_lower_layers_may_be_frozen():
    layer = _layer()

    rates = prepare(layer, TextFineTuneConfig(learning_rate=1e-4, layer_decay=0.5, layers=2))

    found = {name: rates[layer.by_name[name].path] for name in ("layer_2_inner_kernel", "layer_1_inner_kernel")}
    assert found == {"layer_2_inner_kernel": 1e-4, "layer_1_inner_kernel": 5e-5}
    frozen = {name for name, weight in layer.by_name.items() if not weight.trainable}
    assert frozen == {name for name in layer.by_name if not name.startswith(("layer_1_", "layer_2_"))}
    rates = prepare(layer, TextFineTuneConfig(learning_rate=1e-4, layer_decay=0.5))
    assert rates[layer.by_name["words"].path] == 1e-4 / 8
    assert all(weight.trainable for weight in layer.by_name.values())


def test_only_the_upper_layers_learn():
    layer = _layer()
    inputs = keras.Input((1, SHAPE.positions), dtype="int64")
    flat = keras.layers.Reshape((SHAPE.width,))(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(flat))
    layer.learning_rates = prepare(layer, TextFineTuneConfig(learning_rate=1e-3, layers=1))
    before = {name: keras.ops.convert_to_numpy(weight) for name, weight in layer.by_name.items()}
    labels = np.arange(16) % 2
    compile_model(
        model,
        TrainingConfig(schedule={"kind": "constant"}),
        labels=labels,
        num_steps=1,
        is_classifier=True,
        has_one_hot_labels=False,
    )

    model.train_on_batch(_tokens(16), labels)

    changed = {name for name, weight in layer.by_name.items() if not np.array_equal(before[name], weight)}
    assert changed
    assert changed <= {name for name in before if name.startswith("layer_2_")}


def test_a_layer_of_others_begins_with_their_weights(prepared):
    rows = prepared("fine-tuned")
    network = build_model(rows.output, model=ModelConfig(members=1), features=rows.config, num_outputs=2)
    weights = PretrainedFolder(str(REFERENCES / "roberta")).weights()

    for name, weight in network.get_layer("pretrained_transformer").by_name.items():
        np.testing.assert_array_equal(tf.convert_to_tensor(weight), weights[name])


# Config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "pretrained"}, r"pretrained: FOLDER, .* is missing.*Received: kind: pretrained\."),
        ({"kind": "bag", "pretrained": "x"}, r"pretrained applies to kind: pretrained only\. Received: kind: bag"),
        ({"kind": "bag", "layers": 3}, r"layers applies to kind: transformer only\. Received: kind: bag"),
        ({"pretrain": {"epochs": 5}}, r"pretrain applies to kind: transformer only\. Received: kind: auto"),
        ({"kind": "transformer", "fine_tune": {}}, r"fine_tune applies to kind: pretrained only"),
        ({"pretrained": "x", "tokens": "characters"}, r"encoder has its own tokenizer and sizes\. Received: .*tokens"),
        (
            {"pretrained": "x", "cleaning": {"html": False}},
            r"encoder has its own tokenizer and sizes\. Received: "
            r".*cleaning",
        ),
        (
            {"kind": "transformer", "heads": 5},
            r"heads must divide size\. Received: size: 64, heads: 5\. Set size to "
            r"160",
        ),
        ({"kind": "transformer", "ngrams": 2}, r"ngrams apply to kind: bag and fasttext only"),
        ({"kind": "transformer", "tokens": "subwords"}, r"subwords have no order, and a transformer needs one"),
    ],
)
def test_keys_fit_the_kind(config, message):
    with pytest.raises(ValueError, match=message):
        TextEncoderConfig.model_validate(config)


def test_a_folder_says_the_kind():
    assert TextEncoderConfig.model_validate({"pretrained": "x"}).kind == "pretrained"

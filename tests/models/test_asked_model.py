"""A model that is asked by columns, against the same model asked with tf.Examples."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.config.model_section import ModelConfig
from kubetfx.models import tabular
from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.export import TRANSFORM_COLUMNS, export_model
from kubetfx.models.preprocessing import Preprocessing
from tests.models.conftest import make_rows, to_block, to_examples, without_signatures

ROWS = make_rows(40)


@pytest.fixture(scope="module", params=["classification", "regression"])
def exported(request, preprocess, tmp_path_factory) -> tuple[Path, str]:
    task, label = request.param, "species" if request.param == "classification" else "mass"
    preprocessed = preprocess(ROWS, label=label, task=task, vocabulary_size=10, hash_buckets=16)
    keras.utils.set_random_seed(1)
    network = tabular.build_model(
        preprocessed.output,
        model=ModelConfig(hidden_units=(8,), embedding_size=3),
        features=preprocessed.config,
        num_outputs=len(preprocessed.features.classes) or 1,
    )
    head = keras.layers.Softmax() if task == "classification" else keras.layers.Rescaling(scale=9.0, offset=4.0)
    path = tmp_path_factory.mktemp("model") / "Format-Serving"
    export_model(
        keras.Model(network.input, head(network.output)),
        Preprocessing(preprocessed.output),
        preprocessed.features,
        path,
    )
    return path, "probabilities" if task == "classification" else "value"


def test_answers_and_labels_are_those_of_tf_examples(exported):
    path, output = exported
    loaded = tf.saved_model.load(str(path))
    examples = tf.constant(to_examples(ROWS))

    labels, answers, _ = AskedModel(path).ask(to_block(ROWS))

    np.testing.assert_array_equal(answers, loaded.signatures["serving_examples"](examples=examples)[output])
    theirs = loaded.signatures["transform_features"](examples=examples)["label"].numpy().reshape(-1)
    np.testing.assert_array_equal(labels, theirs)


def test_columns_that_nobody_asks_for_are_not_read(exported):
    path, _ = exported
    model = AskedModel(path)

    wanted = columns_to_read([model], ["sex", "island"])
    assert model.columns is not None
    assert wanted == list(dict.fromkeys([*model.columns, "sex", "island"]))


def test_model_of_an_earlier_version_is_asked_with_tf_examples(exported, tmp_path):
    path, _ = exported
    earlier = without_signatures(path, tmp_path / "earlier", TRANSFORM_COLUMNS)
    assert TRANSFORM_COLUMNS not in tf.saved_model.load(str(earlier)).signatures

    old = AskedModel(earlier)

    assert columns_to_read([old, AskedModel(path)], []) is None
    for ours, theirs in zip(old.ask(to_block(ROWS))[:2], AskedModel(path).ask(to_block(ROWS))[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)

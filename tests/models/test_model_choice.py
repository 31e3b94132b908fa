"""Which of two models is taken: both are linear in a signal and a noise, so that their losses are known."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models.model_choice import choose
from kubetfx.models.training_record import Fitted
from kubetfx.models.training_rows import TrainingRows

ROWS = 200
SIGNAL = np.linspace(-1, 1, ROWS, dtype=np.float32)[:, np.newaxis]
NOISE = np.tile(np.float32([[1], [-1]]), (ROWS // 2, 1))


def fitted(kind: str, weights: list[list[float]], activation: str = "linear") -> Fitted:
    """A model of one layer with these weights, (features, outputs)."""
    numbers = keras.Input((2,), name="numbers")
    layer = keras.layers.Dense(
        len(weights[0]), activation=activation, use_bias=False, kernel_initializer=lambda *_, **__: tf.constant(weights)
    )
    return Fitted(keras.Model({"numbers": numbers}, layer(numbers), name=kind), {"kind": kind})


@pytest.fixture
def validation() -> TrainingRows:
    arrays = {"numbers": np.hstack([SIGNAL, NOISE]), "label": SIGNAL}
    return TrainingRows(ROWS, SIGNAL[:, 0], arrays, tf.data.Dataset.range(0), arrays)


@pytest.mark.parametrize("better", ["network", "trees"])
def test_better_one_is_taken_as_it_is(validation, better):
    models = {kind: fitted(kind, [[1.0 if kind == better else 0.0], [0.0]]) for kind in ("network", "trees")}

    found = choose(models["network"], models["trees"], validation, is_classifier=False)

    assert found.model is models[better].model
    assert {found.history["kind"], found.history["beside"]["kind"]} == {"network", "trees"}
    assert found.history["kind"] == better
    choice = found.history["choice"]
    assert (choice["kind"], choice["metric"], choice["rows"]) == (better, "root_mean_squared_error", ROWS)
    assert choice["values"][better] == 0
    assert choice["values"]["average"] > 0


def test_rows_count_as_often_as_their_weights_say(validation):
    weights = (np.abs(SIGNAL[:, 0]) < 0.5).astype(np.float32)
    network, trees = fitted("network", [[0.5], [0.0]]), fitted("trees", [[0.0], [0.0]])

    found = choose(network, trees, replace(validation, weights=weights), is_classifier=False)

    expected = 0.5 * np.sqrt(np.average(SIGNAL[:, 0] ** 2, weights=weights))
    assert found.history["choice"]["values"]["network"] == pytest.approx(expected, rel=1e-5)


def test_average_is_taken_where_errors_cancel(validation):
    network, trees = fitted("network", [[1.0], [3.0]]), fitted("trees", [[1.0], [-1.0]])

    found = choose(network, trees, validation, is_classifier=False)

    choice = found.history["choice"]
    assert (choice["kind"], choice["trees_share"]) == ("average", pytest.approx(0.7))  # 0.75 would cancel all
    features = {"numbers": np.hstack([SIGNAL, NOISE])}
    expected = 0.3 * network.model(features).numpy() + 0.7 * trees.model(features).numpy()
    np.testing.assert_allclose(found.model(features).numpy(), expected, atol=1e-6)
    assert found.history["kind"] == "trees"
    assert choice["values"]["average"] == pytest.approx(np.sqrt(np.square(expected - SIGNAL).mean()), rel=1e-5)


def test_classes_are_judged_by_cross_entropy(validation):
    labels = (SIGNAL[:, 0] > 0).astype(np.int64)
    rows = TrainingRows(ROWS, labels, validation.arrays, None, validation.sample)
    sure, unsure = (
        fitted(kind, [[-slope, slope], [0.0, 0.0]], "softmax") for kind, slope in (("network", 4.0), ("trees", 0.5))
    )

    choice = choose(sure, unsure, rows, is_classifier=True).history["choice"]

    margins = 8 * SIGNAL[:, 0] * (2 * labels - 1)
    assert (choice["kind"], choice["metric"]) == ("network", "cross_entropy")
    assert choice["values"]["network"] == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)

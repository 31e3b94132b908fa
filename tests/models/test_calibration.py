"""Temperatures of models that are known to be too certain, or not certain enough, by a known factor."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.components.evaluation.classification import CalibrationError
from kubetfx.components.evaluation.metric import value_of
from kubetfx.models.calibration import Temperature, calibrate
from kubetfx.models.temperature import cross_entropy, find_temperature, uncalibrated
from kubetfx.models.training_record import Fitted

ROWS = 6_000


def softmax(logits: np.ndarray) -> np.ndarray:
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    return likely / likely.sum(axis=1, keepdims=True)


def rows(classes: int, factor: float, *, number: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn by true logits, and what a model says whose logits are so many times as large."""
    random = np.random.default_rng(classes)
    logits = random.normal(0, 1.5, size=(number, classes))
    labels = np.array([random.choice(classes, p=own) for own in softmax(logits)])
    return labels, softmax(factor * logits).astype(np.float32)


def error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(value_of(CalibrationError(), labels, probabilities))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_factor_that_a_model_is_too_certain_by_is_found_and_its_error_goes(classes, factor):
    labels, probabilities = rows(classes, factor)
    seen, unseen = slice(0, ROWS // 2), slice(ROWS // 2, None)

    temperature = find_temperature(labels[seen], probabilities[seen], np.ones(ROWS // 2))

    assert temperature == pytest.approx(factor, rel=0.1)
    calibrated = Temperature(temperature)(probabilities[unseen]).numpy()
    assert error(labels[unseen], probabilities[unseen]) > 0.09
    assert error(labels[unseen], calibrated) < 0.025
    assert (calibrated.argmax(axis=1) == probabilities[unseen].argmax(axis=1)).all()


def test_calibrated_model_keeps_its_temperature():
    labels, probabilities = rows(3, 1.0)

    assert find_temperature(labels, probabilities, np.ones(ROWS)) == pytest.approx(1, abs=0.05)


def test_few_rows_without_a_mistake_make_no_model_certain():
    labels = np.array([0, 1] * 10)
    probabilities = np.where(np.eye(2)[labels] == 1, 0.9, 0.1)

    temperature = find_temperature(labels, probabilities, np.ones(20))

    assert 0.3 < temperature < 1


@pytest.mark.parametrize("seed", range(20))
def test_cross_entropy_of_the_rows_never_rises(seed):
    random = np.random.default_rng(seed)
    labels, probabilities = random.integers(0, 4, 12), softmax(random.normal(0, 3, size=(12, 4)))
    weights = random.uniform(size=12)

    temperature = find_temperature(labels, probabilities, weights)

    before, after = (cross_entropy(labels, probabilities, weights, temperature=one) for one in (1, temperature))
    assert after <= before


def test_weights_are_copies_of_rows():
    labels, probabilities = rows(3, 2.0, number=200)
    times = np.arange(200) % 3
    copies = np.repeat(np.arange(200), times)

    weighted = find_temperature(labels, probabilities, times.astype(float))

    copied = find_temperature(labels[copies], probabilities[copies], np.ones(len(copies)))
    assert weighted == pytest.approx(copied, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.3, 1.7])
def test_temperature_can_be_taken_back(temperature):
    _, probabilities = rows(4, 2.0, number=100)

    calibrated = Temperature(temperature)(probabilities).numpy()

    np.testing.assert_allclose(uncalibrated(calibrated, temperature), probabilities, rtol=1e-3, atol=1e-6)


def test_certainty_without_a_doubt_stays_finite():
    calibrated = Temperature(2.0)(np.array([[1, 0], [0, 1]], np.float32)).numpy()

    np.testing.assert_allclose(calibrated, np.eye(2), atol=1e-6)
    assert np.isfinite(find_temperature(np.array([1, 1]), np.eye(2), np.ones(2)))


def test_exported_model_has_the_temperature_and_history_says_so(tmp_path):
    labels, probabilities = rows(3, 3.0, number=1_000)
    logits = np.log(probabilities)
    inputs = keras.Input((3,), name="a")
    model = keras.Model({"a": inputs}, keras.layers.Softmax(name="head")(inputs), name="network")
    batches = tf.data.Dataset.from_tensor_slices(({"a": logits}, labels)).batch(64).repeat()

    fitted = calibrate(Fitted(model, {"epochs": 3}), (batches, -(-1_000 // 64)))

    found = fitted.history["calibration"]
    temperature = found["temperature"]
    assert (found["rows"], fitted.history["epochs"]) == (1_000, 3)
    assert temperature == pytest.approx(find_temperature(labels, probabilities, np.ones(1_000)), rel=1e-4)
    assert found["after"] < found["before"]
    fitted.model.export(str(tmp_path / "model"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(
        loaded.serve({"a": tf.constant(logits)}), softmax(logits / temperature), rtol=1e-4, atol=1e-6
    )

"""The temperature of models/temperature.py as the last layer of a model."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.models.temperature import SMALLEST, cross_entropy, find_temperature
from kubetfx.models.training_record import Fitted


class Temperature(keras.layers.Layer):
    """From probabilities, (batch, classes), to calibrated ones."""

    def __init__(self, temperature: float, **options: Any) -> None:
        """Remember the temperature.

        Args:
            temperature: above 1 it makes a model less certain, below 1 more.
            options: Keras'.
        """
        super().__init__(trainable=False, dtype="float32", **options)
        self.temperature = temperature

    def call(self, probabilities: Any) -> Any:
        """Return softmax(log(probabilities) / temperature), (batch, classes).

        Args:
            probabilities: (batch, classes).
        """
        return tf.nn.softmax(tf.math.log(tf.maximum(probabilities, SMALLEST)) / self.temperature)


def calibrate(fitted: Fitted, validation: tuple[tf.data.Dataset, int]) -> Fitted:
    """Calibrate a model by rows that it was not trained on.

    Args:
        fitted: a classifier.
        validation: batches of (features, label), and the weights where rows have any; and how many are in an epoch.

    Returns:
        The same with the temperature at its end. Its history has it as `calibration`, with the cross entropy of the
        rows before and after.
    """
    ask = functools.partial(fitted.model, training=False)
    labels, probabilities, weights = answers_of(ask, *validation)
    return with_temperature(fitted, labels.astype(np.int64), probabilities, weights)


def with_temperature(fitted: Fitted, labels: Array, probabilities: Array, weights: Array) -> Fitted:
    """Calibrate a model by what it says of rows that it was not trained on.

    Args:
        fitted: a classifier.
        labels: (rows,) index of the class.
        probabilities: (rows, classes).
        weights: (rows,) how often each row counts.

    Returns:
        As `calibrate`.
    """
    temperature = find_temperature(labels, probabilities, weights)
    before, after = (cross_entropy(labels, probabilities, weights, temperature=one) for one in (1.0, temperature))
    document = {"temperature": temperature, "before": before, "after": after, "rows": len(labels)}
    logging.info("Calibration: %s", document)
    model = fitted.model
    inputs = {tensor.name: tensor for tensor in model.inputs}
    calibrated = keras.Model(inputs, Temperature(temperature, name="temperature")(model.output), name=model.name)
    return Fitted(calibrated, fitted.history | {"calibration": document})


def answers_of(ask: Callable[[Any], Any], batches: tf.data.Dataset, steps: int) -> tuple[Array, Array, Array]:
    """Ask for rows that were not trained on.

    Args:
        ask: from features to a tensor of as many rows.
        batches: of (features, label), and the weights where rows have any.
        steps: batches that are taken.

    Returns:
        (rows,) labels, what `ask` says of the rows, and (rows,) how often each counts.
    """
    asked = tf.function(ask, reduce_retracing=True)
    labels, answers, weights = [], [], []
    for features, truth, *others in batches.take(steps):
        labels.append(np.asarray(truth).reshape(-1))
        answers.append(np.asarray(asked(features)))
        weights.append(np.asarray(others[0], np.float64).reshape(-1) if others else np.ones(len(labels[-1])))
    return np.concatenate(labels), np.concatenate(answers), np.concatenate(weights)

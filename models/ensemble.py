"""`model.ensemble`: networks of different seeds, averaged into one model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.models.training_record import Fitted

if TYPE_CHECKING:
    from kubetfx.models.fitting import Work

_SMALLEST = 1e-7
"""Lower bound of a probability, as in Keras' cross entropy."""


def fit_ensemble(
    work: "Work",
    fit: "Callable[[Work, Path | None], Fitted]",
    folder: Path | None,
    validation: tuple[tf.data.Dataset, int],
) -> Fitted:
    """Fit networks of different seeds one after the other, and average what they say.

    Args:
        work: What is fitted; its `model.num_networks` says how many networks.
        fit: Fits one, with its checkpoint in a folder.
        folder: The folder of the checkpoints; None: none are written.
        validation: batches of (features, label), and the weights where rows have any; and how many are in an epoch.

    Returns:
        The mean of the networks: of their probabilities, or of their values. Its history is that of the first one, with
        the losses of all as `ensemble`.
    """
    fitted = []
    for number in range(work.model.num_networks):
        member = work.of_member(number)
        keras.utils.set_random_seed(member.training.seed)
        fitted.append(fit(member, folder / str(number) if folder else None))
    models = [one.model for one in fitted]
    is_classifier = bool(work.features.classes)
    losses, mean_loss, rows = _losses(models, *validation, is_classifier=is_classifier)
    document = {
        "metric": "cross_entropy" if is_classifier else "root_mean_squared_error",
        "members": losses,
        "value": mean_loss,
        "rows": rows,
    }
    logging.info("Ensemble: %s", document)
    return Fitted(_mean_of(models), fitted[0].history | {"ensemble": document})


def _mean_of(models: Sequence[keras.Model]) -> keras.Model:
    inputs = {tensor.name: tensor for tensor in models[0].inputs}
    for number, model in enumerate(models):
        model.name = f"network_{number}"  # the layers of a model have names of their own
    outputs = [model({tensor.name: inputs[tensor.name] for tensor in model.inputs}) for model in models]
    return keras.Model(inputs, keras.layers.Average(name="mean", dtype="float32")(outputs), name="ensemble")


def _losses(
    models: Sequence[keras.Model], batches: tf.data.Dataset, steps: int, *, is_classifier: bool
) -> tuple[list[float], float, int]:
    """Return the loss of each network by itself, that of their mean, and the number of rows."""
    totals, weight_sum, num_rows = np.zeros(len(models) + 1), 0.0, 0

    @tf.function(reduce_retracing=True)
    def ask(features: Any) -> Any:
        return [model(features, training=False) for model in models]

    for features, labels, *others in batches.take(steps):
        outputs = [np.asarray(one, np.float64) for one in ask(features)]
        weights = np.asarray(others[0], np.float64).reshape(-1) if others else np.ones(len(labels))
        truth = np.asarray(labels)
        for index, one in enumerate([*outputs, np.mean(outputs, axis=0)]):
            totals[index] += float((_row_losses(one, truth, is_classifier=is_classifier) * weights).sum())
        weight_sum += float(weights.sum())
        num_rows += len(truth)
    means = totals / weight_sum
    found = (means if is_classifier else np.sqrt(means)).tolist()
    return found[:-1], found[-1], num_rows


def _row_losses(outputs: Array, labels: Array, *, is_classifier: bool) -> Array:
    if not is_classifier:
        squared: Array = np.square(outputs[:, 0] - labels.reshape(-1))
        return squared
    index = labels.reshape(-1).astype(np.int64)
    likelihoods: Array = -np.log(np.maximum(outputs[np.arange(len(index)), index], _SMALLEST))
    return likelihoods

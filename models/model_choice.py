"""`model.kind: auto`: network and trees are both trained.

The validation rows say which is taken, or how much of each.
"""

from typing import Any

import keras
import numpy as np
from absl import logging

from kubetfx.arrays import Array
from kubetfx.models.features import LABEL
from kubetfx.models.training_record import Fitted
from kubetfx.models.training_rows import TrainingRows

SHARES = np.linspace(0.1, 0.9, 9)
"""Shares of the trees in an average of both."""
GAIN = 0.001
"""Share by which an average has to lower the better one's loss: it takes the time of both."""
_BATCH = 4_096
_SMALLEST = 1e-7
"""Lower bound of a probability, as in Keras' cross entropy."""


def choose(network: Fitted, trees: Fitted, validation: TrainingRows, *, is_classifier: bool) -> Fitted:
    """Take the better of two models, or their average.

    Args:
        network: The trained network.
        trees: The trees, trained on the same rows.
        validation: Rows that neither was trained on, in memory.
        is_classifier: Whether the label is a class rather than a number.

    Returns:
        Its history is that of the better one, with the other's as `beside`, and `choice` says what was taken.
    """
    fitted = {"network": network, "trees": trees}
    answers = {kind: _answers(one.model, validation) for kind, one in fitted.items()}
    losses = {kind: _loss(own, validation, is_classifier=is_classifier) for kind, own in answers.items()}
    blends = {share: (1 - share) * answers["network"] + share * answers["trees"] for share in SHARES.tolist()}
    blended = {share: _loss(own, validation, is_classifier=is_classifier) for share, own in blends.items()}
    better, other = sorted(losses, key=losses.__getitem__)
    share = min(blended, key=blended.__getitem__)
    kind = "average" if blended[share] < (1 - GAIN) * losses[better] else better
    choice = {
        "kind": kind,
        "metric": "cross_entropy" if is_classifier else "root_mean_squared_error",
        "values": losses | {"average": blended[share]},
        "trees_share": share,
        "rows": validation.num_rows,
    }
    logging.info("Choice by the validation rows: %s", choice)
    model = _average(network.model, trees.model, share) if kind == "average" else fitted[kind].model
    return Fitted(model, fitted[better].history | {"choice": choice, "beside": fitted[other].history})


def _answers(model: keras.Model, rows: TrainingRows) -> Array:
    """Return (rows, outputs) float64."""
    assert rows.arrays is not None  # trees were trained on such
    features = {name: array for name, array in rows.arrays.items() if name != LABEL}
    found: Array = model.predict(features, batch_size=_BATCH, verbose=0).astype(np.float64)
    return found


def _loss(answers: Array, rows: TrainingRows, *, is_classifier: bool) -> float:
    labels, weights = rows.labels, rows.weights
    if is_classifier:
        likelihoods = answers[np.arange(len(labels)), labels.astype(np.int64)]
        return float(np.average(-np.log(np.maximum(likelihoods, _SMALLEST)), weights=weights))
    return float(np.sqrt(np.average(np.square(answers[:, 0] - labels), weights=weights)))


def _average(network: keras.Model, trees: keras.Model, share: float) -> keras.Model:
    inputs = {tensor.name: tensor for tensor in trees.inputs}
    of_network = network({tensor.name: inputs[tensor.name] for tensor in network.inputs})
    return keras.Model(inputs, _Average(share, name="average")([of_network, trees(inputs)]), name="average")


class _Average(keras.layers.Layer):
    """A weighted mean of two tensors."""

    def __init__(self, share: float, **options: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **options)
        self._share = share

    def call(self, inputs: list[Any]) -> Any:
        first, second = inputs
        return (1 - self._share) * first + self._share * second

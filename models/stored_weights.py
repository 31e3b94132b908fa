"""`serving.weights`: a SavedModel whose weights take half a number's bytes, or a quarter.

Weights are rounded when the model is exported, and widened again where they are used; layers compute with float32, so
no other operations are needed. `int8` is symmetric, with a scale for each slice of the last axis (of a dense layer, for
each unit): Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018), for weights alone. Training knows nothing of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.models.calibration import answers_of
from kubetfx.models.forest import Forest
from kubetfx.models.temperature import cross_entropy
from kubetfx.models.training_record import Fitted

SMALLEST = 1_024
"""Numbers of a weight from which it is rounded: the others take no room. Those of one dimension, such as scales and
biases, need their digits."""
_MOST = 127
"""Largest int8 on either side of 0."""


class RoundedNetwork(keras.layers.Layer):
    """A network with its weights as they are stored.

    Args:
        network: trained; its own weights are not part of this layer.
        kind: `float16` or `int8`.
        keywords: The arguments that every Keras layer takes.
    """

    def __init__(self, network: keras.Model, *, kind: str, **keywords: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **keywords)
        # Keras takes every layer that it sees for a part, with its weights.
        self._network: Callable[[], keras.Model] = lambda: network
        self._stored = [self._store(variable, kind, number) for number, variable in enumerate(network.variables)]
        self._output_shape = network.output.shape

    @property
    def stored_bytes(self) -> int:
        """Bytes that its weights take."""
        return sum(bytes_of(variable) for variable in self.variables)

    def _store(self, variable: Any, kind: str, number: int) -> Sequence[Any]:
        """Return the numbers, and of int8 their scales."""
        values = keras.ops.convert_to_numpy(variable)
        if values.dtype != np.float32 or values.size < SMALLEST or values.ndim < 2:
            return [self._add(values, f"weight_{number}")]
        if kind == "float16":
            most = np.finfo(np.float16).max
            return [self._add(np.clip(values, -most, most).astype(np.float16), f"weight_{number}")]
        scales = np.abs(values).max(axis=tuple(range(values.ndim - 1))) / _MOST
        rounded = np.round(values / np.where(scales > 0, scales, 1)).astype(np.int8)
        return [self._add(rounded, f"weight_{number}"), self._add(scales.astype(np.float32), f"scales_{number}")]

    def _add(self, values: Array, name: str) -> Any:
        return self.add_weight(
            shape=values.shape,
            dtype=values.dtype.name,
            initializer=lambda *_, **__: keras.ops.convert_to_tensor(values),
            trainable=False,
            autocast=False,
            name=name,
        )

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return what `call` makes, for Keras.

        Args:
            inputs: features by name.

        Returns:
            Symbolic tensors in the shapes of the network's outputs.
        """
        return keras.KerasTensor(self._output_shape, dtype="float32")

    def call(self, inputs: Any) -> Any:
        """Ask the network with its rounded weights.

        Args:
            inputs: features by name.

        Returns:
            What the network says.
        """
        network = self._network()
        wide = [
            (variable, _widened(variable, stored))
            for variable, stored in zip(network.variables, self._stored, strict=True)
        ]
        with keras.StatelessScope(state_mapping=wide):
            return network(inputs, training=False)


def _widened(variable: Any, stored: Sequence[Any]) -> Any:
    values = tf.cast(stored[0].value, variable.dtype)
    return values * stored[1].value if len(stored) > 1 else values


def bytes_of(variable: Any) -> int:
    """Return the bytes that a variable takes.

    Args:
        variable: A Keras variable.
    """
    bytes_of_one: int = tf.as_dtype(variable.dtype).size
    return int(np.prod(variable.shape, dtype=np.int64)) * bytes_of_one


def with_rounded_weights(fitted: Fitted, kind: str, validation: tuple[tf.data.Dataset, int]) -> Fitted:
    """Round the weights of a model that is to be exported, and measure what that changes.

    Args:
        fitted: its model answers with probabilities or values.
        kind: `float16` or `int8`.
        validation: batches of (features, label), and the weights where rows have any; and how many are in an epoch.

    Returns:
        The same with weights that are rounded. Its history has as `stored_weights` the kind, bytes `before` and
        `after`, and of the validation rows their number, the largest difference between two `answers`, and the loss
        before and after: of a classifier the cross entropy, otherwise the mean squared error. A model with trees stays
        as it is, and `why` says so.
    """
    model = fitted.model
    if has_trees(model):
        why = "the cuts of trees need their digits"
        logging.info("Stored weights: float32, since %s.", why)
        return Fitted(model, fitted.history | {"stored_weights": {"kind": "float32", "why": why}})
    inputs = {tensor.name: tensor for tensor in model.inputs}
    layer = RoundedNetwork(model, kind=kind, name="rounded")
    rounded = keras.Model(inputs, layer(inputs), name=model.name)
    document = {
        "kind": kind,
        "bytes": [sum(map(bytes_of, model.variables)), layer.stored_bytes],
        **_compared(model, rounded, *validation),
    }
    logging.info("Stored weights: %s", document)
    return Fitted(rounded, fitted.history | {"stored_weights": document})


def _compared(model: keras.Model, rounded: keras.Model, batches: tf.data.Dataset, steps: int) -> dict[str, Any]:
    def ask(features: Any) -> Any:
        return tf.stack([model(features, training=False), rounded(features, training=False)], axis=1)

    labels, answers, weights = answers_of(ask, batches, steps)
    exact, found = answers.astype(np.float64).swapaxes(0, 1)
    return {
        "rows": len(labels),
        "difference": float(np.abs(exact - found).max(initial=0)),
        "losses": [_loss(labels, own, weights) for own in (exact, found)],
    }


def _loss(labels: Array, answers: Array, weights: Array) -> float:
    if np.issubdtype(labels.dtype, np.floating):
        return float(np.average(np.square(answers.reshape(-1) - labels), weights=weights))
    return cross_entropy(labels, answers, weights, temperature=1.0)


def has_trees(model: keras.Model) -> bool:
    """Return whether a model has trees.

    Args:
        model: A model, or an average of several, which are its layers.
    """
    return any(
        isinstance(layer, Forest) or (isinstance(layer, keras.Model) and has_trees(layer)) for layer in model.layers
    )

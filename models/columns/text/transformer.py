"""A transformer like BERT's, from the numbers of tokens to a vector: with weights from nowhere, or of a model that
somebody else has trained.

It is one layer, whose weights have the same names whatever model they come from (`Shape.weights`).
"""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.layers import FittedLayer

_MASKED = -1e9
"""Added to the score of a token that is padding."""


class Transformer(FittedLayer):
    """From tokens (batch, length) to the mean of the vectors that a transformer gives them, (batch, width).

    Args:
        feature: of which the tokens are; it has no padding before or between tokens.
        shape: of the transformer.
        dropout: share of the units that is dropped in training.
        keywords: Keras' of every layer.
    """

    def __init__(self, feature: str, shape: Shape, *, dropout: float = 0.1, **keywords: Any) -> None:
        super().__init__(feature, **keywords)
        self.shape = shape
        self._dropped = keras.layers.Dropout(dropout, name="dropped")
        self._weight = {name: self._add(name, of_weight) for name, of_weight in shape.weights().items()}

    def _add(self, name: str, shape: tuple[int, ...]) -> Any:
        kind = name.rpartition("_")[2]
        initializer = {"gamma": "ones", "beta": "zeros", "bias": "zeros"}.get(kind)
        if initializer is None:
            deviation = 0.02 if kind in ("words", "positions") else 1 / math.sqrt(shape[0])
            initializer = keras.initializers.TruncatedNormal(stddev=deviation)
        return self.add_weight(shape=shape, initializer=initializer, name=name)

    def load(self, values: Mapping[str, np.ndarray]) -> None:
        """Take weights from elsewhere.

        Args:
            values: by name, as `Shape.weights` has them.
        """
        for name, weight in self._weight.items():
            weight.assign(values[name])

    def call(self, tokens: Any, training: bool = False) -> Any:
        """Return the mean vector of the tokens that are no padding.

        Args:
            tokens: (batch, length).
            training: whether units are dropped.
        """
        tokens = self.without_padding(tokens)
        is_token = keras.ops.cast(keras.ops.not_equal(tokens, self.shape.padding), self.compute_dtype)[:, :, None]
        vectors = self.vectors(tokens, training=training)
        number = keras.ops.maximum(keras.ops.sum(is_token, axis=1), 1)
        return keras.ops.sum(vectors * is_token, axis=1) / number

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the vectors.

        Args:
            input_shape: of the tokens.
        """
        return input_shape[0], self.shape.width

    def without_padding(self, tokens: Any) -> Any:
        """Return rows as long as the longest of the batch: what is padding in all of them costs time.

        Args:
            tokens: (batch, length).
        """
        number = keras.ops.sum(keras.ops.cast(keras.ops.not_equal(tokens, self.shape.padding), "int32"), axis=1)
        return tokens[:, : keras.ops.maximum(keras.ops.max(number), 1)]

    def vectors(self, tokens: Any, *, training: bool = False) -> Any:
        """Return a vector for each token, (batch, length, width).

        Args:
            tokens: (batch, length).
            training: whether units are dropped.
        """
        ops = keras.ops
        length = ops.shape(tokens)[1]
        hidden = ops.take(self._weight["words"], tokens, axis=0) + self._weight["positions"][:length]
        hidden = self._dropped(self._normalized(hidden, "norm"), training=training)
        scores = ops.cast(ops.equal(tokens, self.shape.padding), "float32")[:, None, None, :] * _MASKED
        for layer in range(self.shape.layers):
            hidden = self._transformed(hidden, scores, f"layer_{layer}", training=training)
        return hidden

    def _transformed(self, hidden: Any, masked: Any, layer: str, *, training: bool) -> Any:
        ops = keras.ops
        query, key, value = (self._heads(self._dense(hidden, f"{layer}_{name}")) for name in ("query", "key", "value"))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / math.sqrt(self.shape.width / self.shape.heads)
        shares = ops.cast(ops.softmax(ops.cast(scores, "float32") + masked), self.compute_dtype)
        seen = ops.matmul(self._dropped(shares, training=training), value)
        seen = ops.reshape(ops.transpose(seen, (0, 2, 1, 3)), (-1, ops.shape(hidden)[1], self.shape.width))
        attended = self._dropped(self._dense(seen, f"{layer}_attended"), training=training)
        hidden = self._normalized(hidden + attended, f"{layer}_attended_norm")
        inner = _ACTIVATIONS[self.shape.activation](self._dense(hidden, f"{layer}_inner"))
        outer = self._dropped(self._dense(inner, f"{layer}_outer"), training=training)
        return self._normalized(hidden + outer, f"{layer}_outer_norm")

    def _heads(self, vectors: Any) -> Any:
        """(batch, heads, length, width of a head)."""
        heads = self.shape.heads
        size = (-1, keras.ops.shape(vectors)[1], heads, self.shape.width // heads)
        return keras.ops.transpose(keras.ops.reshape(vectors, size), (0, 2, 1, 3))

    def _dense(self, inputs: Any, name: str) -> Any:
        return keras.ops.matmul(inputs, self._weight[f"{name}_kernel"]) + self._weight[f"{name}_bias"]

    def _normalized(self, inputs: Any, name: str) -> Any:
        ops = keras.ops
        inputs = ops.cast(inputs, "float32")
        mean, variance = ops.moments(inputs, axes=-1, keepdims=True)
        standard = (inputs - mean) * ops.rsqrt(variance + self.shape.epsilon)
        return ops.cast(standard, self.compute_dtype) * self._weight[f"{name}_gamma"] + self._weight[f"{name}_beta"]


def _gelu_tanh(inputs: Any) -> Any:
    return keras.ops.gelu(inputs, approximate=True)


def _gelu(inputs: Any) -> Any:
    return keras.ops.gelu(inputs, approximate=False)


_ACTIVATIONS = {"gelu": _gelu, "gelu_tanh": _gelu_tanh, "relu": keras.ops.relu}

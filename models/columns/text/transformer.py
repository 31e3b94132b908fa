"""A transformer like BERT's, from the numbers of tokens to a vector.

Its weights are from nowhere, or of a model that somebody else has trained.

Tokens are numbered from 1 on; 0 is nothing, behind the last token of a text.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.config.text_section import TextPretrainConfig
from kubetfx.models.columns.text.text_blocks import in_blocks, shortened
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.layers import FittedLayer

_MASKED = -1e9
"""Added to the score of padding."""
_DEVIATION = 0.02
"""Standard deviation of initial vectors, as BERT has it."""


class Transformer(FittedLayer):
    """From tokens to the mean of the vectors that a transformer gives them.

    Tokens are (batch, columns, length), and the mean is (batch, columns, width).

    Args:
        feature: of which the tokens are.
        shape: of the transformer.
        dropout: share of the units that is dropped in training.
        pretrain: that it learns before the training; None: nothing.
        keywords: Keras' of every layer.
    """

    def __init__(
        self,
        feature: str,
        shape: Shape,
        *,
        dropout: float = 0.1,
        pretrain: TextPretrainConfig | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(feature, **keywords)
        self.shape = shape
        self._pretrain = pretrain
        self.pretraining: dict[str, Any] = {}
        """What it learned before the training: `masked_tokens.pretrain`."""
        self._dropout = keras.layers.Dropout(dropout, name="dropped")
        self.by_name = {name: self._add(name, size) for name, size in shape.weights().items()}
        """Weights by the names of `Shape.weights`."""

    def _add(self, name: str, size: tuple[int, ...]) -> Any:
        kind = name.rpartition("_")[2]
        constants = {"gamma": "ones", "beta": "zeros", "bias": "zeros"}
        deviation = _DEVIATION if kind in ("words", "positions") else 1 / math.sqrt(size[0])
        initializer = constants.get(kind) or keras.initializers.TruncatedNormal(stddev=deviation)
        return self.add_weight(shape=size, initializer=initializer, name=name)

    def load(self, values: Mapping[str, Array]) -> None:
        """Take weights from elsewhere.

        Args:
            values: by name, as `Shape.weights` has them.
        """
        for name, weight in self.by_name.items():
            weight.assign(values[name])

    def fit_to(self, values: Array) -> None:
        """Learn to guess tokens, where that is asked for.

        Args:
            values: tokens of the training rows, (rows, columns, length).
        """
        if self._pretrain is not None:
            from kubetfx.models.columns.text.masked_tokens import pretrain

            self.pretraining = pretrain(self, values, self._pretrain)

    def call(self, tokens: Any, training: bool = False) -> Any:
        """Return the mean vectors.

        Args:
            tokens: (batch, columns, length).
            training: whether units are dropped.
        """
        columns = tokens.shape[1]
        rows = tf.reshape(tokens, (-1, tokens.shape[2]))
        weights = self.tensors()
        if training:
            found = mean_vectors(weights, rows, self.shape, drop=self.dropped)
        else:
            found = in_blocks(lambda block: mean_vectors(weights, block, self.shape), rows, width=self.shape.width)
        return tf.reshape(found, (-1, columns, self.shape.width))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the vectors.

        Args:
            input_shape: of the tokens.
        """
        return (*input_shape[:2], self.shape.width)

    def tensors(self) -> dict[str, tf.Tensor]:
        """The weights by name, in the type that is computed with."""
        return {name: tf.convert_to_tensor(weight) for name, weight in self.by_name.items()}

    def dropped(self, values: Any) -> Any:
        """Return values some of which are left out at random.

        Args:
            values: of any shape.
        """
        return self._dropout(values, training=True)


def kept(values: Any) -> Any:
    """Return values as they are.

    Args:
        values: of any shape.
    """
    return values


def mean_vectors(
    weights: Mapping[str, Any], tokens: Any, shape: Shape, *, drop: Callable[[Any], Any] = kept
) -> tf.Tensor:
    """Return the mean of the vectors of each text's tokens.

    Args:
        weights: by the names of `Shape.weights`; vectors have their type.
        tokens: (rows, length).
        shape: of the transformer.
        drop: leaves out units in training.

    Returns:
        (rows, width); 0 for a text without tokens.
    """
    tokens = shortened(tokens)
    vectors = token_vectors(weights, tokens, shape, drop=drop)
    is_token = tf.cast(tokens > 0, vectors.dtype)[:, :, None]
    return tf.reduce_sum(vectors * is_token, axis=1) / tf.maximum(tf.reduce_sum(is_token, axis=1), 1)


def token_vectors(
    weights: Mapping[str, Any], tokens: Any, shape: Shape, *, drop: Callable[[Any], Any] = kept
) -> tf.Tensor:
    """Return a vector for each token.

    Args:
        weights: by the names of `Shape.weights`; vectors have their type.
        tokens: (rows, length).
        shape: of the transformer.
        drop: leaves out units in training.

    Returns:
        (rows, length, width).
    """
    computing = _Computing(weights, shape, drop)
    vectors = tf.gather(weights["words"], tf.maximum(tokens - 1, 0)) + weights["positions"][: tf.shape(tokens)[1]]
    vectors = drop(computing.normalized(vectors, "norm"))
    masked = tf.cast(tf.equal(tokens, 0), tf.float32)[:, None, None, :] * _MASKED
    for layer in range(shape.layers):
        vectors = computing.layer(vectors, masked, f"layer_{layer}")
    return vectors


class _Computing:
    """The parts of a transformer."""

    def __init__(self, weights: Mapping[str, Any], shape: Shape, drop: Callable[[Any], Any]) -> None:
        self._weights, self._shape, self._drop = weights, shape, drop

    def layer(self, vectors: Any, masked: Any, name: str) -> Any:
        """Attention, and the hidden layer."""
        query, key, value = (self._heads(self.dense(vectors, f"{name}_{part}")) for part in ("query", "key", "value"))
        scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(self._shape.width / self._shape.heads)
        shares = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32) + masked), value.dtype)
        seen = tf.transpose(tf.matmul(self._drop(shares), value), (0, 2, 1, 3))
        attended = self._drop(self.dense(tf.reshape(seen, tf.shape(vectors)), f"{name}_attended"))
        vectors = self.normalized(vectors + attended, f"{name}_attended_norm")
        inner = _ACTIVATIONS[self._shape.activation](self.dense(vectors, f"{name}_inner"))
        return self.normalized(vectors + self._drop(self.dense(inner, f"{name}_outer")), f"{name}_outer_norm")

    def dense(self, vectors: Any, name: str) -> Any:
        """A layer without an activation."""
        return tf.matmul(vectors, self._weights[f"{name}_kernel"]) + self._weights[f"{name}_bias"]

    def normalized(self, vectors: Any, name: str) -> Any:
        """Return vectors of mean 0 and variance 1, scaled."""
        values = tf.cast(vectors, tf.float32)
        mean, variance = tf.nn.moments(values, axes=[-1], keepdims=True)
        standard = tf.cast((values - mean) * tf.math.rsqrt(variance + self._shape.epsilon), vectors.dtype)
        return standard * self._weights[f"{name}_gamma"] + self._weights[f"{name}_beta"]

    def _heads(self, vectors: Any) -> Any:
        """(rows, heads, length, width of a head)."""
        size = tf.shape(vectors)
        heads = self._shape.heads
        parts = tf.reshape(vectors, (size[0], size[1], heads, self._shape.width // heads))
        return tf.transpose(parts, (0, 2, 1, 3))


def _gelu_tanh(values: Any) -> Any:
    return tf.nn.gelu(values, approximate=True)


_ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {"gelu": tf.nn.gelu, "gelu_tanh": _gelu_tanh, "relu": tf.nn.relu}

"""Layers of the network for tables, and those among them that are fitted to training rows before the training.

Numbers enter by bins of their quantiles too (Gorishniy et al., 2022), and a few networks that share most of their
weights are averaged (TabM, 2025); decision 25 says what each brings. Every layer is of all columns at once: the graph
does not grow with them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kubetfx.arrays import Array

QUANTILE_ROWS = 50_000
"""Rows that quantiles are taken of, at most."""


class FittedLayer(keras.layers.Layer):
    """A layer with weights that are found from training rows, and not learned.

    Args:
        feature: name of the feature that it takes.
        keywords: The arguments that every Keras layer takes.
    """

    def __init__(self, feature: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.feature = feature
        self.learning_rates: dict[str, float] = {}
        """Initial learning rates of weights that do not have that of the training, by their path."""

    def fit_to(self, values: Array) -> None:
        """Compute the weights.

        Args:
            values: The values of the feature, (rows, ...).
        """
        raise NotImplementedError


def fit_layers(network: keras.Model, rows: Mapping[str, Array]) -> None:
    """Fit all layers of a network that are fitted to training rows.

    Args:
        network: The network.
        rows: The features of the training rows by name, each (rows, ...).
    """
    for layer in network.layers:
        if isinstance(layer, FittedLayer):
            layer.fit_to(rows[layer.feature])


_FAR = 3.0
"""Standard scores are bounded smoothly by this: a row far out would decide its answer by one number alone (smooth
clipping in "Better by Default", NeurIPS 2024)."""


class BinnedNumbers(FittedLayer):
    """Bounded standard scores, flags of missing cells, and how far each score is through each of its column's bins.

    A bin is between two quantiles of the training rows; below it its value is 0, above it 1, and within it rises. So
    the first hidden layer can bend the effect of a number at each quantile.

    Args:
        feature: The name of the feature, (batch, columns + flags).
        num_columns: The number of columns that have a score.
        num_bins: The number of bins of each column.
        flagged: columns that have a flag, in the order of the flags.
        keywords: The arguments that every Keras layer takes.
    """

    def __init__(self, feature: str, *, num_columns: int, num_bins: int, flagged: Sequence[int], **keywords: Any):
        super().__init__(feature, **keywords)
        self._num_columns = num_columns
        self._flagged = tuple(flagged)
        shape = (num_columns, num_bins)
        self._lower = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="lower")
        self._slope = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="slope")

    def fit_to(self, values: Array) -> None:
        """Choose the edges of the bins: quantiles, or all values of a column that has few.

        Args:
            values: (rows, columns + flags).
        """
        values = values[:: math.ceil(len(values) / QUANTILE_ROWS)]
        lower, slope = np.zeros(self._lower.shape, np.float32), np.zeros(self._slope.shape, np.float32)
        flags = dict(zip(self._flagged, values.T[self._num_columns :], strict=True))
        for index, column in enumerate(values.T[: self._num_columns]):
            known = column[flags[index] == 0] if index in flags else column
            edges = _edges(known, lower.shape[1])
            lower[index, : len(edges) - 1] = edges[:-1]
            slope[index, : len(edges) - 1] = 1 / np.diff(edges)
        self._lower.assign(lower)
        self._slope.assign(slope)

    def call(self, inputs: Any) -> Any:
        """Compute the encoding.

        Args:
            inputs: (batch, columns + flags).

        Returns:
            (batch, columns * (1 + bins) + flags).
        """
        scores = inputs[:, : self._num_columns]
        bins = keras.ops.clip((scores[:, :, None] - self._lower) * self._slope, 0.0, 1.0)
        flat = keras.ops.reshape(bins, (-1, self._lower.shape[0] * self._lower.shape[1]))
        bounded = scores / keras.ops.sqrt(1.0 + keras.ops.square(scores / _FAR))
        return keras.ops.concatenate([bounded, inputs[:, self._num_columns :], flat], axis=1)


def _edges(values: Array, num_bins: int) -> Array:
    """Return the edges of at most `num_bins` bins, ascending; a single edge for a column with one distinct value."""
    distinct = np.unique(values)
    if len(distinct) <= num_bins + 1:
        return distinct
    quantiles = np.quantile(values.astype(np.float64), np.linspace(0, 1, num_bins + 1))
    return np.unique(quantiles.astype(np.float32))


class CategoryEmbedding(FittedLayer):
    """A vector for each category. Those of too few training rows have one in common: theirs would be learned by heart.

    Args:
        feature: The name of the feature, (batch, columns) indices.
        size: The number of categories of all columns.
        dimensions: The number of dimensions of a vector.
        min_rows: The number of training rows that a category needs for a vector of its own.
        keywords: The arguments that every Keras layer takes.
    """

    def __init__(self, feature: str, *, size: int, dimensions: int, min_rows: int, **keywords: Any) -> None:
        super().__init__(feature, **keywords)
        self.size = size
        self._min_rows = min_rows
        self._vectors = self.add_weight(
            shape=(size + 1, dimensions),
            initializer=keras.initializers.RandomNormal(stddev=dimensions**-0.5),
            name="vectors",
        )
        self._row = self.add_weight(
            shape=(size,),
            initializer=lambda *_, **__: keras.ops.arange(size),
            dtype="int32",
            trainable=False,
            name="row",
        )

    def fit_to(self, values: Array) -> None:
        """Count the rows of each category.

        Args:
            values: (rows, columns).
        """
        counts = np.bincount(values.reshape(-1), minlength=self.size)
        self._row.assign(np.where(counts >= self._min_rows, np.arange(self.size), self.size))

    def call(self, inputs: Any) -> Any:
        """Look the vectors up.

        Args:
            inputs: (batch, columns).

        Returns:
            (batch, columns * dimensions).
        """
        vectors = keras.ops.take(self._vectors, keras.ops.take(self._row, inputs), axis=0)
        return keras.ops.reshape(vectors, (-1, inputs.shape[1] * self._vectors.shape[1]))


class Members(keras.layers.Layer):
    """What each member of an ensemble sees: the inputs, with signs of its own that it learns to scale.

    Args:
        number: The number of members.
        keywords: The arguments that every Keras layer takes.
    """

    def __init__(self, number: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._number = number

    def build(self, input_shape: Sequence[int]) -> None:
        """Draw the signs.

        Args:
            input_shape: (batch, any).
        """
        self._scale = self.add_weight(shape=(self._number, input_shape[-1]), initializer=_signs, name="scale")

    def call(self, inputs: Any) -> Any:
        """Scale.

        Args:
            inputs: (batch, any).

        Returns:
            (batch, members, any).
        """
        return inputs[:, None, :] * self._scale


def _signs(shape: Sequence[int], dtype: Any = None) -> Any:
    return keras.ops.sign(keras.random.uniform(shape, -1.0, 1.0, dtype=dtype))


class MemberOutputs(keras.layers.Layer):
    """An output layer for each member.

    Args:
        num_outputs: The number of outputs of each member.
        keywords: The arguments that every Keras layer takes.
    """

    def __init__(self, num_outputs: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._num_outputs = num_outputs

    def build(self, input_shape: Sequence[int]) -> None:
        """Make the weights.

        Args:
            input_shape: (batch, members, units).
        """
        _, members, units = input_shape
        limit = units**-0.5
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self._kernel = self.add_weight(shape=(members, units, self._num_outputs), initializer=uniform, name="kernel")
        self._bias = self.add_weight(shape=(members, self._num_outputs), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """Compute the outputs.

        Args:
            inputs: (batch, members, units).

        Returns:
            (batch, members, outputs).
        """
        return keras.ops.einsum("bmu,muo->bmo", inputs, self._kernel) + self._bias

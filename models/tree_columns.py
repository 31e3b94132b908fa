"""Transformed features as trees split them: a matrix of numbers and categories, in training and in the graph alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.models.columns import known_types
from kubetfx.models.features import LABEL, Features
from kubetfx.models.forest_tables import Tree

Spec = Mapping[str, Any]
"""Shape and type of each transformed feature, by name."""


class SplitColumns(keras.layers.Layer):
    """From features by name, each (batch, ...), to (batch, columns) float32.

    First come the numbers, NaN where a cell is missing, then the categories, whose features are whole numbers.
    """

    def __init__(self, features: Features, spec: Spec, **options: Any) -> None:
        """Find the columns.

        Args:
            features: the columns of the table.
            spec: The shapes and types of the features that Transform makes of them.
            options: The options that every Keras layer takes.
        """
        super().__init__(trainable=False, dtype="float32", **options)
        self._features = features
        names = sorted(name for name in spec if name != LABEL)
        numbers, categories = self._split({name: tf.zeros([0, *spec[name].shape], spec[name].dtype) for name in names})
        self.num_numbers, self.num_categories = numbers.shape[1], categories.shape[1]

    def compute_output_spec(self, inputs: Mapping[str, keras.KerasTensor]) -> keras.KerasTensor:
        """Return what `call` makes, for Keras.

        Args:
            inputs: features by name, each (batch, ...).

        Returns:
            (batch, columns) float32.
        """
        return keras.KerasTensor((None, self.num_numbers + self.num_categories), dtype="float32")

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Put features side by side, as trees split them.

        Args:
            inputs: features by name, each (batch, ...).

        Returns:
            (batch, columns) float32.
        """
        return tf.concat(self._split(inputs), axis=1)

    def _split(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        found = dict(inputs)
        for tag, columns in self._features.by_type.items():
            found |= known_types.type_of(tag).for_trees(inputs, columns)
        flat = [tf.reshape(tensor, [-1, math.prod(tensor.shape[1:])]) for _, tensor in sorted(found.items())]
        numbers, categories = (
            [tf.cast(tensor, tf.float32) for tensor in flat if tensor.dtype.is_floating == is_number]
            for is_number in (True, False)
        )
        none = tf.zeros([tf.shape(flat[0])[0], 0])
        return tf.concat([none, *numbers], axis=1), tf.concat([none, *categories], axis=1)


@dataclass(frozen=True)
class Codes:
    """Categories of each column of a matrix as the numbers from 0 on, which LightGBM keeps in sets of bits."""

    columns: range
    """Those of the matrix that have categories."""
    values: Sequence[Array]
    """(categories,) float32 in ascending order, for each of them."""

    @classmethod
    def of(cls, matrix: Array, columns: range) -> "Codes":
        """Find the categories of the training rows.

        Args:
            matrix: (rows, columns).
            columns: those that have categories.

        Returns:
            Their codes.
        """
        return cls(columns, [np.unique(matrix[:, column]) for column in columns])

    def encode(self, matrix: Array) -> None:
        """Put codes into a matrix instead of categories, NaN for those that training has not seen.

        Args:
            matrix: (rows, columns), which is changed.
        """
        for column, values in zip(self.columns, self.values, strict=True):
            code = np.minimum(np.searchsorted(values, matrix[:, column]), len(values) - 1)
            matrix[:, column] = np.where(values[code] == matrix[:, column], code, np.nan)

    def decode(self, trees: Sequence[Tree]) -> list[Tree]:
        """Put categories into the sets of trees instead of codes.

        Args:
            trees: of a model that was trained on codes.

        Returns:
            The same trees, for matrices that were not encoded.
        """
        return [replace(tree, sets=self._decoded(tree)) for tree in trees]

    def _decoded(self, tree: Tree) -> list[Array]:
        sets = list(tree.sets)
        for node in np.flatnonzero(tree.decisions & 1):
            values = self.values[tree.features[node] - self.columns.start]
            index = int(tree.thresholds[node])
            sets[index] = values[tree.sets[index]].astype(np.int64)
        return sets

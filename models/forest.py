"""An ensemble of trees in a graph: TensorFlow's own operations over the tables of models/forest_tables.py.

Rows are bits. A word of 32 bits says of 32 rows whether each is in a bin, passes a test, reaches a node: so a few
operations on integers lead a thousand rows through a thousand trees, and the graph is the same for any number of them.
Decision 22 has what was measured beside it.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.models.forest_tables import ForestTables

BITS = 32
"""Rows of a word."""
BLOCK = 1024
"""Rows that go through the trees together, at most."""
WALKED_ROWS = 4
"""Up to this many rows go from node to node, one after the other: that takes less than tests and nodes of 32 rows."""
STEPS = 4
"""Number of nodes that a row passes per iteration of the loop."""
BLOCK_WORDS = 2**22
"""Maximum number of words for the nodes of a block."""
LOWEST = np.finfo(np.float32).min
ZERO = np.float32(1e-35)
"""LightGBM takes a number whose absolute value is not larger for 0."""

_SPREAD = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little").view(np.int64)[:, 0]
"""(256,) the bits of a byte, one in each byte of an int64."""


class Forest(keras.layers.Layer):
    """Sums of the leaves that rows reach.

    From (batch, features) float32, NaN where a cell is missing, to (batch, outputs) float64.
    """

    def __init__(self, tables: ForestTables, *, num_outputs: int, **options: Any) -> None:
        """Keep the tables as weights that do not learn.

        Args:
            tables: The tables of the ensemble, whose trees belong to each output in turn.
            num_outputs: The number of sums per row.
            options: The options that every Keras layer takes.
        """
        super().__init__(trainable=False, dtype="float32", **options)
        self._planes, self._num_trees, self._num_outputs = tables.planes, tables.num_trees, num_outputs
        self._num_bins, self._num_levels = tables.num_bins, len(tables.level_bounds) - 1
        nodes = tables.num_trees + 2 * len(tables.node_row)
        self._block = max(min(BLOCK_WORDS // nodes * BITS, BLOCK), BITS)
        keep = self._keep
        self._features, self._cuts, self._first_bins = keep(tables.features), keep(tables.cuts), keep(tables.first_bins)
        self._runs = keep(tables.run_after), keep(tables.run_until), keep(tables.run_test)
        self._bounds = keep(tables.level_bounds)
        self._tests = keep(tables.test_column), keep(tables.test_bit), keep(tables.passes)
        self._roots, self._children = keep(tables.roots), keep(tables.children)
        self._walked_rows = WALKED_ROWS if len(tables.passes) else 0
        self._nodes = keep(tables.node_row), keep(tables.node_test)
        self._bits = keep(tables.bit_row), keep(tables.bit_plane)
        self._values, self._spread = keep(tables.values), keep(_SPREAD)
        signature = tf.TensorSpec([None, None], tf.float32)
        self._traced = tf.function(self._in_blocks, input_signature=[signature], autograph=False)  # once for all

    def _keep(self, array: Array) -> keras.Variable:
        def initial(shape: Any, dtype: Any = None) -> Any:
            return tf.constant(array)

        weight: keras.Variable = self.add_weight(
            shape=array.shape, dtype=array.dtype.name, initializer=initial, trainable=False, autocast=False
        )
        return weight

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Return what `call` makes, for Keras.

        Args:
            inputs: (batch, features) float32.

        Returns:
            (batch, outputs) float64.
        """
        return keras.KerasTensor((inputs.shape[0], self._num_outputs), dtype="float64")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Lead rows through the trees.

        Args:
            inputs: (batch, features) float32.

        Returns:
            (batch, outputs) float64.
        """
        return self._traced(inputs)

    def _in_blocks(self, inputs: tf.Tensor) -> tf.Tensor:
        num_rows = tf.shape(inputs)[0]
        is_walk = tf.logical_and(num_rows > 0, num_rows <= self._walked_rows)
        rows = tf.where(is_walk, 1, self._block)
        number = tf.maximum((num_rows + rows - 1) // rows, 1)
        shape = [None, self._num_outputs]
        found = tf.TensorArray(tf.float64, size=number, element_shape=shape, infer_shape=False)

        def step(index: tf.Tensor, array: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            block = inputs[index * rows : (index + 1) * rows]
            sums = tf.cond(is_walk, lambda: self._walk(block), lambda: self._sums(block))
            return index + 1, array.write(index, sums)

        _, found = tf.while_loop(lambda index, _: index < number, step, (0, found), parallel_iterations=1)
        return tf.ensure_shape(found.concat(), shape)

    def _bins(self, rows: tf.Tensor) -> tf.Tensor:
        """Return (columns, rows): the bin of each cell, among those of its column."""
        values = tf.gather(tf.transpose(rows), _tensor(self._features))
        values = tf.where(tf.abs(values) <= ZERO, 0.0, values)
        values = tf.where(tf.math.is_nan(values), -np.inf, tf.maximum(values, LOWEST))
        return tf.searchsorted(_tensor(self._cuts), values)

    def _walk(self, row: tf.Tensor) -> tf.Tensor:
        """Return the sums of one row, (1, features), which goes from node to node."""
        columns, first_bits, passes = map(_tensor, self._tests)
        positions = first_bits + tf.gather(self._bins(row)[:, 0], columns)
        words = tf.bitwise.right_shift(tf.gather(passes, positions // BITS), positions % BITS)
        passed = tf.gather(tf.bitwise.bitwise_and(words, 1) > 0, _tensor(self._nodes[1]))
        children = _tensor(self._children)
        num_nodes, num_leaves = tf.shape(children)[1], tf.size(_tensor(self._values))
        ends = tf.range(num_nodes, num_nodes + num_leaves)  # a leaf is where a row stays
        follows = tf.concat([tf.where(passed, children[0], children[1]), ends], axis=0)

        def steps(level: tf.Tensor, places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            for _ in range(STEPS):
                places = tf.gather(follows, places)
            return level + STEPS, places

        _, leaves = tf.while_loop(
            lambda level, _: level < self._num_levels, steps, (0, _tensor(self._roots)), parallel_iterations=1
        )
        values = tf.gather(_tensor(self._values), leaves - num_nodes)
        return tf.reduce_sum(tf.reshape(values, [-1, 1, self._num_outputs]), axis=0)

    def _sums(self, rows: tf.Tensor) -> tf.Tensor:
        num_rows = tf.shape(rows)[0]
        words = (num_rows + BITS - 1) // BITS
        leaves = self._leaves(self._reached(self._passed(rows, words), words), words)[:, :num_rows]
        firsts = tf.range(self._num_trees)[:, tf.newaxis] * 2**self._planes
        values = tf.gather(_tensor(self._values), leaves + firsts)
        by_output = tf.reshape(values, [self._num_trees // self._num_outputs, self._num_outputs, num_rows])
        return tf.transpose(tf.reduce_sum(by_output, axis=0))

    def _passed(self, rows: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Return (tests, words): which rows pass each test."""
        bins = self._bins(rows) + _tensor(self._first_bins)[:, tf.newaxis]
        row = tf.range(tf.shape(rows)[0])
        bit = tf.broadcast_to(tf.bitwise.left_shift(1, row % BITS), tf.shape(bins))
        in_bin = tf.math.unsorted_segment_sum(bit, bins * words + row // BITS, self._num_bins * words)
        # Rows of a run of bins are the difference of two sums: each row is in one bin of a column, so what is carried
        # from one bit into the next is the same in both.
        sums = tf.cumsum(tf.reshape(in_bin, [self._num_bins, words]))
        sums = tf.concat([tf.zeros([1, words], tf.int32), sums], axis=0)
        after, until, test = map(_tensor, self._runs)
        return tf.sparse.segment_sum(sums, until, test) - tf.sparse.segment_sum(sums, after, test)

    def _reached(self, passed: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Return (roots and nodes, words): which rows come to each."""
        row, test = map(_tensor, self._nodes)
        bounds = _tensor(self._bounds)
        everyone = tf.fill([self._num_trees, words], -1)
        shape = tf.TensorShape([None, None])
        levels = tf.TensorArray(tf.int32, size=self._num_levels + 1, element_shape=shape, infer_shape=False)

        def step(
            index: tf.Tensor, above: tf.Tensor, array: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            level = slice(bounds[index], bounds[index + 1])
            those = tf.gather(above, row[level])
            passing = tf.bitwise.bitwise_and(those, tf.gather(passed, test[level]))
            children = tf.stack([passing, tf.bitwise.bitwise_xor(those, passing)], axis=1)
            here = tf.reshape(children, [-1, words])
            return index + 1, here, array.write(index + 1, here)

        *_, levels = tf.while_loop(
            lambda index, *_: index < self._num_levels,
            step,
            (0, everyone, levels.write(0, everyone)),
            shape_invariants=(tf.TensorShape([]), shape, tf.TensorShape(None)),
            parallel_iterations=1,
        )
        return levels.concat()

    def _leaves(self, reached: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Return (trees, words * BITS): the number of the leaf of each row."""
        row, plane = map(_tensor, self._bits)
        planes = tf.sparse.segment_sum(reached, row, plane, num_segments=self._num_trees * self._planes)
        leaves = tf.zeros([self._num_trees, words * BITS], tf.int32)
        by_tree = tf.reshape(tf.bitcast(planes, tf.uint8), [self._num_trees, self._planes, words * BITS // 8])
        for first in range(0, self._planes, 8):  # a byte of the number has eight bits
            own = by_tree[:, first : first + 8]
            bits = tf.gather(_tensor(self._spread), tf.cast(own, tf.int32))
            shifts = tf.range(min(8, self._planes - first), dtype=tf.int64)[:, tf.newaxis]
            byte = tf.bitcast(tf.reduce_sum(tf.bitwise.left_shift(bits, shifts), axis=1), tf.uint8)
            leaves += tf.reshape(tf.cast(byte, tf.int32), tf.shape(leaves)) * 2**first
        return leaves


def _tensor(weight: keras.Variable) -> tf.Tensor:
    return tf.convert_to_tensor(weight)

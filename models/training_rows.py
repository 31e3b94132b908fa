"""The rows of a split as a network is trained on them: preprocessed once and kept in memory, or read in each epoch."""

import math
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.errors import DataError
from kubetfx.models.examples import count_rows, read_blocks
from kubetfx.models.features import LABEL, WEIGHT
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.row_weights import weights_of

STREAMED_ROWS = 1_024
"""Rows of a batch of a stream of weighted rows."""
SHUFFLE_ROWS = 100_000
"""Rows of the shuffle buffer when the data does not fit `training.cache_bytes`."""
SAMPLE_ROWS = 200_000
"""Rows that layers are fitted to when the data does not fit `training.cache_bytes`."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainingRows:
    """Examples of a split after preprocessing: in memory, or read from their files in each epoch."""

    num_rows: int
    labels: np.ndarray
    """(rows,) int64 index of the class or float32 number."""
    arrays: Arrays | None
    """Features and label by name, (rows, ...); None when they are larger than the cache."""
    stream: tf.data.Dataset
    """Batches of features and label in the order of the files."""
    sample: Arrays = field(default_factory=dict)
    """Features and label by name, (rows, ...): of all rows, or of every so many where they are not in memory."""
    weights: np.ndarray | None = None
    """(rows,) float32, how often each row counts, on average once; None: each counts once."""

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, epochs: int | None = 1) -> tf.data.Dataset:
        """Return batches in an order that depends on the seed and the number of the epoch alone: (features, label), and
        the weights where rows have any.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            shuffle_seed: None: in the order of the files.
            epochs: one after the other; None: without end. Keras makes four iterators for each epoch of a dataset that
                ends, which takes longer than a small network.
        """
        if self.arrays is not None:
            weights = {} if self.weights is None else {WEIGHT: self.weights}
            tensors = {name: tf.constant(array) for name, array in {**self.arrays, **weights}.items()}
            indices = _batches_of_indices(self.num_rows, batch_size, shuffle_seed=shuffle_seed)
            dataset = indices.repeat(epochs).map(
                lambda rows: {name: tf.gather(tensor, rows) for name, tensor in tensors.items()},
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        else:
            dataset = self.stream.unbatch()
            if shuffle_seed is not None:
                dataset = dataset.shuffle(SHUFFLE_ROWS, seed=shuffle_seed)
            dataset = dataset.batch(batch_size).repeat(epochs)
        names = (LABEL, WEIGHT) if self.weights is not None else (LABEL,)
        return dataset.map(
            lambda row: (row, *(row.pop(name) for name in names)), num_parallel_calls=tf.data.AUTOTUNE
        ).prefetch(tf.data.AUTOTUNE)

    def shuffled_batches(self, batch_size: int, *, seed: int, epochs: range) -> tf.data.Dataset:
        """Return batches without end: each epoch in another order, which depends on the seed alone.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            seed: of the orders.
            epochs: not used: the batches have no end.
        """
        return self.batches(batch_size, shuffle_seed=seed, epochs=None)

    def validation_batches(self, batch_size: int) -> tf.data.Dataset:
        """Return batches in the order of the files, again and again.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
        """
        return self.batches(batch_size, epochs=None)


def load_rows(
    files: list[str], preprocess: Preprocessing, *, cache_bytes: int, weight: str | None = None
) -> TrainingRows:
    """Preprocess the rows of a split.

    Args:
        files: of its examples.
        preprocess: from raw columns to features and label.
        cache_bytes: rows that take more are not kept, and read again in each epoch.
        weight: the column that says how often each row counts; None: each counts once.

    Returns:
        The rows, in memory or as a stream.

    Raises:
        DataError: all rows weigh 0.
    """
    num_rows = count_rows(files)
    labels: np.ndarray | None = None
    arrays: Arrays | None = None
    sampled: list[Arrays] = []
    step = math.ceil(num_rows / SAMPLE_ROWS)
    start = num_bytes = 0
    weights = _read_weights(files, weight) if weight else None
    for block in read_blocks(files, preprocess.inputs.columns):
        found = {name: tensor.numpy() for name, tensor in preprocess(preprocess.inputs.pack(block)).items()}
        if labels is None:
            labels = np.empty(num_rows, found[LABEL].dtype)
            num_bytes = num_rows * sum(array[:1].nbytes for array in found.values())
            if num_bytes <= cache_bytes:
                arrays = {name: np.empty((num_rows, *array.shape[1:]), array.dtype) for name, array in found.items()}
        rows = slice(start, start + block.num_rows)
        labels[rows] = found[LABEL].reshape(-1)
        for name, array in (arrays or {}).items():
            array[rows] = found[name]
        if arrays is None:
            sampled.append({name: array[-start % step :: step] for name, array in found.items()})
        start += block.num_rows
    assert labels is not None  # ExampleGen refuses a split without a row
    where = (
        f"in memory ({num_bytes:,} bytes)" if arrays is not None else "read in each epoch: over training.cache_bytes"
    )
    logging.info("%d rows, %s.", num_rows, where)
    sample = arrays or {name: np.concatenate([part[name] for part in sampled]) for name in sampled[0]}
    return TrainingRows(num_rows, labels, arrays, _stream(files, preprocess, weights), sample, weights)


def _read_weights(files: list[str], column: str) -> np.ndarray:
    """(rows,) float32, on average 1: the learning rate suits weights of any size."""
    found = np.concatenate([weights_of(block, column) for block in read_blocks(files, [column])])
    if not found.any():
        raise DataError(
            f"training.sample_weight: all rows of a split weigh 0 in the column {column!r}. Received: {len(found):,} "
            "rows of the training or validation split. Give it rows that count, or leave training.sample_weight out."
        )
    return (found / found.mean()).astype(np.float32)


def _stream(files: list[str], preprocess: Preprocessing, weights: np.ndarray | None) -> tf.data.Dataset:
    inputs = preprocess.inputs
    packed = tf.data.Dataset.from_generator(
        lambda: (inputs.pack(block) for block in read_blocks(files, inputs.columns)), output_signature=inputs.signature
    )
    rows = packed.map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
    if weights is not None:
        rows = tf.data.Dataset.zip(rows.unbatch(), tf.data.Dataset.from_tensor_slices(weights))
        rows = rows.map(lambda row, weight: {**row, WEIGHT: weight}).batch(STREAMED_ROWS)
    return rows.prefetch(tf.data.AUTOTUNE)


def _batches_of_indices(num_rows: int, batch_size: int, *, shuffle_seed: int | None) -> tf.data.Dataset:
    """Indices of the rows of each batch, in another order in each epoch: all at once, since tf.data's own shuffling of
    single elements takes longer than a small network."""

    def of_epoch(seed: tf.Tensor) -> tf.data.Dataset:
        indices = tf.range(num_rows, dtype=tf.int64)
        if shuffle_seed is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, seed=[shuffle_seed, seed])
        return tf.data.Dataset.range(0, num_rows, batch_size).map(lambda start: indices[start : start + batch_size])

    batches = tf.data.Dataset.random(seed=shuffle_seed or 0, rerandomize_each_iteration=True).take(1).flat_map(of_epoch)
    return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(num_rows / batch_size)))

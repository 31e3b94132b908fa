"""The rows of a split as a network is trained on them: preprocessed once, and kept in memory or in files."""

import hashlib
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.errors import DataError
from kubetfx.models.examples import count_rows, read_blocks
from kubetfx.models.features import LABEL, WEIGHT
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.row_weights import weights_of
from kubetfx.models.stored_rows import Arrays, StoredRows

SAMPLE_ROWS = 200_000
"""Rows that layers are fitted to when the data does not fit `training.cache_bytes`."""


@dataclass(frozen=True)
class TrainingRows:
    """Examples of a split after preprocessing."""

    num_rows: int
    labels: np.ndarray
    """(rows,) int64 index of the class or float32 number."""
    arrays: Arrays | None
    """Features and label by name, (rows, ...); None when they are larger than the cache."""
    stored: StoredRows | None = None
    """The same, and the weights if there are any, in files: when they are larger than the cache."""
    sample: Arrays = field(default_factory=dict)
    """Features and label by name, (rows, ...): of all rows, or of every so many where they are not in memory."""
    weights: np.ndarray | None = None
    """(rows,) float32, how often each row counts, on average once; None: each counts once."""
    digest: str = ""
    """Of all that is trained on."""

    def batches(
        self, batch_size: int, *, seed: int | None = None, epochs: range | None = range(1), first_step: int = 0
    ) -> tf.data.Dataset:
        """Return batches in an order that depends on the seed and the number of the epoch alone: (features, label), and
        the weights where rows have any.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            seed: of the orders; None: in the order of the files.
            epochs: their numbers; None: all from 0, without end.
            first_step: batches of the first epoch that are left out.
        """
        if self.arrays is not None:
            dataset = self._in_memory(self.arrays, batch_size, seed, epochs, first_step)
        else:
            assert self.stored is not None
            numbers = itertools.count() if epochs is None else epochs
            dataset = self.stored.batches(batch_size, epochs=numbers, seed=seed, first_step=first_step)
        names = (LABEL, WEIGHT) if self.weights is not None else (LABEL,)
        return dataset.map(
            lambda row: (row, *(row.pop(name) for name in names)), num_parallel_calls=tf.data.AUTOTUNE
        ).prefetch(tf.data.AUTOTUNE)

    def _in_memory(
        self, arrays: Arrays, batch_size: int, seed: int | None, epochs: range | None, first_step: int
    ) -> tf.data.Dataset:
        weights = {} if self.weights is None else {WEIGHT: self.weights}
        tensors = {name: tf.constant(array) for name, array in {**arrays, **weights}.items()}
        indices = _batches_of_indices(self.num_rows, batch_size, seed=seed)
        indices = indices.repeat(None if epochs is None else epochs.stop)
        start = epochs.start if epochs else 0
        return indices.skip(start * math.ceil(self.num_rows / batch_size) + first_step).map(
            lambda rows: {name: tf.gather(tensor, rows) for name, tensor in tensors.items()},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def shuffled_batches(self, batch_size: int, *, seed: int, epochs: range, first_step: int = 0) -> tf.data.Dataset:
        """Return batches, each epoch in another order, which depends on the seed and its number alone.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            seed: of the orders.
            epochs: one after the other.
            first_step: batches of the first epoch that are left out.
        """
        return self.batches(batch_size, seed=seed, epochs=epochs, first_step=first_step)

    def validation_batches(self, batch_size: int) -> tf.data.Dataset:
        """Return batches in the order of the files, again and again.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
        """
        return self.batches(batch_size, epochs=None)


def load_rows(
    files: list[str],
    preprocess: Preprocessing,
    *,
    cache_bytes: int,
    scratch: Path,
    weight: str | None = None,
) -> TrainingRows:
    """Preprocess the rows of a split.

    Args:
        files: of its examples.
        preprocess: from raw columns to features and label.
        cache_bytes: rows that take more are not kept in memory, and read from files in each epoch.
        scratch: folder that these files are put below.
        weight: the column that says how often each row counts; None: each counts once.

    Returns:
        The rows, in memory or in files.

    Raises:
        DataError: all rows weigh 0.
        TrainingError: they take more than `cache_bytes`, and the disk has no room for them.
    """
    num_rows = count_rows(files)
    labels: np.ndarray | None = None
    arrays: Arrays | None = None
    stored: StoredRows | None = None
    sampled: list[Arrays] = []
    step = math.ceil(num_rows / SAMPLE_ROWS)
    start = num_bytes = 0
    weights = _read_weights(files, weight) if weight else None
    digest = hashlib.sha256(b"" if weights is None else weights.tobytes())
    for block in read_blocks(files, preprocess.inputs.columns):
        found = {name: tensor.numpy() for name, tensor in preprocess(preprocess.inputs.pack(block)).items()}
        rows = slice(start, start + block.num_rows)
        if labels is None:
            labels = np.empty(num_rows, found[LABEL].dtype)
            num_bytes = num_rows * sum(array[:1].nbytes for array in found.values())
            if num_bytes <= cache_bytes:
                arrays = {name: np.empty((num_rows, *array.shape[1:]), array.dtype) for name, array in found.items()}
            else:
                stored = StoredRows(scratch, num_rows, _weighted(found, weights, rows))
        labels[rows] = found[LABEL].reshape(-1)
        for name in sorted(found):
            digest.update(_bytes_of(found[name]))
        for name, array in (arrays or {}).items():
            array[rows] = found[name]
        if stored is not None:
            stored.append(_weighted(found, weights, rows))
            sampled.append({name: array[-start % step :: step] for name, array in found.items()})
        start += block.num_rows
    assert labels is not None  # ExampleGen refuses a split without a row
    if stored is not None:
        stored.flush()
    where = "in files: over training.cache_bytes" if stored else "in memory"
    logging.info("%d rows, %d bytes, %s.", num_rows, num_bytes, where)
    sample = arrays or {name: np.concatenate([part[name] for part in sampled]) for name in sampled[0]}
    return TrainingRows(num_rows, labels, arrays, stored, sample, weights, digest.hexdigest())


def _bytes_of(array: np.ndarray) -> bytes | memoryview:
    return b"\x1f".join(array.ravel()) if array.dtype == object else np.ascontiguousarray(array).data


def _weighted(found: Arrays, weights: np.ndarray | None, rows: slice) -> Arrays:
    return found if weights is None else {**found, WEIGHT: weights[rows]}


def _read_weights(files: list[str], column: str) -> np.ndarray:
    """(rows,) float32, on average 1: the learning rate suits weights of any size."""
    found = np.concatenate([weights_of(block, column) for block in read_blocks(files, [column])])
    if not found.any():
        raise DataError(
            f"training.sample_weight: all rows of a split weigh 0 in the column {column!r}. Received: {len(found):,} "
            "rows of the training or validation split. Give it rows that count, or leave training.sample_weight out."
        )
    return (found / found.mean()).astype(np.float32)


def _batches_of_indices(num_rows: int, batch_size: int, *, seed: int | None) -> tf.data.Dataset:
    """Indices of the rows of each batch, in another order in each epoch: all at once, since tf.data's own shuffling of
    single elements takes longer than a small network."""

    def of_epoch(drawn: tf.Tensor) -> tf.data.Dataset:
        indices = tf.range(num_rows, dtype=tf.int64)
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, seed=[seed, drawn])
        return tf.data.Dataset.range(0, num_rows, batch_size).map(lambda start: indices[start : start + batch_size])

    batches = tf.data.Dataset.random(seed=seed or 0, rerandomize_each_iteration=True).take(1).flat_map(of_epoch)
    return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(num_rows / batch_size)))

"""The order of the rows of a training: another one in each epoch, and of texts those of about one length together."""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.models.columns.text.encoders import PIECES, TOKENS

POOL = 32
"""Batches whose rows are sorted by length at a time: few enough that a row has other neighbours in each epoch."""


def lengths_of(features: Mapping[str, Array]) -> Array | None:
    """Return how many tokens the longest text of each row has, (rows,) int32. None: no feature is padded.

    Args:
        features: by name, each (rows, ...).
    """
    padded = [features[name] for name in (TOKENS, PIECES) if name in features]
    if not padded:
        return None
    lengths: Array = np.max([(tokens > 0).sum(axis=-1).max(axis=-1) for tokens in padded], axis=0)
    return lengths.astype(np.int32)


def batches_of_indices(
    num_rows: int, batch_size: int, *, seed: int | None, lengths: Array | None = None
) -> tf.data.Dataset:
    """Return the rows of each batch of an epoch, in another order in each epoch.

    All of an epoch are drawn at once, since tf.data's own shuffling of single elements takes longer than a small
    network.

    Args:
        num_rows: of an epoch.
        batch_size: rows of a batch; the last one may have fewer.
        seed: of the orders; None: as the rows are.
        lengths: (rows,); where there are any, rows of a batch have about one length. Without a seed they count for
            nothing.

    Returns:
        Indices, each (rows of the batch,) int64.
    """

    @tf.autograph.experimental.do_not_convert  # which has no loop to convert, and takes its time
    def of_epoch(drawn: tf.Tensor) -> tf.data.Dataset:
        indices = tf.range(num_rows, dtype=tf.int64)
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, seed=[seed, drawn])
            if lengths is not None:
                indices = _by_length(indices, lengths, batch_size, seed=[seed, drawn])
        return tf.data.Dataset.range(0, num_rows, batch_size).map(lambda start: indices[start : start + batch_size])

    batches = tf.data.Dataset.random(seed=seed or 0, rerandomize_each_iteration=True).take(1).flat_map(of_epoch)
    return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(num_rows / batch_size)))


def _by_length(indices: tf.Tensor, lengths: Array, batch_size: int, *, seed: list["int | tf.Tensor"]) -> tf.Tensor:
    """Sort shuffled rows by length, some batches at a time, and shuffle the batches.

    The rows of the last batch, if it has fewer than the others, are any: were they the longest, these would count more
    per row in each epoch.
    """
    whole = len(lengths) // batch_size
    indices, rest = indices[: whole * batch_size], indices[whole * batch_size :]
    pool = tf.range(whole * batch_size, dtype=tf.int64) // (POOL * batch_size)
    key = pool * (int(lengths.max()) + 1) + tf.gather(lengths.astype(np.int64), indices)
    batches = tf.reshape(tf.gather(indices, tf.argsort(key, stable=True)), [whole, batch_size])
    shuffled = tf.random.experimental.stateless_shuffle(batches, seed=seed)
    return tf.concat([tf.reshape(shuffled, [-1]), rest], axis=0)

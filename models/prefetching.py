"""Batches that are fetched while others are learned from."""

import tensorflow as tf

AHEAD = 8
"""Batches that are fetched ahead. tf.data's own choice grows without need, to hundreds of megabytes of wide rows."""


def fetched_ahead(batches: tf.data.Dataset, number: int = AHEAD) -> tf.data.Dataset:
    """Return the same batches, some of which are fetched before they are asked for.

    tf.data's model of its own speed, which would choose numbers of threads, is off: its thread sleeps for up to a
    minute, twice as long each time, and an iterator that ends while it falls asleep waits for it.

    Args:
        batches: of rows.
        number: The number of batches; `tf.data.AUTOTUNE`: what the reader needs.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(number).with_options(options)

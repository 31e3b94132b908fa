"""Texts of very different lengths in one batch: how they are computed without paying for the longest of them."""

from collections.abc import Callable

import tensorflow as tf

BLOCK = 32
"""Texts that are computed at once where nothing is learned: those of about one length, of which a block is."""


def in_blocks(function: Callable[[tf.Tensor], tf.Tensor], tokens: tf.Tensor, *, width: int) -> tf.Tensor:
    """Compute vectors of texts in blocks of about one length.

    Memory is bounded, and short texts are not padded to the length of long ones.

    Args:
        function: from tokens (rows, length) to vectors (rows, width).
        tokens: (rows, length).
        width: of a vector.

    Returns:
        (rows, width), in the order of the tokens.
    """
    rows = tf.shape(tokens)[0]
    order = tf.argsort(tf.reduce_sum(tf.cast(tokens > 0, tf.int32), axis=1), stable=True)
    tokens = tf.gather(tokens, order)
    number = tf.maximum((rows + BLOCK - 1) // BLOCK, 1)
    found = tf.TensorArray(tf.float32, size=number, element_shape=[None, width], infer_shape=False)

    def step(index: tf.Tensor, array: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        block = function(tokens[index * BLOCK : (index + 1) * BLOCK])
        return index + 1, array.write(index, tf.cast(block, tf.float32))

    _, found = tf.while_loop(lambda index, _: index < number, step, (0, found), parallel_iterations=1)
    return tf.gather(tf.ensure_shape(found.concat(), [None, width]), tf.math.invert_permutation(order))


def shortened(tokens: tf.Tensor) -> tf.Tensor:
    """Return rows as long as the longest of them: what is behind is not computed.

    Args:
        tokens: (rows, length) whole numbers, 0 behind the last token.

    Returns:
        (rows, tokens), of at least one token.
    """
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(tokens > 0, tf.int32), axis=1))
    return tokens[:, : tf.maximum(longest, 1)]

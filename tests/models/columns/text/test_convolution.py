"""Convolutions over texts of very different lengths."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models.columns.text import convolution
from kubetfx.models.columns.text.convolution import WIDTHS, TextConvolution
from kubetfx.models.columns.text.text_blocks import BLOCK, in_blocks

WORDS, LENGTH, DIMENSIONS = 40, 24, 6


@pytest.fixture(scope="module")
def layer() -> TextConvolution:
    keras.utils.set_random_seed(3)
    made = TextConvolution(size=WORDS, dimensions=DIMENSIONS, dropout=0.0)
    inputs = keras.Input((2, LENGTH), dtype="int64")
    assert made(inputs).shape == (None, 2, len(WIDTHS) * DIMENSIONS)
    return made


def texts(number: int) -> np.ndarray:
    """Two columns of tokens, some texts of which have none."""
    chance = np.random.default_rng(1)
    tokens = chance.integers(1, WORDS, (number, 2, LENGTH))
    return np.where(np.arange(LENGTH) < chance.integers(0, LENGTH + 1, (number, 2, 1)), tokens, 0)


def test_values_depend_neither_on_other_texts_nor_on_blocks(layer):
    tokens = texts(BLOCK + 5)

    found = layer(tokens).numpy()

    together = layer(tokens, training=True).numpy()  # nothing is left out, and all are as long as the longest
    np.testing.assert_allclose(found, together, atol=1e-6)
    alone = np.concatenate([layer(row[None]).numpy() for row in tokens])
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert not found[(tokens == 0).all(axis=2)].any()


def test_no_text_at_all_has_no_values(layer):
    assert layer(texts(0)).shape == (0, 2, len(WIDTHS) * DIMENSIONS)


def test_short_texts_are_not_padded_to_a_long_one_in_the_same_batch(layer, monkeypatch):
    widths: list[int] = []

    def watched(function, tokens, *, width):
        def block(own):
            widths.append(int(tf.reduce_max(tf.reduce_sum(tf.cast(own > 0, tf.int32), axis=1))))
            return function(own)

        return in_blocks(block, tokens, width=width)

    monkeypatch.setattr(convolution, "in_blocks", watched)
    tokens = texts(BLOCK)  # of two columns, so two blocks
    tokens[:, :, 4:] = 0
    tokens[5, 1] = 7

    layer(tokens)

    assert widths[0] <= 4
    assert widths[-1] == LENGTH

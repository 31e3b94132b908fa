"""Pre-training on the column itself: a transformer learns to guess hidden tokens of a text.

It is that of BERT ("Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019).
"""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.config.text_section import TextPretrainConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.columns.text.text_blocks import shortened
from kubetfx.models.columns.text.transformer import Transformer, kept, token_vectors
from kubetfx.models.optimization import make_optimizer
from kubetfx.models.prefetching import fetched_ahead
from kubetfx.models.row_order import batches_of_indices
from kubetfx.models.training_loop import TrainedModel, fit

VALIDATION = 0.1
"""Share of the texts on which it is measured how well tokens are guessed."""
_HIDDEN, _OTHER = 0.8, 0.9
"""Share of the tokens to be guessed that is hidden; between it and the second, another token replaces them."""
STEPS_PER_CALL = 100


def pretrain(layer: Transformer, tokens: Array, config: TextPretrainConfig) -> dict[str, Any]:
    """Teach a transformer to guess the hidden tokens of texts.

    Args:
        layer: that learns; the last token of its vocabulary is the one that hides others.
        tokens: (rows, columns, length).
        config: the section `features.text_encoder.pretrain`.

    Returns:
        What was done, for history.json: `texts`, and `loss` and `val_loss` of each epoch.
    """
    texts = tokens.reshape(-1, tokens.shape[-1])
    texts = texts[(texts > 0).sum(axis=1) > 1]  # a single one is guessed from nothing
    if len(texts) < 2:
        return {"texts": len(texts), "loss": [], "val_loss": []}
    seed = int(np.random.randint(2**31))  # of training.seed, which numpy's generator began with
    texts = np.random.default_rng(seed).permutation(texts)
    held_out = max(int(len(texts) * VALIDATION), 1)
    model = _guessing(layer, length=texts.shape[1], share=config.share)
    steps, of_validation = (math.ceil(number / config.batch_size) for number in (len(texts) - held_out, held_out))
    training = TrainingConfig(epochs=config.epochs, learning_rate=config.learning_rate)
    model.compile(
        optimizer=make_optimizer(training, num_steps=steps * config.epochs),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    history = keras.callbacks.History()
    hidden = _Hidden(share=config.share, size=layer.shape.vocabulary, seed=seed)
    fit(
        model,
        hidden.batches(texts[held_out:], config.batch_size),
        (hidden.batches(texts[:held_out], config.batch_size, is_shuffled=False), of_validation),
        epochs=range(config.epochs),
        steps=steps,
        callbacks=[keras.callbacks.TerminateOnNaN(), history],
    )
    return {"texts": len(texts), **history.history}


def _guessing(layer: Transformer, *, length: int, share: float) -> TrainedModel:
    tokens = keras.Input((length,), name="tokens", dtype="int64")
    places = keras.Input((_most(length, share),), name="places", dtype="int64")
    guesses = _GuessedTokens(layer, name="guessed_tokens")([tokens, places])
    model = TrainedModel({"tokens": tokens, "places": places}, guesses)
    model.steps_per_call = STEPS_PER_CALL
    return model


def _most(length: int, share: float) -> int:
    """Tokens of a text that are guessed, at most."""
    return max(math.ceil(length * share), 1)


class _GuessedTokens(keras.layers.Layer):
    """From tokens and places in them to the score of each token of the vocabulary.

    Tokens are (rows, length), places (rows, places), and scores (rows, places, vocabulary).
    """

    def __init__(self, transformer: Transformer, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._transformer = transformer
        width = transformer.shape.width
        self._hidden = keras.layers.Dense(width, activation="gelu", name="hidden")
        self._normalized = keras.layers.LayerNormalization(name="normalized")
        self._hidden.build((None, None, width))
        self._normalized.build((None, None, width))
        self._bias = self.add_weight(shape=(transformer.shape.vocabulary,), initializer="zeros", name="bias")

    def call(self, inputs: Any, training: bool = False) -> Any:
        tokens, places = inputs
        weights = self._transformer.tensors()
        tokens = shortened(tokens)
        drop = self._transformer.dropped if training else kept
        vectors = token_vectors(weights, tokens, self._transformer.shape, drop=drop)
        places = tf.minimum(places, tf.cast(tf.shape(tokens)[1] - 1, tf.int64))
        hidden = self._normalized(self._hidden(tf.gather(vectors, places, batch_dims=1)))
        return tf.cast(tf.matmul(hidden, weights["words"], transpose_b=True) + self._bias, tf.float32)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[1], self._transformer.shape.vocabulary)


class _Hidden:
    """Hides tokens, in each epoch others, as the seed says."""

    def __init__(self, *, share: float, size: int, seed: int) -> None:
        self._share, self._size, self._seed = share, size, seed

    def batches(self, texts: Array, size: int, *, is_shuffled: bool = True) -> tf.data.Dataset:
        """({tokens, places}, tokens at these places, which of them count), without end."""
        seed = self._seed if is_shuffled else None
        rows = batches_of_indices(len(texts), size, seed=seed, lengths=(texts > 0).sum(axis=1))
        tokens = tf.constant(texts)
        batches = rows.repeat().map(lambda indices: tf.gather(tokens, indices)).enumerate()
        return fetched_ahead(batches.map(self._hide, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True), 2)

    def _hide(self, number: tf.Tensor, tokens: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        chances = [
            tf.random.stateless_uniform(tf.shape(tokens), tf.stack([tf.cast(self._seed + draw, tf.int64), number]))
            for draw in range(3)
        ]
        is_token = tokens > 0
        most = _most(tokens.shape[1], self._share)
        _, places = tf.math.top_k(tf.where(is_token, chances[0], -1.0), most)
        counts = tf.reduce_sum(tf.cast(is_token, tf.float32), axis=1, keepdims=True)
        counts = tf.maximum(tf.round(counts * self._share), 1.0)
        is_guessed = tf.cast(tf.range(most)[None, :], tf.float32) < counts
        is_place = tf.one_hot(tf.where(is_guessed, places, -1), tokens.shape[1], on_value=True, off_value=False)
        is_place = tf.reduce_any(is_place, axis=1)
        others = 1 + tf.cast(chances[2] * (self._size - 1), tokens.dtype)
        put = tf.where(
            chances[1] < _HIDDEN, tf.cast(self._size, tokens.dtype), tf.where(chances[1] < _OTHER, others, tokens)
        )
        answers = tf.maximum(tf.gather(tokens, places, batch_dims=1) - 1, 0)
        inputs = {"tokens": tf.where(is_place, put, tokens), "places": tf.cast(places, tf.int64)}
        return inputs, answers, tf.cast(is_guessed, tf.float32)

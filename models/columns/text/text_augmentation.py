"""Augmentation of texts: each time a text is trained on, words are left out, swapped with the next, or replaced.

It works on the numbers of tokens, so a text is cut into them once. A served model does none of it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.config.text_section import TextEncoderConfig
from kubetfx.models.columns.text.cleaning import clean
from kubetfx.models.columns.text.tokens import VOCABULARY

if TYPE_CHECKING:
    import tensorflow_transform as tft

_MOST_NAMED = 5
"""Words that the log names."""


def augmented(
    tokens: Any, transform_output: "tft.TFTransformOutput", config: TextEncoderConfig, *, first: int, left_out: int
) -> Any:
    """Put the augmentation behind the tokens of a network, if there is any.

    Args:
        tokens: (batch, columns, tokens), a tensor of Keras.
        transform_output: has the vocabulary.
        config: the section `features.text_encoder`.
        first: number of the vocabulary's first token.
        left_out: number of a token that is left out.

    Returns:
        Tokens of the same shape.
    """
    wanted = config.augmentation
    if wanted is None:
        return tokens
    vocabulary = [token.decode() for token in transform_output.vocabulary_by_name(VOCABULARY)]
    table = synonym_table(wanted.synonyms, vocabulary, config, first=first)
    layer = TextAugmentation(
        drop=wanted.drop,
        swap=wanted.swap,
        replace=wanted.replace,
        table=table,
        left_out=left_out,
        name="text_augmented",
    )
    return layer(tokens)


def synonym_table(
    synonyms: Mapping[str, Sequence[str]], vocabulary: Sequence[str], config: TextEncoderConfig, *, first: int
) -> Array:
    """Find synonyms in a vocabulary.

    Args:
        synonyms: by word, as the user wrote them.
        vocabulary: tokens.
        config: says how words are cleaned.
        first: number of the vocabulary's first token.

    Returns:
        (numbers, most synonyms + 1) int64: for each number how many synonyms it has, and theirs.
    """
    words = list(dict.fromkeys([*synonyms, *(other for others in synonyms.values() for other in others)]))
    cleaned = [text.decode() for text in clean(tf.constant(words, tf.string), config.cleaning).numpy()] if words else []
    places = {token: number for number, token in enumerate(vocabulary, start=first)}
    number_of = {word: places.get(text) for word, text in zip(words, cleaned, strict=True)}
    if unknown := [word for word, number in number_of.items() if number is None]:
        logging.info(
            "Synonyms: %d of %d words are not in the vocabulary and are not used, such as %s.",
            len(unknown), len(words), ", ".join(unknown[:_MOST_NAMED]),
        )  # fmt: skip
    found: dict[int, list[int]] = {}
    for word, others in synonyms.items():
        numbers = [number for other in others if (number := number_of[other]) is not None]
        if (own := number_of[word]) is not None and numbers:
            found[own] = list(dict.fromkeys([*found.get(own, ()), *numbers]))
    table = np.zeros((first + len(vocabulary), 1 + max(map(len, found.values()), default=0)), np.int64)
    for own, numbers in found.items():
        table[own, : len(numbers) + 1] = [len(numbers), *numbers]
    return table


class TextAugmentation(keras.layers.Layer):
    """Changes tokens at random in training.

    Args:
        drop: share of the tokens that are left out.
        swap: share of the pairs of neighbours that change places.
        replace: share of the tokens with synonyms that one of them replaces.
        table: of `synonym_table`.
        left_out: number of a token that is left out.
        keywords: Keras' of every layer.
    """

    def __init__(
        self, *, drop: float, swap: float, replace: float, table: Array, left_out: int, **keywords: Any
    ) -> None:
        super().__init__(trainable=False, **keywords)
        self._drop, self._swap, self._replace = drop, swap, replace
        self._table = table
        self._left_out = left_out
        self._seed = keras.random.SeedGenerator()

    def call(self, tokens: Any, training: bool = False) -> Any:
        """Change tokens.

        Args:
            tokens: (batch, columns, tokens) whole numbers, 0 behind the last one.
            training: otherwise they stay.

        Returns:
            Tokens of the same shape.
        """
        if not training:
            return tokens
        if self._replace and self._table.shape[1] > 1:
            tokens = self._replaced(tokens)
        if self._swap:
            tokens = self._swapped(tokens)
        if self._drop:
            is_dropped = (self._chance(tokens) < self._drop) & (tokens > 0)
            tokens = tf.where(is_dropped, tf.cast(self._left_out, tokens.dtype), tokens)
        return tokens

    def _chance(self, like: Any) -> Any:
        return keras.random.uniform(tf.shape(like), seed=self._seed)

    def _replaced(self, tokens: Any) -> Any:
        number = tf.gather(tf.constant(self._table[:, 0]), tokens)
        choice = tf.cast(self._chance(tokens) * tf.cast(number, tf.float32), tokens.dtype)
        choice = tf.minimum(choice, tf.maximum(number - 1, 0))
        other = tf.gather_nd(tf.constant(self._table[:, 1:]), tf.stack([tokens, choice], axis=-1))
        return tf.where((number > 0) & (self._chance(tokens) < self._replace), other, tokens)

    def _swapped(self, tokens: Any) -> Any:
        """Return tokens, some pairs of which have changed places: pairs that begin at even places, or at odd ones."""
        length = tf.shape(tokens)[-1]
        shift = tf.cast(keras.random.uniform((), seed=self._seed) < 0.5, tf.int32)
        place = tf.range(length)
        partner = tf.where((place + shift) % 2 == 0, place + 1, place - 1)
        is_pair = (partner >= 0) & (partner < length)
        partner = tf.where(is_pair, partner, place)
        of_pair = tf.gather(self._chance(tokens), tf.minimum(place, partner), axis=-1)
        others = tf.gather(tokens, partner, axis=-1)
        return tf.where((of_pair < self._swap) & (tokens > 0) & (others > 0), others, tokens)

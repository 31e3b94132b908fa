"""Tokens of cleaned text: words, subwords or characters, n-grams of them, and their numbers in a vocabulary."""

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import analyzers

from kubetfx.config.text_section import TextEncoderConfig
from kubetfx.errors import ConfigError
from kubetfx.models.columns.text.cleaning import clean

VOCABULARY = "text"
SUBWORD_LENGTHS = (3, 4, 5)
"""Neighbouring characters of a word that are a token, as in "Enriching Word Vectors with Subword Information" (TACL
2017), which takes 6 too."""

TOKENS_OF_WORD = 10
"""Subwords of a word that there is room for, on average over the words of a text; most have fewer."""


def tokenize(texts: tf.Tensor, config: TextEncoderConfig, *, length: int) -> tf.RaggedTensor:
    """Cut texts into tokens, in the order of the text.

    Args:
        texts: (batch,) string, raw.
        config: the section `features.text_encoder`.
        length: words at most, or characters.

    Returns:
        (batch, tokens) string.
    """
    cleaned = clean(texts, config.cleaning)
    if config.tokens == "characters":
        return tf.strings.unicode_split(cleaned, "UTF-8")[:, :length]
    words = tf.strings.split(cleaned)[:, :length]
    return _subwords(words) if config.tokens == "subwords" else words


def _subwords(words: tf.RaggedTensor) -> tf.RaggedTensor:
    """Each word, and the neighbouring characters within it and its ends.

    Words that a batch has several times are cut up once.
    """
    distinct, of_word = tf.unique(words.flat_values)
    characters = tf.strings.unicode_split(tf.strings.join(["<", distinct, ">"]), "UTF-8")
    parts = tf.strings.ngrams(characters, SUBWORD_LENGTHS, separator="")
    own = tf.concat([tf.RaggedTensor.from_tensor(distinct[:, None]), parts], axis=1)
    return words.with_flat_values(tf.gather(own, of_word)).merge_dims(1, 2)


def ngrams(tokens: tf.RaggedTensor, number: int) -> tf.RaggedTensor:
    """Add neighbouring tokens.

    Args:
        tokens: (batch, tokens) string.
        number: of the tokens of the longest n-gram.

    Returns:
        (batch, n-grams) string, those of one token first.
    """
    return tokens if number == 1 else tf.strings.ngrams(tokens, tuple(range(1, number + 1)), separator=" ")


def numbers_of(tokens: tf.RaggedTensor, config: TextEncoderConfig) -> tf.RaggedTensor:
    """Find tokens in the vocabulary, for TensorFlow Transform.

    Args:
        tokens: (batch, tokens) string.
        config: the section `features.text_encoder`.

    Returns:
        (batch, tokens) int64 from 0 on; -1 for those that it does not have.
    """
    flat = tft.compute_and_apply_vocabulary(
        tokens.flat_values,
        default_value=-1,
        top_k=config.vocabulary_size,
        frequency_threshold=config.min_count if config.min_count > 1 else None,
        vocab_filename=VOCABULARY,
    )
    return tokens.with_flat_values(flat)


def vocabulary_size(transform_output: tft.TFTransformOutput, config: TextEncoderConfig) -> int:
    """Return how many tokens the vocabulary has.

    Args:
        transform_output: TensorFlow Transform's.
        config: the section `features.text_encoder`.

    Raises:
        ConfigError: it has none.
    """
    tokens = transform_output.vocabulary_by_name(VOCABULARY)
    _, of_nothing = analyzers.get_empy_vocabulary_dummy_value(tf.string)
    if tokens == [of_nothing]:
        raise ConfigError(
            "features.text_encoder.min_count: no token of the training texts occurs so often, so that a text says "
            f"nothing. Received: min_count: {config.min_count}. Set a lower one, or leave the columns of text out: "
            "data.drop."
        )
    return len(tokens)


def rows_of(values: tf.RaggedTensor, *, columns: int, length: int) -> tf.Tensor:
    """Pad rows with zeros to one length.

    Args:
        values: (batch * columns, any).
        columns: of text.
        length: of each; what is longer is cut off.

    Returns:
        (batch, columns, length).
    """
    return tf.reshape(values.to_tensor(shape=[None, length]), [-1, columns, length])

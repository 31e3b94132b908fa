"""Convolutions over the tokens of a text: "Convolutional Neural Networks for Sentence Classification" (EMNLP 2014)."""

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kubetfx.models.columns.column_type import Encoding
from kubetfx.models.columns.text.encoders import TOKENS, TextEncoder
from kubetfx.models.columns.text.text_augmentation import augmented
from kubetfx.models.columns.text.text_blocks import in_blocks, shortened
from kubetfx.models.columns.text.tokens import numbers_of, rows_of, tokenize, vocabulary_size

if TYPE_CHECKING:
    import tensorflow_transform as tft

WIDTHS = (2, 3, 4)
"""Neighbouring tokens that a convolution looks at."""
SIZE = 64
"""Dimensions by default."""
UNKNOWN = 1
"""Number of a token that the vocabulary does not have; those that it has follow."""


class InOrder(TextEncoder):
    """Tokens in their order."""

    def preprocess(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`text_tokens`, (batch, columns, tokens) int64: 1 is an unknown token, 0 is behind the last one."""
        tokens = tokenize(tf.reshape(texts, [-1]), self.config, length=self.length)
        numbers = numbers_of(tokens, self.config)
        return {TOKENS: rows_of(numbers + UNKNOWN + 1, columns=len(self.columns), length=self.length)}

    def augmented(self, tokens: keras.KerasTensor, transform_output: "tft.TFTransformOutput") -> keras.KerasTensor:
        """Have tokens changed at random in training, if that is asked for.

        Args:
            tokens: (batch, columns, tokens).
            transform_output: has the vocabulary.

        Returns:
            An array of the same shape.
        """
        return augmented(tokens, transform_output, self.config, first=UNKNOWN + 1, left_out=UNKNOWN)


class Convolution(InOrder):
    """Tokens are embedded; of each channel of each convolution the largest value is taken."""

    def encode(self, transform_output: "tft.TFTransformOutput") -> Encoding:
        """The largest values of the channels for each column, one beside the other."""
        columns, length = transform_output.transformed_feature_spec()[TOKENS].shape
        tokens = keras.Input((columns, length), name=TOKENS, dtype="int64")
        size = vocabulary_size(transform_output, self.config) + UNKNOWN + 1
        dimensions = self.config.size or SIZE
        layer = TextConvolution(size=size, dimensions=dimensions, dropout=self.config.dropout, name="text_convolution")
        flat = keras.layers.Reshape((columns * len(WIDTHS) * dimensions,), name="text_flat")(
            layer(self.augmented(tokens, transform_output))
        )
        return Encoding({TOKENS: tokens}, flat)


class TextConvolution(keras.layers.Layer):
    """Embedding, convolutions and the maximum.

    In training as many tokens are computed as the longest text of a batch has, and otherwise of a block.

    Args:
        size: of the vocabulary.
        dimensions: of the vector of a token, and channels of each convolution.
        dropout: share of the tokens that are left out in training.
        keywords: Keras' of every layer.
    """

    def __init__(self, *, size: int, dimensions: int, dropout: float, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._dimensions = dimensions
        self._width = len(WIDTHS) * dimensions
        self._embedding = keras.layers.Embedding(size, dimensions, name="text_vectors")
        self._token_dropout = keras.layers.Dropout(dropout, noise_shape=(None, None, 1))
        self._convolutions = [
            keras.layers.Conv1D(dimensions, width, padding="same", activation="relu", name=f"width_{width}")
            for width in WIDTHS
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights.

        Args:
            input_shape: of the tokens.
        """
        self._embedding.build((None, None))
        for convolve in self._convolutions:
            convolve.build((None, None, self._dimensions))
        super().build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Compute the vectors.

        Args:
            inputs: (batch, columns, tokens).
            training: whether some tokens are left out.

        Returns:
            (batch, columns, channels of all convolutions).
        """
        columns = inputs.shape[1]
        rows = tf.reshape(inputs, (-1, inputs.shape[2]))
        if training:
            found = self._largest(rows, training=True)
        else:
            found = tf.cast(in_blocks(self._largest, rows, width=self._width), self.compute_dtype)
        return tf.reshape(found, (-1, columns, self._width))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the vectors.

        Args:
            input_shape: of the tokens.
        """
        return (*input_shape[:2], self._width)

    def _largest(self, tokens: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        tokens = shortened(tokens)
        is_token = tf.cast(tokens[:, :, None] > 0, self.compute_dtype)
        vectors = self._token_dropout(self._embedding(tokens), training=training) * is_token
        return tf.concat([tf.reduce_max(convolve(vectors) * is_token, axis=1) for convolve in self._convolutions], -1)

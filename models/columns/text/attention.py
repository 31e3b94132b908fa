"""A transformer whose weights come from nowhere, or from what it learns of the texts alone."""

from typing import TYPE_CHECKING

import keras

from kubetfx.config.text_section import TRANSFORMER_SIZE
from kubetfx.models.columns.column_type import Encoding
from kubetfx.models.columns.text.convolution import UNKNOWN, InOrder
from kubetfx.models.columns.text.encoders import TOKENS
from kubetfx.models.columns.text.tokens import vocabulary_size
from kubetfx.models.columns.text.transformer import Transformer
from kubetfx.models.columns.text.transformer_shape import Shape

if TYPE_CHECKING:
    import tensorflow_transform as tft

_HIDING = 1
"""Tokens behind those of the vocabulary: the one that hides others."""
_INNER = 4
"""Units of a hidden layer, in widths, as BERT has it."""


class Attention(InOrder):
    """Tokens of the vocabulary, and what is around them."""

    def encode(self, transform_output: "tft.TFTransformOutput") -> Encoding:
        """The mean vector of the tokens of each column, one beside the other."""
        columns, length = transform_output.transformed_feature_spec()[TOKENS].shape
        width = self.config.size or TRANSFORMER_SIZE
        shape = Shape(
            vocabulary=vocabulary_size(transform_output, self.config) + UNKNOWN + _HIDING,
            positions=length,
            layers=self.config.layers,
            heads=self.config.heads,
            width=width,
            inner=_INNER * width,
        )
        layer = Transformer(
            TOKENS, shape, dropout=self.config.dropout, pretrain=self.config.pretrain, name="text_transformer"
        )
        tokens = keras.Input((columns, length), name=TOKENS, dtype="int64")
        return encoding_of(layer, tokens, self.augmented(tokens, transform_output))


def encoding_of(layer: Transformer, tokens: keras.KerasTensor, seen: keras.KerasTensor) -> Encoding:
    """Put a transformer behind the tokens of columns.

    Args:
        layer: of `text_tokens`.
        tokens: (batch, columns, tokens), the input.
        seen: the same, or what augmentation makes of it.

    Returns:
        The vectors of the columns, one beside the other.
    """
    flat = keras.layers.Reshape((tokens.shape[1] * layer.shape.width,), name="text_flat")(layer(seen))
    return Encoding({tokens.name: tokens}, flat)

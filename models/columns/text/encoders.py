"""What an encoder of text is, and which there are."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kubetfx.config.text_section import TextEncoderConfig
from kubetfx.models.columns.column_type import Column, Encoding

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

VECTORS = "text_vectors"
"""A feature that has the vectors of all columns, where Transform has computed them: (batch, any) float32."""
TOKENS = "text_tokens"
"""A feature that has the numbers of words in the vocabulary, in their order: (batch, columns, tokens) int64."""
PIECES = "text_pieces"
"""A feature of a pretrained encoder's tokens, whose numbers say nothing of how frequent they are: (batch, columns,
tokens) int64."""
_ENCODERS: Mapping[str, str] = {
    "bag": "ngram_vectors:Bag",
    "fasttext": "ngram_vectors:FastText",
    "cnn": "convolution:Convolution",
    "transformer": "attention:Attention",
    "pretrained": "pretrained:Pretrained",
}
"""Module of this folder and class, by `features.text_encoder.kind`."""


class TextEncoder(ABC):
    """From text to a vector: in Transform's graph to whole numbers, from which layers of the network learn."""

    def __init__(self, config: TextEncoderConfig, columns: Sequence[Column]) -> None:
        """Return the encoder of columns.

        Args:
            config: the section `features.text_encoder`.
            columns: of text, at least one.
        """
        self.config = config
        self.columns = columns

    @property
    def length(self) -> int:
        """Words of a text at most, or characters where these are the tokens."""
        found = [column.details["length"] for column in self.columns]
        if "any" in found or self.config.tokens == "characters":
            return self.config.most_tokens
        return min(max(map(int, found)), self.config.most_tokens)

    @abstractmethod
    def preprocess(self, texts: "tf.Tensor") -> "dict[str, tf.Tensor]":
        """Raw text to features, in Transform's graph.

        Args:
            texts: (batch, columns) string; "" where a cell is missing.

        Returns:
            Features of a fixed shape, each (batch, columns, ...), int64 or float32, by names that begin with `text_`.
            In each, 0 is nothing. Or `text_vectors`, (batch, any) float32.
        """

    @abstractmethod
    def encode(self, transform_output: "tft.TFTransformOutput") -> Encoding:
        """Features to a vector.

        Args:
            transform_output: says which features there are, their shapes and vocabularies.

        Returns:
            The encoding of all columns together.
        """


def kind_of(config: TextEncoderConfig, columns: Sequence[Column]) -> str:
    """Return which encoder it is.

    Args:
        config: the section `features.text_encoder`.
        columns: of text, as the schema has them.
    """
    if config.kind != "auto":
        return config.kind
    return "fasttext" if any(column.details["many"] == "yes" for column in columns) else "bag"


def encoder_of(config: TextEncoderConfig, columns: Sequence[Column]) -> TextEncoder:
    """Return the encoder of columns.

    Args:
        config: the section `features.text_encoder`.
        columns: of text, at least one, as the schema has them.
    """
    module, _, name = _ENCODERS[kind_of(config, columns)].partition(":")
    found: TextEncoder = getattr(importlib.import_module(f"kubetfx.models.columns.text.{module}"), name)(
        config, columns
    )
    return found

"""A folder with an encoder that somebody else has trained: one of Hugging Face, or a preset of KerasHub.

BERT, DistilBERT and RoBERTa are understood. Sizes, vocabulary and weights are read, as JSON, text and arrays; nothing
of the folder is executed. Decision 44 says why the loaders of KerasHub and Hugging Face are not used.
"""

from collections import Counter
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

from kubetfx.arrays import Array
from kubetfx.models.columns.text import hugging_face, keras_hub
from kubetfx.models.columns.text.byte_pairs import BytePairs
from kubetfx.models.columns.text.model_folder import ModelFolder
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.columns.text.wordpiece import WordPiece

if TYPE_CHECKING:
    import tensorflow as tf


class PretrainedFolder:
    """What is in such a folder. Each part is read when it is asked for.

    Args:
        place: path or URL.
        key: of the config, which names it.
    """

    def __init__(self, place: str, *, key: str = "features.text_encoder.pretrained") -> None:
        self._folder = ModelFolder(place, key=key)

    @cached_property
    def _format(self) -> ModuleType:
        return keras_hub if keras_hub.is_preset(self._folder) else hugging_face

    @cached_property
    def tokenizer(self) -> WordPiece | BytePairs:
        """From text to numbers of tokens.

        Raises:
            ConfigError: the folder has none that is understood.
        """
        found: WordPiece | BytePairs = self._format.read_tokenizer(self._folder)
        lacking = found.special_tokens - set(found.vocabulary)
        if lacking:
            raise self._folder.error(
                "the vocabulary lacks a token that stands for no word",
                f"no {min(lacking)} among {len(found.vocabulary):,} tokens",
                "Copy the tokenizer's files again, tokenizer_config.json among them.",
            )
        if len(set(found.vocabulary)) < len(found.vocabulary):
            twice = Counter(found.vocabulary).most_common(1)[0][0]
            raise self._folder.error(
                "the vocabulary has a token twice", f"{twice!r}", "Copy the tokenizer's files of the model again."
            )
        return found

    @cached_property
    def shape(self) -> Shape:
        """Return the shape of the transformer.

        Raises:
            ConfigError: the folder has none that is understood, or a tokenizer of another model.
        """
        shape: Shape = self._format.read_shape(self._folder)
        if shape.width % max(shape.heads, 1) or min(shape.heads, shape.layers, shape.width, shape.positions) < 1:
            raise self._folder.error(
                "the sizes of the model do not go together",
                f"{shape.heads} heads of a width of {shape.width}, {shape.layers} layers, {shape.positions} positions",
                "Copy config.json of the model again.",
            )
        number = len(self.tokenizer.vocabulary)
        if number > shape.vocabulary:
            raise self._folder.error(
                "the tokenizer is that of another model",
                f"it has {number:,} tokens, and the model {shape.vocabulary:,}",
                "Copy all files from one model.",
            )
        return shape

    def check(self) -> None:
        """Check that all files are there, without reading the weights.

        Raises:
            ConfigError: one is not, or says that the model is none that is understood.
        """
        _ = self.shape
        self._folder.check_is_there(self._format.WEIGHTS, what="the weights")

    def tokens(self, texts: "tf.Tensor", *, length: int) -> "tf.Tensor":
        """Tokenize texts, in Transform's graph.

        Args:
            texts: (batch,) string.
            length: tokens of a row; the model may have places for fewer.

        Returns:
            (batch, length at most) int64: numbers of tokens, from 1 on, and 0 behind the last one.
        """
        import tensorflow as tf

        found = self.tokenizer(texts, length=min(length, self.shape.positions))
        return tf.where(tf.equal(found, self.tokenizer.frame.padding), tf.constant(0, tf.int64), found + 1)

    def weights(self) -> dict[str, Array]:
        """Return the weights, by the names of `Shape.weights`.

        Raises:
            ConfigError: the file is not there, cannot be read, or has those of another model.
        """
        found: dict[str, Array] = self._format.read_weights(self._folder, self.shape)
        return found

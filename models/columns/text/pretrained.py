"""Encoders that somebody else has trained: as they are, or trained on.

As it is, an encoder is a part of Transform's graph: it computes the vector of a text once, and not in each epoch, and
trees have it too. One that is trained on is a layer of the network.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import keras
import tensorflow as tf
import tensorflow_transform as tft

from kubetfx.config.text_section import TextFineTuneConfig
from kubetfx.models.columns.column_type import Encoding
from kubetfx.models.columns.text.attention import encoding_of
from kubetfx.models.columns.text.encoders import PIECES, VECTORS, TextEncoder
from kubetfx.models.columns.text.pretrained_folder import PretrainedFolder
from kubetfx.models.columns.text.text_blocks import in_blocks
from kubetfx.models.columns.text.transformer import Transformer, mean_vectors

if TYPE_CHECKING:
    from kubetfx.models.columns.text.transformer_shape import Shape


class Pretrained(TextEncoder):
    """BERT, DistilBERT or RoBERTa of a folder."""

    @cached_property
    def _folder(self) -> PretrainedFolder:
        assert self.config.pretrained is not None  # the config says so
        return PretrainedFolder(self.config.pretrained)

    def preprocess(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`text_vectors`, or, of an encoder that learns, `text_pieces`.

        They are (batch, columns * width) float32, or (batch, columns, tokens) int64: 0 is behind the last one.
        """
        tokens = self._folder.tokens(tf.reshape(texts, [-1]), length=self.config.most_tokens)
        columns = len(self.columns)
        if self.config.fine_tune is not None:
            return {PIECES: tf.reshape(tokens, [-1, columns, tokens.shape[1]])}
        frozen = tft.make_and_track_object(lambda: FrozenTransformer(self._folder), name="pretrained_transformer")
        return {VECTORS: tf.reshape(frozen(tokens), [-1, columns * self._folder.shape.width])}

    def encode(self, transform_output: tft.TFTransformOutput) -> Encoding:
        """The mean vector of the tokens of each column, one beside the other."""
        specs = transform_output.transformed_feature_spec()
        if VECTORS in specs:
            vectors = keras.Input(specs[VECTORS].shape, name=VECTORS, dtype="float32")
            return Encoding({VECTORS: vectors}, vectors)
        assert self.config.fine_tune is not None  # otherwise there are vectors
        shape = self._folder.shape
        layer = Transformer(PIECES, shape, dropout=self.config.dropout, name="pretrained_transformer")
        layer.load(self._folder.weights())
        layer.learning_rates = prepare(layer, self.config.fine_tune)
        tokens = keras.Input(specs[PIECES].shape, name=PIECES, dtype="int64")
        return encoding_of(layer, tokens, tokens)


class FrozenTransformer(tf.Module):
    """A transformer whose weights stay as they are.

    Args:
        folder: that it is from.
    """

    def __init__(self, folder: PretrainedFolder) -> None:
        super().__init__()
        self._shape: Shape = folder.shape
        self._by_name = {
            name: tf.Variable(values, trainable=False, name=name) for name, values in folder.weights().items()
        }

    def __call__(self, tokens: tf.Tensor) -> tf.Tensor:
        """Return the mean vector of each text.

        Args:
            tokens: (rows, length), from 1 on, and 0 behind the last one.

        Returns:
            (rows, width) float32.
        """
        weights = {name: tf.convert_to_tensor(weight) for name, weight in self._by_name.items()}
        return in_blocks(lambda block: mean_vectors(weights, block, self._shape), tokens, width=self._shape.width)


def prepare(layer: Transformer, config: TextFineTuneConfig) -> dict[str, float]:
    """Freeze the lower layers of a transformer, and choose the rates of the others.

    Args:
        layer: that is trained on.
        config: the section `features.text_encoder.fine_tune`.

    Returns:
        Initial learning rates of the weights, by their path.
    """
    layers = layer.shape.layers
    learning = layers if config.layers is None else min(config.layers, layers)
    rates = {}
    for name, weight in layer.by_name.items():
        number = int(name.split("_")[1]) if name.startswith("layer_") else -1
        below = layers - 1 - number  # of the top
        weight.trainable = below < learning or (number < 0 and config.layers is None)
        rates[weight.path] = config.learning_rate * config.layer_decay**below
    return rates

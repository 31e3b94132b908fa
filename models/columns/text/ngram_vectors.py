"""Bags of n-grams: a weighted sum of vectors, one per n-gram, in no order.

Transform finds which n-grams a text has and how often, so an epoch does not count them again.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.models.columns.column_type import Encoding
from kubetfx.models.columns.text.encoders import TextEncoder
from kubetfx.models.columns.text.text_augmentation import augmented
from kubetfx.models.columns.text.tokens import (
    TOKENS_OF_WORD,
    ngrams,
    numbers_of,
    rows_of,
    tokenize,
    vocabulary_size,
)
from kubetfx.models.features import raw_schema, read_features
from kubetfx.models.layers import FittedLayer

if TYPE_CHECKING:
    import tensorflow_transform as tft

NGRAMS = "text_ngrams"
COUNTS = "text_counts"
SIZES = (4, 8, 16)
"""Dimensions by default: the first that is not below the number of classes, since a linear model has no use for more,
and the last for more classes and for regression. Few sizes, so that the vectors of a served model nearly always fit
when classes are added.
"""
_NEARLY_NOTHING = 0.01
"""Deviation of initial vectors: an n-gram says nothing until it is learned what it says. With larger ones, a network
learns texts by heart, by the noise of their rare n-grams."""


class NGramVectors(TextEncoder):
    """What the two encoders of this module have in common."""

    by_rarity: ClassVar[bool]
    """Whether rare n-grams count more."""

    def preprocess(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """`text_ngrams`, the different n-grams of a text, and `text_counts`, how often it has each.

        Both are (batch, columns, n-grams): int64 from 1 on, and float32.
        """
        columns, grams = len(self.columns), self.config.num_grams
        tokens = tokenize(tf.reshape(texts, [-1]), self.config, length=self.length)
        numbers = numbers_of(ngrams(tokens, grams), self.config)
        known = numbers.flat_values >= 0
        size = self.config.vocabulary_size + 1
        codes = tf.boolean_mask(numbers.value_rowids() * size + numbers.flat_values, known)
        different, _, count = tf.unique_with_counts(codes)
        rows = {"value_rowids": different // size, "nrows": numbers.nrows(), "validate": False}
        found = tf.RaggedTensor.from_value_rowids(different % size + 1, **rows)
        counts = tf.RaggedTensor.from_value_rowids(tf.cast(count, tf.float32), **rows)
        length = self.length * grams * (TOKENS_OF_WORD if self.config.tokens == "subwords" else 1)
        return {
            NGRAMS: rows_of(found, columns=columns, length=length),
            COUNTS: rows_of(counts, columns=columns, length=length),
        }

    def encode(self, transform_output: "tft.TFTransformOutput") -> Encoding:
        """The sum of the vectors of its n-grams for each column, one beside the other."""
        shape = transform_output.transformed_feature_spec()[NGRAMS].shape
        numbers = keras.Input(shape, name=NGRAMS, dtype="int64")
        counts = keras.Input(shape, name=COUNTS, dtype="float32")
        seen = augmented(numbers, transform_output, self.config, first=1, left_out=0)
        dimensions = self.config.size or _size(transform_output)
        vectors = NGramSum(
            NGRAMS,
            size=vocabulary_size(transform_output, self.config),
            dimensions=dimensions,
            by_rarity=self.by_rarity,
            dropout=self.config.dropout,
            name="text_vectors",
        )
        flat = keras.layers.Reshape((shape[0] * dimensions,), name="text_flat")(vectors([seen, counts]))
        return Encoding({NGRAMS: numbers, COUNTS: counts}, flat, needs_hidden_layers=False)


def _size(transform_output: "tft.TFTransformOutput") -> int:
    num_classes = len(read_features(raw_schema(transform_output)).classes)
    return next((size for size in SIZES if 0 < num_classes <= size), SIZES[-1])


class Bag(NGramVectors):
    """Weights are tf-idf, as scikit-learn's TfidfVectorizer has it (smooth_idf, sublinear_tf, l2)."""

    by_rarity = True


class FastText(NGramVectors):
    """The mean of the vectors: "Bag of Tricks for Efficient Text Classification" (EACL 2017)."""

    by_rarity = False


class NGramSum(FittedLayer):
    """A sum of vectors, weighted by how often and how rare n-grams are.

    Args:
        feature: (batch, columns, n-grams) numbers from 1 on; 0: none.
        size: of the vocabulary.
        dimensions: of a vector.
        by_rarity: weights are (1 + ln count) * idf, of length 1 together; otherwise counts, of the sum 1.
        dropout: share of the n-grams that are left out in training.
        keywords: Keras' of every layer.
    """

    def __init__(
        self, feature: str, *, size: int, dimensions: int, by_rarity: bool, dropout: float, **keywords: Any
    ) -> None:
        super().__init__(feature, **keywords)
        self._by_rarity = by_rarity
        self._dropout = keras.layers.Dropout(dropout, name="dropped_tokens")
        self._vectors = self.add_weight(
            shape=(size + 1, dimensions),
            initializer=keras.initializers.RandomNormal(stddev=_NEARLY_NOTHING),
            name="vectors",
        )
        self._rarity = self.add_weight(shape=(size + 1,), initializer="ones", trainable=False, name="rarity")

    def fit_to(self, values: Array) -> None:
        """Count in how many texts each n-gram is: idf = ln((1 + texts) / (1 + those with it)) + 1.

        Args:
            values: (rows, columns, n-grams).
        """
        counts = np.bincount(values.reshape(-1), minlength=self._rarity.shape[0])
        num_texts = values.shape[0] * values.shape[1]
        rarity = np.log((1 + num_texts) / (1 + counts)) + 1
        self._rarity.assign(np.where(np.arange(len(counts)) > 0, rarity if self._by_rarity else 1.0, 0.0))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Add up.

        Args:
            inputs: numbers of n-grams, and their counts: (batch, columns, n-grams) each.
            training: whether some are left out.

        Returns:
            (batch, columns, dimensions).
        """
        numbers, counts = inputs
        places = tf.where(numbers > 0)
        num_texts = tf.size(numbers[:, :, 0])
        text = places[:, 0] * numbers.shape[1] + places[:, 1]
        number, count = tf.gather_nd(numbers, places), tf.gather_nd(counts, places)

        def total(values: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(values, text, num_texts)

        weights = tf.gather(tf.convert_to_tensor(self._rarity), number)
        count = tf.cast(count, weights.dtype)
        if self._by_rarity:
            weights *= 1.0 + tf.math.log(count)
            length = tf.sqrt(total(tf.square(weights)))
        else:
            weights *= count
            length = total(weights)
        weights = self._dropout(weights / tf.gather(length, text), training=training)
        vectors = tf.gather(_with_one_gradient(tf.convert_to_tensor(self._vectors)), number)
        return tf.reshape(total(weights[:, None] * vectors), [-1, numbers.shape[1], self._vectors.shape[1]])


@tf.custom_gradient
def _with_one_gradient(vectors: tf.Tensor) -> Any:
    """Return the same, but add the gradients of rows up.

    Optimizers do it each time that they use them, which takes Adam half of a step.
    """
    return tf.identity(vectors), tf.convert_to_tensor

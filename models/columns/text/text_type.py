"""Text: messages of several words, cleaned and cut into tokens in the graph; an encoder makes a vector of them.

`cleaning.py` and `tokens.py` have what is done to strings, `encoders.py` says which encoder there is, and each has a
module. All of it is made of TensorFlow's core operations: TensorFlow Serving runs it without further libraries.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import LENGTH_STEP, ColumnProfile
from kubetfx.models.columns.column_type import Column, ColumnType, EmbeddedVocabulary, Encoding, concatenated

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig

MIN_WORDS = 3.0
"""Words of a cell on average, from which a column of many different cells is one of text."""
MIN_CELLS = 20
MANY_CELLS = 20_000
"""From so many messages of a column on, `features.text_encoder.kind: auto` is `fasttext`."""
TOKENS_OF_TREES = 300
"""Numbers of tokens from which on trees do not see which a text has."""
COVERED = 0.99
"""Share of the cells that are not cut off at the length that the scan finds."""


class Text(ColumnType):
    """Messages. A missing one is empty."""

    tag = "text"
    words = "text"
    cells = frozenset({"string"})
    embedded_vocabularies = (
        EmbeddedVocabulary("text", "text_vectors/vectors", first_row=1),
        EmbeddedVocabulary("text", "text_convolution/text_vectors/embeddings", first_row=2),
        EmbeddedVocabulary("text", "text_transformer/words", first_row=1),
    )
    bounds = frozenset({"length"})
    has_domain = False

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """By the number of different cells, and of words in them."""
        if column.name in config.text:
            return "as configured"
        if config.names_otherwise(column.name, "text") or column.texts is None or column.num_values < MIN_CELLS:
            return None
        mean, distinct = column.texts.num_words / column.num_values, column.num_distinct
        if mean < MIN_WORDS or not column.num_values:
            return None
        if distinct is not None and distinct <= config.vocabulary_size and 2 * distinct <= column.num_values:
            return None
        number = "many" if distinct is None else f"{distinct:,}"
        return f"{number} different cells, of {mean:.3g} words on average"

    def details(self, column: ColumnProfile) -> dict[str, str]:
        """How long its messages are, in words and signs, and whether there are many."""
        length = column.texts.length_of(COVERED) if column.texts else LENGTH_STEP
        room = length and length + LENGTH_STEP  # cleaning makes several words of a few, such as of a ligature
        return {"length": str(room or "any"), "many": "yes" if column.num_values >= MANY_CELLS else "no"}

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """What the encoder takes, by names that begin with `text_`.

        These are numbers of a vocabulary, text, that all columns share.
        """
        from kubetfx.models.columns.text.encoders import encoder_of

        texts = concatenated(inputs, columns, "string")
        assert texts is not None  # there are columns
        return encoder_of(config.text_encoder, columns).preprocess(texts)

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """The vector of the encoder, one column beside the other."""
        from kubetfx.models.columns.text.encoders import encoder_of
        from kubetfx.models.features import raw_schema, read_features

        columns = read_features(raw_schema(transform_output)).by_type.get(self.tag)
        return encoder_of(features.text_encoder, columns).encode(transform_output) if columns else None

    def check_trees(
        self, transform_output: "tft.TFTransformOutput", columns: Sequence[Column], *, config: FeaturesConfig
    ) -> None:
        """A vocabulary without tokens is refused; a pretrained encoder has its own."""
        from kubetfx.models.columns.text.encoders import kind_of
        from kubetfx.models.columns.text.tokens import vocabulary_size

        if kind_of(config.text_encoder, columns) != "pretrained":
            vocabulary_size(transform_output, config.text_encoder)

    def for_trees(self, features: "Mapping[str, Any]", columns: Sequence[Column]) -> "dict[str, tf.Tensor]":
        """Which of the most frequent tokens a cell has, how many tokens, and how many different ones.

        The vectors of a pretrained encoder are as they are.
        """
        import tensorflow as tf

        from kubetfx.models.columns.text.encoders import PIECES, VECTORS

        found = {}
        for name, values in features.items():
            if not name.startswith("text_") or name == VECTORS:
                continue
            if not values.dtype.is_integer:
                found[name] = tf.reduce_sum(values, axis=2)
                continue
            number = tf.reduce_sum(tf.cast(values > 0, tf.float32), axis=2)
            if name == PIECES:
                found[name] = number
                continue
            flat = tf.reshape(values, [-1, values.shape[2]])
            has = tf.math.bincount(
                tf.where(flat < TOKENS_OF_TREES, flat, 0),
                minlength=TOKENS_OF_TREES,
                maxlength=TOKENS_OF_TREES,
                axis=-1,
                binary_output=True,
                dtype=tf.float32,
            )  # the vocabulary begins with the most frequent; 0 is none
            found[name] = tf.concat([number, tf.reshape(has, [-1, values.shape[1] * TOKENS_OF_TREES])], axis=1)
        return found

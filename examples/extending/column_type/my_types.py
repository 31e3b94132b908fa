"""A column type of one's own: of a British postcode the letters at its start count, which are the area."""

import keras
import tensorflow as tf
import tensorflow_transform as tft

from kubetfx.models.columns.column_type import ColumnType, Encoding

AREAS = "postcode_areas"


class Postcode(ColumnType):
    """`SW1A 1AA`. Almost every one is different, and with its last characters it is taken for an identifier."""

    def choose(self, column, *, num_rows, config):
        """By its name."""
        return "postcodes" if column.name == "postcode" else None

    def preprocess(self, inputs, columns, config):
        """Compute the number of the area, (batch, columns)."""
        codes = tf.concat([inputs[column.name] for column in columns], axis=1)
        areas = tf.strings.regex_replace(codes, "[0-9].*", "")
        return {AREAS: tft.compute_and_apply_vocabulary(areas, num_oov_buckets=1, vocab_filename=AREAS)}

    def encode(self, transform_output, *, model, features):
        """Areas that are alike are near each other."""
        spec = transform_output.transformed_feature_spec().get(AREAS)
        if spec is None:
            return None
        areas = keras.Input(spec.shape, name=AREAS, dtype="int64")
        size = transform_output.vocabulary_size_by_name(AREAS) + 1
        embedded = keras.layers.Embedding(size, model.embedding_size)(areas)
        return Encoding({AREAS: areas}, keras.layers.Flatten()(embedded))

"""Categories: embeddings, by a vocabulary, or by a hash where there are too many values for one.

A missing cell is a value of its own. A value that training never saw is the vocabulary's last, or has some bucket.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import (
    MISSING_INTEGER,
    Column,
    ColumnType,
    EmbeddedVocabulary,
    Encoding,
    concatenated,
)

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig

CATEGORICAL = "categorical"
HASHED = "hashed"


class Vocabulary(ColumnType):
    """Text, and whole numbers of which there are few, whose values fit a vocabulary."""

    tag = "vocabulary"
    words = "category"
    cells = frozenset({"int64", "string"})
    embedded_vocabularies = (EmbeddedVocabulary(CATEGORICAL, f"{CATEGORICAL}_embedding/vectors", first_row=0),)

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Choose by the number of distinct values."""
        return _choose(column, num_rows=num_rows, config=config) if _fits(column, config) else None

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """Return `categorical`, (batch, columns) int64: the index in a vocabulary that all columns share."""
        import tensorflow_transform as tft

        tokens = _tokens(inputs, columns)
        index = tft.compute_and_apply_vocabulary(tokens, num_oov_buckets=1, vocab_filename=CATEGORICAL)
        return {CATEGORICAL: index}

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Return an embedding of each value."""
        spec = transform_output.transformed_feature_spec().get(CATEGORICAL)
        if spec is None:
            return None
        size = transform_output.vocabulary_size_by_name(CATEGORICAL) + 1  # the last for unseen values
        return _embedded(CATEGORICAL, spec.shape[0], size, model=model, features=features)

    def positions(self, columns: Sequence[Column]) -> dict[str, list[tuple[str, int]]]:
        """Return one dimension of the feature for each column."""
        return {column.name: [(CATEGORICAL, index)] for index, column in enumerate(columns)}


class Hashed(ColumnType):
    """Text and whole numbers with more distinct values than `features.vocabulary_size`."""

    tag = "hashed"
    words = "category, hashed"
    cells = frozenset({"int64", "string"})

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Choose by the number of distinct values."""
        return None if _fits(column, config) else _choose(column, num_rows=num_rows, config=config)

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """Return `hashed`, (batch, columns) int64: the number of the bucket, of which each column has its own."""
        import tensorflow as tf

        tokens = _tokens(inputs, columns)
        offsets = tf.range(len(columns), dtype=tf.int64) * config.hash_buckets
        return {HASHED: tf.strings.to_hash_bucket_fast(tokens, config.hash_buckets) + offsets}

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Return an embedding of each bucket."""
        spec = transform_output.transformed_feature_spec().get(HASHED)
        if spec is None:
            return None
        size = features.hash_buckets * spec.shape[0]
        return _embedded(HASHED, spec.shape[0], size, model=model, features=features)

    def positions(self, columns: Sequence[Column]) -> dict[str, list[tuple[str, int]]]:
        """Return one dimension of the feature for each column."""
        return {column.name: [(HASHED, index)] for index, column in enumerate(columns)}


def _fits(column: ColumnProfile, config: FeaturesConfig) -> bool:
    return column.num_distinct is not None and column.num_distinct <= config.vocabulary_size


def _choose(column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
    if column.name in config.categorical:
        return "as configured"
    if column.type == "float" or config.names_otherwise(column.name, "categorical") or column.why_useless(num_rows):
        return None
    if column.num_distinct is None:
        return "many distinct values"
    reason = f"{column.num_distinct:,} distinct values"
    if column.num_values < config.category_rows * column.num_distinct:
        reason += ", most of them too rare to be told apart (features.category_rows)"
    return reason


def _tokens(inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column]) -> "tf.Tensor":
    """Return `column=value` for each cell, `column=` where it is missing: (batch, columns) string."""
    import tensorflow as tf

    parts = []
    if (strings := concatenated(inputs, columns, "string")) is not None:
        parts.append(strings)
    if (integers := concatenated(inputs, columns, "int64")) is not None:
        parts.append(tf.where(tf.equal(integers, MISSING_INTEGER), "", tf.strings.as_string(integers)))
    names = tf.constant([[f"{column.name}=" for column in columns]])
    return tf.add(names, tf.concat(parts, axis=1))  # tf.strings.join does not broadcast


def _embedded(name: str, num_columns: int, size: int, *, model: "ModelConfig", features: FeaturesConfig) -> Encoding:
    import keras

    from kubetfx.models.layers import CategoryEmbedding

    indices = keras.Input((num_columns,), name=name, dtype="int64")
    embedding = CategoryEmbedding(
        name,
        size=size,
        dimensions=model.embedding_size,
        min_rows=features.category_rows,
        name=f"{name}_embedding",
    )
    return Encoding({name: indices}, embedding(indices))

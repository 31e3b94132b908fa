"""Lists of categories: a flag for each value where they are few, otherwise the mean of their embeddings."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import Column, ColumnType, EmbeddedVocabulary, Encoding, concatenated

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig
    from kubetfx.models.columns.reading import Reading

FLAGS = "list_flags"
VALUES = "list_values"
MAX_FLAGS = 100
"""A column of at most so many different values has a flag for each."""
MAX_LENGTH = 100
"""Values of a cell beyond the length of the longest list that the table had, and beyond this number, are left out."""
_NO_VALUE = "="
"""Fills lists up to one length. No value of a column begins with this."""


class List(ColumnType):
    """Lists of values, in no order.

    An empty one and a missing one are the same: no value. A value that training never saw counts for nothing.
    """

    tag = "list"
    words = "list of categories"
    cells = frozenset({"string"})
    embedded_vocabularies = (EmbeddedVocabulary(VALUES, f"{VALUES}_embedding/embeddings", first_row=1),)

    bounds = frozenset({"length"})

    @property
    def reading(self) -> "type[Reading]":
        """Reading of values with a separator."""
        from kubetfx.models.columns.list_cells import ListCells

        return ListCells

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Choose by what its cells were read as."""
        if not column.lists or not column.num_values or config.names_otherwise(column.name, "list"):
            return None
        known = column.lists.num_values
        return f"lists of {f'{known:,}' if known is not None else 'many'} different values"

    def details(self, column: ColumnProfile) -> dict[str, str]:
        """Return the separator, the length, and how many values have a flag."""
        assert column.lists is not None  # it was chosen for that
        known = column.lists.num_values
        flags = known if known is not None and known <= MAX_FLAGS else 0
        length = min(max(column.lists.longest, 1), MAX_LENGTH)
        return {"separator": column.lists.separator, "length": str(length), "flags": str(flags)}

    def contradiction(self, column: ColumnProfile, details: Mapping[str, str]) -> str | None:
        """Return another separator."""
        found = column.lists.separator if column.lists else None
        return None if not column.num_values or found == details["separator"] else f"{{list: {details['separator']!r}}}"

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """`list_flags` and `list_values`, of columns that have few values and of others.

        `list_flags` is (batch, values of all columns that have few) float32. `list_values` is (batch, other columns,
        length) int64: numbers of a vocabulary from 1 on, 0 where there is no value.
        """
        import tensorflow as tf

        few = [column for column in columns if _flags(column)]
        many = [column for column in columns if not _flags(column)]
        found = {}
        if few:
            size = sum(map(_flags, few)) + 1
            index = _indices(inputs, few, name=FLAGS, size=size)
            index = tf.reshape(index, [-1, index.shape[1] * index.shape[2]])
            found[FLAGS] = tf.reduce_max(tf.one_hot(index, size + 1), axis=1)[:, 1:]
        if many:
            size = config.vocabulary_size * len(many) + 1
            found[VALUES] = _indices(inputs, many, name=VALUES, size=size)
        return found

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Return the flags as they are; of other columns the mean of the embeddings of their values."""
        import keras

        specs = transform_output.transformed_feature_spec()
        inputs, vectors = {}, []
        if FLAGS in specs:
            inputs[FLAGS] = keras.Input(specs[FLAGS].shape, name=FLAGS, dtype="float32")
            vectors.append(inputs[FLAGS])
        if VALUES in specs:
            values = inputs[VALUES] = keras.Input(specs[VALUES].shape, name=VALUES, dtype="int64")
            size = transform_output.vocabulary_size_by_name(VALUES) + 1
            embedded = keras.layers.Embedding(size, model.embedding_size, name=f"{VALUES}_embedding")(values)
            is_value = keras.ops.cast(keras.ops.expand_dims(values > 0, -1), embedded.dtype)
            number = keras.ops.maximum(keras.ops.sum(is_value, axis=2), 1)
            mean = keras.ops.sum(embedded * is_value, axis=2) / number
            vectors.append(keras.layers.Flatten(name=f"{VALUES}_flat")(mean))
        if not vectors:
            return None
        vector = keras.layers.Concatenate(name="lists")(vectors) if len(vectors) > 1 else vectors[0]
        return Encoding(inputs, vector)

    def for_trees(self, features: "Mapping[str, Any]", columns: Sequence[Column]) -> "dict[str, tf.Tensor]":
        """Return, for columns of many values, the number of values per cell."""
        import tensorflow as tf

        if VALUES not in features:
            return {}
        return {VALUES: tf.reduce_sum(tf.cast(features[VALUES] > 0, tf.float32), axis=2)}

    def positions(self, columns: Sequence[Column]) -> dict[str, list[tuple[str, int]]] | None:
        """Return a dimension of `list_values` per column, or the flags of one; those of several are in no order."""
        many = [column for column in columns if not _flags(column)]
        few = [column for column in columns if _flags(column)]
        if len(few) > 1:
            return None
        found = {column.name: [(VALUES, index)] for index, column in enumerate(many)}
        return found | {column.name: [(FLAGS, index) for index in range(_flags(column) + 1)] for column in few}


def _flags(column: Column) -> int:
    return int(column.details["flags"])


def _indices(inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], *, name: str, size: int) -> "tf.Tensor":
    """Return (batch, columns, length) int64: where each value is in a vocabulary of at most `size`.

    Values count from 1 on; 0: nowhere.
    """
    import tensorflow as tf
    import tensorflow_transform as tft

    length = max(int(column.details["length"]) for column in columns)
    cells = concatenated(inputs, columns, "string")
    separators = [column.details["separator"] for column in columns]
    order: list[int] = []
    parts = []
    for one in dict.fromkeys(separators):
        own = [index for index, other in enumerate(separators) if other == one]
        split = tf.strings.strip(tf.strings.split(tf.reshape(tf.gather(cells, own, axis=1), [-1]), one))
        split = tf.ragged.boolean_mask(split, tf.not_equal(split, ""))
        parts.append(tf.reshape(split.to_tensor("", shape=[None, length]), [-1, len(own), length]))
        order += own
    values = tf.gather(tf.concat(parts, axis=1), [order.index(index) for index in range(len(order))], axis=1)
    names = tf.constant([[[f"{column.name}="] for column in columns]])
    tokens = tf.where(tf.equal(values, ""), _NO_VALUE, tf.add(names, values))
    index = tft.compute_and_apply_vocabulary(tokens, default_value=-1, top_k=size, vocab_filename=name)
    known = tf.where(tf.equal(values, ""), tf.constant(-1, tf.int64), index)
    return tf.ensure_shape(known + 1, [None, len(columns), length])

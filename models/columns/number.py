"""Numbers: standard scores, bins of them for the network, and a flag for each missing cell."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import MISSING_INTEGER, Column, ColumnType, Encoding, concatenated

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig
    from kubetfx.models.columns.reading import Reading

NUMERIC = "numeric"

MAX_DEVIATIONS = 10.0
"""Scaled numbers are clipped to so many standard deviations: an outlier in a request doesn't drown the other
columns."""

MAX_BINS = 2_048
"""For all columns together: where columns are many, each has fewer bins than `model.number_bins`, or none."""


class Number(ColumnType):
    """Decimal numbers, and whole numbers of which there are many. An infinite number counts as missing."""

    tag = "numeric"
    words = "number"
    cells = frozenset({"int64", "float"})

    @property
    def reading(self) -> "type[Reading]":
        """Reading of numbers in any spelling."""
        from kubetfx.models.columns.number_cells import NumberCells

        return NumberCells

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Choose by the type of the cells, and by how many distinct whole numbers there are and what they look like."""
        if column.name in config.numeric:
            return "as configured"
        if config.names_otherwise(column.name, "numeric") or column.why_useless(num_rows):
            return None
        if column.type == "float":
            return "decimal numbers"
        if column.type == "string":
            return None
        if column.num_distinct is None or column.num_distinct > config.integer_categories:
            return "whole numbers"
        if column.num_distinct == 2:
            return "two values, which a number tells apart as well"
        return "counts: small numbers prevail" if column.are_counts else None

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """`numeric`, (batch, columns + those of them with missing cells in training) float32.

        It has standard scores, 0 where missing, and a 1 for each missing cell.
        """
        import tensorflow as tf

        numbers = _numbers(inputs, columns)
        scaled = standard_scores(numbers)
        optional = [index for index, column in enumerate(columns) if column.is_optional]
        if not optional:
            return {NUMERIC: scaled}
        is_known = tf.math.is_finite(numbers)
        is_missing = tf.cast(tf.gather(tf.logical_not(is_known), optional, axis=1), tf.float32)
        return {NUMERIC: tf.concat([scaled, is_missing], axis=1)}

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Return the scores, and how far each is through each of its column's bins."""
        import keras

        from kubetfx.models.features import raw_schema, read_features
        from kubetfx.models.layers import BinnedNumbers

        spec = transform_output.transformed_feature_spec().get(NUMERIC)
        if spec is None:
            return None
        columns = read_features(raw_schema(transform_output)).by_type[self.tag]
        numbers = keras.Input((spec.shape[0],), name=NUMERIC, dtype="float32")
        num_bins = min(model.number_bins, MAX_BINS // len(columns))
        if not num_bins:
            return Encoding({NUMERIC: numbers}, numbers)
        flagged = [index for index, column in enumerate(columns) if column.is_optional]
        binned = BinnedNumbers(
            NUMERIC,
            num_columns=len(columns),
            num_bins=num_bins,
            flagged=flagged,
            dtype="float32",  # narrow bins are too steep for half precision
            name="binned_numbers",
        )
        return Encoding({NUMERIC: numbers}, binned(numbers))

    def for_trees(self, features: "Mapping[str, Any]", columns: Sequence[Column]) -> "dict[str, tf.Tensor]":
        """Return the scores, NaN where the flag of a cell says that it is missing."""
        import tensorflow as tf

        flags = [column.is_optional for column in columns]
        order = [sum(flags[:index]) if is_optional else -1 for index, is_optional in enumerate(flags)]
        scores, is_missing = tf.split(features[NUMERIC], [len(columns), sum(flags)], axis=1)
        of_each = tf.gather(tf.pad(is_missing, [[0, 0], [0, 1]]), [index % (sum(flags) + 1) for index in order], axis=1)
        return {NUMERIC: tf.where(of_each > 0, float("nan"), scores)}

    def positions(self, columns: Sequence[Column]) -> dict[str, list[tuple[str, int]]]:
        """Return the score, and the flag of a column that has one."""
        positions = {column.name: [(NUMERIC, index)] for index, column in enumerate(columns)}
        for index, column in enumerate((c for c in columns if c.is_optional), start=len(columns)):
            positions[column.name].append((NUMERIC, index))
        return positions


def standard_scores(numbers: "tf.Tensor") -> "tf.Tensor":
    """Scale numbers by mean and deviation, for TensorFlow Transform.

    Args:
        numbers: (batch, columns) float64; NaN where one is missing.

    Returns:
        (batch, columns) float32, clipped; 0 where one is missing.
    """
    import tensorflow as tf
    import tensorflow_transform as tft

    mean = _zero_if_unknown(tft.mean(numbers, reduce_instance_dims=False))
    deviation = _zero_if_unknown(tf.sqrt(tft.var(numbers, reduce_instance_dims=False)))
    scores = tf.math.divide_no_nan(tf.where(tf.math.is_finite(numbers), numbers, mean) - mean, deviation)
    return tf.cast(tf.clip_by_value(scores, -MAX_DEVIATIONS, MAX_DEVIATIONS), tf.float32)


def _numbers(inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column]) -> "tf.Tensor":
    """Return (batch, columns) float64; NaN where a cell is missing."""
    import tensorflow as tf

    parts = []
    if (floats := concatenated(inputs, columns, "float")) is not None:
        parts.append(tf.cast(floats, tf.float64))
    if (integers := concatenated(inputs, columns, "int64")) is not None:
        nan = tf.constant(float("nan"), tf.float64)
        parts.append(tf.where(tf.equal(integers, MISSING_INTEGER), nan, tf.cast(integers, tf.float64)))
    return tf.concat(parts, axis=1)


def _zero_if_unknown(statistic: "tf.Tensor") -> "tf.Tensor":
    """Return 0 for a statistic that is not a number: a column may have values in other splits only."""
    import tensorflow as tf

    return tf.where(tf.math.is_finite(statistic), statistic, tf.zeros_like(statistic))

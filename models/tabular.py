"""The network for tables: a fully connected one over scaled numbers and embedded categories.

All numeric columns are one tensor, and so are all columns of a kind of category: the graph has the same few
operations for five columns as for two thousand, in Transform, in training and in serving.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft

from kubetfx.config.data import FeaturesConfig
from kubetfx.config.model import ModelConfig
from kubetfx.models import features
from kubetfx.models.features import LABEL

NUMERIC = "numeric"
CATEGORICAL = "categorical"
HASHED = "hashed"

MAX_DEVIATIONS = 10.0
"""Scaled numbers are clipped to so many standard deviations: an outlier in a request doesn't drown the other
columns."""


def preprocessing_fn(inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Raw columns to features, for TFX's Transform.

    Args:
        inputs: the columns of the schema, each (batch, 1). Missing cells are NaN, "" or features.MISSING_INTEGER.
        custom_config: `schema_path` of the annotated schema, and `features`, that section of the config.

    Returns:
        Those of these that the table has columns for: `numeric`, (batch, numeric columns + those of them with missing
        cells) float32; `categorical`, (batch, vocabulary columns) int64; `hashed`, (batch, hashed columns) int64;
        `label`, (batch, 1), the int64 index of the class, or the float32 number.
    """
    columns = features.read_features(features.read_schema(custom_config["schema_path"]))
    config = FeaturesConfig.model_validate(custom_config["features"])
    outputs = {LABEL: label_index(inputs[columns.label], classes=columns.classes)}
    if columns.numeric:
        outputs[NUMERIC] = _scaled(inputs, columns)
    if columns.vocabulary:
        tokens = _tokens(inputs, columns.vocabulary_strings, columns.vocabulary_integers)
        outputs[CATEGORICAL] = tft.compute_and_apply_vocabulary(tokens, num_oov_buckets=1, vocab_filename=CATEGORICAL)
    if columns.hashed:
        tokens = _tokens(inputs, columns.hashed_strings, columns.hashed_integers)
        offsets = tf.range(len(columns.hashed), dtype=tf.int64) * config.hash_buckets
        outputs[HASHED] = tf.strings.to_hash_bucket_fast(tokens, config.hash_buckets) + offsets
    return outputs


def feature_positions(columns: features.Features) -> dict[str, list[tuple[str, int]]]:
    """Where a column is found among what preprocessing_fn returns: names of features, and dimensions of them."""
    positions = {name: [(NUMERIC, index)] for index, name in enumerate(columns.numeric)}
    optional = [name for name in columns.numeric if name in columns.optional]
    for index, name in enumerate(optional, start=len(columns.numeric)):
        positions[name].append((NUMERIC, index))
    positions |= {name: [(CATEGORICAL, index)] for index, name in enumerate(columns.vocabulary)}
    return positions | {name: [(HASHED, index)] for index, name in enumerate(columns.hashed)}


def build_model(
    transform_output: tft.TFTransformOutput, *, model: ModelConfig, features: FeaturesConfig, num_outputs: int
) -> keras.Model:
    """The network over what preprocessing_fn returns.

    Returns:
        A model from the features to (batch, num_outputs) float32 without an activation: logits, or the standardised
        number.
    """
    shapes = {
        name: spec.shape[0] for name, spec in transform_output.transformed_feature_spec().items() if name != LABEL
    }
    inputs: dict[str, keras.KerasTensor] = {}
    parts = []
    if NUMERIC in shapes:
        inputs[NUMERIC] = keras.Input((shapes[NUMERIC],), name=NUMERIC, dtype="float32")
        parts.append(inputs[NUMERIC])
    sizes = {}
    if CATEGORICAL in shapes:
        sizes[CATEGORICAL] = transform_output.vocabulary_size_by_name(CATEGORICAL) + 1  # the last for unseen values
    if HASHED in shapes:
        sizes[HASHED] = features.hash_buckets * shapes[HASHED]
    for name, size in sizes.items():
        inputs[name] = keras.Input((shapes[name],), name=name, dtype="int64")
        embedded = keras.layers.Embedding(size, model.embedding_size, name=f"{name}_embedding")(inputs[name])
        parts.append(keras.layers.Flatten(name=f"{name}_flat")(embedded))
    hidden = keras.layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]
    for number, units in enumerate(model.hidden_units, start=1):
        hidden = keras.layers.Dense(units, use_bias=not model.batch_normalization, name=f"hidden_{number}")(hidden)
        if model.batch_normalization:
            hidden = keras.layers.BatchNormalization(name=f"normalized_{number}")(hidden)
        hidden = keras.layers.Activation(model.activation, name=f"activated_{number}")(hidden)
        if model.dropout:
            hidden = keras.layers.Dropout(model.dropout, name=f"dropped_{number}")(hidden)
    return keras.Model(inputs, keras.layers.Dense(num_outputs, name="output")(hidden), name="tabular")


def label_index(label: tf.Tensor, *, classes: Sequence[str]) -> tf.Tensor:
    """The index of each label's class, -1 for an unknown one, (batch, 1) int64; without classes the number itself."""
    if not classes:
        return tf.cast(label, tf.float32)
    text = label if label.dtype == tf.string else tf.strings.as_string(label)
    matches = tf.equal(text, tf.constant([classes]))
    return tf.where(
        tf.reduce_any(matches, axis=1, keepdims=True),
        tf.argmax(tf.cast(matches, tf.int8), axis=1, output_type=tf.int64)[:, tf.newaxis],
        tf.constant(-1, tf.int64),
    )


def _scaled(inputs: Mapping[str, tf.Tensor], columns: features.Features) -> tf.Tensor:
    """Standard scores, 0 where missing, and a 1 for each missing cell of a column that has missing cells in
    training."""
    parts = []
    if columns.numeric_floats:
        parts.append(tf.cast(tf.concat([inputs[name] for name in columns.numeric_floats], axis=1), tf.float64))
    if columns.numeric_integers:
        integers = tf.concat([inputs[name] for name in columns.numeric_integers], axis=1)
        nan = tf.constant(float("nan"), tf.float64)
        parts.append(tf.where(tf.equal(integers, features.MISSING_INTEGER), nan, tf.cast(integers, tf.float64)))
    numbers = tf.concat(parts, axis=1)
    is_known = tf.math.is_finite(numbers)
    mean = _zero_if_unknown(tft.mean(numbers, reduce_instance_dims=False))
    deviation = _zero_if_unknown(tf.sqrt(tft.var(numbers, reduce_instance_dims=False)))
    scores = tf.math.divide_no_nan(tf.where(is_known, numbers, mean) - mean, deviation)
    scaled = tf.cast(tf.clip_by_value(scores, -MAX_DEVIATIONS, MAX_DEVIATIONS), tf.float32)
    optional = [index for index, name in enumerate(columns.numeric) if name in columns.optional]
    if not optional:
        return scaled
    is_missing = tf.cast(tf.gather(tf.logical_not(is_known), optional, axis=1), tf.float32)
    return tf.concat([scaled, is_missing], axis=1)


def _zero_if_unknown(statistic: tf.Tensor) -> tf.Tensor:
    """A column may have values in other splits only."""
    return tf.where(tf.math.is_finite(statistic), statistic, tf.zeros_like(statistic))


def _tokens(inputs: Mapping[str, tf.Tensor], strings: Sequence[str], integers: Sequence[str]) -> tf.Tensor:
    """`column=value` for each cell, `column=` where it is missing: (batch, columns) string."""
    parts = []
    if strings:
        parts.append(tf.concat([inputs[name] for name in strings], axis=1))
    if integers:
        values = tf.concat([inputs[name] for name in integers], axis=1)
        parts.append(tf.where(tf.equal(values, features.MISSING_INTEGER), "", tf.strings.as_string(values)))
    names = tf.constant([[f"{name}=" for name in (*strings, *integers)]])
    return tf.add(names, tf.concat(parts, axis=1))  # tf.strings.join does not broadcast

"""The network: what the column types encode, side by side, then hidden layers and the output for the label.

A module of the user's (`model.module`) has `preprocessing_fn` and `build_model` instead of these.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from kubetfx.arrays import Array
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_type import Encoding
from kubetfx.models.features import LABEL, Features, read_features, read_schema
from kubetfx.models.layers import MemberOutputs, Members

if TYPE_CHECKING:
    from kubetfx.models.columns.image.pixels import Pixels

CELLS_OF_MEMBERS = 4_000_000
"""Maximum number of cells of the training rows, times the number of members."""
CELLS_OF_BINS = 16_000_000
"""Maximum number of cells of the training rows, times the number of bins of a column."""


def preprocessing_fn(inputs: Mapping[str, tf.Tensor], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Turn raw columns into features, for TFX's Transform.

    Args:
        inputs: the columns of the schema, each (batch, 1). Missing cells are NaN, "" or MISSING_INTEGER.
        custom_config: `schema_path` of the annotated schema, and `features`, that section of the config.

    Returns:
        What the column types make of the columns; and `label`, (batch, 1), the int64 index of the class, -1 for one
        that the schema does not know, or the float32 number.
    """
    features = read_features(read_schema(custom_config["schema_path"]))
    config = FeaturesConfig.model_validate(custom_config["features"])
    outputs = {LABEL: label_index(inputs[features.label], classes=features.classes)}
    for tag, columns in features.by_type.items():
        outputs |= known_types.type_of(tag).preprocess(inputs, columns, config)
    return outputs


def feature_positions(features: Features) -> dict[str, list[tuple[str, int]]] | None:
    """Find each column among what preprocessing_fn returns.

    Args:
        features: the columns.

    Returns:
        Names of features, and dimensions of them, by column. None: a column type does not say. The user's are not
        asked: their module may not be where the report is made.
    """
    positions: dict[str, list[tuple[str, int]]] = {}
    for tag, columns in features.by_type.items():
        own = None if known_types.is_users(tag) else known_types.type_of(tag).positions(columns)
        if own is None:
            return None
        positions |= own
    return positions


def beside_transform(features: Features, *, model: ModelConfig, max_pixels: int) -> "Pixels | None":
    """Return how columns that TensorFlow Transform has no part in become features.

    Args:
        features: the columns.
        model: the section `model`.
        max_pixels: The maximum number of pixels of a picture.

    Returns:
        The pixels of the column of images; None if preprocessing makes the features of all columns.
    """
    types = {known_types.type_of(tag): columns for tag, columns in features.by_type.items()}
    found = (own.beside_transform(columns, model=model, max_pixels=max_pixels) for own, columns in types.items())
    return next((beside for beside in found if beside is not None), None)


def build_model(
    transform_output: tft.TFTransformOutput, *, model: ModelConfig, features: FeaturesConfig, num_outputs: int
) -> keras.Model:
    """Build the network over what preprocessing_fn returns.

    Args:
        transform_output: says which features there are, their shapes and vocabularies.
        model: the section `model`.
        features: the section `features`.
        num_outputs: classes, or 1.

    Returns:
        A model from the features to (batch, num_outputs) float32 without an activation: logits, or the standardised
        number; of several members, to (batch, members, num_outputs).
    """
    return join(encode(transform_output, model=model, features=features), model=model, num_outputs=num_outputs)


def encode(transform_output: tft.TFTransformOutput, *, model: ModelConfig, features: FeaturesConfig) -> list[Encoding]:
    """Return the encoding of each column type that has columns.

    Args:
        transform_output: says which features there are, their shapes and vocabularies.
        model: the section `model`.
        features: the section `features`.
    """
    types = known_types.types_by_tag(features.types).values()
    encodings = [column_type.encode(transform_output, model=model, features=features) for column_type in types]
    return [encoding for encoding in encodings if encoding is not None]


def join(encodings: Sequence[Encoding], *, model: ModelConfig, num_outputs: int) -> keras.Model:
    """Join what column types encode, side by side, with the hidden layers and the output.

    Args:
        encodings: of the types that there are columns of, at least one.
        model: the section `model`: its hidden layers and members.
        num_outputs: classes, or 1.

    Returns:
        A model from the inputs of all encodings to (batch, num_outputs) float32; of several members, to (batch,
        members, num_outputs).
    """
    vectors = [encoding.vector for encoding in encodings]
    hidden = keras.layers.Concatenate(name="features")(vectors) if len(vectors) > 1 else vectors[0]
    is_ensemble = (model.members or 1) > 1
    if is_ensemble:
        hidden = Members(model.members or 1, name="members")(hidden)
    is_deep = "hidden_units" in model.changed or any(encoding.needs_hidden_layers for encoding in encodings)
    for number, units in enumerate(model.hidden_units if is_deep else (), start=1):
        hidden = keras.layers.Dense(units, use_bias=not model.batch_normalization, name=f"hidden_{number}")(hidden)
        if model.batch_normalization:
            hidden = keras.layers.BatchNormalization(name=f"normalized_{number}")(hidden)
        hidden = keras.layers.Activation(model.activation, name=f"activated_{number}")(hidden)
        if model.dropout:
            hidden = keras.layers.Dropout(model.dropout, name=f"dropped_{number}")(hidden)
    inputs = {name: tensor for encoding in encodings for name, tensor in encoding.inputs.items()}
    last = MemberOutputs if is_ensemble else keras.layers.Dense
    outputs = last(num_outputs, dtype="float32", name="output")(hidden)
    return keras.Model(inputs, outputs, name="network")


def with_head(network: keras.Model, *, labels: Array, is_classifier: bool) -> keras.Model:
    """Give a network the last step to what clients read: probabilities, or values in the label's own unit.

    Args:
        network: The network of `build_model`.
        labels: The labels of the training rows, whose mean and deviation scale the values of a regression.
        is_classifier: Whether the label is a class rather than a number.

    Returns:
        A model that shares its layers.
    """
    if is_classifier:
        outputs = keras.layers.Softmax(dtype="float32", name="probabilities")(network.output)
    else:
        outputs = keras.layers.Rescaling(
            scale=float(labels.std(dtype=np.float64)) or 1.0,
            offset=float(labels.mean(dtype=np.float64)),
            dtype="float32",
            name="value",
        )(network.output)
    return keras.Model(network.input, outputs, name=network.name)


def sized(model: ModelConfig, rows: Mapping[str, Array], *, num_rows: int) -> ModelConfig:
    """Return the config with as many bins as are fast for the table's size; and members, if it does not say how many.

    Args:
        model: the section `model`.
        rows: features by name, (rows, ...).
        num_rows: The number of training rows.
    """
    num_cells = num_rows * sum(math.prod(values.shape[1:]) for values in rows.values())
    members = next((number for number in (8, 4, 2) if num_cells * number <= CELLS_OF_MEMBERS), 1)
    number_bins = min(model.number_bins, CELLS_OF_BINS // max(num_cells, 1))
    return model.model_copy(update={"members": model.members or members, "number_bins": number_bins})


def averaged(model: keras.Model) -> keras.Model:
    """Return the model that is served: the mean of the members, where there are several.

    Args:
        model: The model of `with_head`.
    """
    if len(model.output.shape) < 3:
        return model
    mean = keras.layers.GlobalAveragePooling1D(dtype="float32", name="mean")(model.output)
    return keras.Model(model.input, mean, name=model.name)


def label_index(label: tf.Tensor, *, classes: Sequence[str]) -> tf.Tensor:
    """Find the index of each label's class.

    Args:
        label: (batch, 1).
        classes: in the order of their index; empty for a regression.

    Returns:
        (batch, 1) int64, -1 for an unknown class; without classes the number itself, float32.
    """
    if not classes:
        return tf.cast(label, tf.float32)
    text = label if label.dtype == tf.string else tf.strings.as_string(label)
    matches = tf.equal(text, tf.constant([classes]))
    return tf.where(
        tf.reduce_any(matches, axis=1, keepdims=True),
        tf.argmax(tf.cast(matches, tf.int8), axis=1, output_type=tf.int64)[:, tf.newaxis],
        tf.constant(-1, tf.int64),
    )

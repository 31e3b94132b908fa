"""The network for images: a small convolutional one made for the size, or a backbone of keras.applications.

It sees pixels as decoding.py gives them; how it is trained is pixel_training.py's.
"""

import inspect
import math
import os
import re
from pathlib import Path
from typing import Any

import keras

from kubetfx.artifacts import PIXELS
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.section import nearest
from kubetfx.config.training_section import FineTuneConfig
from kubetfx.errors import ConfigError, TrainingError
from kubetfx.models.columns.column_type import Encoding

WHITE = 255.0
MAPS = "maps"
"""Name of the layer whose output is what the last convolution sees."""
_SMALLEST_MAP = 4
_MAX_BLOCKS = 6
_FIRST_FILTERS = 32
_MAX_FILTERS = 256


def first_tuned(network: keras.Model, fine_tune: FineTuneConfig) -> int:
    """Find the first layer of the backbone that learns in the second phase.

    Args:
        network: The network of which the backbone is a layer.
        fine_tune: names the layer, or says its number.

    Returns:
        Its number.

    Raises:
        ConfigError: the backbone has no such layer, or none from there on has weights that learn.
    """
    layers = _backbone(network).layers
    names = [layer.name for layer in layers]
    first = fine_tune.from_layer
    if isinstance(first, str):
        if first not in names:
            raise ConfigError(
                f"training.fine_tune.from_layer: the backbone has no layer {first!r}.{nearest(first, names)} "
                f"It has {len(names)}, from {names[0]} to {names[-1]}."
            )
        first = names.index(first)
    if not any(layer.weights and not _is_normalization(layer) for layer in layers[first:]):
        raise ConfigError(
            f"training.fine_tune.from_layer: no layer from there on has weights to tune. Received: "
            f"{fine_tune.from_layer}; the backbone has {len(names)} layers, from {names[0]} to {names[-1]}. "
            "Name an earlier one."
        )
    return first


def unfreeze(network: keras.Model, fine_tune: FineTuneConfig) -> None:
    """Let the later layers of the backbone learn. Its batch normalisations keep their statistics.

    Args:
        network: The network of which the backbone is a layer.
        fine_tune: says from which layer on.
    """
    first = first_tuned(network, fine_tune)
    backbone = _backbone(network)
    backbone.trainable = True
    for number, layer in enumerate(backbone.layers):
        layer.trainable = number >= first and not _is_normalization(layer)


def _backbone(network: keras.Model) -> keras.Model:
    """Return the layers of keras.applications; the config says that there are such."""
    return next(layer for layer in network.layers if isinstance(layer, keras.Model))


def _is_normalization(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def encode_pixels(model: ModelConfig) -> Encoding:
    """Make the convolutional part of a network.

    Args:
        model: the section of the config.

    Returns:
        From pixels to the mean of each feature map.

    Raises:
        ConfigError: there is no such backbone, or it does not take images of this size.
        TrainingError: its weights cannot be had.
    """
    height, width = model.image_shape
    pixels = keras.Input((height, width, 3), name=PIXELS, dtype="float32")
    if model.backbone is None:
        hidden = keras.layers.Rescaling(2 / WHITE, offset=-1, name="scaled")(pixels)
        for number, filters in enumerate(model.filters or default_filters(model.image_shape)):
            hidden = _block(hidden, filters, number=number)
    else:
        backbone = _load_backbone(model)
        is_frozen = model.weights != "none"
        backbone.trainable = not is_frozen
        scaled = _Preprocess(model.backbone, name="scaled")(pixels)
        hidden = backbone(scaled, training=False) if is_frozen else backbone(scaled)
    maps = keras.layers.Identity(name=MAPS)(hidden)
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(maps)
    if model.dropout:
        pooled = keras.layers.Dropout(model.dropout, name="pooled_dropped")(pooled)
    return Encoding({PIXELS: pixels}, pooled)


def default_filters(shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the channels of the blocks of the small network: it halves the image until an edge has four pixels or so.

    Args:
        shape: height and width of an image.
    """
    blocks = min(max(int(math.log2(min(shape) / _SMALLEST_MAP)) + 1, 1), _MAX_BLOCKS)
    return tuple(min(_FIRST_FILTERS * 2**number, _MAX_FILTERS) for number in range(blocks))


def _block(hidden: keras.KerasTensor, filters: int, *, number: int) -> keras.KerasTensor:
    if number:
        hidden = keras.layers.MaxPooling2D(name=f"halved_{number}")(hidden)
    for part in ("a", "b"):
        name = f"{number}{part}"
        hidden = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"convolved_{name}")(hidden)
        hidden = keras.layers.BatchNormalization(momentum=0.9, name=f"normalized_{name}")(hidden)
        hidden = keras.layers.Activation("relu", name=f"activated_{name}")(hidden)
    return hidden


# Backbones


def backbone_names() -> list[str]:
    """Return the networks of keras.applications."""
    found = vars(keras.applications).items()
    return sorted(name for name, value in found if name[0].isupper() and inspect.isfunction(value))


def check_backbone(name: str) -> None:
    """Check that keras.applications has a network.

    Args:
        name: The name of its class.

    Raises:
        ConfigError: it has not.
    """
    names = backbone_names()
    if name not in names:
        raise ConfigError(
            f"model.backbone: keras.applications has no {name!r}.{nearest(name, names)} Known: {', '.join(names)}."
        )


def _load_backbone(model: ModelConfig) -> keras.Model:
    assert model.backbone is not None
    check_backbone(model.backbone)
    is_file = model.weights not in ("imagenet", "none")
    if is_file and not Path(model.weights).is_file():
        raise ConfigError(f"model.weights: there is no such file. Received: {model.weights}. Give a .weights.h5 file.")
    make = getattr(keras.applications, model.backbone)
    weights = "imagenet" if model.weights == "imagenet" else None
    try:
        backbone = make(include_top=False, weights=weights, input_shape=(*model.image_shape, 3))
    except ValueError as error:
        raise ConfigError(
            f"model.backbone: {model.backbone} cannot be made with model.image_size. Received: "
            f"{list(model.image_shape)} ({error})."
        ) from error
    except Exception as error:  # urllib's and Keras' errors have no common base
        address = re.search(r"https?://\S+?(?=:? |$)", str(error))
        url = address[0].rstrip(":") if address else "storage.googleapis.com"
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "models"
        raise TrainingError(
            f"The ImageNet weights of {model.backbone} cannot be downloaded. Received: {url} ({type(error).__name__}). "
            f"Download that file elsewhere and put it into {cache}, or name it: model.weights: PATH; "
            "or train from scratch: model.weights: none."
        ) from error
    if is_file:
        _load_weights(backbone, model)
    return backbone


def _load_weights(backbone: keras.Model, model: ModelConfig) -> None:
    try:
        backbone.load_weights(model.weights)
    except Exception as error:  # ValueError, h5py's OSError, zipfile's
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"model.weights are not those of {model.backbone}. Received: {model.weights} ({reason}). Give a "
            f".weights.h5 "
            "file of this network, or the .h5 file that keras.applications downloads."
        ) from error


class _Preprocess(keras.layers.Layer):
    """Pixels as a backbone of keras.applications was trained on them."""

    def __init__(self, backbone: str, **options: Any) -> None:
        super().__init__(**options)
        self._module: Any = inspect.getmodule(getattr(keras.applications, backbone))

    def call(self, pixels: Any) -> Any:
        return self._module.preprocess_input(pixels)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

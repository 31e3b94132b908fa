"""A network of one's own for images: separable convolutions (Chollet, 2016), and no pooling at the end."""

import keras

from kubetfx.models.network import preprocessing_fn

__all__ = ["build_model", "preprocessing_fn"]


def build_model(transform_output, *, model, features, num_outputs):
    """From pixels, 0 to 255, to logits. What is named `maps` is what Grad-CAM and embeddings look at."""
    pixels = keras.Input((*model.image_shape, 3), name="pixels")
    hidden = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    for filters in (16, 32):
        hidden = keras.layers.SeparableConv2D(filters, 3, strides=2, padding="same", activation="relu")(hidden)
    maps = keras.layers.Identity(name="maps")(hidden)
    logits = keras.layers.Dense(num_outputs)(keras.layers.Flatten()(maps))
    return keras.Model({"pixels": pixels}, logits, name="separable")

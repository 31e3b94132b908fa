"""How images are changed at random in training, each time differently. A served model does not change images."""

from collections.abc import Callable
from typing import Any

import keras

from kubetfx.config.model_section import AugmentationConfig

WHITE = 255.0


def build_augmentation(config: AugmentationConfig, *, seed: int) -> keras.Sequential | None:
    """Make the layers that change images at random.

    Args:
        config: how much of each change.
        seed: The seed of the random numbers.

    Returns:
        A model of images (batch, height, width, 3), 0 to 255; None if nothing is to change.
    """
    keras_layers = keras.layers
    white: dict[str, Any] = {"value_range": (0, WHITE)}
    fill: dict[str, Any] = {"fill_mode": "nearest"}
    mode = "horizontal_and_vertical" if config.flip == "both" else config.flip
    contrast = (config.contrast, config.contrast)  # one number: Keras makes the contrast larger, and never smaller
    less, more = 1 - config.saturation, 1 + config.saturation
    saturation = (less / (1 + less), more / (1 + more))  # Keras multiplies it by factor / (1 - factor)
    hue = 2 * config.hue  # Keras' whole factor is half a circle
    choices: list[tuple[Any, Callable[[int], keras.layers.Layer]]] = [
        (config.flip != "none", lambda s: keras_layers.RandomFlip(mode, seed=s)),
        (config.rotation_degrees, lambda s: keras_layers.RandomRotation(config.rotation_degrees / 360, seed=s, **fill)),
        (config.zoom, lambda s: keras_layers.RandomZoom(config.zoom, seed=s, **fill)),
        (config.shift, lambda s: keras_layers.RandomTranslation(config.shift, config.shift, seed=s, **fill)),
        (config.contrast, lambda s: keras_layers.RandomContrast(contrast, seed=s, **white)),
        (config.brightness, lambda s: keras_layers.RandomBrightness(config.brightness, seed=s, **white)),
        (config.saturation, lambda s: keras_layers.RandomSaturation(saturation, (0, 1), seed=s)),
        (config.hue, lambda s: keras_layers.RandomHue(hue, seed=s, **white)),
        (config.noise, lambda s: RandomNoise(config.noise * WHITE, seed=s)),
        (config.cutout, lambda s: RandomCutout(config.cutout, seed=s)),
    ]
    layers = [make(seed + number) for number, (amount, make) in enumerate(choices, start=1) if amount]
    return keras.Sequential([*layers, _Clip()], name="augmentation") if layers else None


class _Clip(keras.layers.Layer):
    """Back to 0 to 255, which more colour and contrast leave."""

    def call(self, images: Any) -> Any:
        return keras.ops.clip(images, 0, WHITE)


class RandomNoise(keras.layers.Layer):
    """Gaussian noise, of another strength for each image.

    Args:
        deviation: its standard deviation at most, in the unit of the pixels.
        seed: The seed of the random numbers.
        options: The options that every Keras layer takes.
    """

    def __init__(self, deviation: float, *, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._deviation = deviation
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = True) -> Any:
        """Add the noise.

        Args:
            images: (batch, height, width, channels).
            training: False: nothing is changed.

        Returns:
            Images of the same shape.
        """
        if not training:
            return images
        shape = keras.ops.shape(images)
        deviations = keras.random.uniform((shape[0], 1, 1, 1), 0, self._deviation, seed=self.generator)
        return images + keras.random.normal(shape, seed=self.generator) * deviations


class RandomCutout(keras.layers.Layer):
    """A grey square somewhere in each image (DeVries and Taylor, 2017), of another size in each.

    Args:
        share: its edge at most, as a share of the image's.
        seed: The seed of the random numbers.
        options: The options that every Keras layer takes.
    """

    def __init__(self, share: float, *, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._share = share
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = True) -> Any:
        """Blank a part of each image out.

        Args:
            images: (batch, height, width, channels), 0 to 255.
            training: False: nothing is changed.

        Returns:
            Images of the same shape, with 127.5 in the square.
        """
        if not training:
            return images
        batch, height, width, _ = keras.ops.shape(images)
        numbers = keras.random.uniform((3, batch, 1), seed=self.generator)
        half = numbers[2] * self._share / 2
        rows = keras.ops.abs((keras.ops.arange(height, dtype="float32") + 0.5) / height - numbers[0]) < half
        columns = keras.ops.abs((keras.ops.arange(width, dtype="float32") + 0.5) / width - numbers[1]) < half
        is_cut = keras.ops.logical_and(rows[:, :, None], columns[:, None, :])[..., None]
        return keras.ops.where(is_cut, keras.ops.cast(WHITE / 2, images.dtype), images)

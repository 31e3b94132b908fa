"""Images of a split and what a classifier says to them, and what noise, blur, rotation, compression and a gradient
attack cost it.

Images are decoded as in training, and the exported network answers them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageFilter

from kubetfx.artifacts import IMAGE_PATH
from kubetfx.components.evaluation.metric import Array
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.config.evaluation_section import RobustnessConfig
from kubetfx.models.columns.image.pixel_rows import stream_texts
from kubetfx.models.columns.image.pixel_signatures import input_of
from kubetfx.models.examples import files_in
from kubetfx.models.export import NETWORK
from kubetfx.serving.model_facts import ModelFacts, read_facts
from kubetfx.serving.saved_model import SavedModel

BATCH = 64
_WHITE = 255.0
_SEED = 0


@dataclass(frozen=True)
class Scored:
    """Images of a split, and what a model says to them."""

    paths: tuple[str, ...]
    pixels: Array
    """(images, height, width, 3) uint8, in the network's size."""
    labels: Array
    """(images,) int64, index of the class; -1 for a class that the model does not know."""
    probabilities: Array
    """(images, classes) float32."""


def score(split: str, saved_model: Path, *, most: int | None = None) -> Scored:
    """Return the images of a split, decoded, and what a model says of them.

    Args:
        split: folder of its examples.
        saved_model: a model of images.
        most: the first images, so many; None: all.
    """
    facts = _facts(saved_model)
    network = _Network(saved_model)
    index = {name.encode(): number for number, name in enumerate(facts.classes)}
    paths: list[str] = []
    pixels, labels, probabilities = [], [], []
    for block, names, found in _batches(split, facts, most=most):
        probabilities.append(network.probabilities(block))
        paths += [name.decode() for name in found]
        labels += [index.get(name, -1) for name in names]
        pixels.append(block)
    return Scored(tuple(paths), np.concatenate(pixels), np.array(labels, np.int64), np.concatenate(probabilities))


# Robustness


def robustness(split: str, saved_model: Path, config: RobustnessConfig) -> dict[str, float]:
    """Return what each change of the images costs in accuracy, by metric. Noise is the same in each call.

    Args:
        split: folder of tf.Examples.
        saved_model: a model of images.
        config: the changes.
    """
    scored = score(split, saved_model, most=config.max_images)
    network = _Network(saved_model)
    drops = {}
    for name, (kind, strength) in config.metrics.items():
        accumulator = find_metric(name).make_accumulator(top_k=1)
        state = accumulator.create()
        for start in range(0, len(scored.labels), BATCH):
            rows = slice(start, start + BATCH)
            pixels, labels = scored.pixels[rows], scored.labels[rows]
            changed = change(pixels, kind, strength, number=start, network=network, labels=labels)
            both = np.stack([scored.probabilities[rows], network.probabilities(changed)], axis=1)
            state = accumulator.add_block(state, labels, both, np.ones(len(labels)))
        drops[name] = float(accumulator.result(state))
    return drops


def change(pixels: Array, kind: str, strength: float, *, number: int, network: "_Network", labels: Array) -> Array:
    """Return changed images, (batch, height, width, 3), 0 to 255.

    Args:
        pixels: the images.
        kind: of RobustnessConfig.
        strength: of it.
        number: of the first image: noise differs from batch to batch.
        network: gives the gradient, for `fgsm`.
        labels: index of each image's class, for `fgsm`.
    """
    if kind == "noise":
        noise = np.random.default_rng([_SEED, number]).normal(0, strength * _WHITE, pixels.shape)
        return np.clip(pixels + noise, 0, _WHITE).astype(np.float32)
    if kind == "fgsm":  # Goodfellow, Shlens and Szegedy (2015), equation 1
        step = np.sign(network.gradient(pixels, labels)) * strength * _WHITE
        return np.clip(pixels + step, 0, _WHITE).astype(np.float32)
    one = _PICTURE_CHANGES[kind]
    return np.stack([np.asarray(one(Image.fromarray(image), strength)) for image in pixels])


def _jpeg(picture: Image.Image, quality: float) -> Image.Image:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=int(quality))
    return Image.open(buffer).convert("RGB")


_PICTURE_CHANGES: Mapping[str, Callable[[Image.Image, float], Image.Image]] = {
    "blur": lambda picture, deviation: picture.filter(ImageFilter.GaussianBlur(deviation)),
    "rotation": lambda picture, degrees: picture.rotate(degrees, Image.Resampling.BILINEAR),
    "jpeg": _jpeg,
}


class _Network:
    """The network of an exported model."""

    def __init__(self, saved_model: Path) -> None:
        self._model = SavedModel(saved_model, only=(NETWORK,), scheduling="pool")

    def probabilities(self, pixels: Array) -> Array:
        """(batch, classes) of (batch, height, width, 3), 0 to 255."""
        return self._model.signature(NETWORK)({"pixels": pixels})["outputs"]

    def gradient(self, pixels: Array, labels: Array) -> Array:
        """The gradient of the cross-entropy by the pixels."""
        outputs = self.probabilities(pixels)
        rows, classes = np.arange(len(labels)), np.maximum(labels, 0)
        weights = np.zeros_like(outputs)
        weights[rows, classes] = -1 / (outputs[rows, classes] + 1e-12)
        return self._model.gradient(NETWORK, {"pixels": pixels}, output="outputs", by="pixels", weights=weights)


def _facts(saved_model: Path) -> ModelFacts:
    facts = read_facts(saved_model)
    assert facts is not None  # the Evaluator compares models of images only with their like
    return facts


def _batches(split: str, facts: ModelFacts, *, most: int | None) -> Any:
    image = input_of(facts)

    def decode(content: tf.Tensor, label: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return image.decode(content[tf.newaxis])[0], label, path

    rows = stream_texts(files_in(split), ("image", facts.label, IMAGE_PATH)).take(-1 if most is None else most)
    dataset = rows.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

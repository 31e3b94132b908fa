"""Predictions of a classifier for the images of a split, and its accuracy on images that were made worse.

What makes them worse is noise, blur, rotation, compression and a gradient attack.

Images are decoded by the exported model, and its network predicts; other columns stay unchanged.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from kubetfx.arrays import Array
from kubetfx.artifacts import IMAGE_PATH, PIXELS
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.config.evaluation_section import RobustnessConfig
from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.examples import files_in, read_blocks
from kubetfx.models.features import LABEL

BATCH = 64
_WHITE = 255.0
_SEED = 0


@dataclass(frozen=True)
class Scored:
    """Images of a split with a model's predictions."""

    paths: tuple[str, ...]
    """Paths in a folder of images; for a table, the numbers of the rows from 1."""
    features: Mapping[str, Array]
    """Inputs of the network, each (images, ...)."""
    labels: Array
    """(images,) int64, index of the class; -1 for a class that the model does not know."""
    probabilities: Array
    """(images, classes) float32."""

    @property
    def pixels(self) -> Array:
        """(images, height, width, 3) uint8, in the network's size."""
        return self.features[PIXELS].astype(np.uint8)


def score(split: str, model: AskedModel) -> Scored:
    """Decode the images of a split, and predict.

    Args:
        split: The folder of its examples.
        model: A model that takes images.

    Returns:
        All images of the split.
    """
    paths: list[str] = []
    labels, features, probabilities = [], [], []
    for names, found, own in _batches(split, model):
        paths += [name or f"row {number}" for number, name in enumerate(names, start=len(paths) + 1)]
        labels.append(own)
        features.append(found)
        probabilities.append(model.outputs(found))
    together = {name: np.concatenate([batch[name] for batch in features]) for name in features[0]}
    return Scored(tuple(paths), together, np.concatenate(labels), np.concatenate(probabilities))


def _batches(split: str, model: AskedModel) -> Iterator[tuple[list[str | None], dict[str, Array], Array]]:
    """Yield paths, features and labels."""
    for block in read_blocks(files_in(split), columns_to_read([model], [IMAGE_PATH]), max_rows=BATCH):
        features = model.features(block)
        labels = features.pop(LABEL).reshape(-1)
        has_paths = IMAGE_PATH in block.schema.names
        yield block.column(IMAGE_PATH).to_pylist() if has_paths else [None] * len(labels), features, labels


# Robustness


def robustness(split: str, saved_model: Path, config: RobustnessConfig) -> dict[str, float]:
    """Measure the accuracy lost to each change of the images. Noise is the same in each call.

    Args:
        split: The folder of the examples.
        saved_model: A classifier that takes images.
        config: the changes.

    Returns:
        The lost accuracy by metric.
    """
    model = AskedModel(saved_model)
    accumulators = {name: find_metric(name).make_accumulator(top_k=1) for name in config.metrics}
    states = {name: accumulator.create() for name, accumulator in accumulators.items()}
    start = 0
    for _, found, known in _batches(split, model):
        features = {name: array[: config.max_images - start] for name, array in found.items()}
        labels = known[: config.max_images - start]
        if not len(labels):
            break
        before = model.outputs(features)

        def gradient(features: dict[str, Array] = features, labels: Array = labels, before: Array = before) -> Array:
            """Return the gradient of the cross-entropy with respect to the pixels."""
            rows, classes = np.arange(len(labels)), np.maximum(labels, 0)
            weights = np.zeros_like(before)
            weights[rows, classes] = -1 / (before[rows, classes] + 1e-12)
            return model.gradient(features, weights)

        for name, (kind, strength) in config.metrics.items():
            changed = change(features[PIXELS].astype(np.uint8), kind, strength, number=start, gradient=gradient)
            after = model.outputs({**features, PIXELS: changed.astype(np.float32)})
            both = np.stack([before, after], axis=1)
            states[name] = accumulators[name].add_block(states[name], labels, both, np.ones(len(labels)))
        start += len(labels)
    model.close()
    return {name: float(accumulators[name].result(state)) for name, state in states.items()}


def change(pixels: Array, kind: str, strength: float, *, number: int, gradient: Callable[[], Array]) -> Array:
    """Change images.

    Args:
        pixels: the images, (batch, height, width, 3) uint8.
        kind: A kind of change, as in RobustnessConfig.
        strength: The strength of the change.
        number: The number of the first image: noise differs from batch to batch.
        gradient: The gradient of the loss with respect to the pixels, for `fgsm`.

    Returns:
        (batch, height, width, 3), 0 to 255.
    """
    if kind == "noise":
        noise = np.random.default_rng([_SEED, number]).normal(0, strength * _WHITE, pixels.shape)
        return np.clip(pixels + noise, 0, _WHITE).astype(np.float32)
    if kind == "fgsm":  # Goodfellow, Shlens and Szegedy (2015), equation 1
        return np.clip(pixels + np.sign(gradient()) * strength * _WHITE, 0, _WHITE).astype(np.float32)
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

"""What TFMA does not say about a classifier of images: top-k accuracy, kappa, the confusion matrix, and what noise,
blur, rotation, compression and a gradient attack cost.

Images are decoded as in training, and the exported network answers them. Which of the metrics have a bound, and what
follows from it, is components/evaluator.py's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageFilter

from kubetfx.components.evaluation.confusion import class_scores, confusion_matrix, kappa
from kubetfx.config.evaluation import IMAGE_METRICS, EvaluationConfig
from kubetfx.models.examples import files_in
from kubetfx.models.export import NETWORK, ModelFacts, read_facts
from kubetfx.models.image_cache import stream_texts
from kubetfx.models.image_export import input_of

RESULT = "image_evaluation.json"
"""File of the evaluation artifact."""

BATCH = 64
_WHITE = 255.0
_SEED = 0

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scored:
    """Images of a split, and what a model says to them."""

    paths: tuple[str, ...]
    pixels: Array
    """(images, height, width, 3) uint8, in the network's size; the first ones only, where fewer were asked for."""
    labels: Array
    """(images,) int64, index of the class; -1 for a class that the model does not know."""
    probabilities: Array
    """(images, classes) float32."""


def score(split: str, saved_model: Path, *, keep: int) -> Scored:
    """Decode the images of a split, and ask a model.

    Args:
        split: folder of its examples.
        saved_model: a model of images.
        keep: images at most whose pixels are kept.
    """
    facts = _facts(saved_model)
    network = _Network(saved_model)
    index = {name.encode(): number for number, name in enumerate(facts.classes)}
    paths: list[str] = []
    pixels, labels, probabilities = [], [], []
    kept = 0
    for block, names, found in _batches(split, facts):
        probabilities.append(network.probabilities(block))
        paths += [name.decode() for name in found]
        labels += [index.get(name, -1) for name in names]
        if kept < keep:
            pixels.append(block[: keep - kept])
            kept += len(pixels[-1])
    return Scored(tuple(paths), np.concatenate(pixels), np.array(labels, np.int64), np.concatenate(probabilities))


def evaluate(split: str, models: Mapping[str, Path], evaluation: EvaluationConfig) -> dict[str, Any]:
    """The metrics of models on a split.

    Args:
        split: folder of its examples.
        models: SavedModels by name; the first is the one that is described by class.
        evaluation: the section of the config.

    Returns:
        `metrics` by model; of the first model `classes`, its `confusion` matrix (rows: what it is; columns: what the
        model says), and precision, recall, f1 and number of images `by_class`.
    """
    wanted = [*(evaluation.metrics or IMAGE_METRICS), *evaluation.thresholds]
    document: dict[str, Any] = {"metrics": {}}
    for name, saved_model in models.items():
        scored = score(
            split, saved_model, keep=evaluation.robustness.max_images if evaluation.robustness.metrics else 1
        )
        facts = _facts(saved_model)
        predicted = scored.probabilities.argmax(axis=1)
        confusion = confusion_matrix(scored.labels, predicted, num_classes=len(facts.classes))
        metrics = {}
        if "top_k_accuracy" in wanted:
            metrics["top_k_accuracy"] = top_k_accuracy(scored, input_of(facts).model.top_k)
        if "kappa" in wanted:
            metrics["kappa"] = kappa(confusion) or 0.0
        metrics |= robustness(scored, _Network(saved_model), evaluation)
        document["metrics"][name] = metrics
        if "classes" not in document:
            document["classes"] = list(facts.classes)
            document["confusion"] = confusion.tolist()
            document["by_class"] = by_class(confusion, facts.classes)
    return document


def write(document: Mapping[str, Any], folder: Path) -> None:
    """Write what `evaluate` found into an evaluation artifact."""
    (folder / RESULT).write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """What `evaluate` found; empty for other models than those of images."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"metrics": {}}


# Metrics


def top_k_accuracy(scored: Scored, k: int) -> float:
    """Share of the images whose class is among the k most likely."""
    likely = np.argsort(-scored.probabilities, axis=1, kind="stable")[:, :k]
    return float((likely == scored.labels[:, np.newaxis]).any(axis=1).mean())


def by_class(matrix: Array, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Precision, recall, f1 and number of images of each class; 0 where nothing was said or nothing is there."""
    return {
        name: {
            "images": scores.support,
            "precision": scores.precision or 0.0,
            "recall": scores.recall or 0.0,
            "f1": scores.f1 or 0.0,
        }
        for name, scores in zip(classes, class_scores(matrix), strict=True)
    }


# Robustness


def robustness(scored: Scored, network: "_Network", evaluation: EvaluationConfig) -> dict[str, float]:
    """What each change of the images costs in accuracy, by metric. Noise is the same in each call."""
    changes = evaluation.robustness.metrics
    if not changes:
        return {}
    labels = scored.labels[: len(scored.pixels)]
    clean = _accuracy(scored.probabilities[: len(labels)], labels)
    drops = {}
    for name, (kind, strength) in changes.items():
        found = [
            network.probabilities(change(pixels, kind, strength, number=start, network=network, labels=some))
            for start, pixels, some in _blocks(scored.pixels, labels)
        ]
        drops[name] = clean - _accuracy(np.concatenate(found), labels)
    return drops


def change(pixels: Array, kind: str, strength: float, *, number: int, network: "_Network", labels: Array) -> Array:
    """Changed images (batch, height, width, 3), 0 to 255.

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
        self._model = tf.saved_model.load(str(saved_model))  # its variables live as long as this does
        self._signature = self._model.signatures[NETWORK]

    def probabilities(self, pixels: Array) -> Array:
        """(batch, classes) of (batch, height, width, 3), 0 to 255."""
        return np.asarray(self._signature(pixels=tf.constant(pixels, tf.float32))["outputs"])

    def gradient(self, pixels: Array, labels: Array) -> Array:
        """Of the cross-entropy, by the pixels."""
        inputs = tf.constant(pixels, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = self._signature(pixels=inputs)["outputs"]
            likelihood = tf.gather(outputs, tf.maximum(labels, 0), batch_dims=1)
            loss = -tf.reduce_sum(tf.math.log(likelihood + 1e-12))
        return np.asarray(tape.gradient(loss, inputs))


def _accuracy(probabilities: Array, labels: Array) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def _blocks(pixels: Array, labels: Array) -> Any:
    for start in range(0, len(pixels), BATCH):
        yield start, pixels[start : start + BATCH], labels[start : start + BATCH]


def _facts(saved_model: Path) -> ModelFacts:
    facts = read_facts(saved_model)
    assert facts is not None  # the Evaluator compares models of images only with their like
    return facts


def _batches(split: str, facts: ModelFacts) -> Any:
    image = input_of(facts)

    def decode(content: tf.Tensor, label: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return image.decode(content[tf.newaxis])[0], label, path

    rows = stream_texts(files_in(split), ("image", facts.label, "path"))
    dataset = rows.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

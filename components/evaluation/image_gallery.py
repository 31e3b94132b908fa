"""Draws how a classifier of images works.

It makes a sheet of its mistakes, heat maps of what it looked at, and embeddings for TensorBoard's Projector.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from kubetfx.arrays import Array
from kubetfx.artifacts import PIXELS
from kubetfx.components.evaluation.image_evaluation import BATCH, Scored, score
from kubetfx.errors import UsageError
from kubetfx.models.asked_model import AskedModel
from kubetfx.models.columns.image.pixel_signatures import HEAD, MAPS
from kubetfx.serving.model_facts import network_arguments, read_facts
from kubetfx.serving.saved_model import SavedModel

TILE = 112
"""Pixels of a picture in a sheet."""
_CAPTION = 36
_COLUMNS = 8
_MAX_SPRITE = 8_192
"""Maximum edge in pixels of a sprite that the Projector shows."""
_MAX_THUMB = 64


@dataclass(frozen=True)
class Gallery:
    """The written files, and their source."""

    images: int
    mistakes: int
    mistakes_path: Path
    heat_maps_path: Path
    projector_path: Path
    """Folder for `tensorboard --logdir`."""


def write_gallery(split: str, saved_model: Path, folder: Path, *, mistakes: int, heat_maps: int) -> Gallery:
    """Return the files with drawings of a split's images as a model sees them.

    Args:
        split: The folder of its examples.
        saved_model: A classifier that takes images.
        folder: The folder for mistakes.png, heat_maps.png and projector/.
        mistakes: The maximum number of pictures in the sheet; the most certain mistakes come first.
        heat_maps: The number of pictures in the sheet of heat maps; mistakes come first.
    """
    model = AskedModel(saved_model)
    facts = model.facts
    scored = score(split, model)
    model.close()
    order = _most_certain_mistakes(scored)
    folder.mkdir(parents=True, exist_ok=True)
    sheet_of([_tile(scored, index, facts.classes) for index in order[:mistakes]]).save(folder / "mistakes.png")
    others = [index for index in range(len(scored.labels)) if index not in set(order)]
    chosen = [*order, *others][:heat_maps]
    maps = grad_cam(saved_model, {name: array[chosen] for name, array in scored.features.items()})
    tiles = [_tile(scored, i, facts.classes, heat=heat) for i, heat in zip(chosen, maps, strict=True)]
    sheet_of(tiles).save(folder / "heat_maps.png")
    write_projector(scored, saved_model, facts.classes, folder / "projector")
    return Gallery(
        len(scored.labels), len(order), folder / "mistakes.png", folder / "heat_maps.png", folder / "projector"
    )


def grad_cam(saved_model: Path, features: Mapping[str, Array]) -> Array:
    """Find where the network saw the predicted class: Grad-CAM (Selvaraju et al., 2017).

    Args:
        saved_model: a classifier that sees images.
        features: what the network takes, each (images, ...).

    Returns:
        (images, height, width) float32, 0 to 1.

    Raises:
        UsageError: the model was exported before its signature had logits.
    """
    facts = read_facts(saved_model)
    assert facts is not None  # it was asked for the features
    arguments = network_arguments(features, facts.network_inputs)
    pixels = arguments[PIXELS]
    with SavedModel(saved_model, only=(MAPS, HEAD)) as model:
        if "logits" not in (outputs := model.signatures[HEAD].outputs):
            raise UsageError(
                f"Heat maps follow the logits, and the pushed model has none in its signature {HEAD}. Received: "
                f"{', '.join(outputs)}. Run the pipeline again with this version, which pushes one that has it."
            )
        starts = range(0, len(pixels), BATCH)
        blocks = [_heat(model, {n: array[start : start + BATCH] for n, array in arguments.items()}) for start in starts]
    return np.concatenate(blocks) if blocks else np.zeros((0, *pixels.shape[1:3]), np.float32)


def _heat(model: SavedModel, arguments: Mapping[str, Array]) -> Array:
    """Return Grad-CAM of a batch, (images, height, width) float32: equations 1 and 2 of the paper, each scaled to 1."""
    others = {name: array for name, array in arguments.items() if name != PIXELS}
    pixels = arguments[PIXELS]
    maps = model.signature(MAPS)({PIXELS: pixels})["maps"]
    logits = model.signature(HEAD)({"maps": maps, **others}, ["logits"])["logits"]
    of_the_named = np.zeros_like(logits)
    of_the_named[np.arange(len(logits)), logits.argmax(axis=1)] = 1.0
    gradients = model.gradient(HEAD, {"maps": maps, **others}, output="logits", by="maps", weights=of_the_named)
    weights = gradients.astype(np.float32).mean(axis=(1, 2), keepdims=True)
    heat = np.maximum((weights * maps.astype(np.float32)).sum(axis=-1, keepdims=True), 0)
    heat = tf.image.resize(heat, pixels.shape[1:3])[..., 0]
    return np.asarray(tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=[1, 2], keepdims=True)))


def embeddings(saved_model: Path, pixels: Array) -> Array:
    """Compute the mean of each feature map.

    Args:
        saved_model: A model that takes images.
        pixels: (images, height, width, 3), 0 to 255.

    Returns:
        (images, channels) float32.
    """
    with SavedModel(saved_model, only=(MAPS,)) as model:
        blocks = [
            model.signature(MAPS)({PIXELS: pixels[start : start + BATCH]})["maps"]
            for start in range(0, len(pixels), BATCH)
        ]
    return np.concatenate([block.astype(np.float32).mean(axis=(1, 2)) for block in blocks])


def write_projector(scored: Scored, saved_model: Path, classes: Sequence[str], folder: Path) -> None:
    """Write vectors.tsv, metadata.tsv, sprite.png and the configuration that TensorBoard's Projector opens.

    Args:
        scored: The images with the model's predictions.
        saved_model: The model.
        classes: Its class names.
        folder: The folder for the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "vectors.tsv", embeddings(saved_model, scored.features[PIXELS]), fmt="%.6g", delimiter="\t")
    said = scored.probabilities.argmax(axis=1)
    rows = [
        "\t".join((_name(classes, label), classes[guess], f"{probabilities.max():.4f}", " ".join(path.split())))
        for label, guess, probabilities, path in zip(
            scored.labels, said, scored.probabilities, scored.paths, strict=True
        )
    ]
    lines = ["class\tpredicted\tscore\tpath", *rows]
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    edge = _write_sprite(scored.pixels, folder / "sprite.png")
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "images"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n'
        f'  sprite {{\n    image_path: "sprite.png"\n'
        f"    single_image_dim: {edge}\n    single_image_dim: {edge}\n  }}\n}}\n",
        encoding="utf-8",
    )


def sheet_of(tiles: Sequence[Image.Image]) -> Image.Image:
    """Return tiles in rows, as one picture; a line of text if there are none.

    Args:
        tiles: TILE wide, with their captions.
    """
    if not tiles:
        empty = Image.new("RGB", (4 * TILE, _CAPTION), "white")
        ImageDraw.Draw(empty).text((8, 10), "There are none: every image is classified correctly.", fill="black")
        return empty
    columns = min(len(tiles), _COLUMNS)
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + _CAPTION)), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * TILE, number // columns * (TILE + _CAPTION)))
    return sheet


def _most_certain_mistakes(scored: Scored) -> list[int]:
    wrong = np.flatnonzero(scored.probabilities.argmax(axis=1) != scored.labels)
    return sorted(wrong.tolist(), key=lambda index: -float(scored.probabilities[index].max()))


def _tile(scored: Scored, index: int, classes: Sequence[str], *, heat: Array | None = None) -> Image.Image:
    pixels: Any = scored.pixels[index].astype(np.float32)
    if heat is not None:
        red = np.array([255.0, 30.0, 0.0])
        pixels = pixels * (1 - 0.6 * heat[..., np.newaxis]) + red * 0.6 * heat[..., np.newaxis]
    picture = Image.fromarray(pixels.astype(np.uint8)).resize((TILE - 4, TILE - 4), Image.Resampling.BILINEAR)
    tile = Image.new("RGB", (TILE, TILE + _CAPTION), "white")
    tile.paste(picture, (2, 2))
    guess = int(scored.probabilities[index].argmax())
    pen = ImageDraw.Draw(tile)
    pen.text((3, TILE), f"{_name(classes, scored.labels[index])}", fill="black")
    right = guess == scored.labels[index]
    said = f"{classes[guess]} {scored.probabilities[index, guess]:.2f}"
    pen.text((3, TILE + 15), said, fill="#146c2e" if right else "#b3261e")
    return tile


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label >= 0 else "unknown"


def _write_sprite(pixels: Array, path: Path) -> int:
    """Return all images in one square, row by row; the edge of each in it, in pixels."""
    columns = math.ceil(math.sqrt(len(pixels)))
    edge = max(min(_MAX_THUMB, int(max(pixels.shape[1:3])), _MAX_SPRITE // columns), 1)
    sprite = Image.new("RGB", (columns * edge, columns * edge), "white")
    for number, image in enumerate(pixels):
        small = Image.fromarray(image).resize((edge, edge), Image.Resampling.BILINEAR)
        sprite.paste(small, (number % columns * edge, number // columns * edge))
    sprite.save(path)
    return edge

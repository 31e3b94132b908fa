"""Signatures that the SavedModel of a network that sees images has besides those of models/export.py.

    serving_arrays      images (batch, height, width, 3) uint8  ->  as serving_default, for pixels that somebody decoded
    decode_images       image_bytes (batch,) string             ->  pixels in the network's size, as it sees them
    embed               image_bytes (batch,) string             ->  embedding: the mean over each feature map
    network_maps        pixels in the network's size            ->  maps: what the last convolution sees
    network_head        maps, and the other features            ->  logits, outputs

`serving_arrays` is there where images are all that the network takes; `embed` and those of maps where it has a layer
`maps`, as ours has.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kubetfx.artifacts import IMAGE_BYTES, PIXELS
from kubetfx.models.calibration import Temperature
from kubetfx.models.columns.image.pixel_network import MAPS as MAPS_LAYER

if TYPE_CHECKING:
    from kubetfx.models.columns.image.pixels import Pixels

AddSignature = Callable[[str, Callable[..., Any], Any], Any]
"""Adds a signature to a SavedModel: its name, what computes it, and the specs of its inputs."""

DECODE = "decode_images"
EMBED = "embed"
MAPS = "network_maps"
HEAD = "network_head"


def add_signatures(
    add: AddSignature,
    model: keras.Model,
    specs: Mapping[str, tf.TensorSpec],
    *,
    answers: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]],
    pixels: "Pixels",
) -> None:
    """Give a model the signatures that only one that sees images has.

    Args:
        add: adds one.
        model: from features, pixels among them, to probabilities or values.
        specs: what the network takes, by name.
        answers: from features to what a client reads.
        pixels: how pictures are read.
    """

    def from_arrays(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(pixels.resized(images))

    add(DECODE, pixels.features, tf.TensorSpec([None], tf.string, IMAGE_BYTES))
    if len(specs) == 1:
        add("serving_arrays", from_arrays, tf.TensorSpec([None, None, None, 3], tf.uint8, "images"))
    names = [layer.name for layer in model.layers]
    if MAPS_LAYER in names:  # a network of the user's may have none
        _add_signatures_of_maps(add, model, specs, pixels)


def _add_signatures_of_maps(
    add: AddSignature, model: keras.Model, specs: Mapping[str, tf.TensorSpec], pixels: "Pixels"
) -> None:
    tensor = model.get_layer(MAPS_LAYER).output
    inputs = {own.name: own for own in model.inputs}
    maps_of = keras.Model(inputs[PIXELS], tensor)
    others = [own for name, own in inputs.items() if name != PIXELS]
    *_, last = (layer for layer in model.layers if not isinstance(layer, Temperature))
    logits = last.input
    head = keras.Model([tensor, *others], {"logits": logits, "outputs": model.output})
    arguments = {f"feature_{index}": name for index, name in enumerate(specs) if name != PIXELS}

    def see(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"maps": maps_of(pixels, training=False)}

    def embed(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        maps = see(pixels.features(image_bytes)[PIXELS])["maps"]
        return {"embedding": tf.reduce_mean(tf.cast(maps, tf.float32), axis=[1, 2])}

    def say(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        answers: dict[str, tf.Tensor] = head([raw["maps"], *(raw[argument] for argument in arguments)], training=False)
        return answers

    signature = {"maps": tf.TensorSpec(tensor.shape, tensor.dtype, "maps")}
    signature |= {a: tf.TensorSpec(specs[name].shape, specs[name].dtype, a) for a, name in arguments.items()}
    add(EMBED, embed, tf.TensorSpec([None], tf.string, IMAGE_BYTES))
    add(MAPS, see, tf.TensorSpec(inputs[PIXELS].shape, tf.float32, PIXELS))
    add(HEAD, say, signature)

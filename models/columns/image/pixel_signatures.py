"""What the SavedModel of a network that sees images has besides: how it reads pictures, and more signatures.

    serving_arrays      images (batch, height, width, 3) uint8  ->  as serving_default, for pixels that somebody decoded
    embed               image_bytes (batch,) string             ->  embedding: the mean over each feature map
    network_maps        pixels in the network's size            ->  maps: what the last convolution sees
    network_head        maps, and the other features            ->  logits, outputs

The first is there where images are all that the network takes; the others where it has a layer `maps`, as ours has.
All other signatures are models/export.py's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kubetfx.artifacts import IMAGE_BYTES, PIXELS
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.columns.image.decoding import decode_batch, resize
from kubetfx.models.columns.image.pixel_network import MAPS as MAPS_LAYER
from kubetfx.serving.model_facts import ModelFacts

BLOCK = 32
"""Pictures that are decoded at a time."""

EMBED = "embed"
MAPS = "network_maps"
HEAD = "network_head"


@dataclass(frozen=True)
class ImageInput:
    """How a model reads pictures."""

    model: ModelConfig
    max_pixels: int

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """Bytes of files (batch,) to (batch, *image_shape, 3) uint8: the function that training reads files with."""
        return decode_batch(contents, model=self.model, max_pixels=self.max_pixels)

    def resize(self, images: tf.Tensor) -> tf.Tensor:
        """Decoded pictures of one size to the network's."""
        return tf.map_fn(
            lambda image: resize(image, model=self.model),
            images,
            fn_output_signature=tf.TensorSpec([*self.model.image_shape, 3], tf.uint8),
        )

    def facts(self, column: str) -> dict[str, Any]:
        """For the model's kubetfx.json.

        Args:
            column: of the pictures.
        """
        height, width = self.model.image_shape
        model = {"image_size": [height, width], "resize": self.model.resize, "top_k": self.model.top_k}
        return {"column": column, "model": model, "max_pixels": self.max_pixels}


def input_of(facts: ModelFacts) -> ImageInput:
    """How an exported model reads pictures."""
    assert facts.image is not None  # it is a model that sees images
    return ImageInput(ModelConfig(kind="image", **facts.image["model"]), facts.image["max_pixels"])


def add_image_signatures(
    archive: Any,
    model: keras.Model,
    specs: Mapping[str, tf.TensorSpec],
    *,
    answers: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    image: ImageInput,
) -> None:
    """Give a model the signatures that only one that sees images has.

    Args:
        archive: Keras' ExportArchive.
        model: from features, pixels among them, to probabilities or values.
        specs: what the network takes, by name.
        answers: the answer to pixels in the network's size.
        image: how pictures are read.
    """

    def from_arrays(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(image.resize(images))

    if len(specs) == 1:
        pictures = tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
        archive.add_endpoint("serving_arrays", from_arrays, [pictures])
    names = [layer.name for layer in model.layers]
    if MAPS_LAYER in names:  # a network of the user's may have none
        _add_signatures_of_maps(archive, model, specs, image=image)


def _add_signatures_of_maps(
    archive: Any, model: keras.Model, specs: Mapping[str, tf.TensorSpec], *, image: ImageInput
) -> None:
    tensor = model.get_layer(MAPS_LAYER).output
    inputs = {own.name: own for own in model.inputs}
    maps_of = keras.Model(inputs[PIXELS], tensor)
    others = [own for name, own in inputs.items() if name != PIXELS]
    logits = model.layers[-1].input
    head = keras.Model([tensor, *others], {"logits": logits, "outputs": model.output})
    arguments = {f"feature_{index}": name for index, name in enumerate(specs) if name != PIXELS}

    def see(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"maps": maps_of(tf.cast(pixels, tf.float32), training=False)}

    def embed(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        maps = see(image.decode(image_bytes))["maps"]
        return {"embedding": tf.reduce_mean(tf.cast(maps, tf.float32), axis=[1, 2])}

    def say(raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return head([raw["maps"], *(raw[argument] for argument in arguments)], training=False)

    signature = {"maps": tf.TensorSpec(tensor.shape, tensor.dtype, "maps")}
    signature |= {a: tf.TensorSpec(specs[name].shape, specs[name].dtype, a) for a, name in arguments.items()}
    pixels = tf.TensorSpec(inputs[PIXELS].shape, tf.float32, PIXELS)
    archive.add_endpoint(EMBED, embed, [tf.TensorSpec([None], tf.string, IMAGE_BYTES)])
    archive.add_endpoint(MAPS, see, [pixels])
    archive.add_endpoint(HEAD, say, [signature])

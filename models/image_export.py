"""The SavedModel of a network for images: bytes of a picture in, a name out, with decoding and resizing in its graph.

    serving_default     image_bytes (batch,) string             ->  label, score, top_labels, top_scores, probabilities,
                                                                    classes
    serving_arrays      images (batch, height, width, 3) uint8  ->  the same, for pixels that somebody decoded
    serving_examples    serialized tf.Examples (batch,)         ->  the same
    classification      serialized tf.Examples (batch,)         ->  classes, scores     TF Serving's Classify
    transform_features  serialized tf.Examples (batch,)         ->  label, for TFMA
    embed               image_bytes (batch,) string             ->  embedding
    network             pixels in the network's size            ->  probabilities
    network_maps        the same                                ->  maps: what the last convolution sees
    network_head        maps                                    ->  logits, probabilities

Tables have models/export.py, which also says why it is written by an ExportArchive.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.protobuf import saved_model_pb2

from kubetfx.artifacts import IMAGE_BYTES, MODEL_FACTS, REQUEST
from kubetfx.config.model import ModelConfig
from kubetfx.models.export import CLASSIFY_METHOD, NETWORK
from kubetfx.models.features import Features
from kubetfx.models.image import ImageNetwork
from kubetfx.models.image_decoding import decode_batch, resize
from kubetfx.serving.model_facts import ModelFacts
from kubetfx.serving.warmup import predict_request, write_warmup_requests

BLOCK = 32
"""Pictures that are decoded at a time."""

EMBED = "embed"
MAPS = "network_maps"
HEAD = "network_head"

_IMAGE = "image"
_EXAMPLE_SPEC = {_IMAGE: tf.io.FixedLenFeature([], tf.string)}


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

    def facts(self) -> dict[str, Any]:
        """For the model's kubetfx.json."""
        height, width = self.model.image_shape
        model = {"image_size": [height, width], "resize": self.model.resize, "top_k": self.model.top_k}
        return {"model": model, "max_pixels": self.max_pixels}


def input_of(facts: ModelFacts) -> ImageInput:
    """How an exported model reads pictures."""
    assert facts.image is not None  # it is a model of images
    return ImageInput(ModelConfig(kind="image", **facts.image["model"]), facts.image["max_pixels"])


class Graphs:
    """What the signatures compute."""

    def __init__(self, network: ImageNetwork, image: ImageInput, classes: Sequence[str]) -> None:
        self.network = network
        self._image = image
        self._classes = classes

    def maps(self, pixels: tf.Tensor) -> tf.Tensor:
        """Feature maps of pixels in the network's size."""
        return self.network.maps(tf.cast(pixels, tf.float32), training=False)

    def head(self, maps: tf.Tensor) -> tf.Tensor:
        """Probabilities of feature maps."""
        return tf.nn.softmax(self._logits(maps))

    def parts_of_head(self, maps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Logits and probabilities of feature maps."""
        return {"logits": self._logits(maps), "outputs": self.head(maps)}

    def _logits(self, maps: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.network.head(maps, training=False), tf.float32)

    def from_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The answer to the bytes of files (batch,)."""
        return self._answer(self._in_blocks(image_bytes))

    def from_arrays(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The answer to decoded pictures (batch, height, width, 3) uint8."""
        return self._answer(self.head(self.maps(self._image.resize(images))))

    def from_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The answer to serialized tf.Examples (batch,)."""
        return self.from_bytes(tf.io.parse_example(examples, _EXAMPLE_SPEC)[_IMAGE])

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """The answer to Classify."""
        answers = self.from_examples(inputs)
        return {"classes": answers["classes"], "scores": answers["probabilities"]}

    def embed(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The mean over each feature map, (batch, channels), of the bytes of files (batch,)."""
        maps = tf.cast(self.maps(self._image.decode(image_bytes)), tf.float32)
        return {"embedding": tf.reduce_mean(maps, axis=[1, 2])}

    def _in_blocks(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Probabilities of files (batch,), a few at a time: TFMA sends a thousand, which decoded fill the memory."""
        number = tf.maximum((tf.size(image_bytes) + BLOCK - 1) // BLOCK, 1)
        shape = [None, len(self._classes)]
        found = tf.TensorArray(tf.float32, size=number, element_shape=shape, infer_shape=False)

        def step(index: tf.Tensor, array: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            pixels = self._image.decode(image_bytes[index * BLOCK : (index + 1) * BLOCK])
            return index + 1, array.write(index, self.head(self.maps(pixels)))

        _, found = tf.while_loop(lambda index, _: index < number, step, (0, found), parallel_iterations=1)
        return tf.ensure_shape(found.concat(), shape)

    def _answer(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        classes = tf.constant(self._classes)
        scores, indices = tf.math.top_k(probabilities, k=min(self._image.model.top_k, len(self._classes)))
        labels = tf.gather(classes, indices)
        return {
            "label": labels[:, 0],
            "score": scores[:, 0],
            "top_labels": labels,
            "top_scores": scores,
            "probabilities": probabilities,
            "classes": tf.tile(classes[tf.newaxis, :], [tf.shape(probabilities)[0], 1]),
        }


def export_image_model(
    network: ImageNetwork,
    transform_output: tft.TFTransformOutput,
    features: Features,
    path: Path,
    *,
    image: ImageInput,
    warmup_pictures: Sequence[bytes] = (),
) -> None:
    """Write a trained network as a SavedModel.

    Args:
        network: the trained network.
        transform_output: gives the label its index.
        features: the label and its classes.
        path: folder to write.
        image: how pictures are read.
        warmup_pictures: bytes of files, to be replayed by the server before it answers.
    """
    archive = keras.export.ExportArchive()
    transform = transform_output.transform_features_layer()
    for part in (network.maps, network.head, transform):
        archive.track(part)
    raw_spec = transform_output.raw_feature_spec()
    label_spec = {features.label: raw_spec[features.label]}
    graphs = Graphs(network, image, features.classes)
    strings = {name: [tf.TensorSpec([None], tf.string, name)] for name in (IMAGE_BYTES, "examples", "inputs")}
    pixels = [tf.TensorSpec([None, *image.model.image_shape, 3], tf.float32, "pixels")]
    feature_maps = network.head.inputs[0]
    maps = [tf.TensorSpec([None, *feature_maps.shape[1:]], feature_maps.dtype, "maps")]
    for name, graph, signature in (
        ("serving_default", graphs.from_bytes, strings[IMAGE_BYTES]),
        ("serving_arrays", graphs.from_arrays, [tf.TensorSpec([None, None, None, 3], tf.uint8, "images")]),
        ("serving_examples", graphs.from_examples, strings["examples"]),
        ("classification", graphs.classify, strings["inputs"]),
        (
            "transform_features",
            lambda examples: transform(tf.io.parse_example(examples, label_spec)),
            strings["examples"],
        ),
        (EMBED, graphs.embed, strings[IMAGE_BYTES]),
        (NETWORK, lambda pixels: {"outputs": graphs.head(graphs.maps(pixels))}, pixels),
        (MAPS, lambda pixels: {"maps": graphs.maps(pixels)}, pixels),
        (HEAD, graphs.parts_of_head, maps),
    ):
        archive.add_endpoint(name, graph, signature)
    archive.write_out(str(path), verbose=False)
    _set_classify_method(path / "saved_model.pb")
    columns = {name: spec.dtype.name for name, spec in raw_spec.items()}
    facts = ModelFacts(features.label, features.classes, (_IMAGE,), columns, (_IMAGE,), image.facts())
    (path / MODEL_FACTS).parent.mkdir(exist_ok=True)
    (path / MODEL_FACTS).write_text(json.dumps(asdict(facts), ensure_ascii=False), encoding="utf-8")
    _write_warmup(path, warmup_pictures)


def _write_warmup(path: Path, pictures: Sequence[bytes]) -> None:
    if not pictures:
        return
    rows = [{IMAGE_BYTES: picture} for picture in pictures]
    dtypes = {IMAGE_BYTES: object}
    write_warmup_requests(path, [predict_request(rows[:1], dtypes), predict_request(rows, dtypes)])
    instance = {IMAGE_BYTES: {"b64": base64.b64encode(min(pictures, key=len)).decode()}}
    (path / REQUEST).write_text(json.dumps({"instances": [instance]}, indent=1), encoding="utf-8")


def _set_classify_method(file: Path) -> None:
    """What TensorFlow's API has no way to say."""
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    meta_graph.signature_def["classification"].method_name = CLASSIFY_METHOD
    file.write_bytes(saved_model.SerializeToString(deterministic=True))

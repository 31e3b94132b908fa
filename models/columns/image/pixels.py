"""What becomes of the column of images beside TensorFlow Transform, in training and in the SavedModel.

Decoded in the preprocessing graph, pictures would be decoded again in each epoch, or kept as pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.artifacts import PIXELS
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import FineTuneConfig, TrainingConfig
from kubetfx.models.columns.image import pixel_network, pixel_rows, pixel_signatures
from kubetfx.models.columns.image.augmentation import build_augmentation
from kubetfx.models.columns.image.decoding import decode_batch, resize
from kubetfx.models.columns.image.pixel_training import TrainedNetwork
from kubetfx.models.team import Team
from kubetfx.serving.model_facts import ModelFacts


@dataclass(frozen=True)
class Pixels:
    """The feature PIXELS of a column: what a network is handed."""

    column: str
    model: ModelConfig
    """Says the size, how pictures of other proportions are resized, and how they are changed in training."""
    max_pixels: int
    """Maximum number of pixels in a picture; a larger one is an error."""

    @classmethod
    def of_facts(cls, facts: ModelFacts) -> "Pixels":
        """Read pictures as an exported model does.

        Args:
            facts: The facts of a model that sees images.

        Returns:
            The same feature as in its training.
        """
        assert facts.image is not None
        (column,) = facts.image_columns
        return cls(column, ModelConfig(**facts.image["model"]), facts.image["max_pixels"])

    def facts(self) -> dict[str, Any]:
        """Return what `of_facts` reads, and the server, from the model's kubetfx.json."""
        height, width = self.model.image_shape
        model = {"image_size": [height, width], "resize": self.model.resize, "top_k": self.model.top_k}
        return {"column": self.column, "model": model, "max_pixels": self.max_pixels}

    def features(self, contents: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decode pictures, in a graph or outside of one.

        Args:
            contents: bytes of files, (batch,) string.

        Returns:
            PIXELS, (batch, *image_shape, 3) float32, 0 to 255.
        """
        decoded = decode_batch(contents, model=self.model, max_pixels=self.max_pixels)
        return {PIXELS: tf.cast(decoded, tf.float32)}

    def resized(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Resize decoded pictures to the network's size.

        Args:
            images: Images that all have one size, (batch, height, width, 3) uint8.

        Returns:
            PIXELS, as `features`.
        """
        spec = tf.TensorSpec([*self.model.image_shape, 3], tf.uint8)
        sized = tf.map_fn(lambda image: resize(image, model=self.model), images, fn_output_signature=spec)
        return {PIXELS: tf.cast(sized, tf.float32)}

    def load(
        self,
        files: Sequence[str],
        *,
        labels: Array,
        features: Mapping[str, Array],
        cache_bytes: int,
        team: Team,
    ) -> pixel_rows.ImageRows:
        """Read the pictures of a split for training, and decode them into memory if they fit.

        Args:
            files: The files of the split.
            labels: (rows,) in the order of the files.
            features: what else the network takes, each (rows, ...).
            cache_bytes: The maximum number of bytes of decoded pictures that are kept.
            team: who has a part of each batch.

        Returns:
            The rows.
        """
        return pixel_rows.load_images(
            files,
            column=self.column,
            labels=labels,
            features=features,
            model=self.model,
            max_pixels=self.max_pixels,
            cache_bytes=cache_bytes,
            team=team,
        )

    def trained(
        self, network: keras.Model, training: TrainingConfig, *, num_classes: int, team: Team
    ) -> TrainedNetwork:
        """Wrap a network for training, where pictures are changed at random.

        Args:
            network: from features to probabilities or values.
            training: the section of the config.
            num_classes: The number of classes of the labels; 0 for a regression.
            team: who trains it.

        Returns:
            A model that shares its layers.

        Raises:
            ConfigError: there is nothing to tune where `training.fine_tune` begins.
        """
        if training.fine_tune is not None:  # an error here, and not after the first phase
            pixel_network.first_tuned(network, training.fine_tune)
        augmentation = self.model.augmentation
        layers = build_augmentation(augmentation, seed=training.seed)
        return TrainedNetwork.of(
            network, layers, mixup=augmentation.mixup, num_classes=num_classes, seed=training.seed, team=team
        )

    def unfreeze(self, network: keras.Model, fine_tune: FineTuneConfig) -> None:
        """Let the later layers of the backbone learn.

        Args:
            network: The network of which the backbone is a layer.
            fine_tune: says from which on.
        """
        pixel_network.unfreeze(network, fine_tune)

    def add_signatures(
        self,
        add: pixel_signatures.AddSignature,
        network: keras.Model,
        specs: Mapping[str, tf.TensorSpec],
        answers: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]],
    ) -> None:
        """Give a SavedModel the signatures of pixel_signatures.py.

        Args:
            add: adds one.
            network: from features to probabilities or values.
            specs: what the network takes, by name.
            answers: from features to what a client reads.
        """
        pixel_signatures.add_signatures(add, network, specs, answers=answers, pixels=self)

"""What only images have in training.

They are changed at random, a backbone is tuned in a second phase, and a training that was killed goes on where it was.

The loop is in models/training_loop.py; the images come from models/columns/image/pixel_rows.py.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from kubetfx.artifacts import PIXELS
from kubetfx.models.columns.image.pixel_rows import ImageRows
from kubetfx.models.team import Team
from kubetfx.models.training_loop import TrainedModel


class TrainedNetwork(TrainedModel):
    """A model as it is trained: images are changed at random before it, labels smoothed and mixed.

    It shares its layers with the model that is exported, which does none of this.
    """

    augmentation: keras.Sequential | None = None
    mixup: keras.layers.Layer | None = None
    num_classes = 0
    """0 for a regression."""
    waited_seconds = 0.0
    trained_seconds = 0.0
    num_trained = 0
    """Images of all steps so far, in this process."""

    @classmethod
    def of(
        cls,
        model: keras.Model,
        augmentation: keras.Sequential | None,
        *,
        mixup: float,
        num_classes: int,
        seed: int,
        team: Team | None = None,
    ) -> "TrainedNetwork":
        """Wrap a model.

        Args:
            model: from features, PIXELS among them, to probabilities or values.
            augmentation: layers before it; None for none.
            mixup: alpha; 0: images are not mixed.
            num_classes: The number of classes of the labels; 0 for a regression.
            seed: The seed of mixup.
            team: who trains it; None: this process alone.

        Returns:
            A model that shares its layers.
        """
        trained = cls({tensor.name: tensor for tensor in model.inputs}, model.output, name="trained_network")
        trained.augmentation = augmentation
        trained.mixup = keras.layers.MixUp(mixup, seed=seed + 100) if mixup else None
        trained.num_classes = num_classes
        trained.team = team or trained.team
        return trained

    def train_step(self, data: Any) -> Any:
        """Do one step of training.

        Args:
            data: features with uint8 pixels, label, and weight.

        Returns:
            Keras' metrics.
        """
        features, labels, weights = self._unpack(data)
        if self.augmentation is not None:
            features[PIXELS] = tf.cast(self.augmentation(features[PIXELS], training=True), tf.float32)
        if self.mixup is not None:
            mixed = self.mixup({"images": features[PIXELS], "labels": labels}, training=True)
            features[PIXELS], labels = mixed["images"], mixed["labels"]
        return super().train_step((features, labels, weights))

    def test_step(self, data: Any) -> Any:
        """Do one step of validation.

        Args:
            data: features with uint8 pixels, label, and weight.

        Returns:
            Keras' metrics.
        """
        return super().test_step(self._unpack(data))

    def _unpack(self, data: Any) -> tuple[dict[str, Any], Any, Any]:
        features, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        features = {**features, PIXELS: tf.cast(features[PIXELS], tf.float32)}
        return features, tf.one_hot(labels, self.num_classes) if self.num_classes else labels, weights

    def compile(self, *arguments: Any, **keywords: Any) -> None:
        """Compile as Keras does, and trace the step again: that of the phase before is outdated.

        Args:
            arguments: Those of Keras' `compile`.
            keywords: Those of Keras' `compile`.
        """
        super().compile(*arguments, **keywords)
        run = self.team.strategy.run
        self._step = tf.function(
            lambda data: run(self.train_step, args=(data,)), reduce_retracing=True, autograph=False
        )

    def train_steps(self, batches: Iterator[Any], count: int) -> dict[str, Any]:
        """Do steps of training, each handed its batch, so that the wait can be measured.

        Args:
            batches: features, label, and weight.
            count: The number of steps.

        Returns:
            Keras' metrics of the epoch so far.
        """
        logs: dict[str, Any] = {}
        for _ in range(count):
            started = time.perf_counter()
            data = next(batches)
            fetched = time.perf_counter()
            here = self.team.strategy.experimental_local_results
            logs = {name: here(value)[0] for name, value in self._step(data).items()}
            keras.ops.convert_to_numpy(logs["loss"])  # a GPU is done then; TerminateOnNaN asks for it anyway
            self.num_trained += sum(len(labels) for labels in here(data[1]))
            self.waited_seconds += fetched - started
            self.trained_seconds += time.perf_counter() - started
        return logs

    @property
    def changing_variables(self) -> list[Any]:
        """All that a checkpoint has to hold, in an order that depends on the config alone."""
        parts: list[Any] = [*self.layers, self.augmentation, self.mixup]
        found = {id(variable): variable for part in parts if part is not None for variable in part.variables}
        return [*found.values(), *self.optimizer.variables, *self.metrics_variables]


def describe_input(train: ImageRows, trained: TrainedNetwork, *, load_seconds: float) -> dict[str, float | str]:
    """Return how the images came to the network, for history.json.

    Args:
        train: the images.
        trained: what was trained with them.
        load_seconds: that it took to read them, and to decode them into memory.
    """
    seconds = trained.trained_seconds or math.inf  # it was killed after its last step
    document: dict[str, float | str] = {
        "images": len(train.labels),
        "decoded": "once, kept in memory" if train.pixels is not None else "in each epoch",
        "decoded_bytes": train.decoded_bytes,
        "load_seconds": round(load_seconds, 3),
        "wait_share": round(trained.waited_seconds / seconds, 4),
        "images_per_second": round(trained.num_trained / seconds, 1),
    }
    logging.info("Input: %s", document)
    return document

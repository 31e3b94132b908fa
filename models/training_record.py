"""What is written down about a training while it runs: history.json for the report, and TensorBoard's logs.

Nothing is done in a batch: hooks of batches would make Keras fetch the metrics from the device after each of them.
"""

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import TrainingError

TENSORBOARD_FOLDERS = {"": "train", "val_": "validation"}
"""Folder of the logs by the prefix that Keras gives to the metrics."""


@dataclass(frozen=True)
class Fitted:
    """What a training made."""

    model: keras.Model
    """From features to probabilities (batch, classes), or to values (batch, 1)."""
    history: dict[str, Any]
    """The content of history.json."""


class TrainingRecorder(keras.callbacks.Callback):
    """Notes the learning rate and the time of each epoch, and writes its metrics for TensorBoard as they come.

    Args:
        log_folder: where TensorBoard's event files go, a folder each for training and validation.
    """

    def __init__(self, log_folder: Path) -> None:
        super().__init__()
        self._writers = {
            prefix: tf.summary.create_file_writer(str(log_folder / name))
            for prefix, name in TENSORBOARD_FOLDERS.items()
        }
        self._started = 0.0
        self.epochs_before = 0
        """Number of epochs before those of this training: of earlier phases, or from before it was killed."""
        self.learning_rates: list[float] = []
        self.train_seconds: list[float] = []
        """Seconds of the training steps of each epoch, without the validation."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the rate that the epoch starts with."""
        self.learning_rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        self._started = time.perf_counter()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Note the time, as the steps of the epoch are over and its validation begins."""
        self._note_time()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the epoch's metrics."""
        self._note_time()
        step = self.epochs_before + len(self.learning_rates)
        for name, value in (logs or {}).items():
            prefix = "val_" if name.startswith("val_") else ""
            with self._writers[prefix].as_default(step=step):
                tf.summary.scalar(f"epoch_{name.removeprefix(prefix)}", value)
        with self._writers[""].as_default(step=step):
            tf.summary.scalar("epoch_learning_rate", self.learning_rates[-1])
        for writer in self._writers.values():
            writer.flush()

    def _note_time(self) -> None:
        if len(self.train_seconds) < len(self.learning_rates):
            self.train_seconds.append(time.perf_counter() - self._started)


def history_document(
    history: dict[str, list[float]],
    recorder: TrainingRecorder,
    layers: Sequence[keras.layers.Layer],
    *,
    training: TrainingConfig,
    best_epoch: int,
    num_rows: int,
    optimizer: str,
) -> dict[str, Any]:
    """Return the content of history.json.

    Args:
        history: Keras' metrics by name, a value per epoch.
        recorder: the callback that saw the training, or the end of one that was killed.
        layers: of what was trained.
        training: the section of the config.
        best_epoch: the epoch whose weights were kept, counted from 1.
        num_rows: rows of the training split.
        optimizer: its name.
    """
    epochs = len(history["loss"])
    epochs_asked = training.epochs + (training.fine_tune.epochs if training.fine_tune else 0)
    steps = math.ceil(num_rows / training.batch_size)
    later = recorder.train_seconds[1:] or recorder.train_seconds  # the first epoch also builds the graph
    is_whole = len(recorder.learning_rates) == epochs
    pretraining = {layer.name: layer.pretraining for layer in layers if getattr(layer, "pretraining", None)}
    return {
        "epochs": epochs,
        "best_epoch": best_epoch,
        "epochs_asked": epochs_asked,
        "stopped_early": epochs < epochs_asked,
        "may_stop_early": training.early_stopping.enabled,
        "history": history,
        "learning_rate": recorder.learning_rates if is_whole else [],
        "seconds": recorder.train_seconds if is_whole else [],
        "steps_per_epoch": steps,
        "seconds_per_step": sum(later) / len(later) / steps if later else None,
        "rows": num_rows,
        "batch_size": training.batch_size,
        "seed": training.seed,
        "layers": [_describe(layer) for layer in layers],
        "parameters": sum(layer.count_params() for layer in layers),
        "trainable_parameters": sum(math.prod(w.shape) for layer in layers for w in layer.trainable_weights),
        "optimizer": optimizer,
        **({"pretraining": pretraining} if pretraining else {}),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Return what a training ran on, as entries of history.json."""
    return {
        "hardware": _hardware(),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def write_curves(log_folder: Path, history: dict[str, list[float]]) -> None:
    """Write metrics for TensorBoard that are known after a training only.

    Args:
        log_folder: where the event files go, a folder each for training and validation.
        history: metrics by name, a value per epoch or round.
    """
    for name, values in history.items():
        prefix = "val_" if name.startswith("val_") else ""
        writer = tf.summary.create_file_writer(str(log_folder / TENSORBOARD_FOLDERS[prefix]))
        with writer.as_default():
            for step, value in enumerate(values, start=1):
                tf.summary.scalar(f"epoch_{name.removeprefix(prefix)}", value, step=step)
        writer.close()


def _describe(layer: keras.layers.Layer) -> dict[str, Any]:
    output = getattr(layer, "output", [])  # there is none for a layer that is called several times
    outputs = output if isinstance(output, list) else [output]
    return {
        "name": layer.name,
        "type": type(layer).__name__,
        "output": [list(tensor.shape) for tensor in outputs],
        "parameters": layer.count_params(),
    }


def _hardware() -> dict[str, Any]:
    accelerators = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices("GPU")
    ]
    return {"processor": processor_name(), "accelerators": accelerators}


def processor_name() -> str:
    """Return the processor in the words of Linux, for example `AMD EPYC 7B13`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def check_finite(history: dict[str, list[float]], training: TrainingConfig) -> None:
    """Check that every loss is a number.

    Args:
        history: Keras' metrics by name, a value per epoch.
        training: the section of the config.

    Raises:
        TrainingError: one is not.
    """
    for epoch, losses in enumerate(zip(history["loss"], history["val_loss"], strict=False), start=1):
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"The loss is not a number. Received: {losses[0]}, in validation {losses[1]}, in epoch {epoch}. "
                f"Lower training.learning_rate, which is {training.learning_rate:g}."
            )

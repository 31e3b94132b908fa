"""Training of networks for images: TFX's run_fn, from encoded images to a SavedModel.

One phase, or two where a backbone is fine-tuned: first the head alone, then the later layers of the backbone with it.
The images come from models/image_cache.py, the network and what is done to images in training from models/image.py;
what is written is models/image_export.py's.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from absl import logging
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.config.model import ModelConfig
from kubetfx.config.training import TrainingConfig
from kubetfx.models import training as tabular_training
from kubetfx.models.examples import files_in
from kubetfx.models.features import Features, read_features, read_schema
from kubetfx.models.image import ImageNetwork, build_augmentation, build_network
from kubetfx.models.image_cache import ImageRows, first_pictures, load_images
from kubetfx.models.image_export import ImageInput, export_image_model
from kubetfx.models.training_checkpoint import Checkpoint, discard, read_progress
from kubetfx.models.training_record import TrainingRecorder, history_document

VALIDATION_BATCH = 256


class TrainedNetwork(keras.Model):
    """A network as it is trained: images are changed at random before it, labels smoothed and mixed.

    None of this is part of `inference`, which is what is exported.

    Args:
        network: the network.
        augmentation: layers before it; None for none.
        mixup: alpha; 0: images are not mixed.
        num_classes: of the labels.
        seed: of mixup.
    """

    def __init__(
        self, network: ImageNetwork, augmentation: keras.Sequential | None, *, mixup: float, num_classes: int, seed: int
    ) -> None:
        super().__init__(name="trained_network")
        self.maps = network.maps
        self.head = network.head
        self.softmax = keras.layers.Softmax(dtype="float32")
        self.augmentation = augmentation
        self.mixup = keras.layers.MixUp(mixup, seed=seed + 100) if mixup else None
        self._num_classes = num_classes
        self.waited_seconds = 0.0
        self.trained_seconds = 0.0
        self.num_trained = 0
        """Images of all steps so far, in this process."""

    def call(self, pixels: Any, training: bool = False) -> Any:
        """Probabilities (batch, classes) of pixels (batch, height, width, 3), 0 to 255."""
        return self.softmax(self.head(self.maps(pixels, training=training), training=training))

    def train_step(self, data: Any) -> Any:
        """One step on (uint8 pixels, index of the class, weight)."""
        pixels, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        pixels = tf.cast(pixels, tf.float32)
        labels = tf.one_hot(labels, self._num_classes)
        if self.augmentation is not None:
            pixels = tf.cast(self.augmentation(pixels, training=True), tf.float32)
        if self.mixup is not None:
            mixed = self.mixup({"images": pixels, "labels": labels}, training=True)
            pixels, labels = mixed["images"], mixed["labels"]
        return super().train_step((pixels, labels, weights))

    def test_step(self, data: Any) -> Any:
        """One step of validation."""
        pixels, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        return super().test_step((tf.cast(pixels, tf.float32), tf.one_hot(labels, self._num_classes), weights))

    def make_train_function(self, force: bool = False) -> None:
        """A step that is handed its batch, where Keras' fetches it inside of the graph: so the wait can be measured."""
        if self.train_function is not None and not force:  # type: ignore[has-type]
            return
        step = tf.function(self.train_step, reduce_retracing=True, autograph=False)

        def fetch_and_step(iterator: Iterator[Any]) -> Any:
            started = time.perf_counter()
            data = next(iterator)
            fetched = time.perf_counter()
            logs = step(data)
            keras.ops.convert_to_numpy(logs["loss"])  # a GPU is done then; TerminateOnNaN asks for it anyway
            self.num_trained += len(data[0])
            self.waited_seconds += fetched - started
            self.trained_seconds += time.perf_counter() - started
            return logs

        self.train_function = fetch_and_step

    def changing_variables(self) -> list[Any]:
        """All that a checkpoint has to hold."""
        parts: list[Any] = [self.maps, self.head, self.augmentation, self.mixup]
        found = [variable for part in parts if part is not None for variable in part.variables]
        return [*found, *self.optimizer.variables]


@dataclass(frozen=True)
class _Phase:
    number: int
    epochs: int
    training: TrainingConfig
    """With the learning rate and the epochs of the phase."""


def run_fn(fn_args: FnArgs) -> None:
    """Train and export, for TFX's Trainer.

    `fn_args.custom_config` holds the sections `model` and `training` of the config, `max_pixels` and `warmup_rows`.
    Beside the SavedModel the history of the training is written as history.json.
    """
    model = ModelConfig.model_validate(fn_args.custom_config["model"])
    training = TrainingConfig.model_validate(fn_args.custom_config["training"])
    max_pixels = fn_args.custom_config["max_pixels"]
    features = read_features(read_schema(fn_args.schema_path))

    tabular_training.prepare_devices(training)
    keras.utils.set_random_seed(training.seed)
    tf.config.experimental.enable_op_determinism()
    started = time.perf_counter()
    options: dict[str, Any] = {"classes": features.classes, "label": features.label, "model": model}
    train = load_images(fn_args.train_files, max_pixels=max_pixels, cache_bytes=training.cache_bytes, **options)
    left = max(training.cache_bytes - (train.decoded_bytes if train.pixels is not None else 0), 0)
    validation = load_images(fn_args.eval_files, max_pixels=max_pixels, cache_bytes=left, **options)
    loaded = time.perf_counter()

    with tabular_training.precision(training):
        network = build_network(model, num_classes=len(features.classes))
    augmentation = build_augmentation(model.augmentation, seed=training.seed)  # 16 bits are too few for its coordinates
    if training.fine_tune is not None:
        network.first_tuned(training.fine_tune)  # an error here, and not after the first phase
    trained = TrainedNetwork(
        network, augmentation, mixup=model.augmentation.mixup, num_classes=len(features.classes), seed=training.seed
    )
    trained.build((None, *model.image_shape, 3))
    folder = _checkpoint_folder(fn_args, training, f"{train.digest} {validation.digest}")
    recorder = TrainingRecorder(Path(fn_args.model_run_dir))
    history, best_epoch = _train(trained, network, train, validation, training, features, folder, recorder)

    serving_path = Path(fn_args.serving_model_dir)
    export_image_model(
        network,
        tft.TFTransformOutput(fn_args.transform_graph_path),
        features,
        serving_path,
        image=ImageInput(model, max_pixels),
        warmup_pictures=first_pictures(files_in(*fn_args.train_files), fn_args.custom_config["warmup_rows"]),
    )
    document = {
        **history_document(
            history,
            recorder,
            [*network.maps.layers, *network.head.layers],
            training=training,
            best_epoch=best_epoch,
            num_rows=len(train.labels),
            optimizer=type(trained.optimizer).__name__,
        ),
        "input": _describe_input(train, trained, load_seconds=loaded - started),
    }
    text = json.dumps(document, default=float, indent=1)
    (serving_path.parent / "history.json").write_text(text)
    run_path = Path(fn_args.model_run_dir)
    run_path.mkdir(parents=True, exist_ok=True)
    (run_path / "history.json").write_text(text)
    discard(folder)


def _train(
    trained: TrainedNetwork,
    network: ImageNetwork,
    train: ImageRows,
    validation: ImageRows,
    training: TrainingConfig,
    features: Features,
    folder: Path | None,
    recorder: TrainingRecorder,
) -> tuple[dict[str, list[float]], int]:
    """The history of all phases, and the number of the best epoch of the last."""
    phases = [_Phase(0, training.epochs, training)]
    if training.fine_tune is not None:
        changes = {"epochs": training.fine_tune.epochs, "learning_rate": training.fine_tune.learning_rate}
        phases.append(_Phase(1, training.fine_tune.epochs, training.model_copy(update=changes)))
    progress = read_progress(folder)
    first = progress.phase if progress else 0
    history: dict[str, list[float]] = {}
    best_epoch = 0
    for phase in phases[first:]:
        if phase.number == 1:
            assert training.fine_tune is not None
            network.unfreeze(training.fine_tune)
        best_epoch = _train_phase(trained, train, validation, phase, features, folder, history, recorder)
    return history, best_epoch


def _train_phase(
    trained: TrainedNetwork,
    train: ImageRows,
    validation: ImageRows,
    phase: _Phase,
    features: Features,
    folder: Path | None,
    history: dict[str, list[float]],
    recorder: TrainingRecorder,
) -> int:
    """Train until the phase's last epoch, or until it stops early; the number of its best epoch in the history."""
    training = phase.training
    steps = math.ceil(len(train.labels) / training.batch_size)
    trained.compile(
        optimizer=tabular_training.make_optimizer(training, num_steps=steps * phase.epochs),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=training.label_smoothing),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,  # the layers of augmentation have operations that XLA lacks
    )
    trained.optimizer.build(trained.trainable_variables)
    trained.train_function = None  # type: ignore[assignment]
    stopping = tabular_training.early_stopping(training)
    others = [stopping, *tabular_training.schedule_callbacks(training)]
    checkpoint = Checkpoint(
        folder, phase=phase.number, variables=trained.changing_variables, others=others, history=history
    )
    progress = checkpoint.restore()
    done = progress.epoch if progress else 0
    before = len(history.get("loss", [])) - done
    recorder.epochs_before = before + done - len(recorder.learning_rates)
    if progress:
        logging.info("Going on after epoch %d of phase %d.", done, phase.number + 1)
    last = done if progress and progress.is_over else phase.epochs
    offset = phase.number * 1_000_000  # other orders than in the first phase
    if last == done:  # killed between the last epoch and what comes after it
        checkpoint.on_train_begin()
        trained.set_weights(stopping.best_weights)
        return before + int(stopping.best_epoch) + 1
    trained.fit(
        train.shuffled_batches(training.batch_size, seed=training.seed, epochs=range(offset + done, offset + last)),
        validation_data=validation.batches(VALIDATION_BATCH),
        steps_per_epoch=steps,
        initial_epoch=done,
        epochs=last,
        callbacks=[keras.callbacks.TerminateOnNaN(), *others, recorder, checkpoint],
        class_weight=tabular_training.class_weights(training, train.labels, classes=features.classes),
        verbose=2,
    )
    tabular_training.check_finite(history, training)
    return before + int(stopping.best_epoch) + 1


def _checkpoint_folder(fn_args: FnArgs, training: TrainingConfig, data_digest: str) -> Path | None:
    """A folder for this data and config, where the next try of this training looks, too.

    The artifacts of a try that was killed are deleted, so it is beside them; in a cluster they are gone with the pod.
    """
    run_path = Path(fn_args.model_run_dir)
    if training.checkpoint_directory is not None:
        base = Path(training.checkpoint_directory)
    elif run_path.parent.name == "model_run":
        base = run_path.parent.parent / "checkpoints"
    else:
        return None
    custom_config: Mapping[str, Any] = fn_args.custom_config
    config = json.dumps({key: custom_config[key] for key in ("model", "training", "max_pixels")}, sort_keys=True)
    versions = f"{keras.__version__} {tf.__version__}"
    return base / hashlib.sha256(f"{config} {data_digest} {versions}".encode()).hexdigest()[:16]


def _describe_input(train: ImageRows, trained: TrainedNetwork, *, load_seconds: float) -> dict[str, float | str]:
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

"""Fitting a model: what `model.kind` says to rows that are in reach, as often as asked and with any settings.

models/training.py fits once and exports; a search for better settings fits repeatedly, with rows that it has
loaded once. Which network, and which features, is the model module's (models/network.py or the user's own); what only
images have is models/columns/image/'s.
"""

import functools
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow_transform as tft
from absl import logging
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.arrays import Array
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import DEFAULT_MODULE, NO_PICTURES, ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import TrainingError
from kubetfx.models.asynchronous import WorkerRows
from kubetfx.models.columns import known_types
from kubetfx.models.columns.image.pixel_rows import ImageRows
from kubetfx.models.columns.image.pixel_training import TrainedNetwork, describe_input
from kubetfx.models.columns.image.pixels import Pixels
from kubetfx.models.devices import precision
from kubetfx.models.ensemble import fit_ensemble
from kubetfx.models.examples import files_in
from kubetfx.models.features import LABEL, Features, read_features, read_schema
from kubetfx.models.layers import fit_layers
from kubetfx.models.model_choice import choose
from kubetfx.models.network import averaged, beside_transform, sized, with_head
from kubetfx.models.optimization import (
    class_weights,
    compile_model,
    early_stopping,
    own_callbacks,
    schedule_callbacks,
    weighted_by_class,
)
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.table_training import AveragedWeights, TrainedTable
from kubetfx.models.team import Team
from kubetfx.models.training_checkpoint import Checkpoint, Phase, phases_of, read_progress
from kubetfx.models.training_launch import LOGS
from kubetfx.models.training_loop import TrainedModel, fit
from kubetfx.models.training_record import Fitted, TrainingRecorder, check_finite, history_document
from kubetfx.models.training_rows import TrainingRows, load_rows
from kubetfx.models.trees import fit_trees
from kubetfx.models.warm_start import start_from_served

STEPS_PER_CALL = 1_000
"""Steps of a table's network that are one call, at most: what comes between two calls takes longer than a step."""
VALIDATION_ROWS = 4_096
"""Rows of a batch of validation, at least."""
VALIDATION_IMAGES = 256
"""Images of a batch of validation."""
Rows = TrainingRows | ImageRows
"""What a network is trained on: the second where a column has images."""
Watch = Callable[[int, Callable[[], Array]], None]
"""Is called after each epoch or round with its number, from 1, and with a function that gives the predictions for the
validation rows, (rows, outputs). What it raises ends the training."""


@dataclass(frozen=True)
class Work:
    """What is fitted, and to what."""

    fn_args: FnArgs
    """What the Trainer is handed: which files, and where logs go."""
    model: ModelConfig
    features_config: FeaturesConfig
    training: TrainingConfig
    features: Features
    transform_output: tft.TFTransformOutput
    team: Team
    watch: Watch | None = None
    member: int = 0
    """Number of the network in an ensemble."""

    def of_member(self, number: int) -> "Work":
        """Return the same with another seed.

        Args:
            number: The number of a network in an ensemble.
        """
        seed = self.training.seed + number
        return replace(self, training=self.training.model_copy(update={"seed": seed}), member=number)

    @classmethod
    def of(cls, fn_args: FnArgs, training: TrainingConfig, team: Team) -> "Work":
        """Return what the Trainer is to do.

        Args:
            fn_args: The `fn_args` of the Trainer; its `custom_config` has the sections of the config.
            training: that section, which may have been changed.
            team: who trains.

        Raises:
            TrainingError: trees were asked for, and a column has pictures.
        """
        work = cls(
            fn_args,
            ModelConfig.model_validate(fn_args.custom_config["model"]),
            FeaturesConfig.model_validate(fn_args.custom_config["features"]),
            training,
            read_features(read_schema(fn_args.schema_path)),
            tft.TFTransformOutput(fn_args.transform_graph_path),
            team,
        )
        if work.pixels and work.model.kind == "trees":
            raise TrainingError(NO_PICTURES.format(column=work.pixels.column))
        return work

    @property
    def rows_key(self) -> str:
        """What the rows depend on besides the examples: other works with the same can be fitted to them."""
        seen = [self.model.image_shape, self.model.resize] if self.pixels else []
        return json.dumps([self.fn_args.transform_graph_path, self.training.cache_bytes, *seen])

    @property
    def log_folder(self) -> Path:
        """Where TensorBoard's logs of this process go."""
        run_path = Path(self.fn_args.model_run_dir)
        path = run_path if self.team.is_chief else run_path / LOGS / str(self.team.number)
        return path / f"network_{self.member}" if self.member else path

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """From raw columns to features and label."""
        return Preprocessing(self.transform_output, without=[self.pixels.column] if self.pixels else ())

    @functools.cached_property
    def pixels(self) -> Pixels | None:
        """What becomes of the column of images, if there is one."""
        return beside_transform(self.features, model=self.model, max_pixels=self.fn_args.custom_config["max_pixels"])


def fit_model(work: Work, train: Rows, validation: Rows, folder: Path | None, *, load_seconds: float) -> Fitted:
    """Fit what `model.kind` says. With pictures, rows in files, or several workers, `auto` is a network.

    Args:
        work: What is fitted. Its `watch` is not called if `auto` fits trees as well as a network.
        train: rows of training.
        validation: rows by which training stops.
        folder: The folder of the checkpoint; None: none is written.
        load_seconds: The seconds that loading the rows took.

    Returns:
        The best model, by the validation rows.

    Raises:
        TrainingError: the loss is not a number, or trees were asked for and the rows are not in memory.
    """
    kind = work.model.kind
    network = functools.partial(_fit_network, work, train, validation, folder, load_seconds=load_seconds)
    if kind not in ("trees", "auto"):
        return network()
    if isinstance(train, ImageRows) or isinstance(validation, ImageRows):
        alone = "Model: network. Trees are left out: they take no pictures."
    elif kind == "auto" and work.training.distribution is not None:
        alone = "Model: network. Trees are left out: training.distribution is of a network."
    elif kind == "auto" and (train.arrays is None or validation.arrays is None):
        alone = "Model: network. Trees are left out: the rows take more than training.cache_bytes."
    else:
        return _fit_trees(work, train, validation, folder, load_seconds=load_seconds)
    fitted = network()
    return Fitted(fitted.model, fitted.history | {"alone": alone})


def _fit_trees(
    work: Work, train: TrainingRows, validation: TrainingRows, folder: Path | None, *, load_seconds: float
) -> Fitted:
    """Fit trees, and for `auto` also a network. Then nothing is watched, since its epochs are not rounds."""
    if work.model.kind == "auto":
        work = replace(work, watch=None)
    for tag, columns in work.features.by_type.items():
        known_types.type_of(tag).check_trees(work.transform_output, columns, config=work.features_config)
    trees = fit_trees(
        train,
        validation,
        work.transform_output.transformed_feature_spec(),
        features=work.features,
        config=work.model.trees,
        training=work.training,
        log_folder=Path(work.fn_args.model_run_dir),
        watch=work.watch,
    )
    if work.model.kind == "trees":
        return trees
    network = _fit_network(work, train, validation, folder, load_seconds=load_seconds)
    return choose(network, trees, validation, is_classifier=bool(work.features.classes))


def _fit_network(work: Work, train: Rows, validation: Rows, folder: Path | None, *, load_seconds: float) -> Fitted:
    """Fit a network, or several whose mean is the model."""

    def fit_one(own: Work, place: Path | None) -> Fitted:
        with own.team.strategy.scope():
            return _fit_in_scope(own, train, validation, place, load_seconds=load_seconds)

    if work.model.num_networks == 1:
        return fit_one(work, folder)
    batch_size = VALIDATION_IMAGES if work.pixels else VALIDATION_ROWS
    return fit_ensemble(work, fit_one, folder, validation.validation_batches(batch_size))


@dataclass(frozen=True)
class _Onlookers:
    """Those who follow the training of a network."""

    folder: Path | None
    """Folder of the checkpoint."""
    recorder: TrainingRecorder
    watched: Sequence[keras.callbacks.Callback]


def _fit_in_scope(work: Work, train: Rows, validation: Rows, folder: Path | None, *, load_seconds: float) -> Fitted:
    with_members = _build(work, train)
    warm_start = start_from_served(work, with_members)
    model = averaged(with_members)
    model.summary(print_fn=logging.info)
    trained: TrainedModel
    if work.pixels and isinstance(train, ImageRows):
        trained = work.pixels.trained(model, work.training, num_classes=len(work.features.classes), team=work.team)
    else:
        steps = train.num_steps(work.training.batch_size)
        trained = TrainedTable.of(
            with_members,
            steps_per_call=1 if work.training.callbacks else STEPS_PER_CALL,  # the user's may want to know of each
            average_steps=work.training.average_epochs * steps,
            team=work.team,
        )
    recorder = TrainingRecorder(work.log_folder)
    watched = [Watched(work, model, validation)] if work.watch else []
    onlookers = _Onlookers(folder, recorder, watched)
    history, best_epoch = _train(trained, model, train, validation, work, onlookers)
    document = history_document(
        history,
        recorder,
        model.layers,
        training=work.training,
        best_epoch=best_epoch,
        num_rows=train.num_rows,
        optimizer=type(trained.optimizer).__name__,
    )
    if work.training.distribution is not None:
        document["team"] = {"strategy": work.training.distribution.strategy, **work.team.describe()}
    if warm_start is not None:
        document["warm_start"] = warm_start
    if isinstance(train, ImageRows):
        document["input"] = describe_input(train, trained, load_seconds=load_seconds)
    return Fitted(model, document)


def load(work: Work) -> tuple[Rows, Rows]:
    """Return the rows of training and validation; where a column has images, with them.

    Args:
        work: that needs them.

    Raises:
        DataError: all rows weigh 0.
        TrainingError: the disk has no room for rows that are more than `training.cache_bytes`.
    """
    cache_bytes = work.training.cache_bytes
    scratch = Path(work.fn_args.model_run_dir)  # removed with the artifact where the training is killed
    scratch.mkdir(parents=True, exist_ok=True)
    splits = files_in(*work.fn_args.train_files), files_in(*work.fn_args.eval_files)
    if work.pixels is None:
        train, validation = (
            load_rows(
                files,
                work.preprocessing,
                cache_bytes=cache_bytes,
                scratch=scratch,
                weight=work.features.weight,
                team=work.team,
            )
            for files in splits
        )
        return (WorkerRows(**vars(train)) if work.team.is_asynchronous else train), validation
    found: list[ImageRows] = []
    for files in splits:
        others = dict(load_rows(files, work.preprocessing, cache_bytes=sys.maxsize, scratch=scratch).arrays or {})
        labels = others.pop(LABEL).reshape(-1)
        left = cache_bytes - sum(rows.decoded_bytes for rows in found if rows.pixels is not None)
        load = functools.partial(work.pixels.load, cache_bytes=max(left, 0), team=work.team)
        found.append(load(files, labels=labels, features=others))
    return found[0], found[1]


def _build(work: Work, train: Rows) -> keras.Model:
    """Return the untrained network of the config with its head; what is computed from the training rows is set."""
    module = importlib.import_module(work.model.module or DEFAULT_MODULE)
    classes = work.features.classes
    model = work.model.model_copy(update={"members": 1}) if work.pixels else work.model
    model = sized(model, train.sample, num_rows=train.num_rows)
    with precision(work.training):
        network = module.build_model(
            work.transform_output, model=model, features=work.features_config, num_outputs=len(classes) or 1
        )
        fit_layers(network, train.sample)
        return with_head(network, labels=train.labels, is_classifier=bool(classes))


def _train(
    trained: TrainedModel,
    model: keras.Model,
    train: Rows,
    validation: Rows,
    work: Work,
    onlookers: _Onlookers,
) -> tuple[dict[str, list[float]], int]:
    """Return the history of all phases, and the number of the best epoch of the last."""
    progress = read_progress(onlookers.folder)
    history: dict[str, list[float]] = {}
    best_epoch = 0
    for phase in phases_of(work.training)[progress.phase if progress else 0 :]:
        if phase.number == 1 and work.pixels and work.training.fine_tune:
            work.pixels.unfreeze(model, work.training.fine_tune)
        best_epoch = _train_phase(trained, train, validation, phase, work, history, onlookers)
    return history, best_epoch


def _train_phase(
    trained: TrainedModel,
    train: Rows,
    validation: Rows,
    phase: Phase,
    work: Work,
    history: dict[str, list[float]],
    onlookers: _Onlookers,
) -> int:
    """Train until the phase's last epoch, or until it stops early; the number of its best epoch in the history."""
    training = phase.training
    is_classifier = bool(work.features.classes)
    has_one_hot_labels = is_classifier and isinstance(trained, TrainedNetwork)
    steps = train.num_steps(training.batch_size)
    compile_model(
        trained,
        training,
        labels=train.labels,
        num_steps=steps * phase.epochs,
        is_classifier=is_classifier,
        has_one_hot_labels=has_one_hot_labels,
    )
    stopping = early_stopping(training)
    is_averaged = isinstance(trained, TrainedTable) and training.average_epochs > 0
    averages = [AveragedWeights()] if is_averaged else []
    others = [stopping, *schedule_callbacks(training)]
    checkpoint = Checkpoint(
        onlookers.folder,
        phase=phase.number,
        seconds=training.checkpoint_seconds,
        others=[*averages, *others],
        history=history,
        team=work.team,
    )
    progress = checkpoint.restore(trained)
    done = progress.epoch if progress else 0
    before = len(history.get("loss", [])) - done
    recorder = onlookers.recorder
    recorder.epochs_before = before + done - len(recorder.learning_rates)
    first_step = progress.step if progress else 0
    if progress:
        logging.info("Going on after epoch %d of phase %d, and %d steps.", done, phase.number + 1, first_step)
    last = done if progress and progress.is_over else phase.epochs
    offset = phase.number * 1_000_000  # other orders than in the first phase
    if last == done:  # killed between the last epoch and what comes after it
        checkpoint.on_train_begin()
        trained.set_weights(stopping.best_weights)
        return before + int(stopping.best_epoch) + 1
    epochs = range(offset + done, offset + last)
    batches = train.shuffled_batches(training.batch_size, seed=training.seed, epochs=epochs, first_step=first_step)
    row_weights = train.weights if isinstance(train, TrainingRows) else None
    if by_class := class_weights(training, train.labels, classes=work.features.classes, row_weights=row_weights):
        batches = weighted_by_class(batches, by_class)
    work.team.vary_seeds(trained.changing_variables)
    fit(
        trained,
        batches,
        validation.validation_batches(validation_batch(work)),
        epochs=range(done, last),
        steps=steps,
        callbacks=[
            keras.callbacks.TerminateOnNaN(),
            *averages,
            *others,
            *own_callbacks(training),
            recorder,
            checkpoint,
            *onlookers.watched,
        ],
        first_step=first_step,
    )
    check_finite(history, training)
    return before + int(stopping.best_epoch) + 1


def validation_batch(work: Work) -> int:
    """Return the number of rows per batch of validation.

    Args:
        work: what is fitted.
    """
    return VALIDATION_IMAGES if work.pixels else max(work.training.batch_size, VALIDATION_ROWS)


class Watched(keras.callbacks.Callback):
    """Calls the watch of a `Work` after each epoch.

    Args:
        work: whose watch is called.
        model: from features to what is predicted.
        validation: rows that are predicted.
    """

    def __init__(self, work: Work, model: keras.Model, validation: Rows) -> None:
        super().__init__()
        self._work, self._predict = work, functools.partial(predicted, model, validation, validation_batch(work))
        self._epochs = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Call the watch, while the weights are those that would be kept."""
        self._epochs += 1
        if self._work.watch is not None:
            self._work.watch(self._epochs, self._predict)


def predicted(model: keras.Model, rows: Rows, batch_size: int) -> Array:
    """Return what a model says of rows, (rows, outputs) in their order.

    Args:
        model: from features to probabilities (batch, classes), or values (batch, 1).
        rows: to predict.
        batch_size: The number of rows that are predicted at once.
    """
    batches, steps = rows.validation_batches(batch_size)
    return np.concatenate([model.predict_on_batch(batch[0]) for batch in batches.take(steps)])

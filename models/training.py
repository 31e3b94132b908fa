"""Training: TFX's run_fn, from transformed examples to a SavedModel.

What is fitted is models/fitting.py's; what is written is models/export.py's.
"""

import functools
import json
import time
from pathlib import Path

import keras
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.artifacts import HISTORY
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import TrainingError
from kubetfx.models.calibration import calibrate
from kubetfx.models.devices import prepare_devices
from kubetfx.models.examples import files_in, first_rows
from kubetfx.models.export import export_model
from kubetfx.models.fitting import Work, fit_model, load, validation_batch
from kubetfx.models.stored_weights import with_rounded_weights
from kubetfx.models.team import Team
from kubetfx.models.training_checkpoint import checkpoint_folder, discard
from kubetfx.models.training_launch import launch
from kubetfx.models.tuned_settings import settings_of, with_settings


def run_fn(fn_args: FnArgs) -> None:
    """Train and export, for TFX's Trainer: in this process, or in those of `training.distribution`.

    Beside the SavedModel the history of the training is written as history.json, and for TensorBoard into the folder of
    the run.

    Args:
        fn_args: its `custom_config` holds the sections `model`, `features` and `training` of the config, `warmup_rows`
            of `serving`, `max_pixels` of `data` and, where they are asked for, `calibrate` of `evaluation` and
            `weights` of `serving`; and `is_served: False` where clients will not ask the model. Its `hyperparameters`,
            of a Tuner, are put over them.

    Raises:
        TrainingError: trees were asked for, and a column has pictures.
    """
    if fn_args.hyperparameters:
        fn_args.custom_config = with_settings(fn_args.custom_config, settings_of(fn_args.hyperparameters))
    training = TrainingConfig.model_validate(fn_args.custom_config["training"])
    if training.distribution is None:
        prepare_devices(training)
        train(fn_args, training, Team())
    else:
        launch(fn_args, training.distribution)


def train(fn_args: FnArgs, training: TrainingConfig, team: Team) -> None:
    """Train as one of a team, and export as its chief.

    Args:
        fn_args: see `run_fn`.
        training: the section of the config.
        team: who trains.

    Raises:
        TrainingError: trees or parameter servers were asked for, and a column has pictures.
    """
    if training.distribution is not None and training.distribution.scale_learning_rate:
        scaled = {
            "batch_size": training.batch_size * team.replicas,
            "learning_rate": training.learning_rate * team.replicas,
        }
        training = training.model_copy(update=scaled)
    work = Work.of(fn_args, training, team)
    if work.pixels and team.is_asynchronous:
        raise TrainingError(
            "training.distribution: parameter servers are for tables without pictures. Received: the column "
            f"{work.pixels.column!r}. Take strategy: multi_worker or mirrored, or put the column into data.drop."
        )
    if work.pixels and "weights" in fn_args.custom_config:
        raise TrainingError(
            "serving.weights rounds the weights of models that see no pictures. Received: serving.weights: "
            f"{fn_args.custom_config['weights']}, and the column {work.pixels.column!r} of pictures. Leave "
            "serving.weights out, or put the column into data.drop."
        )
    make_repeatable(training.seed, team)
    started = time.perf_counter()
    rows, validation = load(work)
    load_seconds = time.perf_counter() - started
    folder = checkpoint_folder(fn_args, work.training, f"{rows.digest} {validation.digest}")
    fitted = fit_model(work, rows, validation, folder, load_seconds=load_seconds)
    if not team.is_chief:
        return
    batches = functools.partial(validation.validation_batches, validation_batch(work))
    if "weights" in fn_args.custom_config:
        fitted = with_rounded_weights(fitted, fn_args.custom_config["weights"], batches())
    if fn_args.custom_config.get("calibrate"):
        fitted = calibrate(fitted, batches())

    serving_path = Path(fn_args.serving_model_dir)
    is_served = fn_args.custom_config.get("is_served", True)
    export_model(
        fitted.model,
        work.preprocessing,
        work.features,
        serving_path,
        pixels=work.pixels,
        warmup_rows=first_rows(
            files_in(*fn_args.train_files), fn_args.custom_config["warmup_rows"], work.features.inputs
        )
        if is_served
        else None,
        is_served=is_served,
    )
    text = json.dumps(fitted.history, default=float, indent=1)
    (serving_path.parent / HISTORY).write_text(text)
    run_path = Path(fn_args.model_run_dir)
    run_path.mkdir(parents=True, exist_ok=True)
    (run_path / HISTORY).write_text(text)
    discard(folder)


def make_repeatable(seed: int, team: Team) -> None:
    """Have everything that follows depend on the seed alone, as far as the team lets it.

    Args:
        seed: The seed of the training.
        team: who trains.
    """
    keras.utils.set_random_seed(seed)
    if not team.is_asynchronous:
        tf.config.experimental.enable_op_determinism()

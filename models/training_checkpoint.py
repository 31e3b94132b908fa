"""Where a training is, written now and then: a training that was killed goes on from there, to the same weights.

A checkpoint holds every number that the rest of the training depends on: weights, the optimizer's state, the states of
random generators, the metrics of the epoch, and what the callbacks remember.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.arrays import Array
from kubetfx.artifacts import PUSH_RECORD
from kubetfx.code_digest import code_digest
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.team import Team

STATE = "state.npz"
_ATTRIBUTES = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
"""What early stopping and the learning-rate schedule count; they start again with each phase."""
_WEIGHTS = ("best_weights", "weights")
"""What early stopping keeps, and AveragedWeights between a validation and the next epoch."""
_AFTER_TRAINING = frozenset({"warmup_rows", "calibrate", "weights"})
"""What a Trainer's `custom_config` has for the export alone."""


@dataclass(frozen=True)
class Phase:
    """A part of a training, with a learning rate of its own."""

    number: int
    epochs: int
    training: TrainingConfig
    """With the learning rate and the epochs of the phase."""


def phases_of(training: TrainingConfig) -> list[Phase]:
    """Divide a training: one phase, or two where a backbone is fine-tuned.

    Args:
        training: the section of the config.

    Returns:
        The phases in order.
    """
    phases = [Phase(0, training.epochs, training)]
    if training.fine_tune is not None:
        changes = {"epochs": training.fine_tune.epochs, "learning_rate": training.fine_tune.learning_rate}
        phases.append(Phase(1, training.fine_tune.epochs, training.model_copy(update=changes)))
    return phases


@dataclass(frozen=True)
class Progress:
    """How far a training was."""

    phase: int
    epoch: int
    """Epochs of the phase that are done."""
    step: int
    """Steps of the next epoch that are done."""
    is_over: bool
    """Whether the phase stops here."""
    history: dict[str, list[float]] = field(default_factory=dict)
    """History of all phases."""


class Checkpoint(keras.callbacks.Callback):
    """Writes and restores checkpoints of one phase. It comes last in the list of callbacks.

    Args:
        folder: The folder of the checkpoint; None: nothing is written.
        phase: number of the phase.
        seconds: between two checkpoints, at least.
        others: callbacks whose counts and weights are kept.
        history: of the epochs before this phase; its epochs are added to it.
        team: whose chief writes. All of its processes have to see the folder.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        phase: int,
        seconds: float,
        others: Sequence[keras.callbacks.Callback],
        history: dict[str, list[float]],
        team: Team | None = None,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._phase = phase
        self._seconds = seconds
        self._others = others
        self.history = history
        self._team = team or Team()
        self._restored: dict[str, Any] | None = None
        self._epoch = 0
        self._written = time.monotonic()

    def restore(self, trained: Any) -> Progress | None:
        """Take up what was written for this phase.

        Args:
            trained: the compiled model; its `changing_variables` are what a checkpoint holds.

        Returns:
            How far the training was; None if nothing was written.
        """
        progress = read_progress(self._folder)
        if progress is None or progress.phase != self._phase or self._folder is None:
            return None
        with np.load(self._folder / STATE) as state:
            self._restored = {name: state[name] for name in state.files}
        counted = {id(variable) for variable in trained.metrics_variables}
        for index, variable in enumerate(trained.changing_variables):
            value = _to_dtype(self._restored[f"variable_{index}"], variable.dtype)
            if id(variable) in counted and not self._team.is_chief:  # what the team counted is the sum of its processes
                value = value * 0
            variable.assign(value)
        self.history.clear()
        self.history.update(progress.history)
        return progress

    def on_train_begin(self, logs: Any = None) -> None:
        """The other callbacks have begun again by now."""
        if self._restored is None:
            return
        for number, callback in enumerate(self._others):
            kept = json.loads(str(self._restored[f"callback_{number}"]))
            for name, value in kept.items():
                setattr(callback, name, value)
            for name in _WEIGHTS:
                prefix = f"{name}_{number}_"
                if found := sum(key.startswith(prefix) for key in self._restored):
                    setattr(callback, name, [self._restored[f"{prefix}{index}"] for index in range(found)])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note which epoch the steps are of."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write where the training is, if that was long ago."""
        if self._folder is not None and self._is_time():
            self._write(self._folder, Progress(self._phase, self._epoch, batch + 1, False, self.history))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write where the training is, if that was long ago or the epochs are over."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        if self._folder is None:
            return
        is_over = bool(self.model.stop_training)
        if is_over or self._is_time():
            self._write(self._folder, Progress(self._phase, epoch + 1, 0, is_over, self.history))

    def _is_time(self) -> bool:
        return self._team.agree(time.monotonic() - self._written >= self._seconds)

    def _write(self, folder: Path, progress: Progress) -> None:
        state: dict[str, Any] = {}
        for index, variable in enumerate(self.model.changing_variables):
            state[f"variable_{index}"] = _from_dtype(tf.convert_to_tensor(variable).numpy())
        for number, callback in enumerate(self._others):
            kept = {name: getattr(callback, name) for name in _ATTRIBUTES if hasattr(callback, name)}
            state[f"callback_{number}"] = json.dumps(kept, default=float)
            for name in _WEIGHTS:
                for index, weights in enumerate(getattr(callback, name, None) or ()):
                    state[f"{name}_{number}_{index}"] = np.asarray(weights)
        self._written = time.monotonic()
        if not self._team.is_chief:  # it was asked for its part of the sums
            return
        state["progress"] = json.dumps(asdict(progress))
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{STATE}.partial"
        with partial.open("wb") as file:
            np.savez(file, **state)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(folder / STATE)


def read_progress(folder: Path | None) -> Progress | None:
    """Return how far a training was that left a checkpoint; None if there is none.

    Args:
        folder: The folder of the checkpoint.
    """
    if folder is None or not (folder / STATE).is_file():
        return None
    with np.load(folder / STATE) as state:
        return Progress(**json.loads(str(state["progress"])))


def discard(folder: Path | None) -> None:
    """Remove the checkpoint of a training that is over.

    Args:
        folder: The folder of the checkpoint; None: there was none.
    """
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _from_dtype(array: Array) -> Array:
    """NumPy has no file format for bfloat16; as float32 it keeps its value."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _to_dtype(array: Array, dtype: str) -> Any:
    return keras.ops.cast(array, dtype) if dtype == "bfloat16" else array


def checkpoint_folder(fn_args: FnArgs, training: TrainingConfig, data_digest: str) -> Path | None:
    """Choose a folder for this data, config, code and served model, where the next try of this training looks, too.

    The artifacts of a try that was killed are deleted, so it is beside them; in a cluster they are gone with the pod.

    Args:
        fn_args: The `fn_args` of the Trainer. All of its `custom_config` counts that a training depends on: the
            sections, and the digests of the user's own code and of a pretrained encoder.
        training: the section of the config.
        data_digest: changes with the rows.

    Returns:
        None: there is no place beside the artifacts.
    """
    run_path = Path(fn_args.model_run_dir)
    if training.checkpoint_directory is not None:
        base = Path(training.checkpoint_directory)
    elif run_path.parent.name == "model_run":
        base = run_path.parent.parent / "checkpoints"
    else:
        return None
    custom_config: Mapping[str, Any] = fn_args.custom_config
    config = {key: value for key, value in custom_config.items() if key not in _AFTER_TRAINING}
    config["training"] = {key: value for key, value in config["training"].items() if not key.startswith("checkpoint_")}
    code = code_digest(("models",))  # with the versions of the libraries
    parts = [json.dumps(config, sort_keys=True), data_digest, code, _served(fn_args.base_model)]
    return base / hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _served(base_model: str | None) -> str:
    """Return what tells the model of a warm start from others, wherever it lies; "" if there is none."""
    record = Path(base_model or "") / PUSH_RECORD
    return record.read_text(encoding="utf-8") if base_model and record.is_file() else ""

"""A training that was killed goes on where it was, in the middle of an epoch too, to the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.artifacts import PUSH_RECORD
from kubetfx.code_digest import code_digest
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models import stored_rows, training_checkpoint, training_loop
from kubetfx.models.optimization import compile_model
from kubetfx.models.stored_rows import StoredRows
from kubetfx.models.table_training import AveragedWeights, TrainedTable
from kubetfx.models.training_checkpoint import Checkpoint, checkpoint_folder
from kubetfx.models.training_rows import TrainingRows

ROWS, BATCH, STEPS, EPOCHS = 200, 16, 13, 3


class KilledError(Exception):
    """In place of a signal."""


class Killer(keras.callbacks.Callback):
    """Ends the training in the middle of an epoch, or after its validation."""

    def __init__(self, epoch: int, step: int | None) -> None:
        super().__init__()
        self._at = epoch, step
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None) -> None:
        if (self._epoch, batch) == self._at:
            raise KilledError

    def on_epoch_end(self, epoch, logs=None) -> None:
        if (epoch, None) == self._at:
            raise KilledError


@pytest.fixture
def rows(request, tmp_path, monkeypatch) -> TrainingRows:
    monkeypatch.setattr(stored_rows, "BLOCK_ROWS", 32)
    monkeypatch.setattr(stored_rows, "BUFFER_BYTES", 2_000)
    random = np.random.default_rng(0)
    numbers = random.normal(size=(ROWS, 3)).astype(np.float32)
    arrays = {"numeric": numbers, "label": (numbers @ [1, -1, 2] > 0).astype(np.int64)}
    if request.param == "in memory":
        return TrainingRows(ROWS, arrays["label"], arrays, sample=arrays)
    stored = StoredRows(tmp_path, ROWS, arrays)
    stored.append(arrays)
    stored.flush()
    return TrainingRows(ROWS, arrays["label"], None, stored, sample=arrays)


def train(rows: TrainingRows, folder: Path | None, *others: keras.callbacks.Callback) -> tuple[TrainedTable, dict]:
    """As models/training.py does."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,), name="numeric")
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, "relu")(inputs))
    model = keras.Model({"numeric": inputs}, keras.layers.Dense(2, "softmax")(hidden))
    trained = TrainedTable.of(model, steps_per_call=5, average_steps=2 * STEPS)
    training = TrainingConfig(learning_rate=0.01, epochs=EPOCHS, batch_size=BATCH)
    compile_model(trained, training, labels=rows.labels, num_steps=1_000, is_classifier=True, has_one_hot_labels=False)
    kept = [AveragedWeights(), keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True)]
    history: dict[str, list[float]] = {}
    checkpoint = Checkpoint(folder, phase=0, seconds=0, others=kept, history=history)
    progress = checkpoint.restore(trained)
    first_epoch, first_step = (progress.epoch, progress.step) if progress else (0, 0)
    training_loop.fit(
        trained,
        rows.shuffled_batches(BATCH, seed=5, epochs=range(first_epoch, EPOCHS), first_step=first_step),
        rows.validation_batches(BATCH),
        epochs=range(first_epoch, EPOCHS),
        steps=STEPS,
        callbacks=[*kept, checkpoint, *others],
        first_step=first_step,
    )
    return trained, history


@pytest.mark.parametrize(("rows", "at"), [("in memory", (0, None)), ("in files", (1, 9))], indirect=["rows"], ids=str)
def test_a_killed_training_ends_with_the_very_weights_and_history(rows, tmp_path, at):
    expected, expected_history = train(rows, None)
    folder = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        train(rows, folder, Killer(*at))

    found, history = train(rows, folder)

    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == expected_history


def folder_of(
    tmp_path: Path,
    *,
    encoder: dict | None = None,
    base_model: Path | None = None,
    training: dict | None = None,
    **others,
) -> Path | None:
    """The folder of a training in a workspace."""
    section = TrainingConfig(**(training or {}))
    custom_config = {
        "model": ModelConfig().model_dump(mode="json"),
        "features": FeaturesConfig(text_encoder=encoder or {}).model_dump(mode="json"),
        "training": section.model_dump(mode="json"),
        "max_pixels": 10_000,
        "warmup_rows": 3,
        **others,
    }
    run = str(tmp_path / "Trainer" / "model_run" / "1")
    args = FnArgs(model_run_dir=run, custom_config=custom_config, base_model=str(base_model) if base_model else None)
    return checkpoint_folder(args, section, "digest of the rows")


def test_folder_stays_where_only_the_export_or_the_checkpoints_change(tmp_path):
    folder = folder_of(tmp_path)

    assert folder is not None
    assert folder.parent == tmp_path / "Trainer" / "checkpoints"
    assert folder == folder_of(tmp_path, warmup_rows=9, calibrate=True, weights="int8")
    assert folder == folder_of(tmp_path, training={"checkpoint_seconds": 9})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"encoder": {"kind": "bag", "size": 8}}, {"encoder": {"kind": "fasttext", "size": 16}}),
        ({"encoder": {"kind": "bag", "size": 8}}, {"encoder": {"kind": "fasttext", "size": 8}}),
        ({"module_digest": "of a module"}, {"module_digest": "of it after an edit"}),
        ({"training_digest": "of a loss"}, {"training_digest": "of it after an edit"}),
        ({"encoder_state": "of a folder"}, {"encoder_state": "of another one"}),
        ({"training": {"learning_rate": 0.1}}, {"training": {"learning_rate": 0.2}}),
    ],
    ids=["sizes", "kinds of one size", "module", "loss", "encoder", "training"],
)
def test_folder_changes_with_what_decides_the_weights(tmp_path, one, other):
    assert folder_of(tmp_path, **one) == folder_of(tmp_path, **one)
    assert folder_of(tmp_path, **one) != folder_of(tmp_path, **other)


def test_folder_changes_with_the_code(tmp_path, monkeypatch):
    before = folder_of(tmp_path)
    monkeypatch.setattr(training_checkpoint, "code_digest", lambda folders: f"of {folders} after an upgrade")

    assert folder_of(tmp_path) != before


def test_folder_changes_with_the_version_of_a_warm_start_wherever_it_lies(tmp_path):
    for place, version in (("served", 1), ("copy", 1), ("next", 2)):
        record = tmp_path / place / PUSH_RECORD
        record.parent.mkdir(parents=True)
        record.write_text(f'{{"version": {version}}}')
    served, copy, following = (folder_of(tmp_path, base_model=tmp_path / place) for place in ("served", "copy", "next"))

    assert served == copy
    assert len({folder_of(tmp_path), served, following}) == 3


def test_digest_of_the_code_is_that_of_any_process():
    command = "from kubetfx.code_digest import code_digest; print(code_digest(('models',)))"

    printed = {
        subprocess.run(
            [sys.executable, "-c", command], capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }

    assert printed == {f"{code_digest(('models',))}\n".encode()}

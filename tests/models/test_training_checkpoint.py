"""A training that was killed goes on where it was, in the middle of an epoch too, to the same weights."""

from pathlib import Path

import keras
import numpy as np
import pytest

from kubetfx.config.training_section import TrainingConfig
from kubetfx.models import stored_rows, training_loop
from kubetfx.models.optimization import compile_model
from kubetfx.models.stored_rows import StoredRows
from kubetfx.models.table_training import AveragedWeights, TrainedTable
from kubetfx.models.training_checkpoint import Checkpoint
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

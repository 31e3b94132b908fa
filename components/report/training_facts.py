"""Facts about the training: history.json of the Trainer, and a diagnosis of its curves."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from kubetfx.artifacts import HISTORY
from kubetfx.components.report.facts import Training

RISE = 0.01
"""Share by which the validation loss has to rise after its best epoch to be called overfitting."""
GAP = 1.5
"""How many times the training loss the validation loss may be at the best epoch."""
LATE = 0.2
"""Share of the epochs, the last ones, in which a best epoch says that more of them may be better."""
STILL_FALLING = 0.02
"""Share by which the validation loss falls over the last fifth of the epochs, where more of them would help."""
_ADVICE = {
    "network": (
        "More epochs (training.epochs) or a higher training.learning_rate",
        "More dropout, fewer hidden units",
    ),
    "trees": (
        "More rounds (model.trees.num_iterations) or a higher model.trees.learning_rate",
        "Fewer leaves (model.trees.num_leaves), a lower model.trees.learning_rate",
    ),
}
"""By the kind of the model: what helps against underfitting, and against overfitting."""


def read(model_folder: Path) -> Training | None:
    """Return the training of a model artifact; None where it has no history.

    Args:
        model_folder: The folder of the model artifact.
    """
    path = model_folder / HISTORY
    if not path.is_file():
        return None
    return _diagnosed(Training.model_validate(json.loads(path.read_text(encoding="utf-8"))))


def _diagnosed(training: Training) -> Training:
    beside = _diagnosed(training.beside) if training.beside else None
    diagnosis = " ".join(filter(None, [cut_short(training), diagnose(training)]))
    return training.model_copy(update={"diagnosis": diagnosis, "beside": beside})


def cut_short(training: Training) -> str | None:
    """Explain that a training ended by the number of epochs rather than by early stopping.

    Args:
        training: with its history.

    Returns:
        A sentence with what to change; None: early stopping ended it or was off, or the best epoch is long past.
    """
    best = training.best_epoch or 0
    if not training.may_stop_early or training.stopped_early or best <= (1 - LATE) * training.epochs:
        return None
    return (
        f"Training ended because training.epochs is {training.epochs}, and not because the validation loss no longer "
        f"fell: it was lowest in epoch {best}. Raise training.epochs; early stopping ends the training in time."
    )


def diagnose(training: Training) -> str:
    """Return a diagnosis of the loss curves, over- or underfitting, as a sentence.

    Args:
        training: with its history.
    """
    unit = training.unit
    more, less = _ADVICE[training.kind]
    losses, validation = training.history.get("loss", []), training.history.get("val_loss", [])
    if len(validation) < 2 or not all(map(math.isfinite, [*losses, *validation])):
        return f"Too few {unit}s with a finite loss to tell over- from underfitting."
    lowest_epoch = min(range(len(validation)), key=validation.__getitem__)
    best = training.best_epoch - 1 if training.best_epoch else lowest_epoch  # of the last phase
    lowest = validation[best]
    rise = validation[-1] / lowest - 1 if lowest > 0 else 0.0
    if rise > RISE and losses[-1] < losses[best]:
        return (
            f"Overfitting after {unit} {best + 1}: the training loss goes on falling to {losses[-1]:.3g} while the "
            f"validation loss rises from {lowest:.3g} to {validation[-1]:.3g}. The "
            f"{'weights' if training.kind == 'network' else 'trees'} of {unit} {best + 1} are kept."
        )
    if _still_falls(validation) and best == len(validation) - 1:
        return (
            f"Underfitting rather than overfitting: the validation loss, {lowest:.3g}, is still falling in the last "
            f"{unit}. {more} would lower it further."
        )
    if losses[best] > 0 and lowest / losses[best] > GAP:
        return (
            f"Some overfitting: at the best {unit} the validation loss, {lowest:.3g}, is {lowest / losses[best]:.1f} "
            f"times the training loss, {losses[best]:.3g}. {less} or more rows would close the gap."
        )
    return (
        f"Neither: the validation loss levels out at {lowest:.3g} beside a training loss of {losses[best]:.3g}. "
        "Overfitting would show as a validation loss that rises while the other falls, underfitting as two that still "
        "fall at the end."
    )


def _still_falls(validation: Sequence[float]) -> bool:
    last = max(len(validation) // 5, 1)
    before = validation[-last - 1]
    return before > 0 and 1 - validation[-1] / before > STILL_FALLING

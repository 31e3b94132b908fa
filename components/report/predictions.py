"""Predictions of the exported model for a sample of the evaluation split, in the same session as in serving.

Also the permutation importance of its columns, which predicts repeatedly.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from absl import logging

from kubetfx.arrays import Array
from kubetfx.artifacts import PIXELS
from kubetfx.components.evaluation.classification import row_cross_entropies
from kubetfx.components.evaluation.regression import row_errors
from kubetfx.components.evaluation.row_sample import Sample
from kubetfx.components.report.facts import Importance
from kubetfx.models.features import LABEL
from kubetfx.models.row_weights import weights_of

if TYPE_CHECKING:
    from kubetfx.models.asked_model import AskedModel  # it imports TensorFlow

PREDICT_BATCH = 1_024
PREDICT_SECONDS = 30.0
"""Seconds after which no more rows are predicted, since a network may be large."""
SHUFFLED_ROWS = 8_192
"""Rows of the shuffled copies that are predicted together."""
IMPORTANCE_ROWS = 2_000
"""Rows at most that columns are shuffled in."""
FEWEST_IMPORTANCE_ROWS = 200
IMPORTANCE_PREDICTIONS = 200_000
"""Predictions that all importances together may take, as long as each has its fewest rows."""
IMPORTANCE_REPETITIONS = 3
IMPORTANCE_SECONDS = 20.0
"""Time after which the remaining columns are left without importance."""


@dataclass(frozen=True)
class Predictions:
    """Labels and outputs for the rows of a sample."""

    classes: tuple[str, ...]
    """Empty for a regression."""
    labels: Array
    """(rows,) int64 index of the class, or float64 number."""
    outputs: Array
    """(rows, classes) float64 probabilities, or (rows,) float64 values."""
    known: Array
    """(sample rows,) bool: rows whose label is a class or a number. The others are left out of labels and outputs."""
    weights: Array
    """(rows,) float64, how often each row counts."""
    features: Mapping[str, Array] = field(default_factory=dict)
    """What preprocessing makes of the first rows of the sample, known or not, each (rows, ...); IMPORTANCE_ROWS of
    them or more, where the sample has as many. Empty for a network that has none."""

    def of(self, rows: Array) -> "Predictions":
        """Return those of some of the rows.

        Args:
            rows: their positions, (some,) int64.
        """
        return Predictions(self.classes, self.labels[rows], self.outputs[rows], self.known, self.weights[rows])


def predict(
    model: "AskedModel", rows: pa.RecordBatch, *, weight: str | None = None, seconds: float = PREDICT_SECONDS
) -> Predictions:
    """Ask a model for rows of examples.

    Args:
        model: to ask.
        rows: The rows of a sample.
        weight: the column that says how often a row counts; None: each counts once.
        seconds: time after which no more are predicted.

    Returns:
        Labels and outputs.
    """
    labels, outputs, kept = [], [], []
    deadline = time.monotonic() + seconds
    for start in range(0, rows.num_rows, PREDICT_BATCH):
        if start and time.monotonic() > deadline:
            logging.warning("Within %g s %d of %d rows were predicted.", seconds, start, rows.num_rows)
            break
        batch = rows.slice(start, PREDICT_BATCH)
        if model.has_features:
            features = model.features(batch)
            labels.append(features.pop(LABEL).reshape(-1))
            outputs.append(model.outputs(features))
            if start < IMPORTANCE_ROWS and PIXELS not in features:
                kept.append(features)
        else:
            own, answers, _ = model.ask(batch)
            labels.append(own)
            outputs.append(answers)
    features = {name: np.concatenate([batch[name] for batch in kept]) for name in (kept[0] if kept else ())}
    weights = weights_of(rows, weight)
    return _known(np.concatenate(labels), np.concatenate(outputs), weights, features, model.facts.classes)


def _known(
    labels: Array, outputs: Array, weights: Array, features: Mapping[str, Array], classes: tuple[str, ...]
) -> Predictions:
    labels, outputs = labels.astype(np.int64 if classes else np.float64), outputs.astype(np.float64)
    known = labels >= 0 if classes else np.isfinite(labels)
    known &= np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    everywhere = np.zeros(len(weights), bool)
    everywhere[: len(known)] = known
    return Predictions(classes, labels[known], outputs[known], everywhere, weights[everywhere], features)


def row_losses(labels: Array, outputs: Array) -> Array:
    """Return the loss of each row, (rows,): cross entropy, or the squared error.

    Args:
        labels: (rows,) index of the class, or number.
        outputs: (rows, classes) probabilities, or (rows,) values.
    """
    if outputs.ndim == 1:
        return np.square(row_errors(labels, outputs))
    return row_cross_entropies(labels, outputs)


Shuffle = Callable[[Sequence[str], int], Array]
"""Outputs for copies of the rows, in each of which one column is shuffled: (columns * repetitions * rows, ...)."""


def importance(
    model: "AskedModel",
    sample: Sample,
    predictions: Predictions,
    *,
    positions: Mapping[str, Sequence[tuple[str, int]]] | None,
    seed: int,
) -> tuple[list[Importance], int, int]:
    """Return how much worse the loss gets when a column's values are shuffled among the rows.

    Cross entropy for a classification, the root of the mean squared error for a regression. L. Breiman, "Random
    Forests", 2001, section 10; here on rows that the model was not trained on.

    Args:
        model: to ask.
        sample: rows of the evaluation split, in an order that is random.
        predictions: The predictions of these rows.
        positions: feature and dimension of it by column, where that is all that the column is used for; None: the
            model is asked for raw columns, which takes longer.
        seed: The seed of the shuffling.

    Returns:
        The importances, the largest first; the rows and the repetitions that they were measured with.
    """
    names = list(model.facts.inputs)
    known = np.flatnonzero(predictions.known)
    least = len(names) * FEWEST_IMPORTANCE_ROWS * IMPORTANCE_REPETITIONS
    is_slow = model.facts.image is not None
    repetitions = IMPORTANCE_REPETITIONS if least <= IMPORTANCE_PREDICTIONS and not is_slow else 1
    rows = 0 if is_slow else IMPORTANCE_PREDICTIONS // (len(names) * repetitions)
    generator = np.random.default_rng(seed)
    known = known[known < IMPORTANCE_ROWS][: int(np.clip(rows, FEWEST_IMPORTANCE_ROWS, IMPORTANCE_ROWS))]
    labels = predictions.labels[: len(known)]
    if positions is None:
        places = {name: [(model.facts.served_name(name), None)] for name in names}
        arrays = model.raw_columns(sample.rows.take(pa.array(known)))
        shuffle = _shuffle(arrays, places, model.outputs_of_columns, generator)
    else:
        arrays = {name: array[known] for name, array in predictions.features.items()}
        shuffle = _shuffle(arrays, positions, model.outputs, generator)
    before = _score(row_losses(labels, predictions.outputs[: len(known)]), predictions)
    found: list[Importance] = []
    deadline = time.monotonic() + IMPORTANCE_SECONDS
    for copies in _batches(names, max(SHUFFLED_ROWS // (len(labels) * repetitions), 1)):
        if time.monotonic() > deadline:
            logging.warning("No importance within %g s for %d columns.", IMPORTANCE_SECONDS, len(names) - len(found))
            break
        outputs = shuffle(copies, repetitions)
        losses = row_losses(np.tile(labels, len(copies) * repetitions), outputs)
        for name, own in zip(copies, losses.reshape(len(copies), repetitions, -1), strict=True):
            rises = np.array([_score(one, predictions) - before for one in own])
            found.append(Importance(column=name, value=float(rises.mean()), deviation=float(rises.std())))
    return sorted(found, key=lambda entry: (-entry.value, entry.column)), len(labels), repetitions


def _shuffle(
    arrays: Mapping[str, Array],
    places: Mapping[str, Sequence[tuple[str, int | None]]],
    ask: Callable[[Mapping[str, Array]], Array],
    generator: np.random.Generator,
) -> Shuffle:
    num_rows = len(next(iter(arrays.values())))

    def outputs(names: Sequence[str], repetitions: int) -> Array:
        copies = {key: np.concatenate([array] * (len(names) * repetitions)) for key, array in arrays.items()}
        for number, name in enumerate(name for name in names for _ in range(repetitions)):
            order = generator.permutation(num_rows)
            own = slice(number * num_rows, (number + 1) * num_rows)
            for key, dimension in places[name]:
                if dimension is None:
                    copies[key][own] = arrays[key][order]
                else:
                    copies[key][own, dimension] = arrays[key][order, dimension]
        return ask(copies).astype(np.float64)

    return outputs


def _score(losses: Array, predictions: Predictions) -> float:
    weights = predictions.weights[: len(losses)]
    mean = float(np.average(losses, weights=weights)) if weights.any() else math.nan
    return mean if predictions.classes else mean**0.5


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]

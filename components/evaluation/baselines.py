"""The baselines of a model: a constant, and a linear model.

Both are fitted to transformed training rows, whatever network or trees the candidate is, and evaluated beside it. The
constant predicts the average of the training rows for every row; the linear model is a ridge or a logistic regression
on the same features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import Run, run_in_threads
from kubetfx.components.evaluation.row_sample import draw
from kubetfx.models.asked_model import AskedModel
from kubetfx.models.features import LABEL, WEIGHT
from kubetfx.models.row_weights import weights_of

CONSTANT = "constant"
LINEAR = "linear"

TRAINING_ROWS = 20_000
"""Maximum number of training rows for the fit."""
FEWEST_ROWS = 500
FITTED_CELLS = 100_000_000
"""Maximum product of rows, dimensions and outputs: wide tables and many classes are fitted on fewer rows."""
CODES_OF_COLUMN = 64
"""Number of values of a category that the linear model distinguishes, the most frequent ones."""
VALUES_OF_SET = 1_000
"""Number of values of a list, or n-grams of a text, that the linear model uses, the most frequent ones."""
PENALTY = 1.0
"""Weight of the squared weights, compared with the sum over the rows."""
FEW_FILLED = 0.1
"""Share of non-zero cells of a matrix below which sparse products are used."""
ITERATIONS = 100
STEEPEST = 1e-4
"""Gradient of the mean loss per row, with respect to any weight, at which a fit stops."""
_BATCH = 8_192
_SEED = 0

Features = Mapping[str, Array]


class Baseline(Protocol):
    """A simple predictor. It can be pickled."""

    def predict(self, features: Features, num_rows: int) -> Array:
        """Return (rows, classes) probabilities, or (rows,) values.

        Args:
            features: The features of the candidate's network, each (rows, ...).
            num_rows: The number of rows of the features, where there are none.
        """


@dataclass(frozen=True)
class Constant(Baseline):
    """Predicts the same for every row.

    It predicts the shares of the classes among the training rows, or the mean of their labels.
    """

    output: Array
    """(classes,) or ()."""

    def predict(self, features: Features, num_rows: int) -> Array:
        """See Baseline."""
        return np.repeat(self.output[np.newaxis], num_rows, axis=0)


@dataclass(frozen=True)
class _Numbers:
    """Turns numbers into dimensions: standard scores, clipped to the range of the training rows; 0 if missing."""

    mean: Array
    deviation: Array
    lowest: Array
    highest: Array

    @classmethod
    def of(cls, values: Array) -> "_Numbers":
        finite = np.isfinite(values)
        counts = finite.sum(axis=0)
        mean = values.sum(axis=0, where=finite) / np.maximum(counts, 1)
        squares = np.square(values - mean, where=finite, out=np.zeros_like(values)).sum(axis=0)
        deviation = np.sqrt(squares / np.maximum(counts, 1))
        lowest, highest = (
            np.where(counts, find(values, axis=0, where=finite, initial=start), 0.0)
            for find, start in ((np.min, np.inf), (np.max, -np.inf))
        )
        return cls(mean, np.where(deviation > 0, deviation, 1.0), lowest, highest)

    @property
    def size(self) -> int:
        return len(self.mean)

    def __call__(self, values: Array) -> Array:
        scores = (np.clip(values, self.lowest, self.highest) - self.mean) / self.deviation
        return np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class _Codes:
    """Turns category codes into dimensions: a flag for each frequent value of a column."""

    known: Sequence[Array]
    """By column."""

    @classmethod
    def of(cls, values: Array) -> "_Codes":
        found = []
        for column in values.T:
            codes, counts = np.unique(column, return_counts=True)
            found.append(np.sort(codes[np.argsort(-counts, kind="stable")[:CODES_OF_COLUMN]]))
        return cls(found)

    @property
    def size(self) -> int:
        return sum(map(len, self.known))

    def __call__(self, values: Array) -> Array:
        flags = [column[:, np.newaxis] == known for column, known in zip(values.T, self.known, strict=True)]
        return np.concatenate(flags, axis=1).astype(np.float64)


@dataclass(frozen=True)
class _Sets:
    """Turns cells with several codes in no order into dimensions.

    There is a flag for each frequent code of a column. 0 means no code.
    """

    known: Sequence[Array]
    """By column."""

    @classmethod
    def of(cls, values: Array) -> "_Sets":
        found = []
        for column in values.swapaxes(0, 1):
            counts = np.bincount(column.reshape(-1))
            counts[:1] = 0
            frequent = np.argsort(-counts, kind="stable")[:VALUES_OF_SET]
            found.append(np.sort(frequent[counts[frequent] > 0]))
        return cls(found)

    @property
    def size(self) -> int:
        return sum(map(len, self.known))

    def __call__(self, values: Array) -> Array:
        found = []
        for column, known in zip(values.swapaxes(0, 1), self.known, strict=True):
            number = np.full(max(column.max(initial=0), known.max(initial=0)) + 1, len(known))
            number[known] = np.arange(len(known))
            flags = np.zeros((len(column), len(known) + 1))
            np.put_along_axis(flags, number[column], 1.0, axis=1)
            found.append(flags[:, :-1])
        return np.concatenate(found, axis=1)


_Part = _Numbers | _Codes | _Sets


@dataclass(frozen=True)
class Linear(Baseline):
    """A linear model of the features."""

    parts: Mapping[str, _Part]
    """By feature."""
    weights: Array
    """(dimensions + 1, outputs): the last row is the intercept."""
    is_classifier: bool

    def predict(self, features: Features, num_rows: int) -> Array:
        """See Baseline."""
        outputs = _matrix(self.parts, features) @ self.weights
        return _softmax(outputs) if self.is_classifier else outputs[:, 0]


def fit(
    saved_model: Path, files: Sequence[str], *, weight: str | None = None, run: Run = run_in_threads
) -> dict[str, Baseline]:
    """Fit the baselines of a model.

    Args:
        saved_model: The folder of the candidate, whose features they use.
        files: The files of the training split.
        weight: The column of row weights; None: each row counts once.
        run: Executes the reading of a sample of the rows.

    Returns:
        The constant and the linear model; the latter is missing if the network's features cannot be obtained, are only
        pictures, or are too many. Nothing without training rows.
    """
    model = AskedModel(saved_model)
    try:
        features = _training_rows(model, files, weight, run)
        num_classes = len(model.facts.classes)
    finally:
        model.close()
    labels = features.pop(LABEL, np.empty(0))
    known = labels >= 0 if num_classes else np.isfinite(labels)
    if not features.get(WEIGHT, known)[known].any():
        return {}
    labels, features = labels[known], {name: values[known] for name, values in features.items()}
    weights = features.pop(WEIGHT)
    targets = np.eye(num_classes)[labels.astype(np.int64)] if num_classes else labels.astype(np.float64)[:, np.newaxis]
    mean = weights @ targets / weights.sum()
    found: dict[str, Baseline] = {CONSTANT: Constant(mean if num_classes else mean[0])}
    linear = fit_linear(features, targets, weights, is_classifier=bool(num_classes))
    return found | ({LINEAR: linear} if linear else {})


def _training_rows(model: AskedModel, files: Sequence[str], weight: str | None, run: Run) -> dict[str, Array]:
    """Return features, label and weight of a sample of the training rows, each (rows, ...)."""
    columns = model.transformed_columns
    if columns is not None and weight is not None:
        columns = tuple(dict.fromkeys([*columns, weight]))
    sample = draw(files, rows=TRAINING_ROWS, seed=_SEED, columns=columns, run=run)
    if sample is None:
        return {}
    rows = sample.rows
    blocks = [model.transformed(rows.slice(start, _BATCH)) for start in range(0, rows.num_rows, _BATCH)]
    found = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return found | {LABEL: found[LABEL].reshape(-1), WEIGHT: weights_of(rows, weight)}


def fit_linear(features: Features, targets: Array, weights: Array, *, is_classifier: bool) -> Linear | None:
    """Fit a ridge or a logistic regression.

    Args:
        features: The features of the training rows, each (rows, ...).
        targets: (rows, outputs): the label, or 1 for its class and 0 for the others.
        weights: (rows,) the weight of each row.
        is_classifier: Whether the label is a class.

    Returns:
        None without numeric or categorical features, or if they are too many for a quick fit.
    """
    parts = {name: part for name, values in features.items() if (part := _part_of(values)) and part.size}
    cells = sum(part.size for part in parts.values()) * targets.shape[1]
    if not parts or cells * FEWEST_ROWS > FITTED_CELLS:
        logging.info("No linear model: of %d features, %d weights.", len(parts), cells)
        return None
    rows = slice(FITTED_CELLS // cells)
    matrix, targets = _matrix(parts, {name: features[name][rows] for name in parts}), targets[rows]
    solve = _logistic if is_classifier else _ridge
    return Linear(parts, solve(matrix, targets, weights[rows, np.newaxis]), is_classifier)


def _columns(values: Array) -> Array:
    """Return (rows, columns), or (rows, columns, values) if cells have several values."""
    return values.reshape(len(values), -1) if values.ndim < 3 else values


def _part_of(values: Array) -> _Part | None:
    values = _columns(values)
    if values.dtype.kind in "fb":
        return _Numbers.of(values.astype(np.float64)) if values.ndim < 3 else None
    if values.dtype.kind not in "iu":
        return None
    return _Codes.of(values) if values.ndim < 3 else _Sets.of(values)


def _matrix(parts: Mapping[str, _Part], features: Features) -> Array:
    """Return (rows, dimensions + 1) float64, of which the last is 1."""
    found = [part(_columns(features[name])) for name, part in parts.items()]
    return np.concatenate([*found, np.ones((len(found[0]), 1))], axis=1)


def _penalties(matrix: Array) -> Array:
    """Return the penalties, (dimensions + 1, 1): the intercept has none."""
    return np.append(np.full(matrix.shape[1] - 1, PENALTY), 0.0)[:, np.newaxis]


def _ridge(matrix: Array, targets: Array, weights: Array) -> Array:
    penalties, weighted = np.diag(_penalties(matrix)[:, 0] + 1e-9), (matrix * weights).T
    solution: Array = np.linalg.solve(weighted @ matrix + penalties, weighted @ targets)
    return solution


def _logistic(dense: Array, targets: Array, row_weights: Array) -> Array:
    """Fit a softmax with one set of weights per class.

    For two classes they are each other's negatives, and fitted once.
    """
    from scipy import optimize, sparse

    is_sparse = np.count_nonzero(dense) < FEW_FILLED * dense.size
    matrix: Any = sparse.csr_array(dense) if is_sparse else dense
    row_weights, penalties = row_weights / row_weights.sum(), _penalties(dense) / row_weights.sum()
    shape = matrix.shape[1], targets.shape[1] if targets.shape[1] > 2 else 1

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(shape)
        logits = matrix @ weights
        probabilities = _softmax(logits if shape[1] > 1 else np.concatenate([-logits, logits], axis=1))
        losses = -np.log(np.maximum((probabilities * targets).sum(axis=1, keepdims=True), 1e-300))
        errors = row_weights * (probabilities - targets)
        gradient = matrix.T @ (errors if shape[1] > 1 else errors[:, 1:] - errors[:, :1])
        per_weight = penalties * (targets.shape[1] / shape[1])
        value = (row_weights * losses).sum() + (per_weight * weights**2).sum() / 2
        return float(value), (gradient + per_weight * weights).ravel()

    found = optimize.minimize(
        loss,
        np.zeros(shape).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "gtol": STEEPEST},
    )
    weights: Array = found.x.reshape(shape)
    return weights if shape[1] > 1 else np.concatenate([-weights, weights], axis=1)


def _softmax(logits: Array) -> Array:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = exponents / exponents.sum(axis=1, keepdims=True)
    return shares

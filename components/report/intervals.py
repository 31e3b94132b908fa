"""Confidence intervals of metrics, 95 %: how far chance alone moves them.

Knows arrays and nothing of models. Shares of rows have Wilson's interval, everything else a seeded bootstrap.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kubetfx.components.evaluation import metrics
from kubetfx.components.report.facts import Interval
from kubetfx.components.report.predictions import Predictions, row_losses

BOOTSTRAP_REPETITIONS = 200
BOOTSTRAP_CELLS = 40_000_000
"""Rows times classes times repetitions at most, for each metric."""
DRAWN_AT_ONCE = 100_000
"""Rows of the samples that are drawn together."""
MIN_ROWS = 10
"""Fewer rows give no interval."""
SHARES_OF_ROWS = frozenset({"accuracy", "top_k_accuracy"})
"""Metrics that need no predictions for their interval."""
_NORMAL_95 = 1.959964
_BOUNDS = {"kappa": (-1.0, 1.0)} | dict.fromkeys(
    ("accuracy", "auc", "auc_precision_recall", "f1", "precision", "recall", "squared_pearson_correlation"), (0.0, 1.0)
)
"""Values that a metric can have; the others are any number from 0 on."""

Array = np.ndarray[Any, Any]
Measure = Callable[[Array], Array]
"""A metric of rows with weights (samples, rows), for each sample."""


def wilson(share: float, rows: int) -> Interval | None:
    """Wilson's score interval of a share of rows; None where there are no rows.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if rows <= 0 or not 0 <= share <= 1:
        return None
    z = _NORMAL_95
    scale = 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    lower, upper = max(centre - half, 0.0), min(centre + half, 1.0)
    return Interval(lower=min(lower, share), upper=max(upper, share), method="wilson")  # but for rounding it holds


def bootstrap(metric: str, predictions: Predictions, *, value: float, total_rows: int, seed: int) -> Interval | None:
    """Percentile bootstrap of a metric: its spread over samples of the rows drawn with replacement.

    The spread is laid around the value of all rows, from which that of the sample may differ a little, and is as much
    smaller as the root of their number is larger. B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979;
    P. Bickel et al., "Resampling Fewer Than n Observations", 1997.

    Args:
        metric: one of pipeline.config.METRICS, or `kappa`.
        predictions: for the rows of the sample.
        value: of the metric on all rows.
        total_rows: that the value is of, those of the sample among them.
        seed: of the draws.

    Returns:
        None for fewer than MIN_ROWS rows, for another metric, and where the samples show no spread.
    """
    measure = _measure(metric, predictions)
    rows = len(predictions.labels)
    if measure is None or rows < MIN_ROWS or not np.isfinite(value):
        return None
    columns = predictions.outputs.shape[1] if predictions.outputs.ndim == 2 else 1
    repetitions = int(np.clip(BOOTSTRAP_CELLS // (rows * columns), 40, BOOTSTRAP_REPETITIONS))
    generator = np.random.default_rng(seed)
    at_once = max(DRAWN_AT_ONCE // rows, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = measure(np.ones((1, rows)))[0]
        draws = [min(at_once, repetitions - start) for start in range(0, repetitions, at_once)]
        found = np.concatenate([measure(_draw(generator, rows, samples)) for samples in draws])
    found = found[np.isfinite(found)]
    if len(found) < repetitions / 2 or not np.isfinite(point):
        return None
    if found.min() == found.max():  # a sample without an error has no spread to show
        return None
    scale = math.sqrt(rows / max(rows, total_rows))
    lower, upper = (np.quantile(found, [0.025, 0.975]) - point) * scale + value
    low, high = _BOUNDS.get(metric, (0.0, np.inf))
    return Interval(
        lower=float(np.clip(lower, low, value)), upper=float(np.clip(upper, value, high)), method="bootstrap"
    )


def _draw(generator: np.random.Generator, rows: int, samples: int) -> Array:
    """How often each row is in each sample, (samples, rows)."""
    drawn = generator.integers(0, rows, (samples, rows)) + rows * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * rows).reshape(samples, rows).astype(np.float64)


def _measure(metric: str, predictions: Predictions) -> Measure | None:
    labels, outputs = predictions.labels, predictions.outputs
    if predictions.classes:
        if metric == "accuracy":
            return _mean_of(outputs.argmax(axis=1) == labels)
        if metric == "cross_entropy":
            return _mean_of(row_losses(labels, outputs))
        if metric == "kappa":
            return _kappa_measure(labels, outputs.argmax(axis=1), outputs.shape[1])
        return _mean_over_classes(metric, predictions)
    errors = outputs - labels
    return {
        "mean_absolute_error": _mean_of(np.abs(errors)),
        "mean_squared_error": _mean_of(np.square(errors)),
        "root_mean_squared_error": lambda weights: np.sqrt(_mean_of(np.square(errors))(weights)),
        "squared_pearson_correlation": lambda weights: _squared_correlation(weights, labels, outputs),
    }.get(metric)


def _mean_of(values: Array) -> Measure:
    return lambda weights: weights @ values.astype(np.float64) / weights.sum(axis=1)


def _kappa_measure(labels: Array, predicted: Array, num_classes: int) -> Measure:
    one_hot = np.eye(num_classes)
    agreement = _mean_of(labels == predicted)

    def measure(weights: Array) -> Array:
        total = weights.sum(axis=1)
        by_chance = ((weights @ one_hot[labels]) * (weights @ one_hot[predicted])).sum(axis=1) / total**2
        return (agreement(weights) - by_chance) / (1 - by_chance)

    return measure


def _squared_correlation(weights: Array, x: Array, y: Array) -> Array:
    total = weights.sum(axis=1)
    x, y = x - x.mean(), y - y.mean()  # far from 0 the squares would swallow the differences
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    variances = (weights @ (x * x) / total - mean_x**2) * (weights @ (y * y) / total - mean_y**2)
    return covariance**2 / variances


def _mean_over_classes(metric: str, predictions: Predictions) -> Measure | None:
    """As the Evaluator has it: of the second class of two; the mean over the classes that have rows otherwise."""
    labels, outputs = predictions.labels, predictions.outputs
    indices: Sequence[int] = [1] if len(predictions.classes) == 2 else np.unique(labels).tolist()
    if metric in metrics.OF_MATRIX:
        measures = [_matrix_measure(metric, labels == index, outputs[:, index]) for index in indices]
    elif metric in _AREAS:
        measures = [_AREAS[metric](labels == index, outputs[:, index]) for index in indices]
    else:
        return None
    return lambda weights: np.mean([measure(weights) for measure in measures], axis=0)


def _matrix_measure(metric: str, truth: Array, scores: Array) -> Measure:
    positive = scores > metrics.POSITIVE_ABOVE
    cells = np.stack([truth & positive, ~truth & positive, ~truth & ~positive, truth & ~positive], axis=1)
    cells = cells.astype(np.float64)
    return lambda weights: metrics.OF_MATRIX[metric](metrics.ConfusionMatrices(*(weights @ cells).T))


def _area_measure(truth: Array, scores: Array) -> Measure:
    order, starts, hit, miss = _ordered(truth, scores)

    def measure(weights: Array) -> Array:
        own = weights[:, order]
        hits = np.add.reduceat(own * hit, starts, axis=1)
        misses = np.add.reduceat(own * miss, starts, axis=1)
        below = np.cumsum(misses, axis=1) - misses / 2  # a tie counts half
        return (hits * below).sum(axis=1) / (hits.sum(axis=1) * misses.sum(axis=1))

    return measure


def _precision_area_measure(truth: Array, scores: Array) -> Measure:
    order, starts, hit, miss = _ordered(truth, -scores)

    def measure(weights: Array) -> Array:
        own = weights[:, order]
        hits = np.add.reduceat(own * hit, starts, axis=1)
        misses = np.add.reduceat(own * miss, starts, axis=1)
        found, wrong = np.cumsum(hits, axis=1), np.cumsum(misses, axis=1)
        precision = np.divide(found, found + wrong, out=np.zeros_like(found), where=found + wrong > 0)
        return (hits * precision).sum(axis=1) / hits.sum(axis=1)

    return measure


_AREAS: dict[str, Callable[[Array, Array], Measure]] = {
    "auc": _area_measure,
    "auc_precision_recall": _precision_area_measure,
}


def _ordered(truth: Array, scores: Array) -> tuple[Array, Array, Array, Array]:
    """The order of rising scores, where a new score starts in it, and truth and its contrary in it."""
    order = np.argsort(scores, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(scores[order])) + 1)
    return order, starts, truth[order].astype(np.float64), (~truth[order]).astype(np.float64)

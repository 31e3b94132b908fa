"""95 % confidence intervals of metrics.

It works on arrays and does not know models. Proportions of rows have Wilson's interval; everything else has a seeded
bootstrap, in which the number of draws of a row is its weight in the accumulator.
"""

import math
from typing import Any, Protocol

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.evaluation.evaluation_result import Interval
from kubetfx.components.evaluation.metric import Metric, value_of
from kubetfx.config.metric_catalogue import Better

BOOTSTRAP_REPETITIONS = 200
BOOTSTRAP_CELLS = 40_000_000
"""Maximum product of rows, outputs and repetitions for each metric."""
CELLS_AT_ONCE = 400_000
"""Rows times outputs of samples that are drawn together."""
MIN_ROWS = 10
"""Minimum number of rows for an interval."""
WIDE = 0.1
"""Width of a wide interval, as a share of the range of the metric."""
WIDE_ERROR = 0.25
"""The same for an error, which has no upper limit: as a share of its value."""
_NORMAL_95 = 1.959964
_ONE_SIDED = 0.05


class Predicted(Protocol):
    """Predictions of a model for a sample of the rows."""

    @property
    def labels(self) -> Array:
        """(rows,) labels."""

    @property
    def outputs(self) -> Array:
        """(rows, classes) probabilities, or (rows,) values."""

    @property
    def weights(self) -> Array:
        """(rows,) float64, how often each row counts."""


def wilson(share: float, rows: int) -> Interval | None:
    """Return Wilson's score interval of a proportion of rows; None without rows.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.

    Args:
        share: 0 to 1.
        rows: number of the rows.
    """
    if rows <= 0 or not 0 <= share <= 1:
        return None
    z = _NORMAL_95
    scale = 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    lower, upper = max(centre - half, 0.0), min(centre + half, 1.0)
    return Interval(lower=min(lower, share), upper=max(upper, share), method="wilson")  # holds except for rounding


def interval(metric: Metric, predicted: Predicted, *, value: float, total_rows: int, seed: int) -> Interval | None:
    """Return the interval of a metric: Wilson's for a proportion of unweighted rows.

    Args:
        metric: The metric.
        predicted: Predictions for a sample of the rows.
        value: The value of the metric on all rows.
        total_rows: The number of all rows, including the sample.
        seed: The seed of the draws.

    Returns:
        The interval, or None.
    """
    if metric.is_share_of_rows and (predicted.weights == 1).all():
        return wilson(value, total_rows)
    if not metric.is_of_predictions:
        return None
    return bootstrap(metric, predicted, value=value, total_rows=total_rows, seed=seed)


def is_wide(metric: Metric, value: float, found: Interval) -> bool:
    """Return whether an interval is too wide to judge a model.

    Args:
        metric: The metric.
        value: Its value.
        found: the interval.
    """
    low, high = metric.bounds
    scale = high - low if math.isfinite(high - low) else WIDE_ERROR / WIDE * abs(value)
    return found.upper - found.lower > WIDE * scale


def bootstrap(metric: Metric, predictions: Predicted, *, value: float, total_rows: int, seed: int) -> Interval | None:
    """Compute the percentile bootstrap of a metric: its spread over samples of the rows drawn with replacement.

    The spread is centred on the value of all rows, from which that of the sample may differ a little, and scaled by the
    square root of the ratio of their numbers. B. Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979; P.
    Bickel et al., "Resampling Fewer Than n Observations", 1997.

    Args:
        metric: A metric that needs only labels and predictions.
        predictions: The predictions for the rows of the sample.
        value: The value of the metric on all rows.
        total_rows: The number of all rows, including the sample.
        seed: The seed of the draws.

    Returns:
        None for fewer than MIN_ROWS rows, and if the metric is undefined or the samples show no spread.
    """
    rows = len(predictions.labels)
    if rows < MIN_ROWS or not np.isfinite(value):
        return None
    point, found = _point_and_samples(metric, predictions, seed)
    repetitions = len(found)
    found = found[np.isfinite(found)]
    if len(found) < repetitions / 2 or not np.isfinite(point):
        return None
    if found.min() == found.max():  # a sample without errors shows no spread
        return None
    scale = math.sqrt(rows / max(rows, total_rows))
    lower, upper = (np.quantile(found, [0.025, 0.975]) - point) * scale + value
    low, high = metric.bounds
    return Interval(
        lower=float(np.clip(lower, min(low, value), value)),
        upper=float(np.clip(upper, value, max(high, value))),
        method="bootstrap",
    )


def certain_advantage(
    metric: Metric, first: Predicted, second: Predicted, *, values: tuple[float, float], total_rows: int, seed: int
) -> float:
    """Return by how much the first is better than the second with 95 % confidence.

    This is the lower end of a one-sided interval. Both are measured on the same draws, so that rows that are hard or
    easy for both add no noise.

    Args:
        metric: A metric that needs only labels and predictions.
        first: Predictions of a model for the rows of the sample.
        second: Predictions of another model for the same rows.
        values: The values of the metric on all rows, of the first and of the second.
        total_rows: The number of all rows, including the sample.
        seed: The seed of the draws.

    Returns:
        The advantage in the metric's own unit, negative if it may be worse; -inf if the metric is undefined.
    """
    (one, ones), (other, others) = (_point_and_samples(metric, predicted, seed) for predicted in (first, second))
    point, found = (_gain(a, b, metric.better) for a, b in ((one, other), (ones, others)))
    advantage = _gain(*values, metric.better)
    is_known = np.isfinite(found)
    if is_known.mean() < 0.5 or not np.isfinite([point, advantage]).all():
        return -math.inf
    scale = math.sqrt(len(first.labels) / max(len(first.labels), total_rows))
    return float(advantage + (np.quantile(found[is_known], _ONE_SIDED) - point) * scale)


def _gain(first: Any, second: Any, better: Better) -> Any:
    return first - second if better == "higher" else second - first


def _point_and_samples(metric: Metric, predictions: Predicted, seed: int) -> tuple[float, Array]:
    """Return the metric of the rows, and of the samples, (samples,)."""
    accumulator = metric.make_accumulator(top_k=1)
    labels, outputs = predictions.labels, predictions.outputs
    repetitions = int(np.clip(BOOTSTRAP_CELLS // outputs.size, 40, BOOTSTRAP_REPETITIONS))
    generator = np.random.default_rng(seed)
    at_once = max(CELLS_AT_ONCE // outputs.size, 1)
    draws = [min(at_once, repetitions - start) for start in range(0, repetitions, at_once)]
    found = [
        value_of(accumulator, labels, outputs, _draw(generator, len(labels), samples) * predictions.weights)
        for samples in draws
    ]
    return float(value_of(accumulator, labels, outputs, predictions.weights)), np.concatenate(found)


def _draw(generator: np.random.Generator, rows: int, samples: int) -> Array:
    """Return how often each row is in each sample, (samples, rows)."""
    drawn = generator.integers(0, rows, (samples, rows)) + rows * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * rows).reshape(samples, rows).astype(np.float64)

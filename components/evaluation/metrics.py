"""The metrics of an evaluation, each over all rows of a slice at once.

TFMA computes them row by row in Python, which took two thirds of the flights' run. The definitions are TFMA's own:
the thresholds, the buckets of predictions and the rule where a class has no row are those of its confusion matrices
(tensorflow_model_analysis/metrics/). tests/components/evaluation/test_local_evaluation.py holds every number against
TFMA's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

AUC_THRESHOLDS = 10_000
"""TFMA's number of thresholds of an area under a curve."""
_PREDICTION_BUCKETS = 10_000
_EPSILON = 1e-7
POSITIVE_ABOVE = 0.5
"""Probability of a class above which a row is taken for it."""

_NAN = float("nan")


@dataclass(frozen=True)
class ConfusionMatrices:
    """Rows that are rightly and wrongly positive and negative at each threshold: (thresholds,) float64."""

    true_positives: np.ndarray
    false_positives: np.ndarray
    true_negatives: np.ndarray
    false_negatives: np.ndarray


def whole_metrics(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Metrics of all classes at once, or of a regression.

    Args:
        names: those wanted; names of other metrics are passed over.
        labels: (rows,) index of the class, or number.
        predictions: (rows, classes) probabilities, or (rows,) numbers.
    """
    return {name: float(_WHOLE[name](labels, predictions)) for name in names if name in _WHOLE}


def class_metrics(names: Sequence[str], is_class: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Metrics of one class against the rest.

    Args:
        names: those wanted; names of other metrics are passed over.
        is_class: (rows,) whether the row is of the class.
        probabilities: (rows,) of the class.
    """
    values: dict[str, float] = {}
    if any(name in _OF_CURVE for name in names):
        curve = matrices_of_curve(is_class, probabilities)
        values |= {name: float(_OF_CURVE[name](curve)) for name in names if name in _OF_CURVE}
    if any(name in OF_MATRIX for name in names):
        matrix = matrix_at(POSITIVE_ABOVE, is_class, probabilities)
        values |= {name: float(OF_MATRIX[name](matrix)[0]) for name in names if name in OF_MATRIX}
    return values


def matrix_at(threshold: float, is_class: np.ndarray, probabilities: np.ndarray) -> ConfusionMatrices:
    """The matrix that has a row for positive if its probability is above the threshold."""
    is_positive = probabilities > threshold
    counts = np.bincount(2 * is_class.astype(np.int64) + is_positive, minlength=4).astype(np.float64)
    true_negatives, false_positives, false_negatives, true_positives = (counts[index : index + 1] for index in range(4))
    return ConfusionMatrices(true_positives, false_positives, true_negatives, false_negatives)


def matrices_of_curve(is_class: np.ndarray, probabilities: np.ndarray) -> ConfusionMatrices:
    """The matrices at TFMA's thresholds of a curve, from its buckets of predictions."""
    position = probabilities.astype(np.float64) * _PREDICTION_BUCKETS
    bucket = np.clip(np.where(np.isnan(position), 0, position), -1, _PREDICTION_BUCKETS).astype(np.int64)
    positive = np.bincount(bucket + 1, is_class, minlength=_PREDICTION_BUCKETS + 2)
    negative = np.bincount(bucket + 1, ~is_class, minlength=_PREDICTION_BUCKETS + 2)
    interval = _interval_of_bucket()
    positive = np.bincount(interval, positive, minlength=AUC_THRESHOLDS)
    negative = np.bincount(interval, negative, minlength=AUC_THRESHOLDS)
    true_positives, false_positives = positive[::-1].cumsum()[::-1], negative[::-1].cumsum()[::-1]
    false_negatives, true_negatives = positive.cumsum() - positive, negative.cumsum() - negative
    # Nothing is above the last threshold, 1 + epsilon.
    true_positives[-1] = false_positives[-1] = 0
    false_negatives[-1], true_negatives[-1] = true_positives[0], false_positives[0]
    return ConfusionMatrices(true_positives, false_positives, true_negatives, false_negatives)


def _interval_of_bucket() -> np.ndarray:
    """Index of the last threshold that is not above the left end of each bucket; the first bucket has no left end."""
    inner = np.arange(1, AUC_THRESHOLDS - 1) / (AUC_THRESHOLDS - 1)
    thresholds = np.concatenate([[-_EPSILON], inner, [1 + _EPSILON]]) + _EPSILON
    left_ends = np.concatenate([[-np.inf], np.arange(_PREDICTION_BUCKETS) / _PREDICTION_BUCKETS, [np.inf]])
    return np.clip(np.searchsorted(thresholds, left_ends, side="right") - 1, 0, AUC_THRESHOLDS - 1)


def _area_under_roc(matrices: ConfusionMatrices) -> float:
    positives = matrices.true_positives + matrices.false_negatives
    negatives = matrices.false_positives + matrices.true_negatives
    x = _ratio(matrices.false_positives, negatives)
    y = _ratio(matrices.true_positives, positives)
    return float(np.nansum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2))


def _area_under_precision_recall(matrices: ConfusionMatrices) -> float:
    """With positives interpolated between thresholds and not their ratio: Davis and Goadrich, 2006, as in Keras."""
    true, predicted = matrices.true_positives, matrices.true_positives + matrices.false_positives
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (true[:-1] - true[1:]) / np.maximum(predicted[:-1] - predicted[1:], 0)
        intercept = true[1:] - slope * predicted[1:]
        ratio = np.divide(predicted[:-1], predicted[1:], out=np.ones_like(predicted[1:]), where=predicted[1:] != 0)
        positives = np.maximum(true[1:] + matrices.false_negatives[1:], 0)
        increments = slope * (true[:-1] - true[1:] + intercept * np.log(ratio)) / positives
    return float(np.nansum(increments))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Not defined where the whole is nothing."""
    return np.divide(part, whole, out=np.full_like(part, _NAN), where=whole > 0)


def _accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def _cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    clipped = np.clip(probabilities.astype(np.float64), _EPSILON, 1 - _EPSILON)
    of_label = clipped[np.arange(len(labels)), labels]
    return float(np.mean(np.log(clipped.sum(axis=1)) - np.log(of_label)))


def _mean_squared_error(labels: np.ndarray, values: np.ndarray) -> float:
    return float(np.mean(np.square(labels - values, dtype=np.float64)))


def _mean_absolute_error(labels: np.ndarray, values: np.ndarray) -> float:
    return float(np.mean(np.abs(labels - values), dtype=np.float64))


def _squared_pearson_correlation(labels: np.ndarray, values: np.ndarray) -> float:
    x, y = labels.astype(np.float64), values.astype(np.float64)
    num_rows = len(x)
    variance_x = np.sum(x**2) - np.sum(x) ** 2 / num_rows
    variance_y = np.sum(y**2) - np.sum(y) ** 2 / num_rows
    denominator = variance_x * variance_y
    return float((np.sum(x * y) - np.sum(x) * np.sum(y) / num_rows) ** 2 / denominator) if denominator > 0 else _NAN


_WHOLE: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "cross_entropy": _cross_entropy,
    "mean_absolute_error": _mean_absolute_error,
    "mean_squared_error": _mean_squared_error,
    "root_mean_squared_error": lambda labels, values: _mean_squared_error(labels, values) ** 0.5,
    "squared_pearson_correlation": _squared_pearson_correlation,
}
_OF_CURVE: Mapping[str, Callable[[ConfusionMatrices], float]] = {
    "auc": _area_under_roc,
    "auc_precision_recall": _area_under_precision_recall,
}
OF_MATRIX: Mapping[str, Callable[[ConfusionMatrices], np.ndarray]] = {
    "precision": lambda m: _share(m.true_positives, m.true_positives + m.false_positives),
    "recall": lambda m: _share(m.true_positives, m.true_positives + m.false_negatives),
    "f1": lambda m: _share(2 * m.true_positives, 2 * m.true_positives + m.false_positives + m.false_negatives),
}
"""Of each of the matrices; NaN where it is not defined."""

"""Facts about predictions: confusion, curves, calibration, residuals. It works on arrays and does not know models."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.evaluation.classification import CalibrationError, Kappa
from kubetfx.components.evaluation.confusion import ConfusionMatrix, class_scores
from kubetfx.components.evaluation.curves import AreaUnderPrecisionRecall, AreaUnderRoc
from kubetfx.components.evaluation.metric import Accumulator, value_of
from kubetfx.components.report.facts import CalibrationBin, ClassQuality, Curve, Point, Quality
from kubetfx.components.report.predictions import Predictions

MAX_CLASSES = 30
"""Maximum number of classes of a confusion matrix that is drawn."""
MAX_CURVES = 8
"""Classes with a curve of their own, the most frequent ones."""
CURVE_POINTS = 100
ROC_THRESHOLDS = 100
SCATTER_POINTS = 600
RESIDUAL_BARS = 25
"""At most; of few rows the root of their number, or most bars would hold one."""


def describe(
    predictions: Predictions, *, total_rows: int, seed: int, confusion: Sequence[Sequence[int | float]] = ()
) -> Quality:
    """Return facts about the predictions for a sample.

    Args:
        predictions: for its rows.
        total_rows: The number of rows of the evaluation split.
        seed: by which points are drawn for a picture.
        confusion: (classes, classes) of all rows, as the Evaluator counted them; empty: that of the sample.
    """
    sample_rows = len(predictions.labels)
    if not sample_rows:
        return Quality(sample_rows=0, total_rows=total_rows)
    if predictions.classes:
        return _classification(predictions, total_rows, confusion)
    return _regression(predictions, total_rows, seed)


def _classification(predictions: Predictions, total_rows: int, counted: Sequence[Sequence[int | float]]) -> Quality:
    classes, labels, probabilities = predictions.classes, predictions.labels, predictions.outputs
    matrix = np.array(counted) if counted else _matrix(predictions)
    kappa = float(Kappa().of_state(np.stack([matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)])))
    support = matrix.sum(axis=1)
    shown = [1] if len(classes) == 2 else sorted(np.argsort(-support, kind="stable")[:MAX_CURVES].tolist())
    weights = predictions.weights
    calibration = _calibration(labels, probabilities, weights)
    error = float(value_of(CalibrationError(), labels, probabilities, weights))
    return Quality(
        sample_rows=len(labels),
        total_rows=total_rows,
        classes=list(classes),
        confusion=matrix.tolist() if len(classes) <= MAX_CLASSES else [],
        per_class=[
            ClassQuality(name=name, **asdict(scores))
            for name, scores in zip(classes, class_scores(matrix), strict=True)
        ],
        kappa=kappa if math.isfinite(kappa) else None,
        roc=[c for i in shown if (c := _roc(classes[i], labels == i, probabilities[:, i], weights))],
        roc_thresholds=roc_points(labels, probabilities, weights),
        precision_recall=[
            c for i in shown if (c := _precision_recall(classes[i], labels == i, probabilities[:, i], weights))
        ],
        calibration=calibration,
        calibration_error=error if math.isfinite(error) else None,
    )


def _matrix(predictions: Predictions) -> Array:
    matrix = value_of(ConfusionMatrix(), predictions.labels, predictions.outputs, predictions.weights)
    return matrix.astype(np.int64) if (predictions.weights == 1).all() else matrix


def roc_points(labels: Array, probabilities: Array, weights: Array) -> list[tuple[float, float, float]]:
    """Return threshold, false-positive rate and recall at evenly spaced thresholds, the highest first.

    That is for the second of two classes; with more, of all classes against the rest together.

    Args:
        labels: (rows,) int64 index of the class.
        probabilities: (rows, classes).
        weights: (rows,) how often each row counts.
    """
    num_classes = probabilities.shape[1]
    is_class = np.eye(num_classes, dtype=bool)[labels]
    columns = [1] if num_classes == 2 else list(range(num_classes))
    truth, scores = is_class[:, columns].ravel(), probabilities[:, columns].ravel()
    each = np.repeat(weights, len(columns))
    thresholds = np.linspace(1, 0, ROC_THRESHOLDS + 1)
    rates = []
    for own in (~truth, truth):
        order = np.argsort(scores[own], kind="stable")
        below = np.append(0.0, np.cumsum(each[own][order]))
        at_or_above = below[-1] - below[np.searchsorted(scores[own][order], thresholds, side="left")]
        rates.append(at_or_above / (below[-1] or 1.0))
    return [(float(a), float(b), float(c)) for a, b, c in zip(thresholds, *rates, strict=True)]


def _cumulative(truth: Array, scores: Array, weights: Array) -> tuple[Array, Array] | None:
    """Return true and false positives at each distinct score, the highest first; None if a class has no row."""
    if not weights[truth].any() or not weights[~truth].any():
        return None
    counted = weights > 0
    truth, scores, weights = truth[counted], scores[counted], weights[counted]
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    hits, all_rows = np.cumsum((truth * weights)[order]), np.cumsum(weights[order])
    return hits[last_of_score], (all_rows - hits)[last_of_score]


def _roc(name: str, truth: Array, scores: Array, weights: Array) -> Curve | None:
    counts = _cumulative(truth, scores, weights)
    if counts is None:
        return None
    recall = np.append(0.0, counts[0] / counts[0][-1])
    false_positives = np.append(0.0, counts[1] / counts[1][-1])
    return Curve(
        name=name, area=_area(AreaUnderRoc(), truth, scores, weights), points=_thinned(false_positives, recall)
    )


def _precision_recall(name: str, truth: Array, scores: Array, weights: Array) -> Curve | None:
    counts = _cumulative(truth, scores, weights)
    if counts is None:
        return None
    recall, precision = counts[0] / counts[0][-1], counts[0] / (counts[0] + counts[1])
    complete = int(np.argmax(recall >= 1)) + 1  # after every row of the class is found, precision only falls
    recall, precision = recall[:complete], precision[:complete]
    points = _thinned(np.append(0.0, recall), np.append(precision[0], precision))
    return Curve(name=name, area=_area(AreaUnderPrecisionRecall(), truth, scores, weights), points=points)


def _area(accumulator: Accumulator, truth: Array, scores: Array, weights: Array) -> float:
    """Return the metric, of one class against the rest."""
    return float(value_of(accumulator, truth.astype(np.int64), np.stack([1 - scores, scores], axis=1), weights))


def _thinned(x: Array, y: Array) -> list[Point]:
    """Return the curve with as many points as can be seen, its ends and corners among them."""
    corner = np.ones(len(x), bool)
    corner[1:-1] = ~(((x[1:-1] == x[:-2]) & (x[1:-1] == x[2:])) | ((y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])))
    x, y = x[corner], y[corner]
    if len(x) > CURVE_POINTS:
        length = np.cumsum(np.append(0.0, np.hypot(np.diff(x), np.diff(y))))
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)))
        kept = np.unique([0, *np.clip(kept, 0, len(x) - 1), len(x) - 1])
        x, y = x[kept], y[kept]
    return [(round(float(a), 4), round(float(b), 4)) for a, b in zip(x, y, strict=True)]


def _calibration(labels: Array, probabilities: Array, weights: Array) -> list[CalibrationBin]:
    """Return the calibration of the second of two classes; with more classes, that of the predicted class."""
    accumulator = CalibrationError()
    state = accumulator.add_block(None, labels, probabilities, np.stack([weights, np.ones(len(labels))]))
    (weight, predicted, observed), (rows, *_) = state
    return [
        CalibrationBin(
            predicted=float(predicted[number] / weight[number]),
            observed=float(observed[number] / weight[number]),
            rows=int(rows[number]),
        )
        for number in np.flatnonzero(weight)
    ]


def _regression(predictions: Predictions, total_rows: int, seed: int) -> Quality:
    labels, values = predictions.labels, predictions.outputs
    residuals = values - labels
    low, high = np.quantile(residuals, [0.005, 0.995])  # a single row far off would leave one bar
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    bars = min(math.isqrt(len(residuals)) + 1, RESIDUAL_BARS)
    counts, edges = np.histogram(np.clip(residuals, low, high), bins=bars, range=(low, high))
    drawn = np.random.default_rng(seed).permutation(len(labels))[:SCATTER_POINTS]
    return Quality(
        sample_rows=len(labels),
        total_rows=total_rows,
        predicted_against_true=[(float(labels[i]), float(values[i])) for i in np.sort(drawn)],
        residual_edges=edges.tolist(),
        residual_counts=counts.tolist(),
        residual_mean=float(residuals.mean()),
        residual_deviation=float(residuals.std()),
    )

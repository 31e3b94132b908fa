"""Facts about predictions: confusion, curves, calibration, residuals, and how far chance alone moves a metric.

Knows arrays and nothing of models.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from components.report.facts import CalibrationBin, ClassQuality, Curve, Interval, Point, Quality
from components.report.predictions import Predictions, row_losses

MAX_CLASSES = 30
"""A confusion matrix of more classes is no picture."""
MAX_CURVES = 8
"""Classes with a curve of their own, the most frequent ones."""
CURVE_POINTS = 100
ROC_THRESHOLDS = 100
CALIBRATION_BINS = 10
SCATTER_POINTS = 600
RESIDUAL_BARS = 25
BOOTSTRAP_REPETITIONS = 200
BOOTSTRAP_CELLS = 40_000_000
"""Rows times classes times repetitions at most, for each metric."""
DRAWN_AT_ONCE = 100_000
"""Rows of the samples that are drawn together."""
MIN_ROWS = 10
"""Fewer rows give no interval."""

Array = np.ndarray[Any, Any]


def describe(predictions: Predictions, *, total_rows: int, seed: int) -> Quality:
    """Facts about the predictions for a sample.

    Args:
        predictions: for its rows.
        total_rows: of the evaluation split.
        seed: by which points are drawn for a picture.
    """
    sample_rows = len(predictions.labels)
    if not sample_rows:
        return Quality(sample_rows=0, total_rows=total_rows)
    if predictions.classes:
        return _classification(predictions, total_rows)
    return _regression(predictions, total_rows, seed)


def _classification(predictions: Predictions, total_rows: int) -> Quality:
    classes, labels, probabilities = predictions.classes, predictions.labels, predictions.outputs
    matrix = confusion_matrix(labels, probabilities)
    support = matrix.sum(axis=1)
    shown = [1] if len(classes) == 2 else sorted(np.argsort(-support, kind="stable")[:MAX_CURVES].tolist())
    calibration = _calibration(labels, probabilities)
    weight = sum(one.rows for one in calibration)
    return Quality(
        sample_rows=len(labels),
        total_rows=total_rows,
        classes=list(classes),
        confusion=matrix.tolist() if len(classes) <= MAX_CLASSES else [],
        per_class=[_class_quality(name, matrix, index) for index, name in enumerate(classes)],
        kappa=_kappa(matrix),
        roc=[c for i in shown if (c := _roc(classes[i], labels == i, probabilities[:, i]))],
        roc_thresholds=roc_points(labels, probabilities),
        precision_recall=[c for i in shown if (c := _precision_recall(classes[i], labels == i, probabilities[:, i]))],
        calibration=calibration,
        calibration_error=sum(abs(b.predicted - b.observed) * b.rows for b in calibration) / weight if weight else None,
    )


def confusion_matrix(labels: Array, probabilities: Array) -> Array:
    """Counts (classes, classes) int64: a row a true class, a column a predicted one.

    Args:
        labels: (rows,) int64 index of the class.
        probabilities: (rows, classes).
    """
    num_classes = probabilities.shape[1]
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def roc_points(labels: Array, probabilities: Array) -> list[tuple[float, float, float]]:
    """Threshold, false-positive rate and recall at evenly spaced thresholds, the highest first.

    Of the second class where there are two; where there are more, of all classes against the rest together.

    Args:
        labels: (rows,) int64 index of the class.
        probabilities: (rows, classes).
    """
    num_classes = probabilities.shape[1]
    is_class = np.eye(num_classes, dtype=bool)[labels]
    columns = [1] if num_classes == 2 else list(range(num_classes))
    truth, scores = is_class[:, columns].ravel(), probabilities[:, columns].ravel()
    thresholds = np.linspace(1, 0, ROC_THRESHOLDS + 1)
    rates = []
    for values in (scores[~truth], scores[truth]):
        ordered = np.sort(values)
        at_or_above = len(ordered) - np.searchsorted(ordered, thresholds, side="left")
        rates.append(at_or_above / max(len(ordered), 1))
    return [tuple(map(float, entry)) for entry in zip(thresholds, *rates, strict=True)]  # type: ignore[misc]


def _class_quality(name: str, matrix: Array, index: int) -> ClassQuality:
    hits, support, predicted = int(matrix[index, index]), int(matrix[index].sum()), int(matrix[:, index].sum())
    precision = hits / predicted if predicted else None
    recall = hits / support if support else None
    both = support + predicted
    return ClassQuality(
        name=name, precision=precision, recall=recall, f1=2 * hits / both if both else None, support=support
    )


def _kappa(matrix: Array) -> float | None:
    """Cohen's kappa: agreement beyond what the frequencies of the classes alone would give."""
    total = matrix.sum()
    by_chance = float((matrix.sum(axis=0) * matrix.sum(axis=1)).sum()) / float(total) ** 2
    return (float(np.trace(matrix)) / float(total) - by_chance) / (1 - by_chance) if by_chance < 1 else None


def _cumulative(truth: Array, scores: Array) -> tuple[Array, Array] | None:
    """True and false positives at each distinct score, the highest first; None if a class has no row."""
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(truth[order])
    return hits[last_of_score], np.flatnonzero(last_of_score) + 1 - hits[last_of_score]


def _roc(name: str, truth: Array, scores: Array) -> Curve | None:
    counts = _cumulative(truth, scores)
    if counts is None:
        return None
    recall = np.append(0.0, counts[0] / counts[0][-1])
    false_positives = np.append(0.0, counts[1] / counts[1][-1])
    area = float(np.trapezoid(recall, false_positives))
    return Curve(name=name, area=area, points=_thinned(false_positives, recall))


def _precision_recall(name: str, truth: Array, scores: Array) -> Curve | None:
    counts = _cumulative(truth, scores)
    if counts is None:
        return None
    recall, precision = counts[0] / counts[0][-1], counts[0] / (counts[0] + counts[1])
    area = float((np.diff(np.append(0.0, recall)) * precision).sum())
    complete = int(np.argmax(recall >= 1)) + 1  # after every row of the class is found, precision only falls
    recall, precision = recall[:complete], precision[:complete]
    return Curve(name=name, area=area, points=_thinned(np.append(0.0, recall), np.append(precision[0], precision)))


def _thinned(x: Array, y: Array) -> list[Point]:
    """The curve with as many points as can be seen, its ends and corners among them."""
    corner = np.ones(len(x), bool)
    corner[1:-1] = ~(((x[1:-1] == x[:-2]) & (x[1:-1] == x[2:])) | ((y[1:-1] == y[:-2]) & (y[1:-1] == y[2:])))
    x, y = x[corner], y[corner]
    if len(x) > CURVE_POINTS:
        length = np.cumsum(np.append(0.0, np.hypot(np.diff(x), np.diff(y))))
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)))
        kept = np.unique([0, *np.clip(kept, 0, len(x) - 1), len(x) - 1])
        x, y = x[kept], y[kept]
    return [(round(float(a), 4), round(float(b), 4)) for a, b in zip(x, y, strict=True)]


def _calibration(labels: Array, probabilities: Array) -> list[CalibrationBin]:
    """Of the second class where there are two; of the class that is predicted where there are more."""
    if probabilities.shape[1] == 2:
        scores, hits = probabilities[:, 1], labels == 1
    else:
        scores, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        CalibrationBin(predicted=float(scores[own].mean()), observed=float(hits[own].mean()), rows=int(own.sum()))
        for number in range(CALIBRATION_BINS)
        if (own := bins == number).any()
    ]


def _regression(predictions: Predictions, total_rows: int, seed: int) -> Quality:
    labels, values = predictions.labels, predictions.outputs
    residuals = values - labels
    low, high = np.quantile(residuals, [0.005, 0.995])  # a single row far off would leave one bar
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    counts, edges = np.histogram(np.clip(residuals, low, high), bins=RESIDUAL_BARS, range=(low, high))
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


def bootstrap(metric: str, predictions: Predictions, *, value: float, seed: int) -> Interval | None:
    """Percentile bootstrap of a metric, 95 %: its spread over samples of the rows drawn with replacement.

    The spread is laid around the value of all rows, from which that of the sample may differ a little. B. Efron,
    "Bootstrap Methods: Another Look at the Jackknife", 1979.

    Args:
        metric: one of pipeline.config.METRICS.
        predictions: for the rows of the sample.
        value: of the metric on all rows.
        seed: of the draws.
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
    lower, upper = np.quantile(found, [0.025, 0.975]) - point + value
    low, high = (0.0, 1.0) if metric in _SHARES else (0.0, np.inf)
    return Interval(
        lower=float(np.clip(lower, low, value)), upper=float(np.clip(upper, value, high)), method="bootstrap"
    )


_SHARES = frozenset(
    {"accuracy", "auc", "auc_precision_recall", "f1", "precision", "recall", "squared_pearson_correlation"}
)


def _draw(generator: np.random.Generator, rows: int, samples: int) -> Array:
    """How often each row is in each sample, (samples, rows)."""
    drawn = generator.integers(0, rows, (samples, rows)) + rows * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * rows).reshape(samples, rows).astype(np.float64)


Measure = Callable[[Array], Array]
"""A metric of rows with weights (samples, rows), for each sample."""


def _measure(metric: str, predictions: Predictions) -> Measure | None:
    labels, outputs = predictions.labels, predictions.outputs
    if predictions.classes:
        if metric == "accuracy":
            return _mean_of(outputs.argmax(axis=1) == labels)
        if metric == "cross_entropy":
            return _mean_of(row_losses(labels, outputs))
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


def _squared_correlation(weights: Array, x: Array, y: Array) -> Array:
    total = weights.sum(axis=1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    variances = (weights @ (x * x) / total - mean_x**2) * (weights @ (y * y) / total - mean_y**2)
    return covariance**2 / variances


def _mean_over_classes(metric: str, predictions: Predictions) -> Measure | None:
    """As the Evaluator has it: of the second class of two; the mean over the classes that have rows otherwise."""
    labels, outputs = predictions.labels, predictions.outputs
    present = np.unique(labels)
    indices: Sequence[int] = [1] if len(predictions.classes) == 2 else [int(index) for index in present]
    one_class = {
        "auc": _area_measure,
        "auc_precision_recall": _precision_area_measure,
        "f1": _f1_measure,
        "precision": _precision_measure,
        "recall": _recall_measure,
    }.get(metric)
    if one_class is None:
        return None
    measures = [one_class(labels == index, outputs[:, index]) for index in indices]
    return lambda weights: np.mean([measure(weights) for measure in measures], axis=0)


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


def _ordered(truth: Array, scores: Array) -> tuple[Array, Array, Array, Array]:
    """The order of rising scores, where a new score starts in it, and truth and its contrary in it."""
    order = np.argsort(scores, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(scores[order])) + 1)
    return order, starts, truth[order].astype(np.float64), (~truth[order]).astype(np.float64)


def _precision_measure(truth: Array, scores: Array) -> Measure:
    predicted, hits = scores > 0.5, (scores > 0.5) & truth
    return lambda weights: _ratio(weights @ hits.astype(float), weights @ predicted.astype(float))


def _recall_measure(truth: Array, scores: Array) -> Measure:
    hits = (scores > 0.5) & truth
    return lambda weights: _ratio(weights @ hits.astype(float), weights @ truth.astype(float))


def _f1_measure(truth: Array, scores: Array) -> Measure:
    predicted, hits = scores > 0.5, (scores > 0.5) & truth
    both = predicted.astype(float) + truth.astype(float)
    return lambda weights: _ratio(2 * (weights @ hits.astype(float)), weights @ both)


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)

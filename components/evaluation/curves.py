"""Accumulators of the areas under curves.

A curve is that of TFMA: 10,000 thresholds, and predictions sorted into as many buckets (tensorflow_model_analysis/
metrics/binary_confusion_matrices.py). Only buckets with rows are kept, since the curve does not change in the others.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.evaluation.classification import classes_of_interest, mean_over_classes
from kubetfx.components.evaluation.metric import Accumulator, Additive, ratio, weighted_counts

THRESHOLDS = 10_000
_BUCKETS = 10_000
_EPSILON = 1e-7


@dataclass(frozen=True)
class Histogram:
    """Rows by class and by step of its curve, for the steps that have any."""

    num_classes: int
    """Number of classes with a curve."""
    steps: Array
    """(steps,) int64, sorted: THRESHOLDS times the class, plus the last threshold that lets the rows through."""
    hits: Array
    """(..., steps) float64, rows of the class."""
    misses: Array
    """(..., steps) float64, other rows."""

    def moved_to(self, steps: Array) -> "Histogram":
        """Return the same histogram over more steps.

        Args:
            steps: (steps,) int64, sorted; all of its own are among them.
        """
        places = np.searchsorted(steps, self.steps)
        hits, misses = (np.zeros((*counts.shape[:-1], len(steps))) for counts in (self.hits, self.misses))
        hits[..., places], misses[..., places] = self.hits, self.misses
        return Histogram(self.num_classes, steps, hits, misses)


class Area(Additive):
    """Base of the areas: the mean over the classes that have rows, or the value of the second of two classes."""

    def add_block(self, state: Histogram | None, labels: Array, predictions: Array, weights: Array) -> Histogram:
        """See Accumulator."""
        columns = classes_of_interest(predictions.shape[1])
        step = _steps(predictions[:, columns]) + THRESHOLDS * np.arange(len(columns))
        there = np.flatnonzero(np.bincount(step.ravel(), minlength=THRESHOLDS * len(columns)))
        place = np.zeros(THRESHOLDS * len(columns), np.int64)
        place[there] = np.arange(len(there))
        place_of_row = place[step]  # (rows, classes)
        rows, classes = np.nonzero(labels[:, np.newaxis] == columns)
        hits = weighted_counts(place_of_row[rows, classes], weights[..., rows], length=len(there))
        each = np.repeat(weights, len(columns), axis=-1)
        misses = weighted_counts(place_of_row.ravel(), each, length=len(there)) - hits
        added: Histogram = self.merge(state, Histogram(len(columns), there, hits, misses))
        return added

    def added(self, first: Histogram, second: Histogram) -> Histogram:
        """Return the rows of both, among the steps of both."""
        is_there = np.zeros(THRESHOLDS * first.num_classes, bool)
        is_there[first.steps] = is_there[second.steps] = True
        steps = np.flatnonzero(is_there)
        first, second = first.moved_to(steps), second.moved_to(steps)
        return Histogram(first.num_classes, steps, first.hits + second.hits, first.misses + second.misses)

    def of_state(self, state: Histogram) -> Array:
        """Return the mean over the classes of the areas under their curves."""
        values, rows = [], []
        bounds = np.searchsorted(state.steps, THRESHOLDS * np.arange(state.num_classes + 1))
        for start, end in itertools.pairwise(bounds):
            hits, misses = (_at_or_above(counts[..., start:end]) for counts in (state.hits, state.misses))
            values.append(self.of_curve(hits, misses))
            rows.append(hits[..., 0])
        return mean_over_classes(np.stack(values, axis=-1), np.stack(rows, axis=-1))

    def of_curve(self, hits: Array, misses: Array) -> Array:
        """Return the area under a curve, (...) float64.

        Args:
            hits: (..., points) weight of the rows of the class at or above each threshold, from the lowest to the
                highest.
            misses: the same of the other rows.
        """
        raise NotImplementedError


class AreaUnderRoc(Area):
    """Area under recall over the false-positive rate, by trapezoids. Undefined without rows of both kinds."""

    def of_curve(self, hits: Array, misses: Array) -> Array:
        """See Area."""
        area = ((misses[..., :-1] - misses[..., 1:]) * (hits[..., :-1] + hits[..., 1:]) / 2).sum(axis=-1)
        return ratio(area, misses[..., 0] * hits[..., 0])


class AreaUnderPrecisionRecall(Area):
    """Area under precision over recall.

    Undefined without rows of the class. Between thresholds the true positives are interpolated rather than the
    precision, as in Keras. J. Davis and M. Goadrich, "The Relationship Between Precision-Recall and ROC Curves", 2006.
    """

    def of_curve(self, hits: Array, misses: Array) -> Array:
        """See Area."""
        named = hits + misses
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (hits[..., :-1] - hits[..., 1:]) / (named[..., :-1] - named[..., 1:])
            intercept = hits[..., 1:] - slope * named[..., 1:]
            logarithm = np.log(np.where(named[..., 1:] > 0, named[..., :-1] / named[..., 1:], 1.0))
            steps = slope * (hits[..., :-1] - hits[..., 1:] + intercept * logarithm)
        return ratio(np.nansum(steps, axis=-1), hits[..., 0])  # without rows between two thresholds nothing is added


def _at_or_above(counts: Array) -> Array:
    """Return rows that each threshold lets through, (..., steps + 1): above the last one is none."""
    sums = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
    return np.concatenate([sums, np.zeros((*sums.shape[:-1], 1))], axis=-1)


def _steps(probabilities: Array) -> Array:
    """Return the last threshold that lets each row through, (rows, classes) int64."""
    position = probabilities.astype(np.float64) * _BUCKETS
    bucket = np.clip(np.where(np.isnan(position), 0, position), -1, _BUCKETS).astype(np.int64)
    return _step_of_bucket()[bucket + 1]


@cache
def _step_of_bucket() -> Array:
    """Return the last threshold that is not above the left end of each bucket; the first bucket has no left end.

    The highest threshold, 1 + epsilon, lets nothing through.
    """
    inner = np.arange(1, THRESHOLDS - 1) / (THRESHOLDS - 1)
    thresholds = np.concatenate([[-_EPSILON], inner, [1 + _EPSILON]]) + _EPSILON
    left_ends = np.concatenate([[-np.inf], np.arange(_BUCKETS) / _BUCKETS, [np.inf]])
    return np.clip(np.searchsorted(thresholds, left_ends, side="right") - 1, 0, THRESHOLDS - 2)


ACCUMULATORS: Mapping[str, Callable[..., Accumulator]] = {
    "auc": AreaUnderRoc,
    "auc_precision_recall": AreaUnderPrecisionRecall,
}
"""By the name that the catalogue has."""

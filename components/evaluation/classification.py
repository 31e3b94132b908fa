"""Accumulators of the metrics of a classification, except the areas under curves (curves.py)."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.evaluation.metric import Accumulator, Additive, Mean, Sums, ratio, weighted_counts
from kubetfx.config.metric_catalogue import AVERAGES, CALIBRATION_ERROR, Average

_EPSILON = 1e-7


class Accuracy(Mean):
    """Share of the rows whose most likely class is correct."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return whether the prediction is correct."""
        hits: Array = predictions.argmax(axis=1) == labels
        return hits


class TopKAccuracy(Mean):
    """Share of the rows whose class is among the k most likely."""

    def __init__(self, *, top_k: int) -> None:
        """Set k.

        Args:
            top_k: The number of most likely classes that may include the row's class, at least 1.
        """
        self._top_k = top_k

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return whether the prediction is correct."""
        likely = np.argsort(-predictions, axis=1, kind="stable")[:, : self._top_k]
        hits: Array = (likely == labels[:, np.newaxis]).any(axis=1)
        return hits


class AccuracyDrop(Sums):
    """How much accuracy a change of the images costs.

    Predictions are (rows, 2, classes): for the image, and for the changed one.
    """

    def terms(self, labels: Array, predictions: Array) -> Array:
        """Return whether the first is correct, whether the second is correct, and 1."""
        is_right = predictions.argmax(axis=2) == labels[:, np.newaxis]
        return np.column_stack([is_right, np.ones(len(labels), bool)]).astype(np.float64)

    def of_state(self, state: Array) -> Array:
        """Return the one share less the other."""
        return ratio(state[..., 0], state[..., 2]) - ratio(state[..., 1], state[..., 2])


def row_cross_entropies(labels: Array, probabilities: Array) -> Array:
    """Return the cross entropy of each row, (rows,) float64.

    Probabilities are clipped away from 0 and 1 and normalized again, as in Keras.

    Args:
        labels: (rows,) index of the class; below 0, the class has no probability.
        probabilities: (rows, classes).
    """
    clipped = np.clip(probabilities.astype(np.float64), _EPSILON, 1 - _EPSILON)
    of_label = np.where(labels >= 0, clipped[np.arange(len(labels)), labels], _EPSILON)
    entropies: Array = np.log(clipped.sum(axis=1)) - np.log(of_label)
    return entropies


class CrossEntropy(Mean):
    """Mean of the rows' cross entropies."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return the cross entropy."""
        return row_cross_entropies(labels, predictions)


class CalibrationError(Additive):
    """The mean difference between predicted probabilities and observed frequencies.

    Rows are binned by probability: that of the second class with two classes, and of the likeliest class with more. It
    is the expected calibration error of M. P. Naeini, G. Cooper, M. Hauskrecht, "Obtaining Well Calibrated
    Probabilities Using Bayesian Binning", AAAI 2015.
    """

    BINS = 10

    def add_block(self, state: Array | None, labels: Array, predictions: Array, weights: Array) -> Array:
        """See Accumulator.

        The state (..., 3, BINS) has rows, the sum of their probabilities, and rows of the predicted class.
        """
        if predictions.shape[1] == 2:
            scores, hits = predictions[:, 1], labels == 1
        else:
            scores, hits = predictions.max(axis=1), predictions.argmax(axis=1) == labels
        bins = np.minimum((scores * self.BINS).astype(np.int64), self.BINS - 1)
        parts = [weighted_counts(bins, weights * of_row, length=self.BINS) for of_row in (1.0, scores, hits)]
        added: Array = self.merge(state, np.stack(parts, axis=-2))
        return added

    def of_state(self, state: Array) -> Array:
        """Return the distances, weighted by the rows."""
        rows, predicted, observed = np.moveaxis(state, -2, 0)
        return ratio(np.abs(predicted - observed).sum(axis=-1), rows.sum(axis=-1))


class Kappa(Additive):
    """Agreement beyond chance, given the frequencies of the classes: 1 is perfect, 0 is chance.

    J. Cohen, "A Coefficient of Agreement for Nominal Scales", 1960. Rows of a class that the model does not know are
    left out. Undefined without rows, or with only one class.
    """

    def add_block(self, state: Array | None, labels: Array, predictions: Array, weights: Array) -> Array:
        """See Accumulator; the state (..., 3, classes) has rows there, rows named and rows agreed on, by class."""
        known = labels >= 0
        labels, named, weights = labels[known].astype(np.int64), predictions[known].argmax(axis=1), weights[..., known]
        size = predictions.shape[1]
        agreed = weights * (labels == named)
        parts = [(labels, weights), (named, weights), (labels, agreed)]
        counts = np.stack([weighted_counts(*part, length=size) for part in parts], axis=-2)
        added: Array = self.merge(state, counts)
        return added

    def of_state(self, state: Array) -> Array:
        """Return the agreement minus chance agreement, as a share of the agreement that chance leaves open."""
        there, named, agreed = np.moveaxis(state, -2, 0)
        total = there.sum(axis=-1)
        by_chance = ratio((there * named).sum(axis=-1), total**2)
        return ratio(ratio(agreed.sum(axis=-1), total) - by_chance, 1 - by_chance)


class OfEachClass(Sums):
    """Base of precision, recall and F1. Each row is assigned to its likeliest class, whatever the number of classes.

    Without an average, the metric is that of the second of two classes, or the mean over more classes. A class to which
    no row is assigned has precision 0 in a mean.
    """

    def __init__(self, *, average: Average | None = None) -> None:
        """Set how the metrics of classes become one number.

        Args:
            average: `macro`: the mean over the classes that have rows; `weighted`: the same by their rows; `micro`: of
                the rows of all classes together.
        """
        self._average = average

    def terms(self, labels: Array, predictions: Array) -> Array:
        """Return by class whether the row is of the class and assigned to it, is assigned to it, and is of it."""
        num_classes = predictions.shape[1]
        columns = np.arange(num_classes) if self._average else classes_of_interest(num_classes)
        is_class, is_named = (of_row[:, np.newaxis] == columns for of_row in (labels, predictions.argmax(axis=1)))
        return np.concatenate([is_class & is_named, is_named, is_class], axis=1).astype(np.float64)

    def of_state(self, state: Array) -> Array:
        """Return the metric of the one class, or the average."""
        hits, named, there = np.moveaxis(state.reshape(*state.shape[:-1], 3, -1), -2, 0)
        if self._average == "micro":
            return self.of_counts(*(counts.sum(axis=-1) for counts in (hits, named, there)))
        values = self.of_counts(hits, named, there)
        if values.shape[-1] == 1:
            return values[..., 0]
        values = np.where(there > 0, np.nan_to_num(values), 0.0)
        if self._average == "weighted":
            return ratio((values * there).sum(axis=-1), there.sum(axis=-1))
        return mean_over_classes(values, there)

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Return the metric of each class, or of all together, in the shape of the counts.

        Args:
            hits: (...) The weight of the rows of the class that are assigned to it.
            named: The weight of all rows assigned to it.
            there: The weight of all rows of it.
        """
        raise NotImplementedError


class Precision(OfEachClass):
    """Share of the rows assigned to the class that are of it."""

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Return hits per assigned row."""
        return ratio(hits, named)


class Recall(OfEachClass):
    """Share of the rows of the class that are assigned to it."""

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Return hits per row of the class."""
        return ratio(hits, there)


class F1(OfEachClass):
    """Harmonic mean of precision and recall."""

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Return twice the hits per assigned row and row of the class."""
        return ratio(2 * hits, named + there)


def classes_of_interest(num_classes: int) -> Array:
    """Return the indices of the classes for which a per-class metric is computed: the second of two, else all.

    Args:
        num_classes: The number of classes of the model.
    """
    return np.array([1]) if num_classes == 2 else np.arange(num_classes)


def mean_over_classes(values: Array, rows: Array) -> Array:
    """Return the mean (...) over the classes that have rows; for one class, its value.

    Args:
        values: (..., classes).
        rows: (..., classes) number of rows of each.
    """
    if values.shape[-1] == 1:
        return values[..., 0]
    has_rows = rows > 0
    return ratio(np.where(has_rows, values, 0.0).sum(axis=-1), has_rows.sum(axis=-1))


_BASES: Mapping[str, type[OfEachClass]] = {"f1": F1, "precision": Precision, "recall": Recall}

ACCUMULATORS: Mapping[str, Callable[..., Accumulator]] = {
    "accuracy": Accuracy,
    CALIBRATION_ERROR: CalibrationError,
    "cross_entropy": CrossEntropy,
    "kappa": Kappa,
    "top_k_accuracy": TopKAccuracy,
    **_BASES,
    **{f"{name}_{way}": partial(base, average=way) for name, base in _BASES.items() for way in AVERAGES},
}
"""Accumulators by their name in the catalogue."""

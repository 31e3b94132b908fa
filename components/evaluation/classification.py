"""Accumulators of the metrics of a classification, but for the areas under curves (curves.py)."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from kubetfx.components.evaluation.metric import Accumulator, Additive, Array, Mean, Sums, ratio, weighted_counts
from kubetfx.config.metric_catalogue import AVERAGES, CALIBRATION_ERROR, Average

_EPSILON = 1e-7


class Accuracy(Mean):
    """Share of the rows whose most likely class is theirs."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return whether it is."""
        return predictions.argmax(axis=1) == labels


class TopKAccuracy(Mean):
    """Share of the rows whose class is among the k most likely."""

    def __init__(self, *, top_k: int) -> None:
        """Remember k.

        Args:
            top_k: number of classes that a row's may be among, 1 or more.
        """
        self._top_k = top_k

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return whether it is."""
        likely = np.argsort(-predictions, axis=1, kind="stable")[:, : self._top_k]
        return (likely == labels[:, np.newaxis]).any(axis=1)


class AccuracyDrop(Sums):
    """How much accuracy a change of the images costs.

    Predictions are (rows, 2, classes): for the image, and for the changed one.
    """

    def terms(self, labels: Array, predictions: Array) -> Array:
        """Return whether the first is right, the second is, and 1."""
        is_right = predictions.argmax(axis=2) == labels[:, np.newaxis]
        return np.column_stack([is_right, np.ones(len(labels), bool)]).astype(np.float64)

    def of_state(self, state: Array) -> Array:
        """Return the one share less the other."""
        return ratio(state[..., 0], state[..., 2]) - ratio(state[..., 1], state[..., 2])


def row_cross_entropies(labels: Array, probabilities: Array) -> Array:
    """Return the cross entropy of each row, (rows,) float64, with probabilities kept off 0 and 1 and made to add up to
    1 again, as Keras has it.

    Args:
        labels: (rows,) index of the class; below 0, the class has no probability.
        probabilities: (rows, classes).
    """
    clipped = np.clip(probabilities.astype(np.float64), _EPSILON, 1 - _EPSILON)
    of_label = np.where(labels >= 0, clipped[np.arange(len(labels)), labels], _EPSILON)
    return np.log(clipped.sum(axis=1)) - np.log(of_label)


class CrossEntropy(Mean):
    """Mean of the rows' cross entropies."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return the cross entropy."""
        return row_cross_entropies(labels, predictions)


class CalibrationError(Additive):
    """How far probabilities are from the shares of the rows that they come true in, on average over the rows.

    Rows whose probabilities are about the same are put together: those of the second class where there are two, and of
    the likeliest class where there are more. It is the expected calibration error of M. P. Naeini, G. Cooper,
    M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """

    BINS = 10

    def add_block(self, state: Array | None, labels: Array, predictions: Array, weights: Array) -> Array:
        """See Accumulator; the state (..., 3, BINS) has rows, the sum of their probabilities, and rows that it comes
        true in.
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
    """Agreement beyond what the frequencies of the classes alone would give: 1 is all, 0 none.

    J. Cohen, "A Coefficient of Agreement for Nominal Scales", 1960. Rows of a class that the model does not know are
    left out. Not defined where there is no row, or one class alone.
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
        """Return the agreement less that by chance, as a share of what is left beside the latter."""
        there, named, agreed = np.moveaxis(state, -2, 0)
        total = there.sum(axis=-1)
        by_chance = ratio((there * named).sum(axis=-1), total**2)
        return ratio(ratio(agreed.sum(axis=-1), total) - by_chance, 1 - by_chance)


class OfEachClass(Sums):
    """Base of precision, recall and F1. A row is taken for its likeliest class, whatever the number of classes.

    Without an average it is of the second class of two, and the mean over the classes where there are more. A class
    that no row is taken for has the precision 0 in a mean.
    """

    def __init__(self, *, average: Average | None = None) -> None:
        """Remember how classes become one number.

        Args:
            average: `macro`: the mean over the classes that have rows; `weighted`: the same by their rows; `micro`: of
                the rows of all classes together.
        """
        self._average = average

    def terms(self, labels: Array, predictions: Array) -> Array:
        """By class: whether the row is of it and taken for it, whether it is taken for it, whether it is of it."""
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
        """Return the metric of each class, or of all together, of the shape of the counts.

        Args:
            hits: (...) weight of the rows that are of the class and taken for it.
            named: of those taken for it.
            there: of those that are of it.
        """
        raise NotImplementedError


class Precision(OfEachClass):
    """Share of the rows taken for the class that are of it."""

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Share of the named."""
        return ratio(hits, named)


class Recall(OfEachClass):
    """Share of the rows of the class that are taken for it."""

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Share of those there."""
        return ratio(hits, there)


class F1(OfEachClass):
    """Harmonic mean of precision and recall."""

    def of_counts(self, hits: Array, named: Array, there: Array) -> Array:
        """Twice the hits among those named and those there."""
        return ratio(2 * hits, named + there)


def classes_of_interest(num_classes: int) -> Array:
    """Return the indices of the classes that a metric of each class is of: the second of two, else all.

    Args:
        num_classes: The number of classes of the model.
    """
    return np.array([1]) if num_classes == 2 else np.arange(num_classes)


def mean_over_classes(values: Array, rows: Array) -> Array:
    """Return the mean (...) over the classes that have rows; of one class, its value.

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
"""By the name that the catalogue has."""

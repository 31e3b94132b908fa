"""The confusion matrix, and the scores of each class that follow from it."""

from dataclasses import dataclass

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.evaluation.metric import Additive, weighted_counts


@dataclass(frozen=True)
class ClassScores:
    """Scores of a class; None if undefined, without rows of the class or without rows assigned to it."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: float
    """Rows of the class, with their weights."""


class ConfusionMatrix(Additive):
    """Rows by their class and by the predicted class, (..., classes, classes).

    A row of the matrix is a true class, a column a predicted one. Rows of a class that the model does not know are left
    out.
    """

    def add_block(self, state: Array | None, labels: Array, predictions: Array, weights: Array) -> Array:
        """See metric.Accumulator."""
        known, size = labels >= 0, predictions.shape[1]
        cells = labels[known].astype(np.int64) * size + predictions[known].argmax(axis=1)
        counts = weighted_counts(cells, weights[..., known], length=size**2)
        added: Array = self.merge(state, counts.reshape(*counts.shape[:-1], size, size))
        return added

    def of_state(self, state: Array) -> Array:
        """Return the matrix itself."""
        return state


def class_scores(matrix: Array) -> list[ClassScores]:
    """Return the scores of each class.

    Args:
        matrix: (classes, classes) The numbers of rows in a ConfusionMatrix, which may be fractional with weights.
    """
    counts = zip(np.diagonal(matrix).tolist(), matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist(), strict=True)
    return [
        ClassScores(_share(hits, named), _share(hits, there), _share(2 * hits, there + named), there)
        for hits, there, named in counts
    ]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None

"""The confusion matrix, and what follows from it: Cohen's kappa, and how each class is recognised."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassScores:
    """How a class is recognised; None where nothing is defined: no row of it, or none that was taken for it."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Rows of the class."""


def confusion_matrix(labels: Array, predicted: Array, *, num_classes: int) -> Array:
    """Counts (classes, classes) int64: a row a true class, a column a predicted one.

    Args:
        labels: (rows,) int64 index of the class; rows of a class that the model does not know, below 0, are left out.
        predicted: (rows,) int64 index of the class that the model names.
        num_classes: that the model knows.
    """
    known = labels >= 0
    cells = labels[known] * num_classes + predicted[known]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def kappa(matrix: Array) -> float | None:
    """Agreement beyond what the frequencies of the classes alone would give: 1 is all, 0 none.

    J. Cohen, "A Coefficient of Agreement for Nominal Scales", 1960.

    Args:
        matrix: of `confusion_matrix`.

    Returns:
        None where it is not defined: there is no row, or one class alone.
    """
    total = float(matrix.sum())
    if not total:
        return None
    by_chance = float(matrix.sum(axis=0) @ matrix.sum(axis=1)) / total**2
    return (float(np.trace(matrix)) / total - by_chance) / (1 - by_chance) if by_chance < 1 else None


def class_scores(matrix: Array) -> list[ClassScores]:
    """How each class is recognised.

    Args:
        matrix: of `confusion_matrix`.
    """
    counts = zip(np.diagonal(matrix).tolist(), matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist(), strict=True)
    return [
        ClassScores(_share(hits, named), _share(hits, there), _share(2 * hits, there + named), there)
        for hits, there, named in counts
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

"""Against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics as reference

from kubetfx.components.evaluation.confusion import ConfusionMatrix, class_scores
from kubetfx.components.evaluation.metric import value_of

GENERATOR = np.random.default_rng(0)
LABELS, PREDICTED = GENERATOR.integers(0, 4, (2, 300))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> np.ndarray:
    return value_of(ConfusionMatrix(), labels, np.eye(num_classes)[predicted])


def test_counts_are_those_of_the_pairs() -> None:
    matrix = confusion_matrix(LABELS, PREDICTED, num_classes=4)

    assert matrix.tolist() == reference.confusion_matrix(LABELS, PREDICTED).tolist()


def test_rows_of_a_class_that_the_model_does_not_know_are_left_out() -> None:
    assert confusion_matrix(np.array([0, -1, 1]), np.array([0, 1, 1]), num_classes=2).tolist() == [[1, 0], [0, 1]]


def test_scores_of_the_classes() -> None:
    matrix = confusion_matrix(LABELS, PREDICTED, num_classes=4)
    expected = reference.precision_recall_fscore_support(LABELS, PREDICTED)

    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [getattr(one, name) for one in class_scores(matrix)] == pytest.approx(values.tolist())


def test_what_is_not_defined_is_none() -> None:
    matrix = np.array([[3, 0, 0], [0, 0, 0], [1, 0, 0]])
    absent, missed = class_scores(matrix)[1:]

    assert (absent.precision, absent.recall, absent.f1) == (None, None, None)
    assert (missed.precision, missed.recall, missed.f1) == (None, 0, 0)

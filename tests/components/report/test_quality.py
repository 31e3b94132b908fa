"""Against scikit-learn, which computes the same by other means."""

import numpy as np
import pytest
import sklearn.metrics as reference

from components.report import quality
from tests.components.report import sample

TWO = ("no", "yes")
BINARY = sample.predictions(500, classes=TWO)
MULTI = sample.predictions(500, classes=("a", "b", "c"))
REGRESSION = sample.regression_predictions()


def test_confusion_matrix_per_class_and_kappa() -> None:
    found = quality.describe(MULTI, total_rows=500, seed=0)
    predicted = MULTI.outputs.argmax(axis=1)

    assert found.confusion == reference.confusion_matrix(MULTI.labels, predicted).tolist()
    assert found.kappa == pytest.approx(reference.cohen_kappa_score(MULTI.labels, predicted))
    expected = reference.precision_recall_fscore_support(MULTI.labels, predicted)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [getattr(one, name) for one in found.per_class] == pytest.approx(values.tolist())


def test_curves_and_their_areas() -> None:
    found = quality.describe(BINARY, total_rows=500, seed=0)
    truth, scores = BINARY.labels == 1, BINARY.outputs[:, 1]

    assert [curve.name for curve in found.roc] == ["yes"]
    assert found.roc[0].area == pytest.approx(reference.roc_auc_score(truth, scores))
    assert found.precision_recall[0].area == pytest.approx(reference.average_precision_score(truth, scores))
    assert found.roc[0].points[0] == (0, 0)
    assert found.roc[0].points[-1] == (1, 1)
    assert found.precision_recall[0].points[-1][0] == 1
    assert len(found.roc[0].points) <= quality.CURVE_POINTS + 2


def test_thinned_curve_is_still_the_curve() -> None:
    found = quality.describe(BINARY, total_rows=500, seed=0).roc[0]
    x, y = np.array(found.points).T

    assert np.trapezoid(y, x) == pytest.approx(found.area, abs=0.01)


def test_roc_points_fall_from_nothing_to_everything() -> None:
    points = quality.roc_points(MULTI.labels, MULTI.outputs)

    assert points[0][0] == 1
    assert points[-1] == (0, 1, 1)
    assert [point[2] for point in points] == sorted(point[2] for point in points)
    threshold, false_positives, recall = points[50]
    truth, scores = np.eye(3, dtype=bool)[MULTI.labels].ravel(), MULTI.outputs.ravel()
    assert recall == pytest.approx((scores[truth] >= threshold).mean())
    assert false_positives == pytest.approx((scores[~truth] >= threshold).mean())


def test_calibration_holds_every_row_once() -> None:
    found = quality.describe(MULTI, total_rows=500, seed=0)

    assert sum(one.rows for one in found.calibration) == 500
    assert all(0 <= one.observed <= 1 for one in found.calibration)
    assert found.calibration_error == pytest.approx(
        sum(abs(one.predicted - one.observed) * one.rows for one in found.calibration) / 500
    )


def test_class_without_a_row_has_no_recall_and_no_curve() -> None:
    found = quality.describe(
        sample.Predictions(("a", "b", "c"), MULTI.labels % 2, MULTI.outputs, MULTI.known), total_rows=500, seed=0
    )

    assert found.per_class[2].recall is None
    assert [curve.name for curve in found.roc] == ["a", "b"]


def test_many_classes_have_no_picture() -> None:
    names = tuple(f"class {index}" for index in range(quality.MAX_CLASSES + 1))
    found = quality.describe(sample.predictions(300, classes=names), total_rows=300, seed=0)

    assert found.confusion == []
    assert len(found.roc) <= quality.MAX_CURVES
    assert len(found.per_class) == len(names)


def test_residuals_of_a_regression() -> None:
    found = quality.describe(REGRESSION, total_rows=900, seed=0)

    assert (found.sample_rows, found.total_rows) == (300, 900)
    assert sum(found.residual_counts) == 300
    assert found.residual_mean == pytest.approx((REGRESSION.outputs - REGRESSION.labels).mean())
    assert len(found.predicted_against_true) == 300


def metric_of(name: str, predictions: sample.Predictions, weights: np.ndarray) -> float:
    labels, outputs = predictions.labels, predictions.outputs
    if outputs.ndim == 1:
        return {
            "mean_absolute_error": reference.mean_absolute_error(labels, outputs, sample_weight=weights),
            "mean_squared_error": reference.mean_squared_error(labels, outputs, sample_weight=weights),
            "root_mean_squared_error": reference.mean_squared_error(labels, outputs, sample_weight=weights) ** 0.5,
            "squared_pearson_correlation": np.cov(labels, outputs, fweights=weights.astype(int), bias=True)[0, 1] ** 2
            / np.cov(labels, outputs, fweights=weights.astype(int), bias=True).diagonal().prod(),
        }[name]
    if name == "accuracy":
        return reference.accuracy_score(labels, outputs.argmax(axis=1), sample_weight=weights)
    if name == "cross_entropy":
        return reference.log_loss(labels, outputs, sample_weight=weights)
    one_class = {
        "auc": lambda truth, scores: reference.roc_auc_score(truth, scores, sample_weight=weights),
        "auc_precision_recall": lambda truth, scores: reference.average_precision_score(
            truth, scores, sample_weight=weights
        ),
        "f1": lambda truth, scores: reference.f1_score(truth, scores > 0.5, sample_weight=weights),
        "precision": lambda truth, scores: reference.precision_score(truth, scores > 0.5, sample_weight=weights),
        "recall": lambda truth, scores: reference.recall_score(truth, scores > 0.5, sample_weight=weights),
    }[name]
    indices = [1] if len(predictions.classes) == 2 else range(len(predictions.classes))
    return float(np.mean([one_class(labels == index, outputs[:, index]) for index in indices]))


CASES = [
    (predictions, name)
    for predictions, names in (
        (BINARY, ("accuracy", "cross_entropy", "auc", "auc_precision_recall", "f1", "precision", "recall")),
        (MULTI, ("accuracy", "auc", "auc_precision_recall", "f1")),
        (
            REGRESSION,
            ("mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "squared_pearson_correlation"),
        ),
    )
    for name in names
]


@pytest.mark.parametrize(("predictions", "name"), CASES, ids=[f"{name}-{len(p.classes)}" for p, name in CASES])
def test_metric_of_a_bootstrap_sample_is_the_metric(predictions: sample.Predictions, name: str) -> None:
    rows = len(predictions.labels)
    weights = np.bincount(np.random.default_rng(0).integers(0, rows, rows), minlength=rows).astype(float)
    measure = quality._measure(name, predictions)
    assert measure is not None

    assert measure(weights[None, :])[0] == pytest.approx(metric_of(name, predictions, weights))


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Mean absolute error of normal residuals with standard deviation 1: sqrt(2 / pi)."""
    generator = np.random.default_rng(3)
    truth = np.sqrt(2 / np.pi)
    hits = 0
    for seed in range(60):
        labels = generator.normal(0, 1, 120)
        found = sample.Predictions((), labels, np.zeros(120), np.ones(120, bool))
        interval = quality.bootstrap("mean_absolute_error", found, value=float(np.abs(labels).mean()), seed=seed)
        assert interval is not None
        hits += interval.lower <= truth <= interval.upper
    assert 51 <= hits <= 60


def test_few_rows_and_metrics_without_spread_have_no_interval() -> None:
    few = BINARY.of(np.arange(quality.MIN_ROWS - 1))
    assert quality.bootstrap("auc", few, value=0.5, seed=0) is None
    perfect = sample.Predictions(TWO, BINARY.labels, np.eye(2)[BINARY.labels], BINARY.known)
    assert quality.bootstrap("auc", perfect, value=1.0, seed=0) is None
    assert quality.bootstrap("auc", BINARY, value=float("nan"), seed=0) is None


def test_same_seed_gives_the_same_interval() -> None:
    first, second = (quality.bootstrap("auc", BINARY, value=0.9, seed=7) for _ in range(2))
    assert first == second

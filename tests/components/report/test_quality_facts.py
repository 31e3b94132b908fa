"""Against scikit-learn, which computes the same by other means."""

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as reference
from sklearn.calibration import calibration_curve

from kubetfx.components.evaluation.classification import CalibrationError
from kubetfx.components.evaluation.metric import value_of
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.report import quality_facts as quality
from tests.components.report import sample

TWO = ("no", "yes")
BINARY = sample.predictions(500, classes=TWO)
MULTI = sample.predictions(500, classes=("a", "b", "c"))
REGRESSION = sample.regression_predictions()


def test_classes_are_those_of_all_rows_where_the_evaluator_counted_them() -> None:
    counted = [[50, 10, 0], [5, 30, 5], [0, 0, 100]]

    found = quality.describe(MULTI, total_rows=2_000, seed=0, confusion=counted)

    assert found.confusion == counted
    assert [one.support for one in found.per_class] == [60, 40, 100]
    assert [one.recall for one in found.per_class] == pytest.approx([50 / 60, 30 / 40, 1.0])
    by_chance = (60 * 55 + 40 * 40 + 100 * 105) / 200**2
    assert found.kappa == pytest.approx((180 / 200 - by_chance) / (1 - by_chance))


def test_figures_of_weighted_rows_are_those_of_rows_which_are_there_as_often() -> None:
    times = np.arange(len(BINARY.labels)) % 4
    copies = np.repeat(np.arange(len(times)), times)
    weighted = replace(BINARY, weights=times.astype(float))

    found = quality.describe(weighted, total_rows=500, seed=0).model_dump()
    expected = quality.describe(BINARY.of(copies), total_rows=500, seed=0).model_dump()

    for name in ("confusion", "per_class", "kappa"):
        assert found[name] == expected[name], name
    assert np.array(found["roc_thresholds"]) == pytest.approx(np.array(expected["roc_thresholds"]))
    for name in ("roc", "precision_recall"):
        (ours,), (theirs,) = found[name], expected[name]
        assert ours["area"] == pytest.approx(theirs["area"])
        assert np.array(ours["points"]) == pytest.approx(np.array(theirs["points"]), abs=1e-4)
    assert [one["observed"] for one in found["calibration"]] == pytest.approx(
        [one["observed"] for one in expected["calibration"]]
    )


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
    assert found.roc[0].area == pytest.approx(reference.roc_auc_score(truth, scores), abs=1e-3)
    assert found.precision_recall[0].area == pytest.approx(reference.average_precision_score(truth, scores), abs=1e-2)
    for curve, name in ((found.roc[0], "auc"), (found.precision_recall[0], "auc_precision_recall")):
        metric = find_metric(name).make_accumulator(top_k=1)
        assert curve.area == pytest.approx(float(value_of(metric, BINARY.labels, BINARY.outputs)))
    assert found.roc[0].points[0] == (0, 0)
    assert found.roc[0].points[-1] == (1, 1)
    assert found.precision_recall[0].points[-1][0] == 1
    assert len(found.roc[0].points) <= quality.CURVE_POINTS + 2


def test_thinned_curve_is_still_the_curve() -> None:
    found = quality.describe(BINARY, total_rows=500, seed=0).roc[0]
    x, y = np.array(found.points).T

    assert np.trapezoid(y, x) == pytest.approx(found.area, abs=0.01)


def test_roc_points_fall_from_nothing_to_everything() -> None:
    points = quality.roc_points(MULTI.labels, MULTI.outputs, MULTI.weights)

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


def test_calibration_of_two_classes_is_that_of_the_second() -> None:
    observed, predicted = calibration_curve(BINARY.labels == 1, BINARY.outputs[:, 1], n_bins=CalibrationError.BINS)
    found = quality.describe(BINARY, total_rows=500, seed=0).calibration

    assert [one.observed for one in found] == pytest.approx(observed.tolist())
    assert [one.predicted for one in found] == pytest.approx(predicted.tolist())


def test_class_without_a_row_has_no_recall_and_no_curve() -> None:
    found = quality.describe(
        sample.Predictions(("a", "b", "c"), MULTI.labels % 2, MULTI.outputs, MULTI.known, MULTI.weights),
        total_rows=500,
        seed=0,
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

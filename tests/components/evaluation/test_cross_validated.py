import math

import pytest
from scipy import stats

from kubetfx.components.evaluation import cross_validated
from kubetfx.components.evaluation.cross_validated import CrossValidated, FoldMetrics
from kubetfx.components.evaluation.metric_registry import find_metric

ROWS = {"train": 70, "validation": 10, "eval": 20}


def fold(number: int, *, repeat: int = 0, without: tuple[str, ...] = (), **metrics: float) -> FoldMetrics:
    return FoldMetrics(number, repeat, ROWS, {"example_count": 20.0, **metrics}, list(without))


def test_interval_is_that_of_nadeau_and_bengio():
    found = CrossValidated([fold(0, auc=0.7), fold(1, auc=0.75), fold(2, auc=0.71)], "").metrics["auc"]

    deviation = math.sqrt(((0.7 - 0.72) ** 2 + (0.75 - 0.72) ** 2 + (0.71 - 0.72) ** 2) / 2)
    half = stats.t.ppf(0.975, 2) * deviation * math.sqrt(1 / 3 + 20 / 80)
    assert found.mean == pytest.approx(0.72)
    assert found.deviation == pytest.approx(deviation)
    assert (found.lower, found.upper) == pytest.approx((0.72 - half, 0.72 + half))


def test_interval_stays_where_the_metric_can_be():
    found = CrossValidated([fold(0, accuracy=1.0), fold(1, accuracy=0.8)], "").metrics["accuracy"]

    assert found.upper == 1.0
    assert found.lower is not None
    assert found.lower >= 0


def test_metric_that_a_fold_does_not_have_is_the_mean_of_the_others():
    found = CrossValidated([fold(0, auc=0.5), fold(1), fold(2, auc=0.7)], "").metrics["auc"]

    assert (found.mean, found.folds) == (pytest.approx(0.6), 2)
    assert CrossValidated([fold(0, auc=0.5), fold(1)], "").metrics["auc"].deviation is None


def test_means_are_metrics_of_their_own():
    found = CrossValidated([fold(0, auc=0.5), fold(1, auc=0.7)], "")

    means = found.means(["cross_validated_auc", "cross_validated_f1"])

    assert means["cross_validated_auc"] == pytest.approx(0.6)
    assert math.isnan(means["cross_validated_f1"])
    metric = find_metric("cross_validated_auc", task="classification")
    assert (metric.label, metric.better, metric.is_of_predictions) == ("AUC, cross-validated", "higher", False)


def test_folds_are_read_as_they_were_written_in_their_order(tmp_path):
    folds = [fold(1, repeat=1, auc=0.1), fold(0, repeat=1, without=("x",), auc=0.2), fold(0, auc=0.3), fold(1, auc=0.4)]

    written = cross_validated.write(tmp_path, folds, rule="2 folds, 2 times")
    found = cross_validated.read(tmp_path)

    assert found == written
    assert [one.metrics["auc"] for one in found.folds] == [0.3, 0.4, 0.2, 0.1]
    assert found.names == ["Fold 1 of repeat 1", "Fold 2 of repeat 1", "Fold 1 of repeat 2", "Fold 2 of repeat 2"]
    assert found.notes == ["Fold 1 of repeat 2 has no training row of 'x': all of its rows are in this fold."]

"""Against figures of statsmodels, and chance itself. Values of metrics: tests/components/evaluation/test_metric.py."""

import numpy as np
import pytest

from kubetfx.components.evaluation import intervals
from kubetfx.components.evaluation.metric import metric, value_of
from kubetfx.components.evaluation.metric_registry import find_metric
from tests.components.report import sample

TWO = ("no", "yes")
BINARY = sample.predictions(500, classes=TWO)


@pytest.mark.parametrize(
    ("share", "rows", "lower", "upper"),
    [(0.5, 10, 0.2366, 0.7634), (1.0, 62, 0.9417, 1.0), (0.0, 5, 0.0, 0.4345), (0.8, 1000, 0.7741, 0.8236)],
)
def test_interval_is_wilsons(share: float, rows: int, lower: float, upper: float) -> None:
    """Figures of statsmodels.stats.proportion.proportion_confint(..., method="wilson")."""
    found = intervals.wilson(share, rows)
    assert found is not None
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=1e-4), pytest.approx(upper, abs=1e-4))


def test_nothing_is_known_of_no_rows() -> None:
    assert intervals.wilson(0.5, 0) is None


@pytest.mark.parametrize("total_rows", [120, 1_200])
def test_interval_covers_the_truth_about_as_often_as_it_says(total_rows: int) -> None:
    """Mean absolute error of normal residuals with standard deviation 1: sqrt(2 / pi). The sample has 120 rows."""
    generator = np.random.default_rng(3)
    truth, deviation = np.sqrt(2 / np.pi), np.sqrt(1 - 2 / np.pi)
    hits, widths = 0, []
    for seed in range(60):
        labels = generator.normal(0, 1, total_rows)
        found = sample.Predictions((), labels[:120], np.zeros(120), np.ones(120, bool), np.ones(120))
        value = float(np.abs(labels).mean())
        interval = intervals.bootstrap(
            find_metric("mean_absolute_error"), found, value=value, total_rows=total_rows, seed=seed
        )
        assert interval is not None
        hits += interval.lower <= truth <= interval.upper
        widths.append(interval.upper - interval.lower)
    assert 51 <= hits <= 60
    assert np.mean(widths) == pytest.approx(2 * 1.96 * deviation / np.sqrt(total_rows), rel=0.1)


def test_few_rows_and_metrics_without_spread_have_no_interval() -> None:
    few = BINARY.of(np.arange(intervals.MIN_ROWS - 1))
    assert intervals.bootstrap(find_metric("auc"), few, value=0.5, total_rows=9, seed=0) is None
    perfect = sample.Predictions(TWO, BINARY.labels, np.eye(2)[BINARY.labels], BINARY.known, BINARY.weights)
    assert intervals.bootstrap(find_metric("auc"), perfect, value=1.0, total_rows=500, seed=0) is None
    assert intervals.bootstrap(find_metric("auc"), BINARY, value=float("nan"), total_rows=500, seed=0) is None


def test_same_seed_gives_the_same_interval() -> None:
    first, second = (
        intervals.bootstrap(find_metric("auc"), BINARY, value=0.9, total_rows=500, seed=7) for _ in range(2)
    )
    assert first == second


def test_metric_of_the_users_own_has_an_interval_too() -> None:
    @metric(bounds=(0, 1))
    def accuracy_of_my_own(labels: np.ndarray, predictions: np.ndarray) -> float:
        return float((predictions.argmax(axis=1) == labels).mean())

    value = float(value_of(find_metric("accuracy").make_accumulator(top_k=1), BINARY.labels, BINARY.outputs))
    ours, theirs = (
        intervals.bootstrap(one, BINARY, value=value, total_rows=500, seed=7)
        for one in (find_metric("accuracy"), accuracy_of_my_own)
    )

    assert ours is not None
    assert theirs is not None
    assert (theirs.lower, theirs.upper) == (pytest.approx(ours.lower), pytest.approx(ours.upper))
    assert theirs.lower < value < theirs.upper

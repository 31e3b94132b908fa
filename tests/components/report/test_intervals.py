"""Against scikit-learn, which computes the metrics by other means, and figures of statsmodels."""

import numpy as np
import pytest
import sklearn.metrics as reference

from kubetfx.components.report import intervals
from tests.components.report import sample

TWO = ("no", "yes")
BINARY = sample.predictions(500, classes=TWO)
MULTI = sample.predictions(500, classes=("a", "b", "c"))
REGRESSION = sample.regression_predictions()


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
    if name == "kappa":
        return reference.cohen_kappa_score(labels, outputs.argmax(axis=1), sample_weight=weights)
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
        (MULTI, ("accuracy", "auc", "auc_precision_recall", "f1", "precision", "recall", "kappa")),
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
    measure = intervals._measure(name, predictions)
    assert measure is not None

    assert measure(weights[None, :])[0] == pytest.approx(metric_of(name, predictions, weights))


@pytest.mark.parametrize("total_rows", [120, 1_200])
def test_interval_covers_the_truth_about_as_often_as_it_says(total_rows: int) -> None:
    """Mean absolute error of normal residuals with standard deviation 1: sqrt(2 / pi). The sample has 120 rows."""
    generator = np.random.default_rng(3)
    truth, deviation = np.sqrt(2 / np.pi), np.sqrt(1 - 2 / np.pi)
    hits, widths = 0, []
    for seed in range(60):
        labels = generator.normal(0, 1, total_rows)
        found = sample.Predictions((), labels[:120], np.zeros(120), np.ones(120, bool))
        value = float(np.abs(labels).mean())
        interval = intervals.bootstrap("mean_absolute_error", found, value=value, total_rows=total_rows, seed=seed)
        assert interval is not None
        hits += interval.lower <= truth <= interval.upper
        widths.append(interval.upper - interval.lower)
    assert 51 <= hits <= 60
    assert np.mean(widths) == pytest.approx(2 * 1.96 * deviation / np.sqrt(total_rows), rel=0.1)


def test_few_rows_and_metrics_without_spread_have_no_interval() -> None:
    few = BINARY.of(np.arange(intervals.MIN_ROWS - 1))
    assert intervals.bootstrap("auc", few, value=0.5, total_rows=9, seed=0) is None
    perfect = sample.Predictions(TWO, BINARY.labels, np.eye(2)[BINARY.labels], BINARY.known)
    assert intervals.bootstrap("auc", perfect, value=1.0, total_rows=500, seed=0) is None
    assert intervals.bootstrap("auc", BINARY, value=float("nan"), total_rows=500, seed=0) is None


def test_same_seed_gives_the_same_interval() -> None:
    first, second = (intervals.bootstrap("auc", BINARY, value=0.9, total_rows=500, seed=7) for _ in range(2))
    assert first == second

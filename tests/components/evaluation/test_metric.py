"""Values against scikit-learn, and what holds for every accumulator: blocks, merges and weights change nothing."""

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as reference
from sklearn.calibration import calibration_curve

from kubetfx.components.evaluation.metric import Metric, metric, value_of
from kubetfx.components.evaluation.metric_registry import ACCUMULATORS, find_metric
from kubetfx.config.metric_catalogue import CATALOGUE, better_of, label_of, worsening
from kubetfx.errors import ConfigError

GENERATOR = np.random.default_rng(0)
ROWS = 300


@metric()
def balanced_accuracy(labels, predictions):
    return reference.balanced_accuracy_score(labels, predictions.argmax(axis=1))


def make(name: str):
    found = balanced_accuracy if name == "balanced_accuracy" else find_metric(name)
    return found.make_accumulator(top_k=2)


def rows(name: str, *, classes: int) -> tuple[np.ndarray, np.ndarray]:
    if classes == 0:
        labels = GENERATOR.normal(1e4, 3, ROWS)
        return labels, labels + GENERATOR.normal(0, 2, ROWS)
    labels = GENERATOR.integers(0, classes, ROWS)
    logits = GENERATOR.normal(size=(ROWS, classes)) + np.eye(classes)[labels]
    predictions = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if name.startswith("drop_"):
        return labels, np.stack([predictions, np.roll(predictions, 1, axis=0)], axis=1)
    return labels, predictions


def calibration_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """By the curve of scikit-learn, of the second class of two or of the likeliest class."""
    scores, hits = predictions[:, 1], labels == 1
    if predictions.shape[1] > 2:
        scores, hits = predictions.max(axis=1), predictions.argmax(axis=1) == labels
    observed, predicted = calibration_curve(hits, scores, n_bins=10)
    rows, _ = np.histogram(scores, bins=10, range=(0, 1))
    return float(np.average(np.abs(observed - predicted), weights=rows[rows > 0]))


CLASSIFICATION = [name for name, one in CATALOGUE.items() if "classification" in one.tasks]
REGRESSION = [name for name, one in CATALOGUE.items() if "regression" in one.tasks]
CASES = [
    *((name, classes) for name in (*CLASSIFICATION, "drop_blur_2", "balanced_accuracy") for classes in (2, 4)),
    *((name, 0) for name in REGRESSION),
]


def of_each(function, labels: np.ndarray, predictions: np.ndarray) -> float:
    indices = [1] if predictions.shape[1] == 2 else range(predictions.shape[1])
    return float(np.mean([function(labels == index, predictions[:, index]) for index in indices]))


def averaged(name: str, way: str | None = None):
    """For scikit-learn: of the second of two classes, or an average, with rows taken for their likeliest class."""
    function = getattr(reference, f"{name}_score")

    def expected(labels: np.ndarray, predictions: np.ndarray) -> float:
        average = way or ("binary" if predictions.shape[1] == 2 else "macro")
        return float(function(labels, predictions.argmax(axis=1), average=average))

    return expected


EXPECTED = {
    "accuracy": lambda y, p: reference.accuracy_score(y, p.argmax(axis=1)),
    "auc": lambda y, p: of_each(reference.roc_auc_score, y, p),
    "auc_precision_recall": lambda y, p: of_each(reference.average_precision_score, y, p),
    "cross_entropy": reference.log_loss,
    **{name: averaged(name) for name in ("f1", "precision", "recall")},
    **{
        f"{name}_{way}": averaged(name, way)
        for name in ("f1", "precision", "recall")
        for way in ("macro", "weighted", "micro")
    },
    "top_k_accuracy": lambda y, p: reference.top_k_accuracy_score(y, p, k=2) if p.shape[1] > 2 else 1.0,
    "calibration_error": calibration_error,
    "kappa": lambda y, p: reference.cohen_kappa_score(y, p.argmax(axis=1)),
    "mean_absolute_error": reference.mean_absolute_error,
    "mean_squared_error": reference.mean_squared_error,
    "root_mean_squared_error": reference.root_mean_squared_error,
    "squared_pearson_correlation": lambda y, p: np.corrcoef(y, p)[0, 1] ** 2,
}
TOLERANCE = {"auc": 1e-3, "auc_precision_recall": 1e-2}
"""For areas: their curves have 10,000 thresholds, and precision is interpolated in another way than by steps."""


@pytest.mark.parametrize(("name", "classes"), [case for case in CASES if case[0] in EXPECTED])
def test_value_is_that_of_scikit_learn(name, classes):
    labels, predictions = rows(name, classes=classes)

    found = value_of(make(name), labels, predictions)

    assert found.shape == ()
    assert float(found) == pytest.approx(EXPECTED[name](labels, predictions), abs=TOLERANCE.get(name, 1e-6))


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_blocks_and_merges_change_nothing(name, classes):
    labels, predictions = rows(name, classes=classes)
    accumulator = make(name)
    whole = value_of(accumulator, labels, predictions)
    halves = []
    for half in (slice(0, 100), slice(100, ROWS)):
        state = accumulator.create()
        for start in range(half.start, half.stop, 40):
            some = slice(start, min(start + 40, half.stop))
            state = accumulator.add_block(state, labels[some], predictions[some], np.ones(some.stop - some.start))
        halves.append(pickle.loads(pickle.dumps(state)))

    merged = accumulator.merge(accumulator.create(), accumulator.merge(*halves))

    assert accumulator.result(merged) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_weight_of_two_is_a_row_that_is_there_twice(name, classes):
    labels, predictions = rows(name, classes=classes)
    weights = GENERATOR.integers(0, 3, (5, ROWS)).astype(float)

    found = value_of(make(name), labels, predictions, weights)

    expected = [
        value_of(make(name), np.repeat(labels, own.astype(int)), np.repeat(predictions, own.astype(int), axis=0))
        for own in weights
    ]
    assert found == pytest.approx(np.array(expected), rel=1e-9)


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_metric_of_no_rows_is_not_defined(name, classes):
    accumulator = make(name)
    labels, predictions = rows(name, classes=classes)

    assert math.isnan(accumulator.result(accumulator.create()))
    assert math.isnan(value_of(accumulator, labels[:0], predictions[:0]))


@pytest.mark.parametrize(
    ("name", "labels", "named"),
    [
        ("auc", [1, 1, 1], [1, 0, 1]),
        ("auc", [0, 0], [1, 0]),
        ("auc_precision_recall", [0, 0], [1, 0]),
        ("precision", [1, 0], [0, 0]),
        ("recall", [0, 0], [1, 0]),
        ("f1", [0, 0], [0, 0]),
        ("kappa", [1, 1], [1, 1]),
    ],
)
def test_what_is_not_defined_is_nan(name, labels, named):
    assert math.isnan(value_of(make(name), np.array(labels), np.eye(2)[named]))


def test_correlation_with_a_constant_is_not_defined():
    labels = np.array([1.0, 2.0, 3.0])

    assert math.isnan(value_of(make("squared_pearson_correlation"), labels, np.full(3, 5.0)))


def test_class_without_rows_is_left_out_of_the_mean():
    labels = np.array([0, 0, 2, 2])
    predictions = np.array([[0.9, 0.1, 0], [0.2, 0.1, 0.7], [0, 0.1, 0.9], [0, 0.1, 0.9]])

    assert value_of(make("recall"), labels, predictions) == pytest.approx((0.5 + 1) / 2)
    assert value_of(make("auc"), labels, predictions) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "expected"), [("precision", 1.5 / 3), ("recall", 2 / 3), ("f1", (1 + 2 / 3) / 3)])
def test_class_that_no_row_is_taken_for_counts_as_nothing_in_a_mean(name, expected):
    """Three classes, of which the likeliest is never the last: a mean over the classes is defined all the same."""
    labels = np.array([0, 0, 1, 1, 2, 2])
    predictions = np.array([[0.45, 0.3, 0.25]] * 2 + [[0.3, 0.4, 0.3]] * 4)

    assert value_of(make(name), labels, predictions) == pytest.approx(expected)


def test_label_that_the_model_does_not_know_counts_as_wrong_and_has_no_agreement():
    predictions = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    known, unknown = np.array([0, 1, 2]), np.array([0, 1, -1])

    assert value_of(make("accuracy"), unknown, predictions) == pytest.approx(2 / 3)
    assert value_of(make("top_k_accuracy"), unknown, predictions) == pytest.approx(2 / 3)
    assert value_of(make("kappa"), unknown, predictions) == 1
    assert value_of(make("cross_entropy"), unknown, predictions) > value_of(make("cross_entropy"), known, predictions)


# Names


def test_every_metric_of_the_catalogue_can_be_computed_and_no_other():
    assert set(ACCUMULATORS) == set(CATALOGUE)
    assert find_metric("drop_blur_1.5").needs == {"images", "changed_images"}


@pytest.mark.parametrize("name", ["acuracy", "", "AUC"])
def test_unknown_name_is_an_error(name):
    with pytest.raises(ConfigError, match="There is no such metric"):
        find_metric(name)


def test_metric_of_another_task_is_an_error():
    with pytest.raises(ConfigError, match=r"accuracy is for classification\. Received: model.task: regression"):
        find_metric("accuracy", task="regression")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"metrics_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from kubetfx.components.evaluation.metric import metric\n"
        "@metric(better='lower', tasks=('regression',), bounds=(0, 9))\n"
        "def largest_error(labels, predictions):\n"
        "    return abs(labels - predictions).max()\n"
        "def plain(labels, predictions):\n"
        "    return 0.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_metric_of_the_users_own_is_found_by_module_and_attribute(module):
    found = find_metric(f"{module}:largest_error", task="regression")

    assert isinstance(found, Metric)
    assert (found.name, found.label) == (f"{module}:largest_error", "Largest error")
    assert (found.better, found.bounds) == ("lower", (0, 9))
    assert value_of(found.make_accumulator(top_k=1), np.array([1.0, 5.0]), np.array([2.0, 2.0])) == 3


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("smallest_error", "has no smallest_error. Received: metrics_of_"),
        ("plain", r"is not a metric\. Received: function\. Put @kubetfx.metric"),
    ],
)
def test_attribute_that_is_no_metric_is_an_error(module, attribute, words):
    with pytest.raises(ConfigError, match=words):
        find_metric(f"{module}:{attribute}")


def test_module_that_cannot_be_imported_is_an_error():
    with pytest.raises(ConfigError, match=r"the module nowhere cannot be imported .*Received: nowhere:anything"):
        find_metric("nowhere:anything")


def test_worse_is_in_the_direction_of_the_metric():
    assert worsening(0.8, 0.9, "higher") == pytest.approx(0.1)
    assert worsening(0.8, 0.9, "lower") == pytest.approx(-0.1)
    assert better_of("m:f", {"m:f": "lower"}) == "lower"


def test_labels_are_for_people():
    assert label_of("auc_precision_recall") == "AUC (precision-recall)"
    assert label_of("drop_blur_1.5") == "Accuracy lost to a blur of 1.5"
    assert label_of("my_metrics:balanced_accuracy") == "Balanced accuracy"

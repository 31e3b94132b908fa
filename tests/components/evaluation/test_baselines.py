"""Constants and linear models: what they say, beside scikit-learn, and how the gate holds a model against them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from kubetfx.components.evaluation import baselines
from kubetfx.components.evaluation.evaluation_result import Check
from tests.components.test_evaluator import evaluate, missed_by

GENERATOR = np.random.default_rng(0)
ROWS = 400
FEATURES = {
    "numeric": GENERATOR.normal(3, 2, (ROWS, 3)).astype(np.float32),
    "categorical": GENERATOR.integers(0, 4, (ROWS, 2)),
}


def matrix() -> np.ndarray:
    """The features as scikit-learn takes them: standard scores, and a flag for each value."""
    numbers = FEATURES["numeric"].astype(float)
    flags = [FEATURES["categorical"][:, [column]] == np.arange(4) for column in range(2)]
    return np.concatenate([(numbers - numbers.mean(axis=0)) / numbers.std(axis=0), *flags], axis=1)


def test_linear_model_of_classes_is_that_of_scikit_learn() -> None:
    score = FEATURES["numeric"][:, 0] + 2 * (FEATURES["categorical"][:, 1] == 2) + GENERATOR.normal(0, 1, ROWS)
    labels = np.digitize(score, [2.5, 4.5])

    linear = baselines.fit_linear(FEATURES, np.eye(3)[labels], np.ones(ROWS), is_classifier=True)

    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1_000).fit(matrix(), labels).predict_proba(matrix())
    assert linear is not None
    np.testing.assert_allclose(linear.predict(FEATURES, ROWS), expected, atol=2e-3)


def test_linear_model_of_numbers_is_that_of_scikit_learn() -> None:
    labels = 100 + FEATURES["numeric"] @ [1.0, -2.0, 0.5] + FEATURES["categorical"][:, 0]

    linear = baselines.fit_linear(FEATURES, labels[:, np.newaxis], np.ones(ROWS), is_classifier=False)

    expected = Ridge(alpha=1.0).fit(matrix(), labels).predict(matrix())
    assert linear is not None
    np.testing.assert_allclose(linear.predict(FEATURES, ROWS), expected, rtol=1e-6)


def test_linear_model_of_what_training_did_not_see_stays_within_its_range() -> None:
    labels = FEATURES["numeric"][:, 0].astype(float)
    linear = baselines.fit_linear(FEATURES, labels[:, np.newaxis], np.ones(ROWS), is_classifier=False)
    odd = {
        "numeric": np.array([[1e30, 3, 3], [np.nan, np.nan, np.nan], [np.inf, 3, 3]], np.float32),
        "categorical": np.array([[99, -1], [0, 0], [1, 2]]),
    }

    assert linear is not None
    found = linear.predict(odd, 3)
    assert np.isfinite(found).all()
    assert labels.min() - 1 < found.min() <= found.max() < labels.max() + 1


def test_there_is_no_linear_model_without_features_that_it_takes() -> None:
    text = {"words": np.array([["a"], ["b"]], object)}

    assert baselines.fit_linear(text, np.eye(2), np.ones(2), is_classifier=True) is None
    assert baselines.fit_linear({}, np.eye(2), np.ones(2), is_classifier=True) is None


# The gate


def answers(labels: np.ndarray, *, right: float, seed: int = 0) -> np.ndarray:
    """Probabilities of two classes whose likeliest is the label in a share of the rows."""
    is_right = np.random.default_rng(seed).random(len(labels)) < right
    return np.where((np.eye(2)[labels] > 0) == is_right[:, np.newaxis], 0.9, 0.1).astype(np.float32)


def the_check(found: list[Check]) -> Check:
    (check,) = [check for check in found if check.kind == "better_than_baseline"]
    return check


RARE = (np.arange(300) % 20 == 0).astype(int)
HALVES = np.arange(60) % 2


@pytest.mark.parametrize("at_least", [0.9, 0.95])
def test_model_that_says_no_of_everyone_is_not_blessed(tmp_path: Path, at_least: float) -> None:
    said = np.tile(np.array([[0.93, 0.07]], np.float32), (300, 1))

    evaluation = {"thresholds": {"accuracy": {"at_least": at_least}}}

    result, validation, blessed = evaluate(tmp_path, RARE, said, None, evaluation=evaluation, classes=("No", "Yes"))

    assert not blessed
    assert missed_by(result) == {"accuracy"}
    assert not validation.validation_ok
    assert result.failures == ["Accuracy is 0.95, and must be better than that of always saying 'No', 0.95: it misses."]
    assert result.notes[0] == "The model says 'No' of every evaluation row."
    assert "set a threshold for auc or f1" in result.notes[-1]


def test_constant_is_that_of_the_training_rows(tmp_path: Path) -> None:
    result, _, _ = evaluate(tmp_path, RARE, answers(RARE, right=0.99), None, evaluation={}, classes=("No", "Yes"))

    constant = result.simple_metrics["constant"]
    assert constant["accuracy"] == pytest.approx(0.95)
    assert constant["auc"] == pytest.approx(0.5)
    assert constant["recall"] == 0
    assert constant["cross_entropy"] == pytest.approx(-(0.95 * np.log(0.95) + 0.05 * np.log(0.05)), rel=1e-6)
    assert "precision" not in constant  # of no row
    assert "example_count" not in constant


@pytest.mark.parametrize(
    ("right", "passes", "words"),
    [
        (0.9, True, "Accuracy is 0.9167, 0.4167 better than that of always saying 'a': it passes."),
        (0.55, False, "better than that of always saying 'a', which may be chance with 60 evaluation rows: it misses."),
    ],
)
def test_what_chance_explains_is_not_better(tmp_path: Path, right: float, passes: bool, words: str) -> None:
    result, _, blessed = evaluate(
        tmp_path, HALVES, answers(HALVES, right=right), None, evaluation={}, classes=("a", "b")
    )

    check = the_check(result.checks)
    assert check.is_ahead
    assert (check.passed, blessed) == (passes, passes)
    assert words in str(check)
    assert any(
        note.startswith("Few evaluation rows, 60: by chance alone, Accuracy may be off by 0.") for note in result.notes
    )


def test_the_comparison_can_be_turned_off(tmp_path: Path) -> None:
    evaluation = {"thresholds": {"accuracy": {"at_least": 0.1, "better_than_baseline": False}}}

    result, _, blessed = evaluate(
        tmp_path, HALVES, answers(HALVES, right=0.3), None, evaluation=evaluation, classes=("a", "b")
    )

    assert blessed
    assert [check.kind for check in result.checks] == ["at_least"]


def test_recall_that_a_constant_has_already_is_not_compared(tmp_path: Path) -> None:
    labels = 1 - RARE
    evaluation = {"thresholds": {"recall": {"at_least": 0.8}, "precision": {"at_least": 0.5}}}

    result, _, _ = evaluate(
        tmp_path, labels, answers(labels, right=0.99), None, evaluation=evaluation, classes=("No", "Yes")
    )

    assert result.simple_metrics["constant"]["recall"] == 1
    assert [(check.metric, check.kind) for check in result.checks] == [
        ("recall", "at_least"), ("precision", "at_least"), ("precision", "better_than_baseline"),
    ]  # fmt: skip


def test_regression_is_held_against_the_mean_of_the_training_rows(tmp_path: Path) -> None:
    labels = np.arange(60, dtype=np.float32)
    evaluation = {"thresholds": {"mean_squared_error": {"better_than_baseline": True}}}

    result, _, blessed = evaluate(tmp_path / "mean", labels, np.full(60, 29.5, np.float32), None, evaluation=evaluation)
    assert not blessed
    assert the_check(result.checks).bound == pytest.approx(labels.var())
    assert result.failures[0].startswith(
        "Mean squared error is 299.9, and must be better than that of always saying 29.5, the mean of the training rows"
    )

    result, _, blessed = evaluate(tmp_path / "close", labels, labels + 3, None, evaluation=evaluation)
    assert blessed
    assert the_check(result.checks).margin == pytest.approx(labels.var() - 9, rel=0.3)

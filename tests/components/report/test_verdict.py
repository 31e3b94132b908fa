import json
import math
from pathlib import Path

import pytest

from components.report import verdict
from pipeline.config import EvaluationConfig
from tests.components.report import sample


@pytest.mark.parametrize(
    ("share", "rows", "lower", "upper"),
    [(0.5, 10, 0.2366, 0.7634), (1.0, 62, 0.9417, 1.0), (0.0, 5, 0.0, 0.4345), (0.8, 1000, 0.7741, 0.8236)],
)
def test_interval_is_wilsons(share: float, rows: int, lower: float, upper: float) -> None:
    """Figures of statsmodels.stats.proportion.proportion_confint(..., method="wilson")."""
    found = verdict.wilson(share, rows)
    assert found is not None
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=1e-4), pytest.approx(upper, abs=1e-4))


def test_nothing_is_known_of_no_rows() -> None:
    assert verdict.wilson(0.5, 0) is None


@pytest.mark.parametrize(
    ("kind", "bound", "value", "baseline", "passed", "words"),
    [
        ("at_least", 0.9, 0.85, None, False, "Accuracy is 0.85 and must be at least 0.9: it misses by 0.05."),
        (
            "at_least",
            0.8,
            0.85,
            0.7,
            True,
            "Accuracy is 0.85 and must be at least 0.8: it passes by 0.05; the served model has 0.7.",
        ),
        (
            "worse_by_at_most",
            0.02,
            0.8,
            0.85,
            False,
            "Accuracy is 0.8, 0.05 worse than the served model's 0.85, and may be at most 0.02 worse: it misses by "
            "0.03.",
        ),
        (
            "worse_by_at_most",
            0.02,
            0.9,
            0.9,
            True,
            "Accuracy is 0.9, the same as the served model's 0.9, and may be at most 0.02 worse: it passes.",
        ),
        (
            "worse_by_at_most",
            0.02,
            0.9,
            None,
            True,
            "Accuracy may be at most 0.02 worse than what is served: nothing comparable is, so it passes.",
        ),
    ],
)
def test_threshold_is_told_in_words(
    kind: str, bound: float, value: float, baseline: float | None, passed: bool, words: str
) -> None:
    check = {
        "metric": "accuracy", "kind": kind, "bound": bound, "value": value, "baseline": baseline, "passed": passed
    }  # fmt: skip
    document = {
        "metrics": {"example_count": 10, "accuracy": value},
        "baseline_metrics": {},
        "slices": {},
        "checks": [check],
        "is_blessed": passed,
    }
    found = verdict.describe(document, EvaluationConfig())
    assert found.checks[0].words == words
    assert found.failures == ([] if passed else [words])


def test_metric_where_less_is_better_is_worse_when_it_is_more() -> None:
    check = {
        "metric": "cross_entropy",
        "kind": "worse_by_at_most",
        "bound": 0.1,
        "value": 0.5,
        "baseline": 0.3,
        "passed": False,
    }
    document = {
        "metrics": {"example_count": 10, "cross_entropy": 0.5},
        "baseline_metrics": {"cross_entropy": 0.3},
        "slices": {
            "a=1": {"example_count": 40, "cross_entropy": 0.9},
            "a=2": {"example_count": 40, "cross_entropy": 0.2},
        },
        "checks": [check],
        "is_blessed": False,
    }
    found = verdict.describe(document, EvaluationConfig())
    assert "0.2 worse than the served model's 0.3" in found.failures[0]
    assert [(one.name, round(one.behind or 0, 6)) for one in found.slices] == [("a=1", 0.4), ("a=2", -0.3)]


def test_slices_that_fall_behind_most_come_first_and_small_ones_are_marked() -> None:
    found = sample.evaluation_facts()

    assert [one.name.split("=")[0] for one in found.slices] == ["<script>document.title ", "colour", "colour", "name"]
    assert [one.is_small for one in found.slices] == [True, False, False, True]
    assert found.slices[1].interval is not None
    assert found.slices[-1].behind is None


def test_refusal_without_a_missed_check_points_at_the_log() -> None:
    document = {
        "metrics": {"example_count": 1, "accuracy": 1.0},
        "baseline_metrics": {},
        "slices": {},
        "checks": [],
        "is_blessed": False,
    }
    assert "Evaluator's log" in verdict.describe(document, EvaluationConfig()).failures[0]


def test_evaluation_is_read_from_its_artifact(tmp_path: Path) -> None:
    assert verdict.read(tmp_path, EvaluationConfig()) is None
    document = {
        "metrics": {"example_count": 4, "accuracy": math.nan},
        "baseline_metrics": {},
        "slices": {},
        "checks": [],
        "is_blessed": True,
        "not_compared_because": "the served model predicts another label",
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    found = verdict.read(tmp_path, EvaluationConfig())
    assert found is not None
    assert found.metrics[0].interval is None
    assert found.not_compared_because == "the served model predicts another label"

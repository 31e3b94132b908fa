import json
import math
from pathlib import Path
from typing import Any

import pytest

from kubetfx.components.evaluation.evaluation_result import Check, EvaluationResult
from kubetfx.components.report import verdict
from kubetfx.components.report.evaluation_facts import Evaluation
from tests.components.report import sample


def described(document: dict[str, Any]) -> Evaluation:
    checks = [Check(**check) for check in document["checks"]]
    return verdict.describe(EvaluationResult(**{**document, "checks": checks}))


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
            "Accuracy is 0.9, the same as the served model's 0.9, and may be at most 0.02 worse: it passes by 0.02.",
        ),
        (
            "worse_by_at_most",
            0.02,
            0.9,
            None,
            True,
            "Accuracy may be at most 0.02 worse than what is served: nothing comparable is, so it passes.",
        ),
        (
            "at_least",
            179_864.5,
            200_000.0,
            None,
            True,
            "Accuracy is 200,000 and must be at least 179,864.5: it passes by 20,136.",
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
    found = described(document)
    assert str(found.checks[0]) == words
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
    found = described(document)
    assert "0.2 worse than the served model's 0.3" in found.failures[0]
    assert [(one.name, round(one.behind or 0, 6)) for one in found.slices] == [("a=1", 0.4), ("a=2", -0.3)]


def test_slices_that_fall_behind_most_come_first_and_small_ones_are_marked() -> None:
    found = sample.evaluation_facts()

    assert [one.name.split("=")[0] for one in found.slices] == ["<script>document.title ", "colour", "colour", "name"]
    assert [one.is_small for one in found.slices] == [True, False, False, True]
    assert found.slices[1].interval is not None
    assert found.slices[-1].behind is None


def test_evaluation_is_read_from_its_artifact(tmp_path: Path) -> None:
    assert verdict.read(tmp_path) is None
    document = {
        "metrics": {"example_count": 4, "accuracy": math.nan},
        "baseline_metrics": {},
        "slices": {},
        "checks": [],
        "is_blessed": True,
        "not_compared_because": "the served model predicts another label",
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    found = verdict.read(tmp_path)
    assert found is not None
    assert found.metrics[0].interval is None
    assert found.not_compared_because == "the served model predicts another label"

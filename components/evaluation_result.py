"""What an evaluation found, as it is shown and read back. Knows neither TFMA nor TensorFlow.

components/evaluator.py makes it of what TFMA wrote, and leaves it in the evaluation artifact.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import LOWER_IS_BETTER

RESULT = "evaluation.json"
"""File of the evaluation artifact with its EvaluationResult, for whoever has no TFMA at hand."""


@dataclass(frozen=True)
class Check:
    """One bound of a metric, and how the candidate did."""

    metric: str
    kind: str
    """`at_least`, `at_most` or `worse_by_at_most`."""
    bound: float
    value: float
    baseline: float | None
    passed: bool

    def describe_bound(self) -> str:
        """`at least 0.95`, or `at most 0.02 worse than served`."""
        if self.kind == "worse_by_at_most":
            return f"at most {self.bound:g} worse than served"
        return f"{self.kind.replace('_', ' ')} {self.bound:g}"

    def __str__(self) -> str:
        served = "nothing comparable is served" if self.baseline is None else f"served {format_metric(self.baseline)}"
        verdict = "ok" if self.passed else "MISSED"
        return f"{self.metric} {format_metric(self.value)} ({served}), must be {self.describe_bound()}: {verdict}"


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found."""

    metrics: dict[str, float]
    baseline_metrics: dict[str, float]
    """Of the served model; empty if there is none."""
    slices: dict[str, dict[str, float]]
    """Metrics of the candidate by slice, `column=value`."""
    checks: list[Check]
    is_blessed: bool
    not_compared_because: str | None = None
    """Why the candidate was not held against what is served."""
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    """Precision, recall, f1 and number of images by class, of a model of images."""

    @property
    def failures(self) -> list[str]:
        """Why the model is not blessed. TFMA decides; if it found a reason beyond the checks, its log has it."""
        missed = [str(check) for check in self.checks if not check.passed]
        return missed or ["TFMA refused it for a reason that stands in the Evaluator's log."] * (not self.is_blessed)


def format_metric(value: float) -> str:
    """Four significant digits; whole numbers from a thousand on."""
    if math.isnan(value):
        return "not defined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def weakest_slices(result: EvaluationResult) -> tuple[str, list[tuple[str, dict[str, float]]]]:
    """The metric that slices are ranked by, the first that has a threshold, and the slices with it, the weakest
    first."""
    metric = next((check.metric for check in result.checks), next(iter(result.metrics)))
    sign = 1 if metric in LOWER_IS_BETTER else -1
    ranked = [(name, values) for name, values in result.slices.items() if not math.isnan(values.get(metric, math.nan))]
    return metric, sorted(ranked, key=lambda entry: sign * entry[1][metric], reverse=True)


def read_result(folder: Path) -> EvaluationResult:
    """Read what the Evaluator left in an evaluation artifact."""
    document = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return EvaluationResult(**{**document, "checks": [Check(**check) for check in document["checks"]]})

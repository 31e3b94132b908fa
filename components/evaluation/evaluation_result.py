"""The result of an evaluation, as it is stored and displayed.

It uses neither TFMA nor TensorFlow. components/evaluator.py writes it into the evaluation artifact.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kubetfx.artifacts import EVALUATION
from kubetfx.components.evaluation.scores import Scores
from kubetfx.config.metric_catalogue import Better, better_of, label_of, worsening

COUNT = "example_count"
"""Name of the number of rows, which is listed among the metrics, as in TFMA."""


SMALL_SLICE = 30
"""Number of rows below which a slice is not judged, since its metrics say little."""
MAX_CLASSES = 1_000
"""Maximum number of classes for which the confusion matrix is kept."""


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    lower: float
    upper: float
    method: Literal["wilson", "bootstrap"]


@dataclass(frozen=True)
class Reference:
    """The reference of `better_than_baseline`: its value is the bound of the check."""

    baseline: str
    """`constant` or `linear`."""
    words: str
    """Its behaviour in words, such as `always saying 'no'`."""
    certain: float
    """Lower 95 % bound of the candidate's advantage; negative if it may be worse."""
    rows: int
    """Number of rows of the evaluation split."""


Kind = Literal["at_least", "at_most", "worse_by_at_most", "better_than_baseline"]


@dataclass(frozen=True)
class Check:
    """One bound of a metric, and the candidate's outcome."""

    metric: str
    kind: Kind
    bound: float
    value: float
    baseline: float | None
    """Value of the served model; None if nothing comparable is served."""
    passed: bool
    better: Better | None = None
    """Whether higher or lower values are better. None in a file of an older version, which had only kubetfx's
    metrics.
    """
    reference: Reference | None = None
    """Reference of `better_than_baseline`."""
    slice: str | None = None
    """The slice that is checked; None: all rows."""
    unjudged: str | None = None
    """Why a slice cannot be judged; the check passes then."""

    @property
    def subject(self) -> str:
        """The metric, and the slice if there is one."""
        return label_of(self.metric) + (f" of {self.slice}" if self.slice else "")

    @property
    def _worse(self) -> float:
        """How much worse than the served model, negative if better; NaN if nothing is served."""
        served = math.nan if self.baseline is None else self.baseline
        return worsening(self.value, served, self.better or better_of(self.metric))

    @property
    def is_ahead(self) -> bool:
        """For `better_than_baseline`: whether the value is better than the bound, even if by chance."""
        return worsening(self.value, self.bound, self.better or better_of(self.metric)) < 0

    @property
    def margin(self) -> float | None:
        """Distance of the value to the bound, negative if the bound is missed; None if undefined."""
        if self.kind == "worse_by_at_most":
            if self.baseline is None:
                return None
            found = self.bound - self._worse
        elif self.reference:
            found = self.reference.certain
        else:
            found = self.value - self.bound if self.kind == "at_least" else self.bound - self.value
        return found if math.isfinite(found) else None

    def describe_bound(self) -> str:
        """Return the bound in words: `at least 0.95`, or `at most 0.02 worse than served`."""
        if self.kind == "worse_by_at_most":
            return f"at most {self.bound:,.10g} worse than served"
        if self.reference:
            return f"better than {self.reference.baseline}"
        return f"{self.kind.replace('_', ' ')} {self.bound:,.10g}"

    def __str__(self) -> str:
        """Return the check and its outcome as a sentence."""
        name, value = self.subject, format_metric(self.value)
        if self.reference:
            return self._against(self.reference)
        if self.unjudged:
            return f"{name} is {value} and must be {self.describe_bound()}: it is not judged, since {self.unjudged}."
        served = "" if self.baseline is None else f"the served model has {format_metric(self.baseline)}"
        if self.kind != "worse_by_at_most":
            return f"{name} is {value} and must be {self.describe_bound()}: {self._outcome}{served and f'; {served}'}."
        if not math.isfinite(self.value):
            return f"{name} is not defined and may be {self.describe_bound()}: it misses."
        if self.baseline is None:
            most = f"at most {self.bound:,.10g} worse"
            return f"{name} may be {most} than what is served: nothing comparable is, so it passes."
        worse = self._worse
        if not math.isfinite(worse):
            return f"{name} is {value}, and the served model's is not defined: they cannot be compared, and it misses."
        change = f"{format_metric(abs(worse))} {'worse' if worse > 0 else 'better'} than" if worse else "the same as"
        return (
            f"{name} is {value}, {change} the served model's {format_metric(self.baseline)}, and may be at most "
            f"{self.bound:,.10g} worse: {self._outcome}."
        )

    def _against(self, reference: Reference) -> str:
        name, value, other = self.subject, format_metric(self.value), format_metric(self.bound)
        outcome = "it passes" if self.passed else "it misses"
        if not math.isfinite(self.value):
            return f"{name} is not defined and must be better than that of {reference.words}, {other}: {outcome}."
        if not math.isfinite(self.bound):
            return f"{name} is {value}, and that of {reference.words} is not defined: {outcome}."
        if not self.is_ahead:
            return f"{name} is {value}, and must be better than that of {reference.words}, {other}: {outcome}."
        gain = abs(self.value - self.bound)
        doubt = "" if self.passed else f", which may be chance with {reference.rows:,} evaluation rows"
        return f"{name} is {value}, {format_metric(gain)} better than that of {reference.words}{doubt}: {outcome}."

    @property
    def _outcome(self) -> str:
        by = "since it is not defined" if self.margin is None else f"by {format_metric(abs(self.margin))}"
        return f"it {'passes' if self.passed else 'misses'} {by}"


@dataclass(frozen=True)
class RankedSlice:
    """A slice of the evaluation split, compared with the whole."""

    name: str
    metrics: Mapping[str, float]
    behind: float | None
    """How much worse the ranking metric is than on the whole, negative if better; None if the slice or the whole lacks
    it.
    """


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found."""

    metrics: dict[str, float]
    baseline_metrics: dict[str, float]
    """Metrics of the served model; empty if there is none."""
    slices: dict[str, dict[str, float]]
    """Metrics of the candidate by slice, `column=value`."""
    checks: list[Check]
    is_blessed: bool
    not_compared_because: str | None = None
    """Why the candidate was not compared with what is served."""
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    """Precision, recall, f1 and number of images by class, of a model of images."""
    weight: str | None = None
    """The column of row weights; None: each row counts once."""
    confusion: list[list[int | float]] = field(default_factory=list)
    """Rows by true and predicted class, with their weights. Empty for a regression, and for more than MAX_CLASSES."""
    better: dict[str, Better] = field(default_factory=dict)
    """Whether higher or lower values are better, by metric."""
    simple_metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Metrics of the baselines, `constant` and `linear`, by name of the metric."""
    notes: list[str] = field(default_factory=list)
    """Notes for readers of the metrics, in sentences."""
    scores: Scores | None = None
    """Distribution of the candidate's predictions for a sample of the rows. None in a file of an older version."""

    @property
    def failures(self) -> list[str]:
        """The failed checks, because of which the model is not blessed."""
        return [str(check) for check in self.checks if not check.passed]

    def better_of(self, metric: str) -> Better:
        """Return which values of a metric are better.

        Args:
            metric: its name.
        """
        return better_of(metric, self.better)

    @property
    def ranked_by(self) -> str:
        """The metric that ranks slices: the first with a threshold that slices have."""
        known = {name for values in self.slices.values() for name in values if name != COUNT}
        names = [*(check.metric for check in self.checks), *(name for name in self.metrics if name != COUNT)]
        return next((name for name in names if name in known), names[0] if names else "")

    @property
    def ranked_slices(self) -> list[RankedSlice]:
        """The slices, the weakest first, and those without the metric last."""
        overall = self.metrics.get(self.ranked_by, math.nan)
        found = []
        for name, values in self.slices.items():
            behind = worsening(values.get(self.ranked_by, math.nan), overall, self.better_of(self.ranked_by))
            found.append(RankedSlice(name, values, behind if math.isfinite(behind) else None))
        return sorted(found, key=lambda entry: (entry.behind is None, -(entry.behind or 0), entry.name))


def format_metric(value: float) -> str:
    """Return a value with four significant digits, or as a whole number from a thousand on.

    Args:
        value: The value of a metric; NaN means undefined.
    """
    if not math.isfinite(value):
        return "not defined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read_result(folder: Path) -> EvaluationResult:
    """Return the Evaluator's result from an evaluation artifact.

    Args:
        folder: The folder of the artifact.

    Raises:
        FileNotFoundError: there is no result.
    """
    document = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    scores = Scores(**document["scores"]) if document.get("scores") else None
    return EvaluationResult(**{**document, "checks": [_check(check) for check in document["checks"]], "scores": scores})


def _check(document: dict[str, Any]) -> Check:
    reference = document.get("reference")
    return Check(**{**document, "reference": Reference(**reference) if reference else None})

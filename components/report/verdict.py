"""Facts about the evaluation: each threshold in words, the slices by how far they fall behind, and the intervals.

Reads the evaluation.json that the Evaluator leaves beside TFMA's files, so TFMA is not imported.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluation_result import RESULT
from components.report.facts import CheckFact, Evaluation, Interval, Metric, Slice
from pipeline.config import LOWER_IS_BETTER, EvaluationConfig

SMALL_SLICE = 30
"""Rows below which a slice's metrics say little."""
_NORMAL_95 = 1.959964
_COUNT = "example_count"


def read(folder: Path, config: EvaluationConfig) -> Evaluation | None:
    """The evaluation of an artifact; None where the Evaluator left no result."""
    path = folder / RESULT
    return describe(json.loads(path.read_text(encoding="utf-8")), config) if path.is_file() else None


def describe(document: Mapping[str, Any], config: EvaluationConfig) -> Evaluation:
    """Facts about an evaluation.

    Args:
        document: fields of components.evaluation_result.EvaluationResult.
        config: the `evaluation` section, whose slices are to be found again.
    """
    rows = int(document["metrics"].get(_COUNT, 0))
    checks = [_check(entry) for entry in document["checks"]]
    metrics = [
        Metric(
            name=name,
            value=value,
            interval=wilson(value, rows) if name == "accuracy" else None,
            served=document["baseline_metrics"].get(name),
            lower_is_better=name in LOWER_IS_BETTER,
            checks=[check for check in checks if check.metric == name],
        )
        for name, value in document["metrics"].items()
        if name != _COUNT
    ]
    first = next((check.metric for check in checks), metrics[0].name if metrics else "")
    failures = [check.words for check in checks if not check.passed]
    if not failures and not document["is_blessed"]:
        failures = ["TFMA refused the model for a reason that stands in the Evaluator's log."]
    overall = document["metrics"].get(first, math.nan)
    slices = [_slice(name, values, metric=first, overall=overall) for name, values in document["slices"].items()]
    return Evaluation(
        is_blessed=document["is_blessed"],
        metrics=metrics,
        ranked_by=first,
        slices=sorted(slices, key=lambda entry: (entry.behind is None, -(entry.behind or 0), entry.name)),
        not_compared_because=document.get("not_compared_because"),
        failures=failures,
    )


def wilson(share: float, rows: int) -> Interval | None:
    """Wilson's score interval of a share of rows, 95 %; None where there are no rows.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if rows <= 0 or not 0 <= share <= 1:
        return None
    z = _NORMAL_95
    scale = 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return Interval(lower=max(centre - half, 0.0), upper=min(centre + half, 1.0), method="wilson")


def format_metric(value: float) -> str:
    """Four significant digits; whole numbers from a thousand on."""
    if not math.isfinite(value):
        return "not defined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def metric_label(name: str) -> str:
    """A metric's name for people: `auc_precision_recall` is `AUC (precision-recall)`."""
    special = {"auc": "AUC", "auc_precision_recall": "AUC (precision-recall)", "f1": "F1"}
    return special.get(name, name.replace("_", " ").capitalize())


def _check(entry: Mapping[str, Any]) -> CheckFact:
    return CheckFact(**entry, words=_in_words(entry))


def _in_words(entry: Mapping[str, Any]) -> str:
    name, value, bound, baseline = metric_label(entry["metric"]), entry["value"], entry["bound"], entry["baseline"]
    verdict = "passes" if entry["passed"] else "misses"
    if entry["kind"] == "worse_by_at_most":
        return _change_in_words(entry, name, verdict)
    direction = "at least" if entry["kind"] == "at_least" else "at most"
    difference = abs(value - bound)
    served = f"; the served model has {format_metric(baseline)}" if baseline is not None else ""
    by = f"by {format_metric(difference)}" if math.isfinite(difference) else "since it is not defined"
    return f"{name} is {format_metric(value)} and must be {direction} {bound:g}: it {verdict} {by}{served}."


def _change_in_words(entry: Mapping[str, Any], name: str, verdict: str) -> str:
    value, bound, baseline = entry["value"], entry["bound"], entry["baseline"]
    if baseline is None:
        return f"{name} may be at most {bound:g} worse than what is served: nothing comparable is, so it passes."
    worse = (value - baseline) * (1 if entry["metric"] in LOWER_IS_BETTER else -1)
    change = f"{format_metric(abs(worse))} {'worse' if worse > 0 else 'better'}" if worse else "no different"
    by = "" if entry["passed"] else f" by {format_metric(worse - bound)}"
    return (
        f"{name} is {format_metric(value)}, {change} than the served model's {format_metric(baseline)}, and may be at "
        f"most {bound:g} worse: it {verdict}{by}."
    ).replace("no different than", "the same as")


def _slice(name: str, values: Mapping[str, float], *, metric: str, overall: float) -> Slice:
    rows = int(values.get(_COUNT, 0))
    value = values.get(metric)
    behind = None
    if value is not None and math.isfinite(value) and math.isfinite(overall):
        behind = (value - overall) * (1 if metric in LOWER_IS_BETTER else -1)
    return Slice(
        name=name,
        rows=rows,
        metrics={key: number for key, number in values.items() if key != _COUNT},
        value=value,
        interval=wilson(value, rows) if metric == "accuracy" and value is not None else None,
        behind=behind,
        is_small=rows < SMALL_SLICE,
    )

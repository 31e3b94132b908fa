"""Facts about the evaluation: the metrics with their thresholds, and the slices, the weakest first.

It reads the evaluation.json that the Evaluator writes beside TFMA's files, so that TFMA is not imported.
"""

from collections.abc import Mapping
from pathlib import Path

from kubetfx.artifacts import EVALUATION
from kubetfx.components.evaluation.evaluation_result import (
    COUNT,
    SMALL_SLICE,
    EvaluationResult,
    Interval,
    RankedSlice,
    read_result,
)
from kubetfx.components.evaluation.intervals import wilson
from kubetfx.components.report.evaluation_facts import Evaluation, Metric, Slice
from kubetfx.config.metric_catalogue import describe as describe_metric


def read(folder: Path) -> Evaluation | None:
    """Return the evaluation of an artifact; None where the Evaluator left no result.

    Args:
        folder: The folder of the artifact.
    """
    return describe(read_result(folder)) if (folder / EVALUATION).is_file() else None


def describe(result: EvaluationResult) -> Evaluation:
    """Return facts about an evaluation.

    Args:
        result: The result of the Evaluator.
    """
    metrics = [
        Metric(
            name=name,
            value=value,
            interval=_interval(name, result.metrics, result.weight),
            served=result.baseline_metrics.get(name),
            simple={kind: values[name] for kind, values in result.simple_metrics.items() if name in values},
            lower_is_better=result.better_of(name) == "lower",
            checks=[check for check in result.checks if check.metric == name and check.slice is None],
        )
        for name, value in result.metrics.items()
        if name != COUNT
    ]
    return Evaluation(
        is_blessed=result.is_blessed,
        metrics=metrics,
        ranked_by=result.ranked_by,
        slices=[_slice(one, result) for one in result.ranked_slices],
        not_compared_because=result.not_compared_because,
        failures=result.failures,
        notes=result.notes,
        confusion=result.confusion,
        weight=result.weight,
    )


def _slice(one: RankedSlice, result: EvaluationResult) -> Slice:
    rows, ranked_by = int(one.metrics.get(COUNT, 0)), result.ranked_by
    return Slice(
        name=one.name,
        rows=rows,
        metrics={name: value for name, value in one.metrics.items() if name != COUNT},
        value=one.metrics.get(ranked_by),
        interval=_interval(ranked_by, one.metrics, result.weight),
        behind=one.behind,
        is_small=rows < SMALL_SLICE,
        checks=[check for check in result.checks if check.slice == one.name],
    )


def _interval(name: str, metrics: Mapping[str, float], weight: str | None) -> Interval | None:
    """Return the interval of a metric that is a proportion of unweighted rows. Others need the predictions."""
    metric = describe_metric(name)
    if weight or metric is None or not metric.is_share_of_rows or name not in metrics:
        return None
    return wilson(metrics[name], int(metrics.get(COUNT, 0)))

"""Facts about the evaluation: the metrics with their thresholds, and the slices by how far they fall behind.

Reads the evaluation.json that the Evaluator leaves beside TFMA's files, so TFMA is not imported.
"""

from collections.abc import Mapping
from pathlib import Path

from kubetfx.artifacts import EVALUATION
from kubetfx.components.evaluation.evaluation_result import COUNT, EvaluationResult, RankedSlice, read_result
from kubetfx.components.report.facts import Evaluation, Interval, Metric, Slice
from kubetfx.components.report.intervals import wilson
from kubetfx.config.metric_catalogue import describe as describe_metric

SMALL_SLICE = 30
"""Rows below which a slice's metrics say little."""


def read(folder: Path) -> Evaluation | None:
    """Return the evaluation of an artifact; None where the Evaluator left no result.

    Args:
        folder: of the artifact.
    """
    return describe(read_result(folder)) if (folder / EVALUATION).is_file() else None


def describe(result: EvaluationResult) -> Evaluation:
    """Return facts about an evaluation.

    Args:
        result: of the Evaluator.
    """
    metrics = [
        Metric(
            name=name,
            value=value,
            interval=_interval(name, result.metrics),
            served=result.baseline_metrics.get(name),
            lower_is_better=result.better_of(name) == "lower",
            checks=[check for check in result.checks if check.metric == name],
        )
        for name, value in result.metrics.items()
        if name != COUNT
    ]
    return Evaluation(
        is_blessed=result.is_blessed,
        metrics=metrics,
        ranked_by=result.ranked_by,
        slices=[_slice(one, ranked_by=result.ranked_by) for one in result.ranked_slices],
        not_compared_because=result.not_compared_because,
        failures=result.failures,
    )


def _slice(one: RankedSlice, *, ranked_by: str) -> Slice:
    rows = int(one.metrics.get(COUNT, 0))
    return Slice(
        name=one.name,
        rows=rows,
        metrics={name: value for name, value in one.metrics.items() if name != COUNT},
        value=one.metrics.get(ranked_by),
        interval=_interval(ranked_by, one.metrics),
        behind=one.behind,
        is_small=rows < SMALL_SLICE,
    )


def _interval(name: str, metrics: Mapping[str, float]) -> Interval | None:
    """Of a metric that is a share of the rows. The others need the predictions."""
    metric = describe_metric(name)
    if metric is None or not metric.is_share_of_rows or name not in metrics:
        return None
    return wilson(metrics[name], int(metrics.get(COUNT, 0)))

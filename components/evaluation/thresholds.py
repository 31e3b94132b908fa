"""The verdict: which bounds apply, and whether the candidate meets them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kubetfx.components.evaluation import intervals
from kubetfx.components.evaluation.baselines import CONSTANT, LINEAR
from kubetfx.components.evaluation.evaluation_result import COUNT, SMALL_SLICE, Check, Reference
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.evaluation.row_sample import Drawn
from kubetfx.components.evaluation.slices import SliceKey, slice_name
from kubetfx.config.evaluation_section import Bounds, EvaluationConfig, Threshold
from kubetfx.config.metric_catalogue import Better, Task, default_names, worsening

DEFAULT_WORSE_BY_AT_MOST = 0.01
_SEED = 0


def effective_thresholds(evaluation: EvaluationConfig, task: Task) -> dict[str, Threshold]:
    """Return the thresholds of the config, or the default one: hardly worse than the served model.

    Args:
        evaluation: the section of the config.
        task: The task of the model.
    """
    if evaluation.thresholds:
        return evaluation.thresholds
    first = (evaluation.metrics or default_names(task))[0]
    return {first: Threshold(worse_by_at_most=DEFAULT_WORSE_BY_AT_MOST)}


def checks(
    thresholds: Mapping[str, Bounds],
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    better: Mapping[str, Better],
    references: Mapping[str, tuple[float, Reference]],
) -> Iterator[Check]:
    """Yield a check for each bound of a candidate's metrics. An undefined metric meets no bound.

    Args:
        thresholds: The thresholds by metric.
        metrics: The metrics of the candidate.
        baseline: The metrics of the served model; empty if there is none.
        better: Whether higher or lower values are better, by metric.
        references: The value that a metric must exceed, and its baseline.
    """
    for name, threshold in thresholds.items():
        value, served = metrics[name], baseline.get(name)
        if (bound := threshold.at_least) is not None:
            yield Check(name, "at_least", bound, value, served, value >= bound, better[name])
        if (bound := threshold.at_most) is not None:
            yield Check(name, "at_most", bound, value, served, value <= bound, better[name])
        if (bound := threshold.worse_by_at_most) is not None:
            worse = 0.0 if served is None else worsening(value, served, better[name])
            passed = math.isfinite(value) and worse <= bound
            yield Check(name, "worse_by_at_most", bound, value, served, passed, better[name])
        if name in references:
            bound, reference = references[name]
            passed = math.isfinite(value) and (reference.certain > 0 or not math.isfinite(bound))
            yield Check(name, "better_than_baseline", bound, value, served, passed, better[name], reference)


def slice_checks(
    bounds: Mapping[str, Mapping[str, Bounds]],
    slices: Mapping[SliceKey, tuple[Mapping[str, float], Mapping[str, float]]],
    better: Mapping[str, Better],
) -> Iterator[Check]:
    """Yield a check for each bound of each slice of a column.

    Args:
        bounds: The bounds by metric, by column.
        slices: The metrics of the candidate and of the served model, by slice.
        better: Whether higher or lower values are better, by metric.
    """
    for key, (metrics, served) in slices.items():
        names = [name for name, _ in key]
        if len(names) == 1 and names[0] in bounds:
            for check in checks(bounds[names[0]], metrics, served, better, {}):
                yield replace(check, slice=slice_name(key), **_unjudged(check, rows=int(metrics[COUNT])))


def _unjudged(check: Check, *, rows: int) -> dict[str, Any]:
    reason = None
    if rows < SMALL_SLICE:
        reason = f"{rows:,} rows are too few ({SMALL_SLICE} are needed)"
    elif not math.isfinite(check.value):
        reason = "it is not defined there"
    return {"unjudged": reason, "passed": check.passed or reason is not None}


def references(
    thresholds: Mapping[str, Threshold],
    values: Mapping[str, Mapping[str, float]],
    drawn: Drawn,
    *,
    candidate: str,
    rows: int,
    words: Mapping[str, str],
) -> dict[str, tuple[float, Reference]]:
    """Find the baselines that the candidate must beat.

    Args:
        thresholds: The thresholds by metric.
        values: The values of the metrics of all rows, by model or baseline and name.
        drawn: Their predictions for a sample of the rows.
        candidate: The name of the candidate.
        rows: The number of rows of the evaluation split.
        words: The behaviour of each baseline in words, by name.

    Returns:
        The value of a baseline, and the baseline, by metric. Metrics that need more than predictions have no entry, nor
        have metrics whose best possible value a constant reaches, since no model could be better.
    """
    found: dict[str, tuple[float, Reference]] = {}
    for name, threshold in thresholds.items():
        metric, wanted = find_metric(name), LINEAR if threshold.better_than_baseline == "linear" else CONSTANT
        baseline = wanted if wanted in words else CONSTANT
        if not threshold.better_than_baseline or baseline not in words or not metric.is_of_predictions:
            continue
        value, bound = values[candidate][name], values[baseline][name]
        if metric.constant_can_be_best and bound == metric.bounds[metric.better == "higher"]:
            continue
        certain = intervals.certain_advantage(
            metric, drawn.of(candidate), drawn.of(baseline), values=(value, bound), total_rows=rows, seed=_SEED
        )
        found[name] = bound, Reference(baseline, words[baseline], certain, rows)
    return found

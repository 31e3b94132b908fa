"""The verdict: which bounds hold, and whether the candidate keeps them."""

import math
from collections.abc import Iterator, Mapping

from kubetfx.components.evaluation.evaluation_result import Check
from kubetfx.config.evaluation_section import EvaluationConfig, Threshold
from kubetfx.config.metric_catalogue import Better, Task, names_for, worsening

DEFAULT_WORSE_BY_AT_MOST = 0.01


def effective_thresholds(evaluation: EvaluationConfig, task: Task) -> dict[str, Threshold]:
    """Return the thresholds of the config, or the one that holds without any: hardly worse than what is served.

    Args:
        evaluation: the section of the config.
        task: of the model.
    """
    if evaluation.thresholds:
        return evaluation.thresholds
    first = (evaluation.metrics or names_for(task))[0]
    return {first: Threshold(worse_by_at_most=DEFAULT_WORSE_BY_AT_MOST)}


def checks(
    thresholds: Mapping[str, Threshold],
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    better: Mapping[str, Better],
) -> Iterator[Check]:
    """Yield a check for each bound of a candidate's metrics. What is not defined keeps none.

    Args:
        thresholds: by metric.
        metrics: of the candidate.
        baseline: of the served model; empty if there is none.
        better: which values of a metric are better.
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

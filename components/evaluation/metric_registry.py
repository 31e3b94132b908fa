"""Finds metrics by their name in pipeline.yaml: one of kubetfx's, or `module:attribute`."""

from dataclasses import fields

from kubetfx.components.evaluation import classification, curves, regression
from kubetfx.components.evaluation.metric import Metric, renamed
from kubetfx.config.metric_catalogue import (
    CROSS_VALIDATED_PREFIX,
    ROBUSTNESS_PREFIX,
    Description,
    Task,
    describe,
    is_reference,
)
from kubetfx.errors import ConfigError
from kubetfx.user_code import load_object

ACCUMULATORS = {**classification.ACCUMULATORS, **curves.ACCUMULATORS, **regression.ACCUMULATORS}
"""Accumulators of the catalogue's metrics, by name."""


def find_metric(name: str, *, task: Task | None = None) -> Metric:
    """Return a metric by its name.

    Args:
        name: The name, as in `evaluation.metrics` and `evaluation.thresholds`.
        task: The task that it must fit; None: any.

    Raises:
        ConfigError: the metric does not exist, its module cannot be imported, or it does not fit the task.
    """
    found = _own(name) if is_reference(name) else _ours(name)
    if task is not None and task not in found.tasks:
        raise ConfigError(
            f"The metric {name} is for {' and '.join(found.tasks)}. Received: model.task: {task}. Choose another one, "
            "or give its tasks if it is your own."
        )
    return found


def _ours(name: str) -> Metric:
    description = describe(name)
    if description is None:
        raise ConfigError(
            f"There is no such metric. Received: {name!r}. Known: {', '.join(ACCUMULATORS)}; and your own as "
            "module:attribute."
        )
    is_drop = name.startswith(ROBUSTNESS_PREFIX)
    accumulator = classification.AccuracyDrop if is_drop else ACCUMULATORS[name.removeprefix(CROSS_VALIDATED_PREFIX)]
    known = {field.name: getattr(description, field.name) for field in fields(Description)}
    return Metric(**known, accumulator=accumulator)


def _own(reference: str) -> Metric:
    found = load_object(reference, key="evaluation")
    if not isinstance(found, Metric):
        raise ConfigError(
            f"{reference} is not a metric. Received: {type(found).__name__}. Put @kubetfx.metric(...) "
            "over a function (labels, predictions) -> float, or make it a kubetfx.Metric."
        )
    return renamed(found, reference)

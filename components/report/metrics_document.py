"""metrics.json: the figures of a run for machines, as docs/metrics.md describes it.

What stands here keeps its name and meaning within a `schema_version`; fields may be added.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from kubetfx.components.evaluation.evaluation_result import Interval, Kind
from kubetfx.components.report.calibration_facts import Calibration
from kubetfx.components.report.facts import Facts
from kubetfx.config.metric_catalogue import Task
from kubetfx.run_record import RunRecord, RunState


class Document(BaseModel):
    """A part of metrics.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Run(Document):
    """The run, where a record of it was kept."""

    id: str
    state: RunState
    started_at: str
    """UTC, ISO 8601."""
    seconds: float | None
    """Seconds of the whole run."""


class MetricValue(Document):
    """A metric of the candidate on the evaluation split."""

    value: float | None
    """null: not defined."""
    lower: float | None = None
    """Lower end of the 95 % interval."""
    upper: float | None = None
    """Upper end of the 95 % interval."""
    served: float | None = None
    """Value of the served model; null: none was compared."""
    constant: float | None = None
    """Value of a constant prediction, the most frequent class or the mean of the training rows."""
    linear: float | None = None
    """Value of a linear model; null: none was fitted."""
    lower_is_better: bool = False


class Threshold(Document):
    """A bound of a metric."""

    metric: str
    slice: str | None = None
    """Slice of the bound; null: all rows."""
    kind: Kind
    bound: float | None
    """The bound; for `better_than_baseline` the value of the baseline; null: it is undefined."""
    value: float | None
    served: float | None
    passed: bool
    unjudged: str | None = None
    """Why nobody can tell, of a slice."""


class SliceMetrics(Document):
    """Metrics of rows that have one value in a column."""

    slice: str
    """`column=value`, several joined by a comma."""
    rows: int
    metrics: dict[str, float | None]
    lower: float | None = None
    """Lower end of the 95 % interval of the metric that slices are ranked by."""
    upper: float | None = None
    """Upper end of it."""
    is_small: bool
    """Whether there are too few rows to rely on."""


class ClassMetrics(Document):
    """Metrics of a class on the evaluation split, each row taken for its likeliest class."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int | float
    """Rows of the class, with their weights."""


class DataMetrics(Document):
    """The table."""

    rows: int
    splits: dict[str, int]
    """Rows by split."""
    columns: int
    excluded: list[str]
    """Columns that are not features."""
    anomalies: int | None
    """null: not looked for."""
    drifted: dict[str, float]
    """Distance from the previous run's rows by column, where it is over the threshold."""
    skewed: dict[str, float]
    """Distance of the evaluation rows from the training rows by column, where it is over the threshold."""
    span: int | None
    fingerprint: str | None


class CalibrationMetrics(Document):
    """What `evaluation.calibrate` changed."""

    temperature: float
    """Above 1 it makes the model less certain."""
    error_before: float | None
    """Calibration error on the evaluation split without the temperature."""
    error_after: float | None
    """The same with it."""


class TrainingMetrics(Document):
    """The training."""

    model: Literal["network", "trees", "average"]
    """What was taken: of a network and trees that `model.kind: auto` trained, or the one that was asked for."""
    candidates: dict[str, float]
    """Cross entropy or root mean squared error on the validation rows by what could have been taken."""
    epochs: int
    best_epoch: int | None
    stopped_early: bool
    loss: float | None
    """Loss of the training rows in the best epoch."""
    validation_loss: float | None
    """Validation loss of the validation rows in the best epoch."""
    seconds: float | None
    """Seconds of all training steps."""
    seconds_per_step: float | None
    parameters: int | None
    calibration: CalibrationMetrics | None = None
    """null: probabilities are the model's own."""


class Metrics(Document):
    """metrics.json."""

    schema_version: Literal[1] = 1
    pipeline: str
    model_name: str
    task: Task
    label: str | None
    run: Run | None
    blessed: bool | None
    """null: the run did not come so far."""
    pushed_version: int | None
    served_version: int | None
    """The version that the candidate was compared with."""
    sample_weight: str | None = None
    """The column that says how often each row counts; null: each counts once."""
    metrics: dict[str, MetricValue]
    thresholds: list[Threshold]
    slices_ranked_by: str | None
    slices: list[SliceMetrics]
    """The one that falls behind most first."""
    classes: list[ClassMetrics]
    kappa: float | None
    importance: dict[str, float]
    """Rise of the loss when a column is shuffled, the largest first."""
    data: DataMetrics | None
    training: TrainingMetrics | None


def document(facts: Facts, record: RunRecord | None = None) -> Metrics:
    """Return the figures of a run.

    Args:
        facts: what the run found.
        record: how it went.
    """
    evaluation, quality, push = facts.evaluation, facts.quality, facts.push
    return Metrics(
        pipeline=facts.settings.name,
        model_name=facts.settings.model_name,
        task=facts.settings.task,
        label=facts.label,
        run=_run(record) if record else None,
        blessed=evaluation.is_blessed if evaluation else None,
        pushed_version=push.version if push else None,
        served_version=push.served_version if push else None,
        sample_weight=evaluation.weight if evaluation else None,
        metrics={
            metric.name: MetricValue(
                value=_finite(metric.value),
                served=_finite(metric.served),
                **{name: _finite(value) for name, value in metric.simple.items()},
                lower_is_better=metric.lower_is_better,
                **_ends(metric.interval),
            )
            for metric in (evaluation.metrics if evaluation else ())
        },
        thresholds=_thresholds(facts),
        slices_ranked_by=evaluation.ranked_by if evaluation and evaluation.slices else None,
        slices=[
            SliceMetrics(
                slice=one.name,
                rows=one.rows,
                metrics={name: _finite(value) for name, value in one.metrics.items()},
                is_small=one.is_small,
                **_ends(one.interval),
            )
            for one in (evaluation.slices if evaluation else ())
        ],
        classes=[ClassMetrics(**one.model_dump()) for one in (quality.per_class if quality else ())],
        kappa=quality.kappa if quality else None,
        importance={one.column: one.value for one in (quality.importance if quality else ())},
        data=_data(facts),
        training=_training(facts),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ends(interval: Interval | None) -> dict[str, float]:
    return {"lower": interval.lower, "upper": interval.upper} if interval else {}


def _run(record: RunRecord) -> Run:
    return Run(id=record.run_id, state=record.state, started_at=record.started_at, seconds=record.seconds)


def _thresholds(facts: Facts) -> list[Threshold]:
    checks = facts.evaluation.checks if facts.evaluation else []
    return [
        Threshold(
            metric=check.metric,
            slice=check.slice,
            unjudged=check.unjudged,
            kind=check.kind,
            bound=_finite(check.bound),
            value=_finite(check.value),
            served=_finite(check.baseline),
            passed=check.passed,
        )
        for check in checks
    ]


def _data(facts: Facts) -> DataMetrics | None:
    data = facts.data
    if data is None:
        return None
    return DataMetrics(
        rows=data.rows,
        splits={split.name: split.rows for split in data.splits},
        columns=len(data.columns),
        excluded=[column.name for column in data.excluded],
        anomalies=None if data.anomalies is None else len(data.anomalies),
        drifted={column.name: column.drift.value for column in data.drifted if column.drift},
        skewed={column.name: column.skew.value for column in data.skewed if column.skew},
        span=data.span,
        fingerprint=data.fingerprint,
    )


def _calibration(found: Calibration | None) -> CalibrationMetrics | None:
    if found is None:
        return None
    return CalibrationMetrics(
        temperature=found.temperature,
        error_before=_finite(found.error_before),
        error_after=_finite(found.error_after),
    )


def _training(facts: Facts) -> TrainingMetrics | None:
    training = facts.training
    if training is None:
        return None
    best = (training.best_epoch or training.epochs) - 1

    def at_best(name: str) -> float | None:
        values = training.history.get(name, [])
        return _finite(values[best]) if best < len(values) else None

    return TrainingMetrics(
        model=training.choice.kind if training.choice else training.kind,
        candidates=training.choice.values if training.choice else {},
        epochs=training.epochs,
        best_epoch=training.best_epoch,
        stopped_early=training.stopped_early,
        loss=at_best("loss"),
        validation_loss=at_best("val_loss"),
        seconds=sum(training.seconds) if training.seconds else None,
        seconds_per_step=training.seconds_per_step,
        parameters=training.parameters,
        calibration=_calibration(training.calibration),
    )

"""The page about served requests, and the same figures as metrics for Prometheus."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.monitoring.findings import Findings, Quality
from kubetfx.components.report import figures, render
from kubetfx.config.metric_catalogue import label_of

MAX_SLICES = 50
_PREFIX = "kubetfx_monitor_"


@dataclass(frozen=True)
class About:
    """The subject of the page."""

    name: str
    model_name: str
    version: int
    run_id: str
    rows: int
    since: str
    until: str
    period: str
    min_rows: int
    sources: str
    """The origin of the requests."""
    notes: Sequence[str]
    score_by_period: Mapping[str, float]
    """Mean of the score or value, the oldest period first."""
    rows_by_period: Mapping[str, int]


def page(about: About, findings: Findings) -> str:
    """Return the page.

    Args:
        about: what was looked at.
        findings: Its findings.
    """
    over_time = []
    if len(about.score_by_period) > 1:
        name = findings.answers.column.name if findings.answers else "score"
        over_time.append((f"Mean {name}", _lines(f"mean {name}", list(about.score_by_period.values()))))
    charts = [] if findings.quality is None else list(_quality_charts(findings.quality))
    kind = "bad" if findings.crossed else "good" if about.rows >= about.min_rows else "warn"
    return render.rendered(
        "monitoring.html.j2",
        about=about,
        findings=findings,
        kind=kind,
        title=_title(about, findings),
        columns=sorted(findings.columns, key=_rank),
        over_time=over_time,
        charts=charts,
        max_slices=MAX_SLICES,
    )


def _title(about: About, findings: Findings) -> str:
    if findings.crossed:
        number = len(findings.crossed)
        return f"{number} bound{'s are' if number > 1 else ' is'} crossed"
    return "No bound is crossed" if about.rows >= about.min_rows else "Too few rows to judge"


def _rank(column: Any) -> tuple[bool, float]:
    return not column.crossed, -(column.skew.value if column.skew else 0.0)


def _quality_charts(quality: Quality) -> Any:
    for metric in quality.overall:
        found = [group.metric(metric.name) for group in quality.periods]
        values = [one.value if one is not None else math.nan for one in found]
        if len(values) > 1:
            yield label_of(metric.name), _lines(label_of(metric.name), values)


def _lines(name: str, values: Sequence[float]) -> Markup:
    words = ", ".join(map(format_metric, values))
    return figures.lines(
        [figures.Series(name, values)], label=f"{name} by period: {words}", y_label=name, unit="period"
    )


def write_metrics(path: Path, about: About, findings: Findings, now: float) -> None:
    """Write metrics in Prometheus's text format, atomically.

    Args:
        path: The path of the file, such as one in the folder of the node exporter's textfile collector.
        about: what was looked at.
        findings: Its findings.
        now: seconds since 1970.
    """
    gauges = _Gauges(about)
    gauges.set("rows", "Number of examined rows of logged requests.", about.rows)
    gauges.set("crossed_bounds", "Number of exceeded bounds of monitoring.", len(findings.crossed))
    gauges.set("timestamp_seconds", "Time of the examination, in seconds since 1970.", now)
    for column in findings.columns:
        gauges.set("missing_ratio", "Share of missing cells.", column.missing, column=column.name)
        gauges.set(
            "unseen_ratio", "Share of categories that are not in the training rows.", column.unseen, column=column.name
        )
        for kind, change in asdict(column.changes).items() if column.changes else ():
            what = "How much more of a text is in other scripts, unknown, or strange, than in training."
            gauges.set("text_change_ratio", what, change, column=column.name, kind=kind)
    subjects: list[tuple[str, Any]] = [(one.name, one) for one in findings.columns]
    subjects += [("answers", findings.answers)] if findings.answers else []
    for name, one in subjects:
        for kind, distance in (("skew", one.skew), ("drift", one.drift)):
            what = "Distance of a column or the answers from training (skew), and from earlier periods (drift)."
            gauges.set("distance", what, distance.value if distance else None, column=name, kind=kind)
    for crossing in findings.crossed:
        gauges.set("crossed", "Crosses its bound.", crossing.value, subject=crossing.subject, kind=crossing.kind)
    if findings.quality is not None:
        _add_quality(gauges, findings.quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), gauges.registry)


def _add_quality(gauges: "_Gauges", quality: Quality) -> None:
    gauges.set("labelled_rows", "Rows whose labels have arrived.", quality.rows)
    for own in quality.overall:
        gauges.set("quality_when_pushed", "Metric of the evaluation at the push.", own.pushed, metric=own.name)
    for name, metrics in [("", quality.overall), *((one.name, one.metrics) for one in quality.slices[:MAX_SLICES])]:
        for own in metrics:
            gauges.set("quality", "Metric of the rows that have labels.", own.value, metric=own.name, slice=name)


class _Gauges:
    """Gauges with the labels model and version."""

    def __init__(self, about: About) -> None:
        self.registry = CollectorRegistry()
        self._common = {"model": about.model_name, "version": str(about.version)}
        self._made: dict[str, Gauge] = {}

    def set(self, name: str, what: str, value: float | None, **labels: str) -> None:
        """Set a gauge, unless the value is unknown."""
        if value is None or not math.isfinite(value):
            return
        if name not in self._made:
            self._made[name] = Gauge(f"{_PREFIX}{name}", what, [*self._common, *labels], registry=self.registry)
        self._made[name].labels(**self._common, **labels).set(value)

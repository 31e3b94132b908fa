"""Renders facts: the whole report, and its parts one by one, each a self-contained HTML page.

Everything that comes from data is escaped by Jinja2; no script, no request to anywhere.
"""

import functools
import importlib.metadata
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from components.report import card, figures
from components.report.comparison import Comparison
from components.report.facts import (
    AnomalyFact,
    CheckFact,
    Column,
    Curve,
    Data,
    Evaluation,
    Facts,
    Importance,
    Layer,
    Quality,
    Training,
)
from components.report.verdict import format_metric, metric_label
from pipeline.config import LOWER_IS_BETTER
from pipeline.run_record import RunRecord

TEMPLATES = Path(__file__).parent / "templates"
LOG_LINES = 15
_NO_HTML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that no HTML file may have, and a column's name can."""
MAX_ROWS = 200
"""Rows of a plain table."""
_ROLES = {
    "label": "label",
    "numeric": "number",
    "vocabulary": "category",
    "hashed": "category, hashed",
    "excluded": "left out",
}
_ALL = {1: "its threshold", 2: "both thresholds"}
_SPLITS = {"train": "Training", "eval": "Evaluation", "validation": "Validation"}


@dataclass(frozen=True)
class Answer:
    """What stands at the top of a report."""

    kind: str
    """`good`, `bad` or `warn`."""
    title: str
    reasons: Sequence[str] = ()
    call: str | None = None
    """Commands that ask the model."""
    log_tail: str | None = None


def report(facts: Facts, record: RunRecord | None = None) -> str:
    """The whole report.

    Args:
        facts: what the run found out.
        record: how the run went; None where nobody kept one.
    """
    importances = {one.column: one for one in facts.quality.importance} if facts.quality else {}
    contents = [("answer", "Answer")]
    contents += [("data", "Data")] * (facts.data is not None)
    contents += [("training", "Training")] * (facts.training is not None)
    has_slices = bool(facts.evaluation and facts.evaluation.slices)
    contents += [("quality", "Quality")] * (facts.quality is not None or has_slices)
    contents += [("evaluation", "Why this verdict")] * (facts.evaluation is not None)
    contents += [("provenance", "Provenance"), ("card", "Model card")]
    return _render(
        "report.html.j2",
        facts=facts,
        record=record,
        answer=answer(facts, record),
        contents=contents,
        importances=importances,
        steps=steps(record) if record else [],
        machine=_machine(record) if record else [],
        command=_command(record) if record else "",
        config_yaml=yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True) if record else "",
        card=card.sections(facts),
        version=_version(),
    )


def comparison(found: Comparison) -> str:
    """Two runs side by side."""
    return _render("comparison.html.j2", comparison=found, curves=list(_overlaid(found)))


def _overlaid(found: Comparison) -> Iterator[tuple[str, Markup]]:
    """Curves of both runs in one figure, of the validation rows where there are some."""
    first, second = found.first.training, found.second.training
    if first is None or second is None:
        return
    for name in (name for name in first.history if _is_curve(name) and name in second.history):
        key = f"val_{name}" if {f"val_{name}"} <= first.history.keys() & second.history.keys() else name
        of = "validation" if key != name else "training"
        series = [figures.Series("first", first.history[key]), figures.Series("second", second.history[key], color=2)]
        ends = "; ".join(f"{one.name} run ends at {figures.number(one.values[-1])}" for one in series if one.values)
        label = f"{metric_label(name)} of the {of} rows over the epochs: {ends}"
        yield f"{metric_label(name)}, {of}", figures.lines(series, label=label, y_label=name.replace("_", " "))


def answer(facts: Facts, record: RunRecord | None) -> Answer:
    """What became of the run, and why."""
    state = record.state if record else None
    if record and state in ("failed", "interrupted", "running", "stopped_by_anomalies"):
        return _broken_off(facts, record)
    push, evaluation = facts.push, facts.evaluation
    if push and push.version:
        name = facts.settings.model_name
        title = f"Still served: version {push.version}" if state == "unchanged" else f"Pushed as version {push.version}"
        reasons = ["Nothing changed: every node was taken from the cache."] if state == "unchanged" else []
        reasons.append(_in_short(evaluation))
        if push.destination:
            reasons.append(f"{name} stands in {push.destination}.")
        return Answer("good", title, list(filter(None, reasons)), call=_call(facts, record))
    if evaluation and not evaluation.is_blessed:
        return Answer(
            "bad", f"Not pushed: {_missed(evaluation)}", [*evaluation.failures, "What is served is unchanged."]
        )
    return Answer("warn", "Not pushed", [_in_short(evaluation)] if evaluation else [])


def _missed(evaluation: Evaluation) -> str:
    missed = [check for check in evaluation.checks if not check.passed]
    if not missed:
        return "the model was refused"
    names = list(dict.fromkeys(metric_label(check.metric) for check in missed))
    if len(names) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]} miss their thresholds"
    by = _difference(missed[0])
    return f"{names[0]} misses its threshold" + (f" by {format_metric(abs(by))}" if by is not None else "")


def _difference(check: CheckFact) -> float | None:
    """How far the value is inside the bound; negative where it misses it."""
    if check.kind == "worse_by_at_most":
        if check.baseline is None:
            return None
        worse = (check.value - check.baseline) * (1 if check.metric in LOWER_IS_BETTER else -1)
        found = check.bound - worse
    else:
        found = check.value - check.bound if check.kind == "at_least" else check.bound - check.value
    return found if math.isfinite(found) else None


def _in_short(evaluation: Evaluation | None) -> str:
    checks = evaluation.checks if evaluation else []
    if not checks:
        return ""
    return f"It meets {_ALL.get(len(checks), f'all {len(checks)} thresholds')}."


def _broken_off(facts: Facts, record: RunRecord) -> Answer:
    node = record.failed_node
    reached = len(record.nodes)
    where = f" at {node.id}, node {reached} of {len(record.planned_nodes)}" if node else ""
    if record.state == "stopped_by_anomalies":
        stopping = [one for one in (facts.data.anomalies or [] if facts.data else []) if one.action == "stop"]
        reasons = [f"{one.column}: {one.problem}" for one in stopping[:5]]
        if len(stopping) > len(reasons):
            reasons.append(f"and {len(stopping) - len(reasons)} more, below.")
        return Answer("bad", "Stopped by anomalies of the data", reasons or [record.error or ""])
    if record.state == "failed":
        reasons = [record.error] if record.error else []
        reasons.append("What was finished is kept: the same command goes on from there.")
        return Answer("bad", f"Failed{where}", reasons, log_tail=_log_tail(record))
    reason = "What was finished is kept: the same command goes on from there."
    title = "Interrupted" if record.state == "interrupted" else "Running, or killed without a word"
    return Answer("warn", f"{title}{where}", [reason])


def _log_tail(record: RunRecord) -> str | None:
    path = Path(record.failed_node.log) if record.failed_node else None
    if path is None or not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line[:300] for line in lines[-LOG_LINES:])


def _call(facts: Facts, record: RunRecord | None) -> str | None:
    if facts.push is None or facts.push.request is None:
        return None
    address = facts.settings.rest or "http://localhost:8501"
    body = shlex.quote(json.dumps(facts.push.request, ensure_ascii=False))
    line = f"curl -d {body} \\\n  {address}/v1/models/{facts.settings.model_name}:predict"
    path = _config_path(record) if record else None
    return f"kubetfx serve {shlex.quote(path)}\n{line}" if path and not facts.settings.rest else line


def _config_path(record: RunRecord) -> str | None:
    return next((word for word in record.command if word.endswith((".yaml", ".yml"))), None)


def steps(record: RunRecord) -> list[figures.Step]:
    """The nodes of a run, those that were not reached included."""
    by_id = {node.id: node for node in record.nodes}
    found = []
    for name in dict.fromkeys([*record.planned_nodes, *by_id]):
        node = by_id.get(name)
        if node is None:
            found.append(figures.Step(name, "not reached"))
        else:
            found.append(figures.Step(name, node.state, node.seconds, tuple(node.upstream), tuple(node.outputs)))
    return found


def _machine(record: RunRecord) -> list[tuple[str, str]]:
    machine = record.machine
    memory = machine.get("memory_bytes")
    entries = {
        "System": machine.get("system"),
        "Architecture": machine.get("architecture"),
        "Processor": machine.get("processor"),
        "Cores": machine.get("cores"),
        "Memory": f"{memory / 2**30:.1f} GiB" if memory else None,
        "Python": machine.get("python"),
    }
    return [(name, str(value)) for name, value in entries.items() if value]


def _command(record: RunRecord) -> str:
    return shlex.join(record.command or ["kubetfx", "run", "pipeline.yaml"])


def _version() -> str:
    try:
        return importlib.metadata.version("kubetfx")
    except importlib.metadata.PackageNotFoundError:  # an image holds the sources alone
        return ""


# The pieces, one by one.


def page(title: str, content: Markup) -> str:
    """A piece as a page of its own."""
    return _render("page.html.j2", title=title, content=content)


def text_page(title: str, text: str) -> str:
    """A sentence."""
    return page(title, Markup("<p>{}</p>").format(text))


def table_page(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[object]], *, notes: Sequence[str] = ()
) -> str:
    """A table with sentences above it."""
    return page(title, Markup(_parts().plain_table(headers, rows[:MAX_ROWS], notes, len(rows))))


def statistics_page(data: Data) -> str:
    """Histograms and top values of every column."""
    return page("Statistics", Markup(_parts().rows_of(data) + _parts().statistics(data)))


def schema_page(columns: Sequence[Column]) -> str:
    """What each column is used for, and why."""
    return page("Schema", _parts().schema_part(columns))


def anomalies_page(found: Sequence[AnomalyFact]) -> str:
    """Anomalies, each with its remedy."""
    return page("Anomalies", _parts().anomalies(found))


def training_page(training: Training) -> str:
    """Curves, diagnosis and layers."""
    return page("Training", _parts().training_part(training))


def evaluation_page(evaluation: Evaluation) -> str:
    """The verdict with its reasons, metrics and slices."""
    return page("Evaluation", _parts().evaluation_part(evaluation, full=False))


def quality_page(quality: Quality) -> str:
    """Confusion matrix, curves, residuals and importances."""
    return page("Quality", _parts().quality_part(quality, None))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "areas": lambda found: [f"{figures.shorten(one.name, 30)} ({format_metric(one.area)})" for one in found],
        "bound": _bound,
        "breakable": figures.break_long,
        "by_split": _by_split,
        "curve_names": lambda training: [name for name in training.history if _is_curve(name)],
        "difference": lambda check: "" if (found := _difference(check)) is None else _signed(found),
        "signed": _signed,
        "distinct": _distinct,
        "duration": _duration,
        "importance_width": _importance_width,
        "metric": format_metric,
        "metric_label": metric_label,
        "ends": figures.ends,
        "digits3": lambda value: figures.number(value, digits=3),
        "digits1": lambda value: figures.number(value, digits=1),
        "digits2": lambda value: figures.number(value, digits=2),
        "number": figures.number,
        "ranked": _ranked,
        "role": lambda role: _ROLES.get(role, role),
        "shade": figures.confusion_shade,
        "shape": _shape,
        "share": _share,
        "short": figures.shorten,
        "slice_range": _slice_range,
        "split_label": lambda name: _SPLITS.get(name, name),
        "time": _time,
        "value_bars": _value_bars,
        "cell": lambda value: figures.number(value, digits=5) if _is_number(value) else str(value),
    }
    environment.tests["numeric"] = _is_number
    environment.globals |= {
        "calibration_figure": _calibration_figure,
        "chain": figures.chain,
        "column_bars": figures.column_bars,
        "interval_figure": figures.interval,
        "learning_rate_curve": _learning_rate_curve,
        "precision_recall_figure": _precision_recall_figure,
        "residual_figure": _residual_figure,
        "roc_figure": _roc_figure,
        "scatter_figure": _scatter_figure,
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "training_curve": _training_curve,
    }
    return environment


def _render(template: str, **values: Any) -> str:
    text = _environment().get_template(template).render(**values).lstrip() + "\n"
    return _NO_HTML.sub("\N{REPLACEMENT CHARACTER}", text)


def _parts() -> Any:
    return _environment().get_template("parts.html.j2").module


def _signed(value: float) -> str:
    return f"{value:+.4g}".replace("-", "−") if value else "±0"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bound(check: CheckFact) -> str:
    if check.kind == "worse_by_at_most":
        return f"at most {check.bound:g} worse than served"
    return f"{check.kind.replace('_', ' ')} {check.bound:g}"


def _share(value: float) -> str:
    if 0 < value < 0.001:
        return "<0.1 %"
    return f"{value:.1%}".replace(".0%", "%").replace("%", " %")


def _by_split(column: Column, name: str, kind: str) -> str:
    """A statistic of the training rows and of the evaluation rows."""
    shown = [column.splits[split] for split in ("train", "eval") if split in column.splits] or list(
        column.splits.values()
    )
    values = [getattr(one, name) for one in shown]
    return " / ".join(_share(value) if kind == "share" else figures.number(value) for value in values)


def _distinct(column: Column) -> str:
    if column.distinct is not None:
        return f"{column.distinct:,}"
    counts = [one.distinct for one in column.splits.values() if one.distinct is not None]
    return f"{max(counts):,} in a split" if counts else ""


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def _shape(layer: Layer) -> str:
    shapes = [" × ".join(str(size) for size in shape[1:]) or "1" for shape in layer.output]
    return ", ".join(shapes)


def _ranked(columns: Sequence[Column], importances: Mapping[str, Importance]) -> list[Column]:
    """The label, then what the model looks at most, then what is unusual, then the rest; each in its order."""

    def key(entry: tuple[int, Column]) -> tuple[bool, float, bool, int]:
        position, column = entry
        importance = importances.get(column.name)
        unusual = any(distance and distance.is_large for distance in (column.drift, column.skew))
        return column.role != "label", -importance.value if importance else 0.0, not unusual, position

    return [column for _, column in sorted(enumerate(columns), key=key)]


@dataclass(frozen=True)
class _ValueBar:
    value: str
    widths: list[int]
    share: float


def _value_bars(column: Column) -> list[_ValueBar]:
    shown = [column.splits[split] for split in ("train", "eval") if split in column.splits] or list(
        column.splits.values()
    )
    shown = [one for one in shown if len(one.shares) == len(column.values)]
    highest = max((share for one in shown for share in one.shares), default=0) or 1.0
    return [
        _ValueBar(
            value if value.strip() else "(blank)",
            [round(100 * one.shares[index] / highest) for one in shown],
            shown[0].shares[index] if shown else 0.0,
        )
        for index, value in enumerate(column.values)
    ]


def _importance_width(one: Importance, quality: Quality) -> int:
    highest = max((entry.value for entry in quality.importance), default=0)
    return max(round(100 * one.value / highest), 0) if highest > 0 else 0


def _slice_range(evaluation: Evaluation) -> tuple[float, float]:
    values = [one.value for one in evaluation.slices[:50] if one.value is not None and math.isfinite(one.value)]
    for one in evaluation.slices[:50]:
        if one.interval:
            values += [one.interval.lower, one.interval.upper]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _is_curve(name: str) -> bool:
    return not name.startswith("val_") and name not in ("learning_rate", "lr")


def _training_curve(training: Training, name: str) -> Markup:
    series = [figures.Series("training", training.history[name])]
    validation = training.history.get(f"val_{name}")
    if validation:
        series.append(figures.Series("validation", validation, color=2))
    words = "; ".join(
        f"{one.name} from {figures.number(one.values[0])} to {figures.number(one.values[-1])}"
        for one in series
        if one.values
    )
    best = f"; the best epoch is {training.best_epoch}" if training.best_epoch else ""
    return figures.lines(
        series,
        label=f"{metric_label(name)} over {training.epochs} epochs: {words}{best}",
        y_label=name.replace("_", " "),
        best=training.best_epoch,
        stopped=training.epochs if training.stopped_early else None,
    )


def _learning_rate_curve(training: Training) -> Markup:
    rates = training.learning_rate
    label = f"Learning rate from {figures.number(rates[0])} to {figures.number(rates[-1])}"
    return figures.lines([figures.Series("rate", rates)], label=label, y_label="learning rate")


def _in_words(found: Sequence[Curve], name: str) -> str:
    return f"{name}. Area under the curve: " + "; ".join(f"{one.name} {format_metric(one.area or 0)}" for one in found)


def _roc_figure(found: Sequence[Curve]) -> Markup:
    return figures.curves(
        found,
        label=_in_words(found, "ROC curve"),
        x_label="false-positive rate",
        y_label="recall",
        diagonal=True,
    )


def _precision_recall_figure(found: Sequence[Curve]) -> Markup:
    return figures.curves(
        found,
        label=_in_words(found, "Precision over recall"),
        x_label="recall",
        y_label="precision",
        diagonal=False,
    )


def _calibration_figure(quality: Quality) -> Markup:
    words = "; ".join(f"predicted {one.predicted:.2f}, observed {one.observed:.2f}" for one in quality.calibration)
    return figures.calibration(quality.calibration, label=f"Calibration: {words}")


def _scatter_figure(quality: Quality) -> Markup:
    points = quality.predicted_against_true
    return figures.scatter(points, label=f"Predicted against true values of {len(points)} rows")


def _residual_figure(quality: Quality) -> Markup:
    mean, deviation = quality.residual_mean or 0.0, quality.residual_deviation or 0.0
    return figures.histogram(
        quality.residual_edges,
        quality.residual_counts,
        label=f"Histogram of the residuals, mean {format_metric(mean)}, standard deviation {format_metric(deviation)}",
        x_label="predicted less true",
    )

"""Compares a log of requests with the training rows, and with the evaluation when the version was pushed."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, TRAIN
from kubetfx.components.data.text_judgement import Changes, TextStatistics, changes_of
from kubetfx.components.data.text_statistics import statistics_of
from kubetfx.components.evaluation import intervals
from kubetfx.components.evaluation.evaluation_result import Interval, format_metric
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.evaluation.slices import OVERALL, slice_name
from kubetfx.components.monitoring.reference import Bucket, Reference, TrainingColumn
from kubetfx.components.monitoring.served import BEFORE, NEWEST, Adder, Numbers, Scope, Served, Texts
from kubetfx.components.report.data_facts import jensen_shannon, l_infinity
from kubetfx.components.report.facts import Column, ColumnSplit, Distance
from kubetfx.config.metric_catalogue import label_of, worsening
from kubetfx.config.monitoring_section import MonitoringConfig

MAX_UNSEEN = 10
"""Maximum number of unseen categories that are named."""
BARS_OF_TEXT = 8
REQUESTS = "requests"
ANSWERS = "answers"
"""Subject of findings about the model's answers."""
JENSEN_SHANNON, L_INFINITY = "Jensen-Shannon divergence", "L-infinity"


@dataclass(frozen=True)
class Crossing:
    """A bound that is exceeded."""

    subject: str
    """A column, `answers`, or a metric."""
    kind: str
    """`skew`, `drift`, `missing`, `unseen`; for text `scripts`, `unknown_words`, `strange_texts`; or, for a metric,
    `at_least`, `at_most`, `worse_by_at_most`.
    """
    value: float
    bound: float

    def __str__(self) -> str:
        """Return a sentence."""
        value, bound = format_metric(self.value), format_metric(self.bound)
        words = {
            "skew": f"is {value} from the training rows, and may be {bound}",
            "drift": f"has moved by {value} in the newest period, and may by {bound}",
            "missing": f"has a share of missing cells {value} above that of the training rows, and may have {bound}",
            "unseen": f"has categories that training never saw in {value} of its cells, and may in {bound}",
            "scripts": f"has {value} of its letters in other scripts than the training rows, and may have {bound}",
            "unknown_words": f"has a share of unknown words {value} above what is expected, and may have {bound}",
            "strange_texts": f"has a share of texts in no known words {value} above training, and may have {bound}",
            "at_least": f"is {value}, and must be at least {bound}",
            "at_most": f"is {value}, and must be at most {bound}",
            "worse_by_at_most": f"is {value} worse than when the version was pushed, and may be {bound}",
        }
        subject = "the distribution of the answers" if self.subject == ANSWERS else self.subject
        if self.subject == ANSWERS and self.kind == "skew":
            return f"{subject} is {value} from that for the evaluation split, and may be {bound}"
        return f"{subject} {words[self.kind]}"


@dataclass(frozen=True)
class ColumnFinding:
    """A column of the requests."""

    name: str
    column: Column
    """Facts as in the report; `eval` are the requests."""
    rows: int
    missing: float
    missing_in_training: float
    skew: Distance | None = None
    drift: Distance | None = None
    unseen: float | None = None
    """Share of unseen categories among the cells with a value; None if the vocabulary is unknown, or any value is
    usual.
    """
    unseen_values: list[tuple[str, int]] = field(default_factory=list)
    written: TextStatistics | None = None
    """Statistics of the texts of the requests."""
    written_in_training: TextStatistics | None = None
    changes: Changes | None = None
    """How far the first are from the second."""
    outside: float | None = None
    """Share of the numbers outside the range of the training rows."""
    crossed: tuple[str, ...] = ()
    """Kinds of the exceeded bounds."""

    @property
    def texts_document(self) -> dict[str, Any] | None:
        """What is written in it, for machines; None of other columns."""
        if self.written is None or self.changes is None:
            return None
        own = {"scripts": self.written.scripts, "unknown": self.written.unknown, "strange": self.written.strange}
        return own | {"changes": asdict(self.changes)}


@dataclass(frozen=True)
class AnswerFinding:
    """The model's answers."""

    column: Column
    """The score, or the value; `train` are the answers to the evaluation split, `eval` those to the requests."""
    classes: list[tuple[str, float, float]]
    """Name, share in the evaluation split, share in the requests."""
    skew: Distance | None
    drift: Distance | None


@dataclass(frozen=True)
class MetricFinding:
    """A metric of the rows whose labels have arrived."""

    name: str
    value: float
    rows: int
    interval: Interval | None
    pushed: float | None
    """Value in the evaluation when the version was pushed."""
    lower_is_better: bool


@dataclass(frozen=True)
class Group:
    """Metrics of a period or a slice."""

    name: str
    rows: int
    metrics: list[MetricFinding]

    def metric(self, name: str) -> MetricFinding | None:
        """Return a metric by its name, or None.

        Args:
            name: The name of the metric.
        """
        return next((one for one in self.metrics if one.name == name), None)


@dataclass(frozen=True)
class Quality:
    """Quality of the answers according to the labels."""

    rows: int
    overall: list[MetricFinding]
    periods: list[Group]
    """Periods, the oldest first."""
    slices: list[Group]
    """Slices, the largest first."""


@dataclass(frozen=True)
class Findings:
    """All findings."""

    columns: list[ColumnFinding]
    answers: AnswerFinding | None
    quality: Quality | None
    crossed: list[Crossing]


def find(
    adder: Adder, reference: Reference, config: MonitoringConfig, *, period_names: Mapping[int, str], seed: int
) -> Findings:
    """Compare the accumulated requests with the reference of the version.

    Args:
        adder: The sums over all rows.
        reference: The reference of the version.
        config: The bounds.
        period_names: The names of the periods, by their distance from the newest one.
        seed: The seed of the intervals.

    Returns:
        The findings.
    """
    state = adder.state
    columns = [_column(one, state, config) for one in reference.columns.values()]
    answers = _answers(state, reference, config)
    quality = _quality(adder, reference, period_names, seed) if state.labelled_rows else None
    crossed = [*_crossings(columns, config)]
    is_judged = state.rows >= config.min_rows
    for kind, distance in (("skew", answers.skew), ("drift", answers.drift)) if answers and is_judged else ():
        if distance is not None and distance.is_large:
            crossed.append(Crossing(ANSWERS, kind, distance.value, distance.threshold))
    crossed += _quality_crossings(quality, config) if quality else []
    return Findings(columns, answers, quality, crossed)


# Columns


def _column(column: TrainingColumn, state: Served, config: MonitoringConfig) -> ColumnFinding:
    served = (state.texts if column.is_text else state.numbers).get(column.name)
    if served is None:
        return ColumnFinding(column.name, column.column, 0, 0.0, column.missing)
    rows, cells = int(served.rows.sum()), served.rows - served.missing
    missing = float(served.missing.sum() / rows) if rows else 0.0
    found: dict[str, Any] = {}
    if isinstance(served, Texts):
        shown = _shown_text(column, served, missing)
        both = served.counts[BEFORE] + served.counts[NEWEST]
        if column.is_compared and cells.sum():
            found["skew"] = _distance(_text_distance(column.frequencies, both), config.bound(column.name, "skew"), True)
        if cells.all():
            value = _text_distance(_decoded(served.counts[BEFORE]), served.counts[NEWEST])
            found["drift"] = _distance(value, config.bound(column.name, "drift"), True)
        if column.vocabulary is not None and cells.sum():
            found |= _unseen(both, column.vocabulary, total=int(both.total() + served.others.sum()))
        if column.texts is not None and (counts := state.written.get(column.name)):
            trained, written = column.texts.statistics, statistics_of(column.name, REQUESTS, counts)
            found |= {"written": written, "written_in_training": trained, "changes": changes_of(written, trained)}
    else:
        shown = _shown_numbers(column, served, missing)
        if column.is_compared and cells.sum():
            value = jensen_shannon(column.buckets, _buckets(served, column.edges, (BEFORE, NEWEST)))
            found["skew"] = _distance(value, config.bound(column.name, "skew"), False)
            found["outside"] = float((served.counts[:, 0] + served.counts[:, -1]).sum() / cells.sum())
        if column.is_compared and cells.all():
            before, newest = (_buckets(served, column.edges, (group,)) for group in (BEFORE, NEWEST))
            found["drift"] = _distance(jensen_shannon(before, newest), config.bound(column.name, "drift"), False)
    finding = ColumnFinding(column.name, shown, rows, missing, column.missing, **found)
    return replace(finding, crossed=tuple(one.kind for one in _crossings([finding], config)))


def _crossings(columns: Sequence[ColumnFinding], config: MonitoringConfig) -> Iterator[Crossing]:
    for one in columns:
        if one.rows < config.min_rows:
            continue
        for kind, distance in (("skew", one.skew), ("drift", one.drift)):
            if distance is not None and distance.is_large:
                yield Crossing(one.name, kind, distance.value, distance.threshold)
        more = one.missing - one.missing_in_training
        if more > (bound := config.bound(one.name, "missing")):
            yield Crossing(one.name, "missing", more, bound)
        if one.unseen is not None and one.unseen > (bound := config.bound(one.name, "unseen")):
            yield Crossing(one.name, "unseen", one.unseen, bound)
        for kind, change in asdict(one.changes).items() if one.changes else ():
            if change is not None and change > (bound := config.bound(one.name, kind)):
                yield Crossing(one.name, kind, change, bound)


def _distance(value: float, bound: float, is_text: bool) -> Distance:
    return Distance(value=value, threshold=bound, measure=L_INFINITY if is_text else JENSEN_SHANNON)


def _decoded(counts: Counter[bytes]) -> dict[str, float]:
    found: dict[str, float] = {}
    for value, count in counts.items():
        name = value.decode(errors="replace")
        found[name] = found.get(name, 0) + count
    return found


def _text_distance(before: Mapping[str, float], counts: Counter[bytes]) -> float:
    return l_infinity(before, _decoded(counts))


def _unseen(counts: Counter[bytes], vocabulary: frozenset[str], *, total: int) -> dict[str, Any]:
    new = {name: count for name, count in _decoded(counts).items() if name not in vocabulary}
    ranked = sorted(new.items(), key=lambda entry: (-entry[1], entry[0]))
    named = [(name, int(count)) for name, count in ranked[:MAX_UNSEEN]]
    return {"unseen": sum(new.values()) / total if total else 0.0, "unseen_values": named}


def _buckets(served: Numbers, edges: Array, groups: Sequence[int]) -> list[Bucket]:
    """Return the buckets, including those below and above the edges."""
    counts = served.counts[list(groups)].sum(axis=0)
    low, high = float(edges[0]), float(edges[-1])
    inner = zip(edges[:-1], edges[1:], counts[1:-1], strict=True)
    found = [(float(a), float(b), float(count)) for a, b, count in inner]
    if counts[0]:
        found.insert(0, (min(served.low, math.nextafter(low, -math.inf)), low, float(counts[0])))
    if counts[-1]:
        found.append((high, max(served.high, math.nextafter(high, math.inf)), float(counts[-1])))
    return found


def _shown_numbers(column: TrainingColumn, served: Numbers, missing: float) -> Column:
    counts = served.counts.sum(axis=0)
    known = int((served.rows - served.missing).sum())
    shares = [float(count / known) for count in counts[1:-1]] if known else []
    whole = column.counts.sum()
    trained = [float(count / whole) for count in column.counts] if whole else []
    low = served.low if math.isfinite(served.low) else None
    high = served.high if math.isfinite(served.high) else None
    splits = {
        TRAIN: column.column.splits[TRAIN].model_copy(update={"shares": trained}),
        EVAL: ColumnSplit(missing=missing, minimum=low, maximum=high, shares=shares),
    }
    edges = [float(edge) for edge in column.edges]
    return column.column.model_copy(update={"edges": edges, "splits": splits, "skew": None, "drift": None})


def _shown_text(column: TrainingColumn, served: Texts, missing: float) -> Column:
    ours = _decoded(served.counts[BEFORE] + served.counts[NEWEST])
    theirs = column.frequencies
    totals = sum(ours.values()) or 1, sum(theirs.values()) or 1
    weight = {name: ours.get(name, 0) / totals[0] + theirs.get(name, 0) / totals[1] for name in {*ours, *theirs}}
    values = sorted(weight, key=lambda name: (-weight[name], name))[:BARS_OF_TEXT]
    splits = {
        TRAIN: column.column.splits[TRAIN].model_copy(
            update={"shares": [theirs.get(name, 0) / totals[1] for name in values]}
        ),
        EVAL: ColumnSplit(
            missing=missing, distinct=len(ours), shares=[ours.get(name, 0) / totals[0] for name in values]
        ),
    }
    update = {"values": values, "edges": [], "splits": splits, "distinct": None, "skew": None, "drift": None}
    return column.column.model_copy(update=update)


# Answers


def _answers(state: Served, reference: Reference, config: MonitoringConfig) -> AnswerFinding | None:
    if state.answers is None:
        return None
    served, scores = state.answers, reference.scores
    edges = np.array(scores.edges) if scores else np.linspace(0, 1, served.counts.shape[1] - 1)
    before, newest = (_buckets(served, edges, (group,)) for group in (BEFORE, NEWEST))
    candidates: list[tuple[float, bool]] = []
    if scores is not None:
        pushed = [(a, b, n) for a, b, n in zip(scores.edges[:-1], scores.edges[1:], scores.counts, strict=True)]
        candidates.append((jensen_shannon(pushed, _buckets(served, edges, (BEFORE, NEWEST))), False))
    moved = [(jensen_shannon(before, newest), False)]
    classes: list[tuple[str, float, float]] = []
    if state.classes is not None:
        names = reference.facts.classes
        totals = state.classes.sum(axis=0)
        shares = totals / (totals.sum() or 1)
        known = np.array(scores.classes) if scores and scores.classes else np.full(len(names), math.nan)
        known = known / (known.sum() or 1)
        classes = [(name, float(known[i]), float(shares[i])) for i, name in enumerate(names)]
        if scores is not None and scores.classes:
            candidates.append((float(np.abs(known - shares).max()), True))
        rows = state.classes / np.maximum(state.classes.sum(axis=1, keepdims=True), 1)
        moved.append((float(np.abs(rows[BEFORE] - rows[NEWEST]).max()), True))
    has_both = bool((served.rows - served.missing).all())
    return AnswerFinding(
        column=_shown_answers(served, edges, reference),
        classes=classes,
        skew=_largest(candidates, config.scores),
        drift=_largest(moved if has_both else [], config.scores),
    )


def _largest(found: Sequence[tuple[float, bool]], bound: float) -> Distance | None:
    if not found:
        return None
    value, is_text = max(found)
    return _distance(value, bound, is_text)


def _shown_answers(served: Numbers, edges: Array, reference: Reference) -> Column:
    counts = served.counts.sum(axis=0)
    shares = [float(count / (counts.sum() or 1)) for count in counts[1:-1]]
    splits = {}
    if (scores := reference.scores) is not None:
        total = sum(scores.counts) or 1
        splits[TRAIN] = ColumnSplit(missing=0.0, shares=[count / total for count in scores.counts])
    low, high = (value if math.isfinite(value) else None for value in (served.low, served.high))
    splits[EVAL] = ColumnSplit(missing=0.0, minimum=low, maximum=high, shares=shares)
    name = "score" if reference.facts.classes else "value"
    return Column(name=name, type="float", edges=[float(edge) for edge in edges], splits=splits)


# Quality


def _quality(adder: Adder, reference: Reference, period_names: Mapping[int, str], seed: int) -> Quality:
    state, evaluation = adder.state, reference.evaluation
    whole: Scope = ("slice", OVERALL)
    pushed = evaluation.metrics if evaluation else {}
    periods = sorted((scope for scope in state.labelled if scope[0] == "period"), key=lambda scope: -scope[1])
    slices = [scope for scope in state.labelled if scope[0] == "slice" and scope != whole]
    by_slice = evaluation.slices if evaluation else {}

    def metrics(scope: Scope, before: Mapping[str, float]) -> list[MetricFinding]:
        return [_metric(adder, scope, name, before.get(name), seed) for name in state.labelled[scope]]

    return Quality(
        rows=state.labelled_rows[whole],
        overall=metrics(whole, pushed),
        periods=[
            Group(period_names.get(scope[1], str(scope[1])), state.labelled_rows[scope], metrics(scope, pushed))
            for scope in periods
        ],
        slices=[
            Group(name, state.labelled_rows[scope], metrics(scope, by_slice.get(name, {})))
            for scope in sorted(slices, key=lambda scope: (-state.labelled_rows[scope], slice_name(scope[1])))
            for name in [slice_name(scope[1])]
        ],
    )


def _metric(adder: Adder, scope: Scope, name: str, pushed: float | None, seed: int) -> MetricFinding:
    metric = find_metric(name)
    value, rows = adder.value(scope, name), adder.state.labelled_rows[scope]
    interval = None
    sample = adder.sample(scope)
    if metric.is_share_of_rows:
        interval = intervals.wilson(value, rows)
    elif sample is not None and math.isfinite(value):
        interval = intervals.interval(metric, sample, value=value, total_rows=rows, seed=seed)
    return MetricFinding(name, value, rows, interval, pushed, metric.better == "lower")


def _quality_crossings(quality: Quality, config: MonitoringConfig) -> Iterator[Crossing]:
    for one in quality.overall:
        bounds = config.quality.get(one.name)
        if bounds is None or one.rows < config.min_rows or not math.isfinite(one.value):
            continue
        label = label_of(one.name)
        if bounds.at_least is not None and one.value < bounds.at_least:
            yield Crossing(label, "at_least", one.value, bounds.at_least)
        if bounds.at_most is not None and one.value > bounds.at_most:
            yield Crossing(label, "at_most", one.value, bounds.at_most)
        if bounds.worse_by_at_most is not None and one.pushed is not None:
            worse = worsening(one.value, one.pushed, "lower" if one.lower_is_better else "higher")
            if worse > bounds.worse_by_at_most:
                yield Crossing(label, "worse_by_at_most", worse, bounds.worse_by_at_most)

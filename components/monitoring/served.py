"""Sums over requests, block by block: distributions, missing cells, answers, and quality where there are labels.

Parallel processes compute states, which are merged. No state grows with the number of rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.components.data.text_statistics import MAX_CELLS, Counts, compare
from kubetfx.components.evaluation.metric import Accumulator
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.evaluation.row_sample import Drawn
from kubetfx.components.evaluation.scores import BARS, bars_of, scores_of
from kubetfx.components.evaluation.slices import OVERALL, rows_by_slice
from kubetfx.components.monitoring.late_labels import Labels
from kubetfx.components.monitoring.reference import Reference, TrainingColumn
from kubetfx.config.metric_catalogue import Task
from kubetfx.serving.logged_rows import PROBABILITIES, VALUE, Block

BEFORE, NEWEST = 0, 1
"""The periods before the newest one, and the newest."""
MAX_VALUES = 16_384
"""Maximum number of distinct values of a text column that are counted."""
MAX_SLICES = 1_000
_ANSWERS = "answers"
Scope = tuple[str, Any]
"""`("period", number)`, or `("slice", key)`; the key for all rows is empty."""


@dataclass(frozen=True)
class Plan:
    """What to compute."""

    reference: Reference
    newest: int
    """Time of the newest request."""
    period_seconds: int
    oldest: int | None = None
    """Requests before that time are skipped."""
    labels: Labels | None = None
    metrics: tuple[str, ...] = ()
    slices: tuple[tuple[str, ...], ...] = ()
    task: Task = "classification"
    top_k: int = 1
    """`model.top_k`."""

    def periods_of(self, times: Array) -> Array:
        """Return the number of periods between each time and the newest period.

        Args:
            times: (rows,) seconds since 1970.
        """
        periods: Array = np.maximum(self.newest - times, 0) // self.period_seconds
        return periods


@dataclass
class Numbers:
    """Sums over a column of numbers, by BEFORE and NEWEST."""

    counts: Array
    """(2, bars + 2): below the training rows' range, in its bars, above it."""
    rows: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    missing: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    low: float = np.inf
    high: float = -np.inf

    def merge(self, other: "Numbers") -> None:
        """Add other rows.

        Args:
            other: The sums over them.
        """
        self.counts = self.counts + other.counts
        self.rows, self.missing = self.rows + other.rows, self.missing + other.missing
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


@dataclass
class Texts:
    """Sums over a column of text, by BEFORE and NEWEST."""

    counts: list[Counter[bytes]] = field(default_factory=lambda: [Counter(), Counter()])
    others: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    """Number of values that are not counted separately, since there are too many distinct ones."""
    rows: Array = field(default_factory=lambda: np.zeros(2, np.int64))
    missing: Array = field(default_factory=lambda: np.zeros(2, np.int64))

    def merge(self, other: "Texts") -> None:
        """Add other rows.

        Args:
            other: The sums over them.
        """
        for group in (BEFORE, NEWEST):
            self.counts[group] += other.counts[group]
            if len(self.counts[group]) > 2 * MAX_VALUES:
                kept = dict(self.counts[group].most_common(MAX_VALUES))
                self.others[group] += self.counts[group].total() - sum(kept.values())
                self.counts[group] = Counter(kept)
        self.others = self.others + other.others
        self.rows, self.missing = self.rows + other.rows, self.missing + other.missing


@dataclass
class Served:
    """Sums over requests."""

    numbers: dict[str, Numbers] = field(default_factory=dict)
    texts: dict[str, Texts] = field(default_factory=dict)
    written: dict[str, Counts] = field(default_factory=dict)
    """What is written in columns of text."""
    answers: Numbers | None = None
    classes: Array | None = None
    """(2, classes) rows for which the model predicts each class."""
    rows_by_period: Counter[int] = field(default_factory=Counter)
    scores_by_period: Counter[int] = field(default_factory=Counter)
    """Sums of the scores or values."""
    other_versions: Counter[int] = field(default_factory=Counter)
    too_old: int = 0
    odd: int = 0
    """Number of cells whose type differs from that of the model's column."""
    labelled: dict[Scope, dict[str, Any]] = field(default_factory=dict)
    """States of the metrics, by scope and metric."""
    labelled_rows: Counter[Scope] = field(default_factory=Counter)
    drawn: dict[Scope, Drawn] = field(default_factory=dict)
    """Samples for intervals, of all rows and of periods."""
    hits: Array | None = None
    """(labels,) number of rows that match each label."""
    without_answer: int = 0
    """Number of rows with a label but without probabilities or value."""

    @property
    def rows(self) -> int:
        """Number of examined rows."""
        return self.rows_by_period.total()


class Adder:
    """Adds blocks up."""

    def __init__(self, plan: Plan, seed: int = 0) -> None:
        """Store what to compute.

        Args:
            plan: Its plan.
            seed: The seed of the samples.
        """
        self._plan = plan
        self._random = np.random.default_rng(seed)
        self._accumulators: dict[str, Accumulator] = {
            name: find_metric(name, task=plan.task).make_accumulator(top_k=plan.top_k) for name in plan.metrics
        }
        self.state = Served()

    def add(self, block: Block) -> None:
        """Add the rows of a block.

        Args:
            block: The block of any version.
        """
        plan, state = self._plan, self.state
        if block.version != plan.reference.version:
            state.other_versions[block.version] += len(block)
            return
        block = self._in_time(block)
        if not len(block):
            return
        periods = plan.periods_of(block.times)
        newest = (periods == 0).astype(np.int64)
        numbers, rows = np.unique(periods, return_counts=True)
        state.rows_by_period.update(dict(zip(numbers.tolist(), rows.tolist(), strict=True)))
        for name, column in plan.reference.columns.items():
            cells = block.inputs.get(name)
            if cells is None:
                self._all_missing(name, column, newest)
            elif column.is_text and cells.dtype == object:
                is_text, cells = _as_texts(cells)
                state.odd += int((~is_text).sum())
                _merge(state.texts, name, _texts_of(cells[is_text], newest[is_text], column))
                self._add_written(column, cells[is_text])
            elif not column.is_text and cells.dtype != object and cells.ndim == 1:
                _merge(state.numbers, name, _numbers_of(cells, newest, column.edges))
            else:
                state.odd += len(block)
        outputs = self._outputs(block)
        if outputs is not None:
            self._add_answers(outputs, newest, periods)
        if plan.labels is not None:
            self._add_quality(plan.labels, block, outputs, periods)

    def _add_written(self, column: TrainingColumn, cells: Array) -> None:
        before = self.state.written.get(column.name, Counts())
        if column.texts is None or before.cells >= MAX_CELLS or not len(cells):
            return
        joined = (b" ".join(filter(None, cell)) if isinstance(cell, tuple) else cell or b"" for cell in cells)
        texts = [cell.decode(errors="replace") for cell in joined]
        self.state.written[column.name] = before + compare(pa.array(texts, pa.string()), column.texts.words)

    def _in_time(self, block: Block) -> Block:
        oldest = self._plan.oldest
        if oldest is None or (block.times >= oldest).all():
            return block
        kept = block.times >= oldest
        self.state.too_old += int((~kept).sum())
        inputs = {name: cells[kept] for name, cells in block.inputs.items()}
        outputs = {name: cells[kept] for name, cells in block.outputs.items()}
        return Block(block.version, block.times[kept], inputs, outputs)

    def _all_missing(self, name: str, column: TrainingColumn, newest: Array) -> None:
        rows = np.bincount(newest, minlength=2)
        if column.is_text:
            _merge(self.state.texts, name, Texts(rows=rows, missing=rows))
        else:
            counts = np.zeros((2, max(len(column.edges) - 1, 0) + 2), np.int64)
            _merge(self.state.numbers, name, Numbers(counts, rows=rows, missing=rows))

    def _outputs(self, block: Block) -> Array | None:
        classes = self._plan.reference.facts.classes
        found = block.outputs.get(PROBABILITIES if classes else VALUE)
        if found is None or found.dtype == object:
            return None
        fits = found.ndim == 2 and found.shape[1] == len(classes) if classes else found.ndim == 1
        return found if fits else None

    def _add_answers(self, outputs: Array, newest: Array, periods: Array) -> None:
        state, reference = self.state, self._plan.reference
        values = scores_of(outputs)
        edges = np.array(reference.scores.edges) if reference.scores else np.linspace(0, 1, BARS + 1)
        state.answers = _merged(state.answers, _numbers_of(values, newest, edges))
        sums = np.bincount(periods, values)
        state.scores_by_period.update({int(p): float(sums[p]) for p in np.unique(periods)})
        if outputs.ndim == 2:
            named = outputs.argmax(axis=1) + outputs.shape[1] * newest
            counts = np.bincount(named, minlength=2 * outputs.shape[1]).reshape(2, -1)
            state.classes = _sum(state.classes, counts)

    def _add_quality(self, labels: Labels, block: Block, outputs: Array | None, periods: Array) -> None:
        rows, positions = labels.find(block.inputs)
        found = np.bincount(positions, minlength=len(labels.values)).astype(np.int32)
        self.state.hits = _sum(self.state.hits, found)
        if outputs is None:
            self.state.without_answer += len(rows)
            return
        values, own, when = labels.values[positions], outputs[rows], periods[rows]
        order = self._random.random(len(rows))
        scopes: list[tuple[Scope, Array]] = [(("slice", OVERALL), np.arange(len(rows)))]
        scopes += [(("period", int(number)), np.flatnonzero(when == number)) for number in np.unique(when)]
        cells = {
            name: _slice_cells(block.inputs[name][rows])
            for kind in self._plan.slices
            for name in kind
            if name in block.inputs and block.inputs[name].ndim == 1
        }
        kinds = [kind for kind in self._plan.slices if set(kind) <= cells.keys()]
        scopes += [(("slice", key), found) for key, found in rows_by_slice(kinds, cells)] if len(rows) else []
        for scope, chosen in scopes:
            if len(chosen) and (scope in self.state.labelled or len(self.state.labelled) < MAX_SLICES):
                self._add_scope(scope, values[chosen], own[chosen], order[chosen])

    def _add_scope(self, scope: Scope, values: Array, outputs: Array, order: Array) -> None:
        states = self.state.labelled.setdefault(scope, {})
        weights = np.ones(len(values))
        for name, accumulator in self._accumulators.items():
            before = states[name] if name in states else accumulator.create()
            states[name] = accumulator.add_block(before, values, outputs, weights)
        self.state.labelled_rows[scope] += len(values)
        if scope[0] == "period" or scope == ("slice", OVERALL):
            drawn = Drawn(order, values, {_ANSWERS: outputs}, weights)
            self.state.drawn[scope] = drawn.joined(self.state.drawn.get(scope))

    def merge(self, other: Served) -> None:
        """Add the sums of another process.

        Args:
            other: The sums over other rows.
        """
        state = self.state
        for name, numbers in other.numbers.items():
            _merge(state.numbers, name, numbers)
        for name, texts in other.texts.items():
            _merge(state.texts, name, texts)
        for name, counts in other.written.items():
            state.written[name] = state.written.get(name, Counts()) + counts
        if other.answers is not None:
            state.answers = _merged(state.answers, other.answers)
        if other.classes is not None:
            state.classes = _sum(state.classes, other.classes)
        state.rows_by_period.update(other.rows_by_period)
        state.scores_by_period.update(other.scores_by_period)
        state.other_versions.update(other.other_versions)
        state.too_old += other.too_old
        state.odd += other.odd
        state.without_answer += other.without_answer
        state.labelled_rows.update(other.labelled_rows)
        if other.hits is not None:
            state.hits = _sum(state.hits, other.hits)
        for scope, states in other.labelled.items():
            own = state.labelled.setdefault(scope, {})
            for name, value in states.items():
                own[name] = self._accumulators[name].merge(own[name], value) if name in own else value
        for scope, drawn in other.drawn.items():
            state.drawn[scope] = drawn.joined(state.drawn.get(scope))

    def value(self, scope: Scope, metric: str) -> float:
        """Return a metric.

        Args:
            scope: of which rows.
            metric: its name.
        """
        return float(self._accumulators[metric].result(self.state.labelled[scope][metric]))

    def sample(self, scope: Scope) -> Any:
        """Return a sample of labels and answers, for an interval; None if there is none.

        Args:
            scope: of which rows.
        """
        drawn = self.state.drawn.get(scope)
        return None if drawn is None else drawn.of(_ANSWERS)


def _merge(found: dict[str, Any], name: str, added: Any) -> None:
    found[name] = _merged(found.get(name), added)


def _merged(before: Any, added: Any) -> Any:
    if before is None:
        return added
    before.merge(added)
    return before


def _sum(before: Array | None, added: Array) -> Array:
    return added if before is None else before + added


def _numbers_of(cells: Array, newest: Array, edges: Array) -> Numbers:
    known = np.isfinite(cells)
    rows = np.bincount(newest, minlength=2)
    missing = np.bincount(newest[~known], minlength=2)
    bars = max(len(edges) - 1, 0)
    counts = np.zeros((2, bars + 2), np.int64)
    values, group = cells[known], newest[known]
    if not len(values):
        return Numbers(counts, rows, missing)
    if bars:
        place = bars_of(values, edges) + (bars + 2) * group
        counts = np.bincount(place, minlength=2 * (bars + 2)).reshape(2, -1)
    return Numbers(counts, rows, missing, float(values.min()), float(values.max()))


def _as_texts(cells: Array) -> tuple[Array, Array]:
    """Return which rows are of text, (rows,) bool; and the cells of all rows, (rows,) object.

    A cell is bytes, a tuple of them where it has several values, or None where it is missing.

    Args:
        cells: (rows,) or (rows, any) object.
    """
    found = np.empty(len(cells), object)
    found[:] = [tuple(row) for row in cells.tolist()] if cells.ndim > 1 else cells
    if {*map(type, found)} <= {bytes, type(None)}:
        return np.ones(len(found), bool), found
    values = (cell if isinstance(cell, tuple) else (cell,) for cell in found)
    is_text = [all(value is None or isinstance(value, bytes) for value in own) for own in values]
    return np.array(is_text, bool), found


def _texts_of(cells: Array, newest: Array, column: TrainingColumn) -> Texts:
    found = Texts(rows=np.bincount(newest, minlength=2))
    for group in (BEFORE, NEWEST):
        own = cells[newest == group]
        if not len(own):
            continue
        is_several = column.separator is not None or any(isinstance(cell, tuple) for cell in own)
        values = _several(own, column.separator, found, group) if is_several else own.tolist()
        counted = Counter(values)
        nothing = counted.pop(None, 0) + counted.pop(b"", 0)
        if not is_several:
            found.missing[group] += nothing
        found.counts[group] = counted
    return found


def _several(cells: Array, separator: str | None, found: Texts, group: int) -> list[bytes]:
    """Return the values of lists; a row without values is missing."""
    cut = (separator or "").encode()
    rows: list[Sequence[bytes]] = [
        cell if isinstance(cell, tuple) else () if not cell else cell.split(cut) if cut else (cell,)
        for cell in cells.tolist()
    ]
    kept = [[value for value in row if value] for row in rows]
    found.missing[group] += sum(not row for row in kept)
    return [value for row in kept for value in row]


def _slice_cells(cells: Array) -> Array:
    """Return cells for slicing: whole numbers as int, None if missing."""
    if cells.dtype == object:
        found = np.empty(len(cells), object)
        found[:] = [cell or None for cell in cells]
        return found
    values = [None if np.isnan(v) else int(v) if float(v).is_integer() else float(v) for v in cells]
    found = np.empty(len(cells), object)
    found[:] = values
    return found

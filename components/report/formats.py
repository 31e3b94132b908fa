"""How numbers, times and facts are written in a page: the filters of the templates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.components.report.facts import Column, ColumnSplit, Evaluation, Importance, Layer, Quality

_ROLES = {
    "label": "label",
    "numeric": "number",
    "vocabulary": "category",
    "hashed": "category, hashed",
    "excluded": "left out",
}
_SPLITS = {TRAIN: "Training", EVAL: "Evaluation", VALIDATION: "Validation"}
SLICES_SHOWN = 50


def number(value: float | None, *, digits: int = 4) -> str:
    """A number for people: significant digits; whole where they are large, with commas from ten thousand on."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}"
    if abs(value) < 1e15 and (abs(value) >= 1000 or "e+" in text):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
    return text


def shorten(text: str, length: int) -> str:
    """A name that fits."""
    return text if len(text) <= length else text[: length - 1] + "…"


def is_number(value: object) -> bool:
    """Whether a cell of a table is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: object) -> str:
    """A cell of a plain table."""
    return number(float(value), digits=5) if isinstance(value, int | float) and is_number(value) else str(value)


def signed(value: float) -> str:
    """A difference."""
    return f"{value:+.4g}".replace("-", "−") if value else "±0"


def share(value: float) -> str:
    """A share as percentage."""
    if 0 < value < 0.001:
        return "<0.1 %"
    return f"{value:.1%}".replace(".0%", "%").replace("%", " %")


def shares(values: Sequence[float]) -> str:
    """Shares of several splits side by side: `43.5 / 46.8 %`."""
    return " / ".join(share(value).removesuffix(" %") for value in values) + " %"


def distance(value: float) -> str:
    """A distance of two distributions, from 0 to 1."""
    return "<0.001" if 0 < value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds for people: `12 ms`, `41.5 s`, `2 min 5 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def time(text: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def role(name: str) -> str:
    """What a column is used as; a type of the user's by the name of its class."""
    return _ROLES.get(name, name.rpartition(":")[2])


def split_label(name: str) -> str:
    """A split's name for people."""
    return _SPLITS.get(name, name)


def shape(layer: Layer) -> str:
    """Outputs of a layer for a row."""
    shapes = [" × ".join(str(size) for size in one[1:]) or "1" for one in layer.output]
    return ", ".join(shapes)


def by_split(column: Column, name: str, kind: str) -> str:
    """A statistic of the training rows and of the evaluation rows."""
    values = [getattr(one, name) for one in _compared(column)]
    return shares(values) if kind == "share" else " / ".join(map(number, values))


def value_range(column: Column) -> str:
    """The smallest and the largest value of a column of numbers, over all splits."""
    lows = [one.minimum for one in column.splits.values() if one.minimum is not None]
    highs = [one.maximum for one in column.splits.values() if one.maximum is not None]
    return f"{number(min(lows))} … {number(max(highs))}" if lows and highs else ""


def distinct(column: Column) -> str:
    """Number of different values."""
    if column.distinct is not None:
        return f"{column.distinct:,}"
    counts = [one.distinct for one in column.splits.values() if one.distinct is not None]
    return f"{max(counts):,} in a split" if counts else ""


def ranked(columns: Sequence[Column], importances: Mapping[str, Importance]) -> list[Column]:
    """The label, then what the model looks at most, then what is unusual, then the rest; each in its order."""

    def key(entry: tuple[int, Column]) -> tuple[bool, float, bool, int]:
        position, column = entry
        importance = importances.get(column.name)
        unusual = any(distance and distance.is_large for distance in (column.drift, column.skew))
        return column.role != "label", -importance.value if importance else 0.0, not unusual, position

    return [column for _, column in sorted(enumerate(columns), key=key)]


@dataclass(frozen=True)
class ValueBar:
    """A value of a column of text."""

    value: str
    widths: list[int]
    """Of the bar of each split, in percent of the longest."""
    shares: list[float]


def value_bars(column: Column) -> list[ValueBar]:
    """The most frequent values of a column, in the training rows and the evaluation rows."""
    shown = [one for one in _compared(column) if len(one.shares) == len(column.values)]
    highest = max((share for one in shown for share in one.shares), default=0) or 1.0
    return [
        ValueBar(
            value if value.strip() else "(blank)",
            [round(100 * one.shares[index] / highest) for one in shown],
            [one.shares[index] for one in shown],
        )
        for index, value in enumerate(column.values)
    ]


def _compared(column: Column) -> list[ColumnSplit]:
    """The splits that stand side by side."""
    known = [column.splits[split] for split in (TRAIN, EVAL) if split in column.splits]
    return known or list(column.splits.values())


def importance_width(one: Importance, quality: Quality) -> int:
    """Length of a bar, in percent of the longest."""
    highest = max((entry.value for entry in quality.importance), default=0)
    return max(round(100 * one.value / highest), 0) if highest > 0 else 0


def slice_range(evaluation: Evaluation) -> tuple[float, float]:
    """The smallest and the largest value that the pictures of the slices have to hold."""
    shown = evaluation.slices[:SLICES_SHOWN]
    values = [one.value for one in shown if one.value is not None and math.isfinite(one.value)]
    for one in shown:
        if one.interval:
            values += [one.interval.lower, one.interval.upper]
    whole = evaluation.metric(evaluation.ranked_by)
    if whole and math.isfinite(whole.value):
        values.append(whole.value)
    return (min(values), max(values)) if values else (0.0, 1.0)

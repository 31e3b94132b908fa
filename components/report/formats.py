"""How numbers, times and facts are written in a page: the filters of the templates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubetfx.artifacts import EVAL, TRAIN, VALIDATION
from kubetfx.components.evaluation.evaluation_result import Check
from kubetfx.components.report.evaluation_facts import Evaluation
from kubetfx.components.report.facts import Column, ColumnSplit, Importance, LabelNoise, Layer, Quality
from kubetfx.config.metric_catalogue import Task
from kubetfx.models.columns.known_types import COLUMN_TYPES

_ROLES = {
    "label": "label",
    "excluded": "left out",
    **{column_type.tag: column_type.words for column_type in COLUMN_TYPES},
}
_SPLITS = {TRAIN: "Training", EVAL: "Evaluation", VALIDATION: "Validation"}
SLICES_SHOWN = 50


def count(value: float) -> str:
    """Return a number of rows, with a decimal if weights make it fractional.

    Args:
        value: 0 or more.
    """
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def number(value: float | None, *, digits: int = 4) -> str:
    """Return a number for people: significant digits; whole where it is large, with commas from ten thousand on.

    Args:
        value: None or not finite: a dash.
        digits: significant ones.
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}"
    if abs(value) < 1e15 and (abs(value) >= 1000 or "e+" in text):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
    return text


def shorten(text: str, length: int) -> str:
    """Return a name that fits.

    Args:
        text: the name.
        length: characters at most.
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def is_number(value: object) -> bool:
    """Return whether a cell of a table is a number.

    Args:
        value: The value of the cell.
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: object) -> str:
    """Return the text of a cell of a plain table.

    Args:
        value: The value of the cell.
    """
    return number(float(value), digits=5) if isinstance(value, int | float) and is_number(value) else str(value)


def signed(value: float) -> str:
    """Return a difference with its sign.

    Args:
        value: the difference.
    """
    return f"{value:+.4g}".replace("-", "−") if value else "±0"


def share(value: float) -> str:
    """Return a share as percentage.

    Args:
        value: 0 to 1.
    """
    if 0 < value < 0.001:
        return "<0.1 %"
    return f"{value:.1%}".replace(".0%", "%").replace("%", " %")


def shares(values: Sequence[float]) -> str:
    """Return shares of several splits side by side: `43.5 / 46.8 %`.

    Args:
        values: 0 to 1, one per split.
    """
    return " / ".join(share(value).removesuffix(" %") for value in values) + " %"


def distance(value: float) -> str:
    """Return a distance of two distributions in a few digits.

    Args:
        value: 0 to 1.
    """
    return "<0.001" if 0 < value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Return a time for people: `12 ms`, `41.5 s`, `2 min 5 s`.

    Args:
        seconds: of the time.
    """
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def time(text: str) -> str:
    """Return a time in UTC, to the minute.

    Args:
        text: ISO 8601; other text is returned as it is.
    """
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def role(name: str) -> str:
    """Return in words what a column is used as; a type of the user's by the name of its class.

    Args:
        name: The name of the role in the schema.
    """
    return _ROLES.get(name, name.rpartition(":")[2])


def ceiling(noise: LabelNoise, task: Task) -> str:
    """Describe what rows with equal features and different labels mean for a model.

    Args:
        noise: how many such rows there are.
        task: The task of the model.

    Returns:
        A sentence.
    """
    best = f"{math.floor(noise.ceiling * 1000) / 10:g} %"  # a ceiling is not rounded up
    limit = (
        f"be right for more than {best} of all rows"
        if task == "classification"
        else f"explain more than {best} of the variance"
    )
    return (
        f"{noise.rows:,} of {noise.total_rows:,} rows have all the features of a row with another label: with these "
        f"features no model can {limit}."
    )


def split_label(name: str) -> str:
    """Return a split's name for people.

    Args:
        name: The name of the split.
    """
    return _SPLITS.get(name, name)


def shape(layer: Layer) -> str:
    """Return the shape of the outputs of a layer for a row.

    Args:
        layer: of the network.
    """
    shapes = [" × ".join(str(size) for size in one[1:]) or "1" for one in layer.output]
    return ", ".join(shapes)


def by_split(column: Column, name: str, kind: str) -> str:
    """Return a statistic of the training rows and of the evaluation rows.

    Args:
        column: the column.
        name: The name of the statistic.
        kind: "share", or any other for a number.
    """
    values = [getattr(one, name) for one in _compared(column)]
    return shares(values) if kind == "share" else " / ".join(amount(value, column) for value in values)


def amount(value: float | None, column: Column) -> str:
    """Return a number for people, or the date that it stands for.

    Args:
        value: The value of a column; seconds since 1970 of one of dates.
        column: the column.
    """
    if column.type != "date" or value is None or not math.isfinite(value):
        return number(value)
    try:
        text = str(datetime(1970, 1, 1) + timedelta(seconds=round(value)))
    except OverflowError:  # it has no year of four digits
        return number(value)
    return text.removesuffix(" 00:00:00").removesuffix(":00").removeprefix("1970-01-01 ")


def value_range(column: Column) -> str:
    """Return the smallest and the largest value of a column of numbers or dates, over all splits.

    Args:
        column: the column.
    """
    lows = [one.minimum for one in column.splits.values() if one.minimum is not None]
    highs = [one.maximum for one in column.splits.values() if one.maximum is not None]
    return f"{amount(min(lows), column)} … {amount(max(highs), column)}" if lows and highs else ""


def distinct(column: Column) -> str:
    """Return the number of different values.

    Args:
        column: the column.
    """
    if column.distinct is not None:
        return f"{column.distinct:,}"
    counts = [one.distinct for one in column.splits.values() if one.distinct is not None]
    return f"{max(counts):,} in a split" if counts else ""


def ranked(columns: Sequence[Column], importances: Mapping[str, Importance]) -> list[Column]:
    """Return the label, then the most important columns, then unusual ones, then the rest, each in order.

    Args:
        columns: The columns of the data.
        importances: by column.
    """

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
    """Widths of the bar of each split, in percent of the longest."""
    shares: list[float]


def value_bars(column: Column) -> list[ValueBar]:
    """Return the most frequent values of a column, in the training rows and the evaluation rows.

    Args:
        column: the column.
    """
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
    """Return the splits that are compared."""
    known = [column.splits[split] for split in (TRAIN, EVAL) if split in column.splits]
    return known or list(column.splits.values())


def importance_width(one: Importance, quality: Quality) -> int:
    """Return the length of a bar, in percent of the longest.

    Args:
        one: of the column.
        quality: with the importances of all.
    """
    highest = max((entry.value for entry in quality.importance), default=0)
    return max(round(100 * one.value / highest), 0) if highest > 0 else 0


def slice_range(evaluation: Evaluation) -> tuple[float, float]:
    """Return the smallest and the largest value that the pictures of the slices have to hold.

    Args:
        evaluation: with the slices.
    """
    shown = evaluation.slices[:SLICES_SHOWN]
    values = [one.value for one in shown if one.value is not None and math.isfinite(one.value)]
    for one in shown:
        if one.interval:
            values += [one.interval.lower, one.interval.upper]
    whole = evaluation.metric(evaluation.ranked_by)
    if whole and math.isfinite(whole.value):
        values.append(whole.value)
    return (min(values), max(values)) if values else (0.0, 1.0)


def told_checks(evaluation: Evaluation) -> list[Check]:
    """Return the checks that a report has in words: of slices, that are many, only those that are missed.

    Args:
        evaluation: that has them.
    """
    return [check for check in evaluation.checks if check.slice is None or not check.passed]

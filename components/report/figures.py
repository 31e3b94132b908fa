"""Figures as inline SVG, drawn with the classes of style.css, so that they follow light and dark.

Every figure is as wide as a phone and is scaled up a little on wide screens: its text stays readable on both. Each has
its content in words as its label, which is what a screen reader says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from kubetfx.components.evaluation.cross_validated import CrossValidated
from kubetfx.components.evaluation.evaluation_result import Interval
from kubetfx.components.report.axes import BOTTOM, HEIGHT, SQUARE, TOP, Frame, polyline, svg, text_at, ticks
from kubetfx.components.report.facts import CalibrationBin, Column, Curve, Point
from kubetfx.components.report.formats import amount, duration, shorten

MAX_LABEL = 26
"""Characters of a name in a figure; the whole name is in the text beside it."""
MAX_POINTS = 400
SERIES = 8
"""Colours that style.css has."""


@dataclass(frozen=True)
class Series:
    """A line over the epochs."""

    name: str
    values: Sequence[float]
    color: int = 1
    points: list[Point] = field(default_factory=list)


def lines(
    series: Sequence[Series],
    *,
    label: str,
    y_label: str,
    unit: str = "epoch",
    best: int | None = None,
    stopped: int | None = None,
) -> Markup:
    """Return lines over the epochs, counted from 1.

    Args:
        series: to draw.
        label: the figure in words.
        y_label: what is drawn.
        unit: what the epochs are called.
        best: the epoch whose weights are kept, marked by a dashed line.
        stopped: the epoch after which training was stopped early, marked by a dotted line.
    """
    values = [value for one in series for value in one.values if math.isfinite(value)]
    if not values:
        return Markup('<p class="muted">No finite value.</p>')
    low, high = min(values), max(values)
    low = 0.0 if 0 < low < high * 0.5 else low
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    epochs = max(len(one.values) for one in series)
    frame = Frame(1, max(epochs, 2), low if low == 0 else low - margin, high + margin)
    parts = [frame.axes(unit, y_label, x_ticks=_epoch_ticks(epochs))]
    for epoch, kind in ((best, "best"), (stopped, "stopped")):
        if epoch is not None:
            place = frame.x(epoch)
            parts.append(
                Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                    kind, place, place, TOP, HEIGHT - BOTTOM
                )
            )
    for one in series:
        points = [(index + 1.0, value) for index, value in enumerate(one.values) if math.isfinite(value)]
        thinned = points[:: max(len(points) // MAX_POINTS, 1)]
        parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(one.color, polyline(frame, thinned)))
        if len(points) == 1:
            parts.append(
                Markup('<circle class="dot s{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
                    one.color, frame.x(points[0][0]), frame.y(points[0][1])
                )
            )
    return svg(label, *parts)


def _epoch_ticks(epochs: int) -> list[float]:
    """Return the first epoch, and round ones that are not too close to it."""
    step = next(step for step in _EPOCH_STEPS if epochs / step <= 6)
    return [1.0, *(float(epoch) for epoch in range(step, epochs + 1, step) if epoch > 1 + step / 3)]


_EPOCH_STEPS = [factor * 10**power for power in range(9) for factor in (1, 2, 5)]


def curves(found: Sequence[Curve], *, label: str, x_label: str, y_label: str, diagonal: bool) -> Markup:
    """Return curves in the unit square.

    Args:
        found: the curves; SERIES of them at most are drawn.
        label: the figure in words.
        x_label: what runs to the right.
        y_label: what runs upwards.
        diagonal: whether the line of a random answer is drawn.
    """
    frame = Frame(0, 1, 0, 1, SQUARE, SQUARE)
    parts = [frame.axes(x_label, y_label)]
    if diagonal:
        parts.append(_diagonal(frame))
    for index, curve in enumerate(found[:SERIES], start=1):
        points = [(x, y) for x, y in curve.points]
        parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(index, polyline(frame, points)))
    return svg(label, *parts, width=SQUARE, height=SQUARE)


def _diagonal(frame: Frame) -> Markup:
    return Markup('<polyline class="chance" points="{}"/>').format(
        polyline(frame, [(frame.x_low, frame.y_low), (frame.x_high, frame.y_high)])
    )


def calibration(bins: Sequence[CalibrationBin], *, label: str) -> Markup:
    """Return the observed share over the predicted probability; the larger a dot, the more rows.

    Args:
        bins: a dot each.
        label: the figure in words.
    """
    frame = Frame(0, 1, 0, 1, SQUARE, SQUARE)
    parts = [frame.axes("predicted probability", "observed share"), _diagonal(frame)]
    most = max((one.rows for one in bins), default=1)
    parts.append(
        Markup('<polyline class="line s1" points="{}"/>').format(
            polyline(frame, [(one.predicted, one.observed) for one in bins])
        )
    )
    for one in bins:
        radius = 2.5 + 4.5 * math.sqrt(one.rows / most)
        parts.append(
            Markup('<circle class="dot s1" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
                frame.x(one.predicted), frame.y(one.observed), radius
            )
        )
    return svg(label, *parts, width=SQUARE, height=SQUARE)


def scatter(points: Sequence[Point], *, label: str) -> Markup:
    """Return predicted over true values, with the line on which a perfect model's points lie.

    Args:
        points: true and predicted value of each row.
        label: the figure in words.
    """
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    margin = (high - low) * 0.03 or 1.0
    frame = Frame(low - margin, high + margin, low - margin, high + margin, SQUARE, SQUARE)
    steps = ticks(low, high, count=3)
    dots = "".join(f"M{frame.x(x):.0f} {frame.y(y):.0f}h0" for x, y in points)
    return svg(
        label,
        frame.axes("true", "predicted", x_ticks=steps),
        _diagonal(frame),
        Markup('<path class="cloud" d="{}"/>').format(dots),
        width=SQUARE,
        height=SQUARE,
    )


def histogram(edges: Sequence[float], counts: Sequence[int], *, label: str, x_label: str) -> Markup:
    """Return bars over a number.

    Args:
        edges: bounds of the bars, rising, one more than there are bars.
        counts: rows of each bar.
        label: the figure in words.
        x_label: what the number is.
    """
    frame = Frame(edges[0], edges[-1], 0, max(counts) * 1.05 or 1, counts=True)
    bottom = frame.y(0)
    bars = "".join(
        f"M{frame.x(low) + 0.5:.1f} {bottom:.1f}V{frame.y(count):.1f}H{frame.x(high) - 0.5:.1f}V{bottom:.1f}z"
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    )
    return svg(
        label,
        frame.axes(x_label, "rows", x_ticks=ticks(edges[0], edges[-1], count=4)),
        Markup('<path class="bar s1" d="{}"/>').format(bars),
    )


BARS_WIDTH, BARS_HEIGHT = 260, 70


def column_bars(column: Column, splits: Sequence[str]) -> Markup:
    """Return the histogram of a numeric column, a bar for each split side by side.

    Args:
        column: with `edges`.
        splits: at most two of its splits.
    """
    shown = [column.splits[split] for split in splits if split in column.splits and column.splits[split].shares]
    if not shown or not column.edges:
        return Markup("")
    num_bars = max(len(column.edges) - 1, 1)
    highest = max((share for one in shown for share in one.shares), default=0) or 1.0
    slot = BARS_WIDTH / num_bars
    width = slot * 0.86 / len(shown)
    parts = []
    for position, one in enumerate(shown):
        path = "".join(
            f"M{index * slot + slot * 0.07 + position * width:.1f} {BARS_HEIGHT}"
            f"v{-max(BARS_HEIGHT * share / highest, 0.8):.1f}h{width:.1f}V{BARS_HEIGHT}z"
            for index, share in enumerate(one.shares)
            if share > 0
        )
        parts.append(Markup('<path class="bar s{}" d="{}"/>').format(position + 1, path))
    label = f"Histogram of {shorten(column.name, 80)}, from {ends(column)[0]} to {ends(column)[1]}, " + (
        "; ".join(
            f"{split}: {_highest_bar(column, column.splits[split].shares)}"
            for split in splits
            if split in column.splits and column.splits[split].shares
        )
    )
    return svg(label, *parts, width=BARS_WIDTH, height=BARS_HEIGHT, kind="bars")


def ends(column: Column) -> tuple[str, str]:
    """Return the labels under the first and the last bar.

    Args:
        column: with `edges`.
    """
    low, high = column.edges[0], column.edges[-1]
    if low % 1 == 0.5 and high % 1 == 0.5 and column.type == "int64":  # a bar for each whole number
        low, high = low + 0.5, high - 0.5
    return amount(low, column), amount(high, column)


def _highest_bar(column: Column, shares: Sequence[float]) -> str:
    highest = max(range(len(shares)), key=shares.__getitem__)
    if len(column.edges) < 2 or column.edges[0] == column.edges[-1]:
        return f"{shares[highest]:.0%} at {amount(column.edges[0], column)}"
    between = (amount(edge, column) for edge in column.edges[highest : highest + 2])
    return f"most between {' and '.join(between)}"


RANGE_WIDTH = 150


def interval(
    value: float | None, found: Interval | None, *, low: float, high: float, reference: float | None
) -> Markup:
    """Return a value with its interval, and a line for the whole.

    Args:
        value: None or NaN: nothing is drawn.
        found: its interval, if there is one.
        low: the value at the left end.
        high: the value at the right end.
        reference: of the whole, where the line is; None: no line.
    """
    if value is None or not math.isfinite(value):
        return Markup("")
    span = (high - low) or 1.0

    def place(number: float) -> float:
        return 4 + (RANGE_WIDTH - 8) * min(max((number - low) / span, 0), 1)

    parts = []
    if reference is not None and math.isfinite(reference):
        parts.append(Markup('<line class="best" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="16"/>').format(place(reference)))
    if found:
        parts.append(
            Markup('<line class="range" x1="{:.1f}" x2="{:.1f}" y1="8" y2="8"/>').format(
                place(found.lower), place(found.upper)
            )
        )
    parts.append(Markup('<circle class="dot s1" cx="{:.1f}" cy="8" r="3.5"/>').format(place(value)))
    return Markup('<svg class="interval" viewBox="0 0 {} 16" aria-hidden="true">{}</svg>').format(
        RANGE_WIDTH, Markup("").join(parts)
    )


def fold_strip(found: CrossValidated, metric: str) -> Markup:
    """Return a metric of each fold as a dot, above the interval of the mean.

    Args:
        found: the folds.
        metric: its name.
    """
    spread = found.metrics[metric]
    values = [one.metrics[metric] for one in found.folds if metric in one.metrics]
    ends = [*values, *(end for end in (spread.lower, spread.upper) if end is not None)]
    low, high = min(ends), max(ends)

    def place(number: float) -> float:
        return 4 + (RANGE_WIDTH - 8) * (number - low) / ((high - low) or 1.0)

    parts = [Markup('<circle class="dot s2" cx="{:.1f}" cy="5" r="3"/>').format(place(value)) for value in values]
    if spread.lower is not None and spread.upper is not None:
        parts.append(
            Markup('<line class="range" x1="{:.1f}" x2="{:.1f}" y1="12" y2="12"/>').format(
                place(spread.lower), place(spread.upper)
            )
        )
    parts.append(Markup('<circle class="dot s1" cx="{:.1f}" cy="12" r="3.5"/>').format(place(spread.mean)))
    return Markup('<svg class="interval" viewBox="0 0 {} 16" aria-hidden="true">{}</svg>').format(
        RANGE_WIDTH, Markup("").join(parts)
    )


@dataclass(frozen=True)
class Step:
    """A node in the picture of the chain."""

    id: str
    state: str
    """`done`, `cached`, `failed`, `interrupted`, `skipped` or `not reached`."""
    seconds: float | None = None
    upstream: Sequence[str] = ()
    outputs: Sequence[str] = ()
    """Names of what it wrote."""


_MARKS: Mapping[str, str] = {
    "done": "✓",
    "cached": "↺",
    "failed": "✕",
    "interrupted": "!",
    "skipped": "–",
    "not reached": "·",
}
_INSTANT = ("cached", "skipped", "not reached")
"""States that took no time."""
_ROW, _CHAIN_WIDTH = 38, 340
_CHAIN_LEFT = 84


def chain(steps: Sequence[Step]) -> Markup:
    """Return the nodes of a run from top to bottom; arcs at the left lead to those whose outputs a node reads.

    Args:
        steps: the nodes, in their order.
    """
    rows = {step.id: index for index, step in enumerate(steps)}
    height = _ROW * len(steps) + 6
    parts = []
    arcs = sorted({(rows[up], rows[step.id]) for step in steps for up in step.upstream if up in rows})
    for start, end in arcs:
        x, top, bottom = _CHAIN_LEFT, start * _ROW + 19, end * _ROW + 19
        if end - start == 1:
            parts.append(Markup('<path class="arc" d="M{0} {1}V{2}"/>').format(x, top + 7, bottom - 7))
        else:
            bend = x - 10 - min(9 * (end - start), 90)
            parts.append(
                Markup('<path class="arc" d="M{0} {1}C{3} {1} {3} {2} {0} {2}"/>').format(x - 8, top, bottom, bend)
            )
    for step in steps:
        y = rows[step.id] * _ROW + 19
        state = step.state.replace(" ", "-")
        time = "" if step.seconds is None or step.state in _INSTANT else duration(step.seconds)
        parts.append(Markup('<circle class="node {}" cx="{}" cy="{}" r="8"/>').format(state, _CHAIN_LEFT, y))
        parts.append(
            Markup('<text class="mark {}" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                state, _CHAIN_LEFT, y + 4, _MARKS.get(step.state, "")
            )
        )
        parts.append(text_at(_CHAIN_LEFT + 16, y + 4, shorten(step.id, MAX_LABEL), kind="name"))
        parts.append(text_at(_CHAIN_LEFT + 16, y + 18, shorten(", ".join(step.outputs), 34)))
        parts.append(text_at(_CHAIN_WIDTH - 4, y + 4, f"{step.state} {time}".strip(), anchor="end"))
    words = "; ".join(
        f"{step.id}: {step.state}" + (f", reads {', '.join(step.upstream)}" if step.upstream else "") for step in steps
    )
    return svg(f"The chain of artifacts. {words}", *parts, width=_CHAIN_WIDTH, height=height, kind="chart chain")


def confusion_shade(count: int, row: Sequence[int]) -> int:
    """Return how dark a cell is, 0 to 10: its share of the rows of its class.

    Args:
        count: rows of the cell.
        row: rows of all cells of the class.
    """
    total = sum(row)
    return math.ceil(10 * count / total) if total and count else 0


def break_long(text: str) -> Markup:
    """Return a name as text that may be broken after separators.

    Args:
        text: the name.
    """
    return Markup(str(escape(text)).replace("_", "_<wbr>").replace("/", "/<wbr>"))

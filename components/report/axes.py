"""Axes of a figure, and the pieces of SVG that every figure is made of, with the classes of style.css."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kubetfx.components.report.facts import Point
from kubetfx.components.report.formats import number

WIDTH = 300
HEIGHT = 200
SQUARE = 280
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 24, 34
"""Margins around the axes."""
CHARACTER = 6.5
"""Width of one in a tick's label, about."""


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Return round numbers between two numbers, about as many as asked for.

    Args:
        low: the lower one.
        high: the higher one.
        count: how many are asked for.
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """Axes: from numbers to places in the figure."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: int = WIDTH
    height: int = HEIGHT
    counts: bool = False
    """Whether y is a number of something."""

    @functools.cached_property
    def y_ticks(self) -> list[float]:
        """Numbers at the axis of y."""
        found = ticks(self.y_low, self.y_high, count=4)
        return [value for value in found if value % 1 == 0] if self.counts else found

    @functools.cached_property
    def left(self) -> float:
        """Where the axis of y stands: right of its labels."""
        return max(LEFT, 8 + CHARACTER * max((len(tick_label(value)) for value in self.y_ticks), default=0))

    def x(self, value: float) -> float:
        """Return where a number is on the axis of x.

        Args:
            value: the number.
        """
        return self.left + (self.width - self.left - RIGHT) * (value - self.x_low) / ((self.x_high - self.x_low) or 1)

    def y(self, value: float) -> float:
        """Return where a number is on the axis of y.

        Args:
            value: the number.
        """
        span = (self.y_high - self.y_low) or 1
        return TOP + (self.height - TOP - BOTTOM) * (1 - (value - self.y_low) / span)

    def _fitting(self, found: Sequence[float]) -> Sequence[float]:
        """Return as many ticks of x as have room beside each other."""
        longest = max((len(tick_label(value)) for value in found), default=0)
        room = (self.width - self.left - RIGHT) / (CHARACTER * (longest + 2))
        return found[:: math.ceil(len(found) / max(room + 1, 1))] if found else found

    def axes(self, x_label: str, y_label: str, *, x_ticks: Sequence[float] | None = None) -> Markup:
        """Return both axes with their numbers.

        Args:
            x_label: what x is.
            y_label: what y is.
            x_ticks: numbers at the axis of x; None: round ones.
        """
        parts = []
        for value in self.y_ticks:
            place = self.y(value)
            parts.append(
                Markup('<line class="grid" x1="{:.1f}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    self.left, self.width - RIGHT, place, place
                )
            )
            parts.append(text_at(self.left - 5, place + 4, tick_label(value), anchor="end"))
        for value in self._fitting(ticks(self.x_low, self.x_high) if x_ticks is None else x_ticks):
            label = tick_label(value)
            place = min(self.x(value), self.width - CHARACTER * len(label) / 2)
            parts.append(text_at(place, self.height - BOTTOM + 15, label, anchor="middle"))
        middle = (self.left + self.width - RIGHT) / 2
        parts.append(text_at(middle, self.height - 3, x_label, anchor="middle", kind="axis"))
        parts.append(text_at(3, 10, y_label, kind="axis"))
        return Markup("").join(parts)


def tick_label(value: float) -> str:
    """Return a number as it is written at an axis, where a million has no room: `1.25e6`.

    Args:
        value: the number.
    """
    return number(value) if abs(value) < 1e6 else f"{value:.4g}".replace("e+0", "e").replace("e+", "e")


def text_at(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "tick") -> Markup:
    """Return text at a place of a figure.

    Args:
        x: of the place.
        y: of its baseline.
        text: what is written.
        anchor: which end of the text is at the place, as SVG names it.
        kind: its class in style.css.
    """
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def svg(label: str, *parts: Markup, width: int = WIDTH, height: int = HEIGHT, kind: str = "chart") -> Markup:
    """Return a figure.

    Args:
        label: its content in words, for screen readers.
        parts: what it is made of.
        width: The width of its coordinates.
        height: The height of its coordinates.
        kind: its class in style.css.
    """
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, label, Markup("").join(parts)
    )


def polyline(frame: Frame, points: Sequence[Point]) -> str:
    """Return the points of a line as SVG has them.

    Args:
        frame: the axes.
        points: pairs of numbers.
    """
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)

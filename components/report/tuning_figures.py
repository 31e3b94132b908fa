"""Figures of a search: how it went, how much each setting matters, and which settings went with which score."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.report.axes import BOTTOM, TOP, Frame, polyline, svg, text_at, tick_label
from kubetfx.components.report.formats import shorten
from kubetfx.components.tuning.tuning_results import TrialResult, TuningResults
from kubetfx.config.metric_catalogue import label_of

BEST = 5
"""Trials that are marked, and listed."""
_ROW, _BAR_LEFT, _WIDTH = 22, 150, 320
_SIDE, _HEIGHT = 60, 230
_AXIS, _SHORTEST = 110, 480
"""Between two axes at least, and between the first and the last."""


def history(results: TuningResults) -> Markup:
    """Return the score of each trial, and the best so far.

    Args:
        results: The results of the search.
    """
    done = [one for one in results.trials if one.state == "complete" and one.value is not None]
    if not done:
        return Markup('<p class="muted">No trial was trained to its end.</p>')
    points = [(one.number, float(one.value or 0)) for one in done]
    best: list[tuple[float, float]] = []
    for number, value in points:
        known = best[-1][1] if best else value
        best.append((number, min(known, value) if results.better == "lower" else max(known, value)))
    values = [value for _, value in points]
    margin = (max(values) - min(values)) * 0.06 or abs(values[0]) * 0.1 or 1.0
    frame = Frame(0, max(results.trials[-1].number, 1), min(values) - margin, max(values) + margin)
    parts = [frame.axes("trial", results.metric.replace("_", " "))]
    dot = Markup('<circle class="dot s2" cx="{:.1f}" cy="{:.1f}" r="3"/>')
    parts += [dot.format(frame.x(number), frame.y(value)) for number, value in points]
    parts.append(Markup('<polyline class="line s1" points="{}"/>').format(polyline(frame, best)))
    label = (
        f"{label_of(results.metric)} of {len(done)} trials; the best so far goes from {format_metric(best[0][1])} to "
        f"{format_metric(best[-1][1])}"
    )
    return svg(label, *parts)


def importance(results: TuningResults) -> Markup:
    """Return how much each setting matters, as bars.

    Args:
        results: The results of the search.
    """
    ranked = sorted(results.importance.items(), key=lambda entry: -entry[1])
    parts = []
    for index, (key, share) in enumerate(ranked):
        y = index * _ROW
        width = (_WIDTH - _BAR_LEFT - 45) * share / max(ranked[0][1], 1e-9)
        parts.append(text_at(_BAR_LEFT - 6, y + 15, shorten(_short(key), 22), anchor="end"))
        parts.append(
            Markup('<rect class="bar s1" x="{}" y="{}" width="{:.1f}" height="12"/>').format(_BAR_LEFT, y + 5, width)
        )
        parts.append(text_at(_BAR_LEFT + width + 5, y + 15, f"{share:.0%}"))
    words = "; ".join(f"{key} {share:.0%}" for key, share in ranked)
    return svg(f"How much each setting matters: {words}", *parts, width=_WIDTH, height=_ROW * len(ranked) + 8)


def parallel_coordinates(results: TuningResults) -> Markup:
    """Return a line per trial over an axis per setting and one for the score; the best are drawn thick.

    Args:
        results: The results of the search.
    """
    trials = [one for one in reversed(results.ranked) if one.settings]
    keys = list(dict.fromkeys(key for one in trials for key in one.settings))
    axes = [_Axis(key, [one.settings.get(key) for one in trials]) for key in keys]
    axes.append(_Axis(results.metric, [one.value for one in trials]))
    between = max(_AXIS, _SHORTEST / (len(axes) - 1))
    best = {one.number for one in results.ranked[: min(BEST, math.ceil(len(trials) / 4))]}
    parts = []
    for one in trials:
        values = [*(one.settings.get(key) for key in keys), one.value]
        pairs = enumerate(zip(axes, values, strict=True))
        points = " ".join(f"{_SIDE + index * between:.1f},{axis.y(value):.1f}" for index, (axis, value) in pairs)
        kind = "line s1" if one.number in best else "grid"
        parts.append(Markup('<polyline class="{}" fill="none" points="{}"/>').format(kind, points))
    line = Markup('<line class="chance" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
    for index, axis in enumerate(axes):
        x = _SIDE + index * between
        parts.append(line.format(x, TOP, _HEIGHT - BOTTOM))
        for place, text in axis.ticks():
            parts.append(text_at(x + 4, place + 4, shorten(text, 14)))
        down = _HEIGHT - BOTTOM + (16 if index % 2 == 0 else 29)  # names beside each other would overlap
        parts.append(text_at(x, down, shorten(_short(axis.name), 20), anchor="middle", kind="axis"))
    words = ", ".join(f"{key} {_text(value)}" for key, value in results.best_settings.items())
    label = f"Settings and {results.metric} of {len(trials)} trials. The best: {words}"
    return svg(label, *parts, width=int(2 * _SIDE + 10 + (len(axes) - 1) * between), height=_HEIGHT, kind="chart wide")


def best_trials(results: TuningResults) -> list[TrialResult]:
    """Return the trials that are listed.

    Args:
        results: The results of the search.
    """
    return results.ranked[:BEST]


class _Axis:
    """From the values of a setting to places."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        self._is_numeric = len(numbers) == len(values) and len(set(numbers)) > 1
        self._names = list(dict.fromkeys(map(_text, values)))
        self._is_log = self._is_numeric and min(numbers) > 0 and max(numbers) / min(numbers) > 20
        self._low, self._high = (min(numbers), max(numbers)) if self._is_numeric else (0.0, 1.0)

    def y(self, value: Any) -> float:
        """Return the place of a value, from the top.

        Args:
            value: The value of the setting.
        """
        if not self._is_numeric:
            share = self._names.index(_text(value)) / max(len(self._names) - 1, 1)
        elif self._is_log:
            share = math.log(value / self._low) / math.log(self._high / self._low)
        else:
            share = (value - self._low) / (self._high - self._low)
        return TOP + 8 + (_HEIGHT - BOTTOM - TOP - 16) * (1 - share)

    def ticks(self) -> list[tuple[float, str]]:
        """Return places and their texts."""
        if self._is_numeric:
            return [(self.y(value), tick_label(float(f"{value:.3g}"))) for value in (self._low, self._high)]
        return [(self.y(name), name) for name in self._names[:12]]


def _short(key: str) -> str:
    """Return the last part of a dotted key; of those of trees, the last two."""
    return key.rpartition(".")[2]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

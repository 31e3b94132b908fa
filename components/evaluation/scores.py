"""The distribution of a model's predictions, with which later ones can be compared."""

from dataclasses import dataclass, field

import numpy as np

from kubetfx.arrays import Array

BARS = 20


@dataclass(frozen=True)
class Scores:
    """Distribution of predictions."""

    edges: list[float]
    """Bounds of the bars: of the largest probability, or of the value."""
    counts: list[float]
    """Rows in each bar."""
    classes: list[float] = field(default_factory=list)
    """Rows for which the model names each class; empty for a regression."""


def scores_of(outputs: Array) -> Array:
    """Return the largest probability of each row, or its value, (rows,).

    Args:
        outputs: (rows, classes) probabilities, or (rows,) values.
    """
    found: Array = outputs.max(axis=1) if outputs.ndim == 2 else outputs
    return found


def describe(outputs: Array) -> Scores:
    """Describe the distribution of predictions.

    Args:
        outputs: (rows, classes) probabilities, or (rows,) values.

    Returns:
        The distribution; for values, between the smallest and the largest.
    """
    values = scores_of(outputs)
    finite = values[np.isfinite(values)]
    named: Array = np.zeros(0)
    if outputs.ndim == 2:
        edges = np.linspace(0, 1, BARS + 1)
        named = np.bincount(outputs.argmax(axis=1), minlength=outputs.shape[1])
    else:
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        edges = np.linspace(low, high, BARS + 1)
    counts = np.bincount(bars_of(finite, edges), minlength=BARS + 2)[1:-1]
    return Scores([float(edge) for edge in edges], [float(n) for n in counts], [float(n) for n in named])


def bars_of(values: Array, edges: Array) -> Array:
    """Return the number of the bar that each value is in, from 1 on.

    Number 0 is below all bars, and the last number is above them. A value on a bound is in the bar that ends there, as
    in TFDV's histograms. A value outside by less than a millionth counts as inside: requests may have fewer digits than
    a table.

    Args:
        values: (rows,) finite.
        edges: (bars + 1,) rising.
    """
    found = np.searchsorted(edges, values, side="left")
    slack = 1e-6 * max(abs(float(edges[0])), abs(float(edges[-1])))
    found[(found < 1) & (values >= edges[0] - slack)] = 1
    found[(found >= len(edges)) & (values <= edges[-1] + slack)] = len(edges) - 1
    return found

"""A metric: its description, and an accumulator that adds it up over blocks of rows.

The same accumulator computes the value of the whole split and of a slice, in a local loop or in a combine on another
engine, and the values of bootstrap samples, in which a row that was drawn twice has weight 2. Undefined values are NaN.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from kubetfx.arrays import Array
from kubetfx.config.metric_catalogue import Better, Description, Task, label_of
from kubetfx.errors import ConfigError

Function = Callable[[Array, Array], float]
"""A metric of rows: of labels (rows,) and predictions, (rows, classes) probabilities or (rows,) numbers."""


class Accumulator(Protocol):
    """Adds a metric up over blocks of rows. States can be pickled, and none of the methods changes one."""

    def create(self) -> Any:
        """Return the state of no rows."""

    def add_block(self, state: Any, labels: Array, predictions: Array, weights: Array) -> Any:
        """Return the state with the rows of a block.

        Args:
            state: The state without them.
            labels: (rows,) int64 index of the class, below 0 for one that the model does not know; or number.
            predictions: (rows, classes) probabilities, or (rows,) numbers.
            weights: (..., rows) float64, the weight of each row; there is a metric for each of the leading indices.
        """

    def merge(self, first: Any, second: Any) -> Any:
        """Return the state of the rows of both.

        Args:
            first: The state of some rows.
            second: The state of other rows.
        """

    def result(self, state: Any) -> Array:
        """Return the metric, (...) float64 with the leading dimensions of the weights; NaN if it is undefined.

        Args:
            state: The state of all rows.
        """


@dataclass(frozen=True, kw_only=True)
class Metric(Description):
    """A metric that can be computed."""

    accumulator: Callable[..., Accumulator]
    """Makes its accumulator; takes `top_k` if the metric needs it."""

    def make_accumulator(self, *, top_k: int) -> Accumulator:
        """Return a new accumulator.

        Args:
            top_k: `model.top_k`.
        """
        return self.accumulator(top_k=top_k) if "top_k" in self.needs else self.accumulator()


def value_of(accumulator: Accumulator, labels: Array, predictions: Array, weights: Array | None = None) -> Array:
    """Return the metric of some rows, (...) float64.

    Args:
        accumulator: The accumulator of the metric.
        labels: see `Accumulator.add_block`.
        predictions: the same.
        weights: the same; None: each row counts once.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    return accumulator.result(accumulator.add_block(accumulator.create(), labels, predictions, weights))


class Additive(Accumulator):
    """Base of the accumulators without a state before the first row, whose states are added."""

    def added(self, first: Any, second: Any) -> Any:
        """Return the state of the rows of both.

        Args:
            first: The state of at least one row.
            second: The state of other rows.
        """
        return first + second

    def of_state(self, state: Any) -> Array:
        """Return the metric, (...) float64.

        Args:
            state: The state of at least one row.
        """
        raise NotImplementedError

    def create(self) -> Any:
        """See Accumulator."""
        return None

    def merge(self, first: Any, second: Any) -> Any:
        """See Accumulator."""
        if first is None or second is None:
            return second if first is None else first
        return self.added(first, second)

    def result(self, state: Any) -> Array:
        """See Accumulator."""
        return np.array(np.nan) if state is None else self.of_state(state)


class Sums(Additive):
    """Base of the accumulators whose state is a weighted sum over the rows, (..., terms)."""

    def terms(self, labels: Array, predictions: Array) -> Array:
        """Return the terms of each row, (rows, terms) float64.

        Args:
            labels: see `Accumulator.add_block`.
            predictions: the same.
        """
        raise NotImplementedError

    def add_block(self, state: Array | None, labels: Array, predictions: Array, weights: Array) -> Array:
        """See Accumulator."""
        added: Array = self.merge(state, weights @ self.terms(labels, predictions))
        return added


class Mean(Sums):
    """Base of the accumulators of a mean over the rows."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return the values that are averaged, (rows,) number or bool.

        Args:
            labels: see `Accumulator.add_block`.
            predictions: the same.
        """
        raise NotImplementedError

    def terms(self, labels: Array, predictions: Array) -> Array:
        """See Sums: the value, and 1."""
        return np.stack([self.row_values(labels, predictions), np.ones(len(labels))], axis=1)

    def of_state(self, state: Array) -> Array:
        """See Additive."""
        return ratio(state[..., 0], state[..., 1])


def ratio(part: Array, whole: Array) -> Array:
    """Return a part as a share of the whole; NaN if the whole is 0.

    Args:
        part: (...).
        whole: (...), broadcast with the part.
    """
    shares: Array = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def weighted_counts(index: Array, weights: Array, *, length: int) -> Array:
    """Return the weight of the rows by index, (..., length) float64.

    Args:
        index: (rows,) of each row, from 0 to length - 1.
        weights: (..., rows).
        length: number of the indices.
    """
    flat = weights.reshape(math.prod(weights.shape[:-1]), len(index))
    cells = index + length * np.arange(len(flat))[:, np.newaxis]
    counts = np.bincount(cells.ravel(), flat.ravel(), minlength=length * len(flat))
    return counts.reshape(*weights.shape[:-1], length)


# Metrics of the user's own


def metric(
    *,
    better: Better = "higher",
    tasks: Sequence[Task] = ("classification",),
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Callable[[Function], Metric]:
    """Make a metric from a function `(labels, predictions) -> float`, as a decorator.

    All rows are kept until the function is called with them, which suits metrics that cannot be accumulated row by row.
    A metric that can should be a `Metric` with its own accumulator, which needs less memory.

    Args:
        better: Whether higher or lower values are better.
        tasks: The tasks that it fits.
        bounds: The lowest and highest possible value.

    Returns:
        A decorator that makes a `Metric` from a function. The function takes the labels, (rows,) class indices or
        floats, and the predictions, (rows, classes) probabilities or (rows,) floats, and returns a float.

    Raises:
        TypeError: something other than a function is decorated.

    Example:
        >>> import kubetfx
        >>> @kubetfx.metric(better="higher", bounds=(0, 1))
        ... def share_of_first(labels, predictions):
        ...     return float((predictions.argmax(axis=1) == 0).mean())
        >>> share_of_first.name
        'share_of_first'
    """

    def decorate(function: Function) -> Metric:
        if not callable(function) or isinstance(function, Metric):
            raise TypeError(f"`metric` must decorate a function of labels and predictions. Received: {function!r}.")
        return Metric(
            name=function.__name__,
            label=label_of(function.__name__),
            tasks=tuple(tasks),
            better=better,
            bounds=bounds,
            accumulator=lambda: CollectedRows(function),
        )

    return decorate


class CollectedRows(Accumulator):
    """Collects all rows, and calls a function with them."""

    def __init__(self, function: Function) -> None:
        """Store the function.

        Args:
            function: A function of all labels and predictions.
        """
        self._function = function

    def create(self) -> list[tuple[Array, ...]]:
        """See Accumulator."""
        return []

    def add_block(self, state: list[Any], labels: Array, predictions: Array, weights: Array) -> list[Any]:
        """See Accumulator."""
        return [*state, (labels, predictions, weights)]

    def merge(self, first: list[Any], second: list[Any]) -> list[Any]:
        """See Accumulator."""
        return [*first, *second]

    def result(self, state: list[Any]) -> Array:
        """See Accumulator; weights are whole numbers, and each row is repeated as often."""
        if not state:
            return np.array(np.nan)
        labels, predictions = (np.concatenate([block[part] for block in state]) for part in (0, 1))
        weights = _whole(np.concatenate([block[2] for block in state], axis=-1))
        flat = weights.reshape(math.prod(weights.shape[:-1]), len(labels))
        values = [self._value(np.repeat(labels, own), np.repeat(predictions, own, axis=0)) for own in flat]
        return np.array(values, np.float64).reshape(weights.shape[:-1])

    def _value(self, labels: Array, predictions: Array) -> float:
        return float(self._function(labels, predictions)) if len(labels) else float("nan")


def _whole(weights: Array) -> Array:
    """Return weights as repetition counts of the rows."""
    copies = np.rint(weights)
    if not np.array_equal(copies, weights):
        raise ConfigError(
            "A metric that is a function of rows takes each a whole number of times. Received: a row of the weight "
            f"{weights[copies != weights][0]:g}. Make it a kubetfx.Metric with an accumulator, or take whole weights."
        )
    return copies.astype(np.int64)


def renamed(found: Metric, reference: str) -> Metric:
    """Return the user's own metric under its name in pipeline.yaml.

    Args:
        found: the metric, named after its function.
        reference: `module:attribute`.
    """
    return replace(found, name=reference, label=label_of(reference))

"""Samples of the rows of a split, and of models' predictions for them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import Each, Run, run_in_threads
from kubetfx.models.examples import RowGroup, mean_row_bytes, row_groups, together

SAMPLE_BYTES = 2**28
"""Approximate maximum size of the kept rows, since images are large."""
DRAWN_ROWS = 5_000
DRAWN_CELLS = 1_000_000
"""Maximum number of rows times outputs in a sample of predictions."""
_CHUNK = 2**20
"""Number of random numbers that are drawn at a time."""


@dataclass(frozen=True)
class Sample:
    """A sample of the rows of a split."""

    rows: pa.RecordBatch
    """The rows in random order."""
    total_rows: int
    """Number of rows of the split."""


def draw(
    files: Sequence[str],
    *,
    rows: int,
    seed: int,
    columns: Sequence[str] | None = None,
    run: Run = run_in_threads,
) -> Sample | None:
    """Draw rows uniformly: each has a random number, and those with the lowest numbers are kept, in random order.

    Args:
        files: The files of a split.
        rows: The maximum number of rows; fewer if they are larger than SAMPLE_BYTES.
        seed: The seed of the random numbers.
        columns: The columns to read; None: all.
        run: Executes the reading of rows.

    Returns:
        The sample; None if the split has no row.
    """
    groups = [(group, group.num_rows(footer)) for group, footer in row_groups(files)]
    total = sum(num_rows for _, num_rows in groups)
    fitting = max(int(SAMPLE_BYTES / max(mean_row_bytes(files), 1)), 1) if columns is None else total
    chosen = _lowest(min(rows, fitting), of=total, seed=seed)
    in_order = np.sort(chosen)
    items, start = [], 0
    for group, num_rows in groups:
        first, end = np.searchsorted(in_order, [start, start + num_rows])
        if first < end:
            items.append((group, in_order[first:end] - start))
        start += num_rows
    found = run(Each(functools.partial(_taken, columns=columns)), list(enumerate(items)))
    kept = together(found)
    return None if kept is None else Sample(kept.take(pa.array(np.argsort(np.argsort(chosen)))), total)


def _lowest(number: int, *, of: int, seed: int) -> Array:
    """Return (number,) int64: which of many random numbers are the lowest, the lowest first."""
    generator = np.random.default_rng(seed)
    places, values = np.empty(0, np.int64), np.empty(0)
    for start in range(0, of, _CHUNK):
        drawn = generator.random(min(_CHUNK, of - start))
        low = np.flatnonzero(drawn < (values.max() if len(values) == number else np.inf))
        places, values = np.append(places, start + low), np.append(values, drawn[low])
        if len(values) > number:
            kept = np.argpartition(values, number)[:number]
            places, values = places[kept], values[kept]
    return places[np.argsort(values)]


def _taken(item: tuple[RowGroup, Array], *, columns: Sequence[str] | None) -> pa.RecordBatch:
    group, rows = item
    return group.read(columns).take(pa.array(rows))


@dataclass(frozen=True)
class Drawn:
    """Predictions of models and baselines for rows that are sampled uniformly in one pass."""

    order: Array
    """(rows,) random numbers; rows with the lowest are kept."""
    labels: Array
    """(rows,) index of the class, or number."""
    outputs: Mapping[str, Array]
    """Predictions by model or baseline: (rows, classes) probabilities, or (rows,) values."""
    weights: Array
    """(rows,) float64, how often each row counts."""

    def joined(self, other: Self | None) -> "Drawn":
        """Return a sample of the rows of both.

        Args:
            other: A sample of other rows, or None.
        """
        parts = [self] if other is None else [self, other]
        order = np.concatenate([part.order for part in parts])
        width = max(*(outputs[:1].size for outputs in self.outputs.values()), 1)
        kept = np.argsort(order, kind="stable")[: min(DRAWN_ROWS, max(DRAWN_CELLS // width, 1))]
        labels = np.concatenate([part.labels for part in parts])[kept]
        outputs = {name: np.concatenate([part.outputs[name] for part in parts])[kept] for name in self.outputs}
        weights = np.concatenate([part.weights for part in parts])[kept]
        return Drawn(order[kept], labels, outputs, weights)

    def of(self, name: str) -> "Answers":
        """Return labels and predictions of a model or baseline, for the rows with a known label.

        Args:
            name: Its name.
        """
        known = self.labels >= 0 if self.outputs[name].ndim == 2 else np.isfinite(self.labels)
        return Answers(self.labels[known], self.outputs[name][known], self.weights[known])


@dataclass(frozen=True)
class Answers:
    """Labels with a model's predictions."""

    labels: Array
    """(rows,) index of the class, or number."""
    outputs: Array
    """(rows, classes) probabilities, or (rows,) values."""
    weights: Array
    """(rows,) float64, how often each row counts."""

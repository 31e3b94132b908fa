"""Finds where the splits of a table begin in time: the value at a rank, without collecting all rows in one place.

Each part of the table sorts its own cells and returns a few of them with their ranks. Together they determine two
values around the wanted one; then each part counts the cells below, and returns those in between.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import Each, Run
from kubetfx.components.data.row_splits import times_of
from kubetfx.config.yaml_text import in_one_line
from kubetfx.errors import DataError
from kubetfx.tables.date_formats import ISO
from kubetfx.tables.spelled_dates import understand

SAMPLED = 2_048
"""Maximum number of values that each part returns."""

_NONE: Array = np.empty(0, np.int64)
Read = Callable[[Any], Iterable[pa.Array]]
"""Takes a part of a table, and returns the cells of the column: numbers, or dates. It can be pickled."""


def time_bounds(
    parts: Sequence[Any], read: Read, buckets: Sequence[int], *, column: str, date_format: str | None, run: Run
) -> tuple[float, ...]:
    """Find where the splits begin in time. Rows of the same time are never divided.

    Args:
        parts: The parts of the table.
        read: Reads the column of a part.
        buckets: The cumulative numbers of hash buckets of the splits.
        column: The name of the column, for the error.
        date_format: The format of the column's cells if they are dates; None: they are numbers.
        run: Executes the work on many parts.

    Returns:
        The first number of each split except the first; for dates, microseconds since 1970.

    Raises:
        DataError: the column holds text.
    """
    if not parts:
        return ()
    look = functools.partial(_look_at, read=read, date_format=date_format)
    looks: list[_Look] = run(Each(look), list(enumerate(parts)))
    _check_no_text(looks, column=column)
    total, held = sum(look.num_cells for look in looks), sum(look.num_times for look in looks)
    if not held:
        return ()
    shares = [bucket / buckets[-1] for bucket in buckets[:-1]]
    ranks = [min(round(share * total), held - 1) for share in shares]
    candidates = np.unique(np.concatenate([look.times for look in looks if look.num_times]))
    between = [_between(rank, candidates, looks) for rank in ranks]
    if all(lowest == highest for lowest, highest in between):
        return tuple(lowest for lowest, _ in between)
    count = functools.partial(_count, read=read, date_format=date_format, between=between)
    counts: list[list[_Counts]] = run(Each(count), list(enumerate(parts)))
    return tuple(_at(rank, own) for rank, own in zip(ranks, zip(*counts, strict=True), strict=True))


@dataclass(frozen=True)
class _Look:
    """The values of a part."""

    num_cells: int
    num_times: int
    """Number of cells that are numbers or dates."""
    times: Array
    """Some of them, in order, including the first and the last."""
    ranks: Array
    """Ranks of these among all times of the part."""
    text: str | None = None
    """A cell of text, if the column is not declared as dates."""
    is_odd: bool = False
    """Whether it is not a date in a usual format."""

    def at_most(self, value: Any) -> int:
        """Return the minimum number of times up to a value."""
        index = int(np.searchsorted(self.times, value, side="right"))
        return int(self.ranks[index - 1]) + 1 if index else 0

    def below(self, value: Any) -> int:
        """Return the maximum number of times below a value."""
        index = int(np.searchsorted(self.times, value, side="left"))
        return int(self.ranks[index]) if index < len(self.times) else self.num_times


@dataclass(frozen=True)
class _Counts:
    """The times of a part around one of the wanted values."""

    num_below: int
    """Number of times below the candidates."""
    values: Array
    """The candidates: distinct times in order."""
    numbers: Array
    """How often each of them occurs."""


def _cells(part: Any, read: Read) -> pa.Array:
    """Return the cells that are not missing."""
    blocks = list(read(part))
    return pa.chunked_array(blocks).drop_null().combine_chunks() if blocks else pa.nulls(0, pa.int64())


def _sorted(cells: pa.Array, date_format: str | None) -> Array:
    """Return the times of cells, in ascending order."""
    return np.sort(times_of(cells, date_format).drop_null().to_numpy(zero_copy_only=False)) if len(cells) else _NONE


def _look_at(part: Any, *, read: Read, date_format: str | None) -> _Look:
    cells = _cells(part, read)
    if pa.types.is_string(cells.type) and date_format is None and len(cells):
        odd = cells.filter(understand(cells, ISO).odd)
        return _Look(len(cells), 0, _NONE, _NONE, text=str((odd if len(odd) else cells)[0]), is_odd=len(odd) > 0)
    times = _sorted(cells, date_format)
    ranks = np.unique(np.linspace(0, len(times) - 1, min(SAMPLED, len(times))).astype(np.int64))
    return _Look(len(cells), len(times), times[ranks], ranks)


def _check_no_text(looks: Sequence[_Look], *, column: str) -> None:
    texts = [look for look in looks if look.text is not None]
    if texts:
        text = next((look.text for look in texts if look.is_odd), texts[0].text)
        raise DataError(
            f"Rows can only be ordered by numbers or valid dates, such as 2024-05-01. Received: {text!r} in "
            f"column {column!r}. If most cells are dates, give their format, data.types: "
            f"{in_one_line({column: {'date': '%d/%m/%Y'}})} for example."
        )


def _between(rank: int, candidates: Array, looks: Sequence[_Look]) -> tuple[Any, Any]:
    """Return two values around the value at a rank, both inclusive."""
    lowest = _last(candidates, lambda value: sum(look.below(value) for look in looks) <= rank)
    highest = _last(candidates, lambda value: sum(look.at_most(value) for look in looks) <= rank)
    after = min(highest + 1, len(candidates) - 1)
    return candidates[max(lowest, 0)].item(), candidates[after].item()


def _last(candidates: Array, holds: Callable[[Any], bool]) -> int:
    """Return the index of the last value of the leading run for which a condition holds; -1 if it holds for none."""
    first, end = 0, len(candidates)
    while first < end:
        middle = (first + end) // 2
        if holds(candidates[middle]):
            first = middle + 1
        else:
            end = middle
    return first - 1


def _count(part: Any, *, read: Read, date_format: str | None, between: Sequence[tuple[Any, Any]]) -> list[_Counts]:
    times = _sorted(_cells(part, read), date_format)
    found = []
    for lowest, highest in between:
        start = int(np.searchsorted(times, lowest, side="left"))
        values, numbers = np.unique(
            times[start : int(np.searchsorted(times, highest, side="right"))], return_counts=True
        )
        found.append(_Counts(start, values, numbers))
    return found


def _at(rank: int, counts: Sequence[_Counts]) -> Any:
    """Return the value at a rank among all."""
    values = np.concatenate([own.values for own in counts])
    numbers = np.concatenate([own.numbers for own in counts])
    order = np.argsort(values, kind="stable")
    ranks = sum(own.num_below for own in counts) + np.cumsum(numbers[order])
    return values[order][int(np.searchsorted(ranks, rank, side="right"))].item()

"""Checks that the shares of classes in each split are those of the table, up to chance."""

from collections.abc import Mapping, Sequence

import numpy as np

from kubetfx.arrays import Array

FALSE_ALARMS = 1e-4
"""Number of runs with random splits of which one reports an unusual share by chance."""
_SURPRISING = 3
"""Standard deviations below which shares are not examined."""
_MAX_NAMED = 3


def unusual_classes(counts: Mapping[str, Array], classes: Sequence[str]) -> dict[str, list[str]]:
    """Compare the shares of the classes in each split with those of all rows.

    The rows of a split count as drawn without replacement, and the probability that a class is as rare or as frequent
    among them is multiplied by the number of comparisons.

    Args:
        counts: rows by split and class.
        classes: The names of the classes.

    Returns:
        By split, a sentence about missing classes and one about classes with unusual shares.
    """
    total = np.sum(list(counts.values()), axis=0)
    found: dict[str, list[str]] = {}
    for split, own in counts.items():
        if lacking := [name for name, here, all_rows in zip(classes, own, total, strict=True) if all_rows and not here]:
            found.setdefault(split, []).append(f"It has no row of the {_named('class', 'classes', lacking)}.")
        chances = _chances(own, total) * len(classes) * len(counts)
        unusual = [index for index in np.argsort(chances) if chances[index] < FALSE_ALARMS and own[index]]
        if unusual:
            here, everywhere = own / own.sum(), total / total.sum()
            shares = [
                f"{classes[index]!r} is {here[index]:.1%} of its rows and {everywhere[index]:.1%} of all"
                for index in unusual[:_MAX_NAMED]
            ]
            more = f"; and {len(unusual) - _MAX_NAMED:,} classes more" if len(unusual) > _MAX_NAMED else ""
            found.setdefault(split, []).append(f"It has unusual shares of classes: {'; '.join(shares)}{more}.")
    return found


def _named(one: str, several: str, names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_MAX_NAMED]))
    more = f" and {len(names) - _MAX_NAMED:,} more" if len(names) > _MAX_NAMED else ""
    return f"{one if len(names) == 1 else several} {shown}{more}"


def _chances(own: Array, total: Array) -> Array:
    """Return (classes,) float64: the probability of a number of rows at least as far from the expected one."""
    rows, drawn = int(total.sum()), int(own.sum())
    share = total / max(rows, 1)
    expected = drawn * share
    deviation = np.sqrt(expected * (1 - share) * (rows - drawn) / max(rows - 1, 1))
    chances = np.ones(len(own))
    surprising = np.flatnonzero(np.abs(own - expected) > _SURPRISING * deviation)
    if len(surprising):
        from scipy.stats import hypergeom  # the import takes half a second

        seen = own[surprising]
        drawings = hypergeom(rows, total[surprising], drawn)
        tail = np.where(seen > expected[surprising], drawings.sf(seen - 1), drawings.cdf(seen))
        chances[surprising] = np.minimum(2 * tail, 1.0)
    return chances

"""Assigns images to splits, and finds copies."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

SLACK = 0.05
"""Deviation of a class from its share of a split above which its images are assigned by count instead."""


def assign_splits(classes: Mapping[str, Sequence[str]], fractions: Mapping[str, float]) -> dict[str, str]:
    """Return the split of every image content, by hash and stratified (docs/decisions/0010-images.md).

    The hash is a number from 0 to 1, and the fractions cut that range: an image keeps its split whatever other images
    are added. Only if a class would deviate from its share by more than SLACK of its images, and by more than one
    image, are its images assigned by count in the order of their hashes.

    Args:
        classes: hashes of the contents, in hexadecimal, by class. A content that is in several counts in the first.
        fractions: of the splits, in order.

    Returns:
        Split by hash: copies of an image are always in the same.
    """
    splits: dict[str, str] = {}
    for label in sorted(classes):
        hashes = sorted({name for name in classes[label] if name not in splits})
        splits.update(_splits_of_class(hashes, fractions))
    return splits


def _splits_of_class(hashes: Sequence[str], fractions: Mapping[str, float]) -> dict[str, str]:
    names = list(fractions)
    cuts = np.cumsum(list(fractions.values()))[:-1].tolist()
    by_hash = [names[bisect(cuts, int(name[:13], 16) / 16**13)] for name in hashes]
    counts = {name: by_hash.count(name) for name in names}
    slack = max(1.0, SLACK * len(hashes))
    is_off = any(abs(counts[name] - fraction * len(hashes)) > slack for name, fraction in fractions.items())
    if is_off or (len(hashes) >= 2 and not (counts[names[0]] and counts[names[-1]])):
        quotas = _quotas(len(hashes), fractions)
        by_hash = [name for name in names for _ in range(quotas[name])]
    elif len(hashes) == 1:
        by_hash = names[:1]
    return dict(zip(hashes, by_hash, strict=True))


def _quotas(number: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Return the number of a class's images by split, rounded by largest remainder.

    The first and the last split get one first.
    """
    names = list(fractions)
    quotas = {name: int(fraction * number + 1e-9) for name, fraction in fractions.items()}
    for name in (names[0], names[-1]):
        quotas[name] = max(quotas[name], 1)
    remainders = sorted(names, key=lambda name: quotas[name] - fractions[name] * number)
    while (left := number - sum(quotas.values())) != 0:
        name = remainders.pop(0) if left > 0 else max(quotas, key=lambda name: quotas[name] - fractions[name] * number)
        quotas[name] += 1 if left > 0 else -1
    return quotas


def find_copies(hashes: Mapping[str, str]) -> list[list[str]]:
    """Return lists of the names of files with the same content.

    Args:
        hashes: The hashes of the contents, by name.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, content_hash in hashes.items():
        names[content_hash].append(name)
    return sorted(sorted(copies) for copies in names.values() if len(copies) > 1)

"""The row groups of an examples artifact, with the split of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from tfx.types import artifact_utils, standard_artifacts

from kubetfx.models.examples import RowGroup, files_in, row_groups


@dataclass(frozen=True)
class Part:
    """A row group of a split."""

    split: str
    number: int
    """Number of the row group in its split, from 0."""
    group: RowGroup


def parts_of(examples: standard_artifacts.Examples, splits: Sequence[str]) -> list[Part]:
    """Return the row groups of some splits, in their order.

    Args:
        examples: The artifact.
        splits: The names of the splits.
    """
    parts = []
    for split in splits:
        groups = row_groups(files_in(artifact_utils.get_split_uri([examples], split)))
        parts += [Part(split, number, group) for number, (group, _) in enumerate(groups)]
    return parts

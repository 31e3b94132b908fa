"""Which spans a run takes (kubetfx/tables/spans.py finds them). It imports nothing: every task reads the config."""

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Which spans a run takes."""

    num_spans: int | None = 1
    """The newest so many, by their numbers: a number without files is a gap and counts. None: `first` to `last`."""
    first: int | datetime.date | None = None
    """None: the oldest that there is."""
    last: int | datetime.date | None = None
    """None: the newest that there is."""
    done_file: str | None = None
    """Name of a file that says that a span's folder is whole. Spans without it are left out."""


def has_spans(pattern: str) -> bool:
    """Return whether a path has placeholders.

    Args:
        pattern: The pattern of files.
    """
    return "{" in pattern

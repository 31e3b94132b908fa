"""Durations as people write them: `30m`, `12h`, `1d`, `2w`."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_EXAMPLES = "a number followed by s, m, h, d or w, for example 30m, 12h or 1d"


def duration(text: str) -> timedelta:
    """Parse a duration.

    Args:
        text: A whole number and a unit.

    Returns:
        The time.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*([smhdw])\s*", text)
    if match is None:
        raise ValueError(f"a duration must be {_EXAMPLES}. Received: {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def seconds_of(text: str) -> int:
    """Return a duration in seconds.

    Args:
        text: see `duration`.
    """
    return int(duration(text).total_seconds())


def _checked(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"a duration must be {_EXAMPLES}. Received: {value!r}")
    if not duration(value):
        raise ValueError(f"a duration must be longer than 0. Received: {value!r}")
    return value


Duration = Annotated[str, BeforeValidator(_checked)]
"""A duration in a config, where it stays a text."""

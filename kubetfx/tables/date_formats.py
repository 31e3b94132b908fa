"""How dates are written, and which point in time one is: the same rules for Arrow and for a graph of TensorFlow.

A format names the order of a date as `strftime` does, `%d/%m/%Y`. A time of day may follow any of them, and a zone.
Whoever reads dates does it in two steps: a pattern of the format takes a cell apart into year, month, day and the rest;
TIME takes the rest apart. Both patterns are RE2's, which Arrow and TensorFlow share; the arithmetic takes arrays of
NumPy and tensors alike.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ISO = "%Y-%m-%d"
"""Understood in every column of dates, whatever its format."""
TIME_OF_DAY = "%H:%M"
"""A time without a date."""
FOUND_FORMATS = (
    *(ISO, "%Y/%m/%d", "%Y.%m.%d", "%Y-%m", TIME_OF_DAY),
    *("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y"),
    *("%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y"),
    *("%b %d %H:%M:%S %Y", "%b %d %H:%M:%S %Z %Y", "%d/%b/%Y:%H:%M:%S %z", "%Y%m%dT%H%M%S"),  # of machines
)
"""What is found by looking; of two that fit equally well, the first."""
_OF_EPOCH = {
    "seconds": (r"\d{1,11})", r"\1000000"),
    "milliseconds": (r"\d{1,14})", r"\1000"),
    "microseconds": (r"\d{1,17})", r"\1"),
    "nanoseconds": (r"\d{1,16})\d{3}", r"\1"),
}
EPOCHS = tuple(_OF_EPOCH)
"""Formats of numbers: so much time since 1970. What is less than a microsecond, or behind a decimal point, is left
out."""
STATED_FORMATS = (*FOUND_FORMATS, "%Y%m%d", *EPOCHS)
"""What is looked for where it is said that a column holds dates."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SECOND = 1_000_000
"""Microseconds."""
DAY = 86_400 * SECOND

ZONES = {
    **{"WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "MSK": 180},
    **{"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420},
    **{"AKST": -540, "AKDT": -480, "HST": -600, "HKT": 480, "SGT": 480, "JST": 540, "KST": 540},
    **{"AWST": 480, "ACST": 570, "ACDT": 630, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780},
}
"""Names of zones, and their minutes from UTC. Those of North America are RFC 822's. Names that mean several zones, such
as IST, are not among them."""

_OFFSET = r"[+-]\d\d:?\d\d"
_NAME = rf"(?i:({'|'.join(MONTHS)})(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?\.?)"
_DIRECTIVES = {
    "%Y": ("year", r"(\d{4})"),
    "%y": ("year", r"(\d{2})"),
    "%m": ("month", "(0?[1-9]|1[0-2])"),
    "%b": ("month", _NAME),
    "%B": ("month", _NAME),
    "%d": ("day", r"(0?[1-9]|[12]\d|3[01])"),
    "%H": ("hour", r"([01]?\d|2[0-3])"),
    "%M": ("minute", r"([0-5]\d)"),
    "%S": ("second", r"([0-5]\d)"),
    "%z": ("zone", rf"([A-Z]{{1,5}}|{_OFFSET})"),
    "%Z": ("zone", rf"([A-Z]{{1,5}}|{_OFFSET})"),
}
_COMPACT = {"%m": "(0[1-9]|1[0-2])", "%d": r"(0[1-9]|[12]\d|3[01])", "%H": r"([01]\d|2[0-3])"}
"""Where nothing is between two parts."""
_USUAL_TIME = re.compile(r"^(.*?)(?:T|,? +|^)%[HI]:%M(?::%S(?:[.,]%f)?)?(?: ?%p)?(?: ?%[zZ])?$")

TIME = (
    r"^(?:([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,9}))?)?(?: ?(?i:([ap])\.?m\.?))?"
    rf"(?: ?(?:Z|z|UTC|GMT|({'|'.join(ZONES)}))?(?:([+-])([01]\d|2[0-3]):?([0-5]\d)?)?(?:\[[\w/+-]+\])?))?$"
)
"""A time of day, or nothing."""
TIME_PARTS = r"0\1|0\2|0\3|\4000000|\5|\7|0\8|0\9|\6"
"""A time rewritten as hour, minute, second, fraction (of which the first six digits count), a or p, sign of the
distance from UTC, its hours and minutes, and the name of a zone."""
NO_TIME = "0|0|0|0|||0|0|"
"""What stands for a time that is none."""
SEPARATOR = "|"
"""Between parts of what a pattern rewrites."""


@dataclass(frozen=True)
class Pattern:
    """How cells of a format are taken apart."""

    regex: str
    """Regex of a whole cell."""
    parts: str
    """What it is rewritten as: year, month, day, time of day, and microseconds besides."""
    has_names: bool = False
    """Whether months have names, which are to be replaced by their numbers."""


@functools.cache
def pattern(date_format: str) -> Pattern:
    """Return how cells of a format are taken apart.

    Args:
        date_format: directives of `strftime`, or one of EPOCHS.

    Raises:
        ValueError: it has no year, or a directive that is not understood.
    """
    if date_format in _OF_EPOCH:
        number, microseconds = _OF_EPOCH[date_format]
        return Pattern(rf"^\s*(-?{number}(?:\.\d*)?\s*$", f"1970|1|1||{microseconds}")
    usual = _USUAL_TIME.match(date_format)
    of_date = usual[1] if usual else date_format
    if not of_date:
        return Pattern(r"^\s*(\d[^|]*?)\s*$", r"1970|1|1|\1|0")
    tokens = re.findall(r"%.|[^%]+|%$", of_date)
    unknown = [token for token in tokens if token.startswith("%") and token not in _DIRECTIVES]
    if unknown or not any(token in ("%Y", "%y") for token in tokens):
        problem = f"{unknown[0]} is not understood" if unknown else "there is no year"
        raise ValueError(
            f"a format of dates is made of %Y, %y, %m, %b, %d, %H, %M, %S and %z: {problem}. Received: "
            f'{date_format!r}. Say "%d/%m/%Y" for example, or one of {", ".join(EPOCHS)}.'
        )
    is_compact = re.search("%[a-zA-Z]%", of_date) is not None
    regex = ""
    groups: dict[str, int] = {}
    for token in tokens:
        if token in _DIRECTIVES:
            name, found = _DIRECTIVES[token]
            groups[name] = len(groups) + 1
            regex += _COMPACT.get(token, found) if is_compact else found
        else:
            regex += re.sub(r"(\\ )+", " +", re.escape(token)).replace(",", ",?")
    year = rf"\{groups['year']}" if "%Y" in tokens else rf"-1\{groups['year']}"
    month, day = (rf"\{groups[name]}" if name in groups else "1" for name in ("month", "day"))
    time = ":".join(rf"\{groups[name]}" for name in ("hour", "minute", "second") if name in groups)
    has_names = "%b" in tokens or "%B" in tokens
    weekday = r"(?:[A-Za-z]{3,9}\.?,? +)?" if has_names else ""
    if not time:
        rest = rf"(?:(?:T|,? +)([^|\[]*?|[^|]*(?:Z|{_OFFSET})\[[^|]*\]))?"
        time = rf"\{len(groups) + 1}"
    elif "zone" in groups:
        rest = ""
        time += rf" \{groups['zone']}"
    else:
        rest = rf"( ?(?:Z|{_OFFSET}))?"
        time += rf"\{len(groups) + 1}"
    return Pattern(rf"^\s*{weekday}{regex}{rest}\s*$", f"{year}|{month}|{day}|{time}|0", has_names)


def days_of(year: Any, month: Any, day: Any) -> Any:
    """Count days since 1970 in the Gregorian calendar, which is taken to have been there always.

    Args:
        year: int64, an array or a tensor.
        month: 1 to 13; the thirteenth is January of the next year.
        day: 1 to 31.

    Returns:
        int64.
    """
    from_march = (month + 9) % 12
    year = year - 1 + (month + 9) // 12
    days = 365 * year + year // 4 - year // 100 + year // 400
    return days + (153 * from_march + 2) // 5 + day - 719_469


def month_of(days: Any) -> Any:
    """Find the month of a day.

    Args:
        days: since 1970, int64, an array or a tensor.

    Returns:
        1 to 12.
    """
    shifted = days + 719_468
    of_era = shifted - 146_097 * (shifted // 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    return ((5 * of_year + 2) // 153 + 2) % 12 + 1


def weekday_of(days: Any) -> Any:
    """Find the day of the week.

    Args:
        days: since 1970, int64, an array or a tensor.

    Returns:
        0 to 6; 0 is Monday.
    """
    return (days + 3) % 7


def hour_of(time: Any) -> Any:
    """Find the hour of the day.

    Args:
        time: microseconds since 1970, int64, an array or a tensor.

    Returns:
        0 to 23.
    """
    return time % DAY // (3_600 * SECOND)


CYCLES: Mapping[str, tuple[Callable[[Any], Any], int, int]] = {
    "month": (lambda times: month_of(times // DAY), 1, 12),
    "weekday": (lambda times: weekday_of(times // DAY), 0, 7),
    "hour": (hour_of, 0, 24),
}
"""What comes again: how it is found of microseconds since 1970, where it begins, and how many there are of it."""


@dataclass(frozen=True)
class DateParts:
    """Parts of dates, int64 arrays or tensors of one shape."""

    year: Any
    """One of two digits comes as -100 to -199: up to -168 it is 2000 to 2068, beyond 1969 to 1999."""
    month: Any
    day: Any
    microseconds: Any
    """That are added: of an epoch, all of them."""


@dataclass(frozen=True)
class TimeParts:
    """Parts of times of day, int64 and text, arrays or tensors of one shape."""

    hour: Any
    minute: Any
    second: Any
    fraction: Any
    """Microseconds."""
    half: Any
    """Text: a, A, p, P, or empty for an hour of 24."""
    sign: Any
    """Text: of the distance from UTC."""
    zone_hours: Any
    zone_minutes: Any
    of_zone: Any
    """Minutes from UTC of a zone that has a name; 0 without one."""


def point_in_time(date: DateParts, time: TimeParts, *, where: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any]:
    """Compute when a date is. A time without a zone is one in UTC.

    Args:
        date: of the day.
        time: of the day.
        where: of NumPy or TensorFlow.

    Returns:
        Microseconds since 1970, int64; and whether the day exists: there is no 30th of February.
    """
    of_century = -date.year - 100
    year = where(date.year < 0, 2000 + of_century - 100 * (of_century // 69), date.year)
    days = days_of(year, date.month, date.day)
    exists = days < days_of(year, date.month + 1, date.day * 0 + 1)
    is_morning = (time.half == "a") | (time.half == "A")
    is_afternoon = (time.half == "p") | (time.half == "P")
    hour = where(is_morning | is_afternoon, time.hour % 12, time.hour)
    hour = where(is_afternoon, hour + 12, hour)
    from_utc = 60 * time.zone_hours + time.zone_minutes
    minutes = 60 * hour + time.minute - where(time.sign == "-", -from_utc, from_utc)
    minutes -= time.of_zone
    return days * DAY + (60 * minutes + time.second) * SECOND + time.fraction + date.microseconds, exists

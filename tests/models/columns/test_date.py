"""The served graph reads dates as the scan of the table does, and makes features of them."""

import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from kubetfx.models.columns import date
from kubetfx.models.columns.column_type import Column
from kubetfx.tables.spelled_dates import understand
from tests.kubetfx.tables.test_spelled_dates import CELLS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = [
    {
        "opened": f"{i % 28 + 1}/{i % 12 + 1}/{2020 + i % 3}" if i % 9 else None,
        "closed": f"2023-{i % 12 + 1:02d}-{i % 28 + 1:02d}T{i % 24:02d}:30:00+02:00",
        "paid": f"2023-02-{i % 28 + 1:02d}",
        "kind": "ab"[i % 2],
    }
    for i in range(60)
]


def test_graph_reads_every_format_as_the_scan_does():
    length = max(len(cells) for cells in CELLS.values())
    columns = [Column(one, "string", details={"format": one, "cycles": ""}) for one in CELLS]
    cells = {one: [*own, *[""] * (length - len(own))] for one, own in CELLS.items()}
    inputs = {one: tf.constant([[cell] for cell in own]) for one, own in cells.items()}

    times, is_known = tf.function(lambda given: date._times(given, columns))(inputs)

    for index, (one, own) in enumerate(cells.items()):
        found = [int(t) if known else None for t, known in zip(times[:, index], is_known[:, index], strict=True)]
        assert found == understand(pa.array(own), one).times.to_pylist(), one


def test_graph_does_not_grow_with_the_columns():
    def operations(number: int) -> int:
        columns = [Column(f"c{i}", "string", details={"format": "%d/%m/%Y", "cycles": ""}) for i in range(number)]
        specs = {column.name: tf.TensorSpec([None, 1], tf.string) for column in columns}
        traced = tf.function(lambda given: date._times(given, columns)).get_concrete_function(specs)
        return len(traced.graph.get_operations()) - number

    assert operations(50) == operations(2)


@pytest.fixture(scope="module")
def dates(preprocess):
    return preprocess(ROWS, label="kind")


def test_columns_of_dates_are_found_with_format_and_what_varies(dates):
    (by_type,) = dates.features.by_type.items()

    assert by_type[0] == "date"
    assert {column.name: dict(column.details) for column in by_type[1]} == {
        "opened": {"format": "%d/%m/%Y", "cycles": "month weekday"},
        "closed": {"format": "%Y-%m-%d", "cycles": "month weekday hour"},
        "paid": {"format": "%Y-%m-%d", "cycles": "weekday"},
    }


def test_dates_are_standard_scores_differences_and_circles(dates):
    columns = dates.features.by_type["date"]
    found = dates.transform(ROWS)["dates"]
    seconds = {c.name: _seconds([row[c.name] for row in ROWS], c.details["format"]) for c in columns}
    opened, closed, paid = (seconds[column.name] for column in columns)
    numbers = [opened, closed, paid, closed - opened, paid - opened, paid - closed]

    expected = [np.nan_to_num((one - np.nanmean(one)) / np.nanstd(one)) for one in numbers]
    for number, cycles in (("month", (opened, closed)), ("weekday", (opened, closed, paid)), ("hour", (closed,))):
        turns = [2 * math.pi * _turn(one, number) for one in cycles]
        expected += [np.nan_to_num(function(turn)) for function in (np.sin, np.cos) for turn in turns]
    expected.append(np.isnan(opened).astype(float))
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)


def _seconds(cells: list[str | None], date_format: str) -> np.ndarray:
    times = understand(pa.array(cells), date_format).times.to_numpy(zero_copy_only=False).astype(float)
    return times / 1e6


def _turn(seconds: np.ndarray, cycle: str) -> np.ndarray:
    moments = [None if math.isnan(one) else np.datetime64(int(one), "s").astype(object) for one in seconds]
    parts = {"month": lambda one: (one.month - 1) / 12, "weekday": lambda one: one.weekday() / 7, "hour": _hour}
    return np.array([math.nan if one is None else parts[cycle](one) for one in moments])


def _hour(moment) -> float:
    return moment.hour / 24


@pytest.mark.parametrize("cell", ["", "someday", "31/02/2021", None])
def test_cell_that_is_no_date_counts_as_missing(dates, cell):
    given, missing = dates.transform([ROWS[1] | {"opened": cell}, ROWS[1] | {"opened": None}])["dates"]

    np.testing.assert_array_equal(given, missing)
    assert given[-1] == 1


def test_date_in_iso_is_the_same_as_in_the_format_of_the_column(dates):
    own, iso = dates.transform([ROWS[1] | {"opened": "3/2/2021"}, ROWS[1] | {"opened": "2021-02-03"}])["dates"]

    np.testing.assert_array_equal(own, iso)


def test_seconds_are_told_apart_however_far_from_1970(preprocess):
    rows = [{"at": f"2150-06-01T00:00:{i:02d}", "kind": "ab"[i % 2]} for i in range(60)]

    scores = preprocess(rows, label="kind").transform(rows)["dates"][:, 0]

    np.testing.assert_allclose(scores, (np.arange(60) - 29.5) / np.arange(60).std(), rtol=1e-5)


def test_dimensions_of_one_column_are_known_and_those_of_several_are_not():
    day = Column("day", "string", True, {"format": "%Y-%m-%d", "cycles": "month hour"})

    assert date.Date().positions([day]) == {"day": [("dates", index) for index in range(6)]}
    assert date.Date().positions([day, day]) is None

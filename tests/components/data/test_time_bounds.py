"""Splits begin in time where they would if all rows were sorted in one place."""

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kubetfx.components.data import time_bounds as module
from kubetfx.components.data.block_work import run_here
from kubetfx.components.data.time_bounds import time_bounds
from kubetfx.errors import DataError

RUN = functools.partial(run_here, threads=2)
BUCKETS = [700, 850, 1_000]


def found(parts: list[list[Any]], arrow_type: pa.DataType, *, date_format: str | None = None) -> tuple[float, ...]:
    arrays = [[pa.array(cells, arrow_type)] if cells is not None else [] for cells in parts]
    return time_bounds(arrays, iter, BUCKETS, column="t", date_format=date_format, run=RUN)


def expected(parts: list[list[Any]]) -> tuple[float, ...]:
    cells = sorted(cell for part in parts for cell in part or () if cell is not None)
    return tuple(cells[min(round(share * len(cells)), len(cells) - 1)] for share in (0.7, 0.85))


@pytest.mark.parametrize("sampled", [2, 5, 50, 5_000])
@pytest.mark.parametrize("number", [1, 7, 100, 3_000])
@pytest.mark.parametrize("kind", ["different", "few", "sorted", "skewed"])
def test_bounds_are_those_of_all_rows_in_order(monkeypatch, sampled, number, kind):
    monkeypatch.setattr(module, "SAMPLED", sampled)
    random = np.random.default_rng(number + sampled)
    values = {
        "different": random.permutation(number),
        "few": random.integers(0, 4, number),
        "sorted": np.arange(number),
        "skewed": (random.pareto(1, number) * 1_000).astype(int),
    }[kind].tolist()
    parts = [values[start : start + 400] for start in range(0, number, 400)]
    parts[0].append(None)
    assert found(parts, pa.int64()) == expected(parts)
    assert found(parts, pa.float64()) == expected(parts)


def test_bounds_of_dates_are_microseconds():
    days = [[f"{day:02d}/05/2024" for day in range(1, 11)], ["20/05/2024", None]]
    (first, second) = found(days, pa.string(), date_format="%d/%m/%Y")
    assert (second - first) / 86_400e6 == 1
    assert isinstance(first, int)


def test_rows_without_a_time_and_parts_without_a_row_have_no_say():
    assert found([[None, None], None, [3, 1, 2], []], pa.int64()) == (3, 3)
    assert found([[None], None], pa.int64()) == ()
    assert found([], pa.int64()) == ()


@pytest.mark.parametrize(
    ("parts", "cell"),
    [([["2024-05-01"], ["2024-05-02", "soon"]], "soon"), ([["2024-05-01"], ["2024-05-02"]], "2024-05-01")],
    ids=["one is no date", "all are dates"],
)
def test_text_is_refused_with_a_cell_that_is_no_date(parts, cell):
    with pytest.raises(DataError, match=f"Received: '{cell}' in column 't'"):
        found(parts, pa.string())

import numpy as np
import pyarrow as pa

from kubetfx.components.evaluation.slices import cells_of, rows_by_slice, slice_name

COLUMNS = {
    "island": np.array([b"north", b"south", b"north", None], object),
    "year": np.array([2007, 2007, 2008, 2008], object),
}


def test_slices_are_the_values_of_each_column_and_combination() -> None:
    found = {key: rows.tolist() for key, rows in rows_by_slice([("year",), ("year", "island")], COLUMNS)}

    assert found == {
        (("year", 2007),): [0, 1],
        (("year", 2008),): [2, 3],
        (("island", b"north"), ("year", 2007)): [0],
        (("island", b"south"), ("year", 2007)): [1],
        (("island", b"north"), ("year", 2008)): [2],
        (("island", None), ("year", 2008)): [3],
    }


def test_each_row_is_in_one_slice_of_each_kind() -> None:
    for kind in (("island",), ("year",), ("island", "year")):
        positions = [row for _, rows in rows_by_slice([kind], COLUMNS) for row in rows]
        assert sorted(positions) == [0, 1, 2, 3]


def test_cells_are_bytes_numbers_or_missing() -> None:
    assert cells_of(pa.array(["a", None, "ü"])).tolist() == [b"a", None, "ü".encode()]
    assert cells_of(pa.array([1, None])).tolist() == [1, None]
    assert cells_of(pa.array([None, None], pa.float64())).tolist() == [None, None]


def test_names_of_slices() -> None:
    assert slice_name((("island", "übrig".encode()), ("year", 2007))) == "island=übrig, year=2007"
    assert slice_name((("island", None),)) == "island=(missing)"

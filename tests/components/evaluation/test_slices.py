import numpy as np

from kubetfx.components.evaluation.slices import rows_by_slice, slice_name

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
    }


def test_names_of_slices() -> None:
    assert slice_name((("island", "übrig".encode()), ("year", 2007))) == "island=übrig, year=2007"

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
    assert slice_name((("island", "übrig".encode()), ("year", 2007)), classes=()) == "island=übrig, year=2007"


def test_slice_by_the_label_of_images_has_the_name_of_the_class() -> None:
    assert slice_name((("label", 1),), classes=("left", "übrig")) == "label=übrig"
    assert slice_name((("format", b"png"), ("label", 0)), classes=("left", "übrig")) == "format=png, label=left"
    assert slice_name((("label", 7),), classes=("left",)) == "label=7"
    assert slice_name((("my_label", 0),), classes=("left",)) == "my_label=0"
    assert slice_name((("label", 1),), classes=()) == "label=1"

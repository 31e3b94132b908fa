import math
import re
from typing import Any

import pytest

from components.golden import GoldenRows, read, write

CLASSIFIER = GoldenRows([{"x": 1.0}, {"x": math.nan}], ["cat", "dog"], [[0.75, 0.25], [0.5, 0.5]])
REGRESSION = GoldenRows([{"x": 1.0}, {"x": 2.0}], [], [[1_000.0], [0.0]])


def answer(*probabilities: float, label: str = "cat", classes: tuple[str, ...] = ("cat", "dog")) -> dict[str, Any]:
    return {"label": label, "score": max(probabilities), "probabilities": list(probabilities), "classes": list(classes)}


def test_equal_answers_have_no_difference():
    assert CLASSIFIER.difference([answer(0.75, 0.25), answer(0.5, 0.5)], tolerance=1e-6) is None


def test_rounding_below_the_tolerance_is_none():
    assert CLASSIFIER.difference([answer(0.75005, 0.24995), answer(0.5, 0.5)], tolerance=1e-4) is None


@pytest.mark.parametrize("label", ["cat", "dog"])
def test_of_classes_that_are_equally_likely_either_may_be_the_label(label):
    assert CLASSIFIER.difference([answer(0.75, 0.25), answer(0.5, 0.5, label=label)], tolerance=1e-4) is None


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (
            answer(0.7, 0.3),
            r"row 1 of 2, the probability of 'cat' is 0\.7, and offline it is 0\.75: .* 0\.05, .* 0\.0001",
        ),
        (answer(0.75, 0.25, label="dog"), "the label is 'dog', and offline it is 'cat'"),
        (answer(0.75, 0.25, classes=("dog", "cat")), "other fields or classes"),
        (answer(math.nan, 0.25), "the probability of 'cat' is nan"),
        ({"y": [1.0]}, "other fields or classes than the model: y"),
    ],
    ids=["another probability", "another label", "another order of classes", "not a number", "another model"],
)
def test_first_difference_is_told_with_its_row(first, message):
    difference = CLASSIFIER.difference([first, answer(0.5, 0.5)], tolerance=1e-4)
    assert re.search(message, difference or "")


def test_answers_that_are_missing_are_a_difference():
    assert CLASSIFIER.difference([answer(0.75, 0.25)], tolerance=1e-4) == "1 answers to 2 rows"


def test_large_values_are_compared_relatively_and_small_ones_absolutely():
    assert REGRESSION.difference([{"value": 1_000.05}, {"value": 0.00005}], tolerance=1e-4) is None
    assert "row 1 of 2" in (REGRESSION.difference([{"value": 1_000.2}, {"value": 0.0}], tolerance=1e-4) or "")
    assert "row 2 of 2" in (REGRESSION.difference([{"value": 1_000.0}, {"value": 0.2}], tolerance=1e-4) or "")


def test_rows_come_back_from_their_file_with_missing_cells(tmp_path):
    write(CLASSIFIER, tmp_path)

    again = read(tmp_path)

    assert (again.rows[0], again.classes, again.outputs) == ({"x": 1.0}, CLASSIFIER.classes, CLASSIFIER.outputs)
    assert math.isnan(again.rows[1]["x"])

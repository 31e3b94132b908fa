import math
import re
from typing import Any

import pytest

from kubetfx.components.evaluation.golden import GoldenRows, read, write

CLASSIFIER = GoldenRows([{"x": 1.0}, {"x": math.nan}], ["cat", "dog"], [[0.75, 0.25], [0.5, 0.5]])


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


@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-4), (1e-5, 1e-4)], ids=["large", "small"])
def test_values_are_compared_as_a_share_of_them_and_of_their_spread(scale, tolerance):
    golden = GoldenRows([{"x": 1.0}, {"x": 2.0}], [], [[1_000.0 * scale], [0.0]])  # standard deviation 500

    def difference(first: float, second: float) -> str:
        return golden.difference([{"value": first * scale}, {"value": second * scale}], tolerance=tolerance) or ""

    assert difference(1_000.05, 0.04) == ""
    assert "row 1 of 2" in difference(1_000.2, 0.0)
    assert "row 2 of 2" in difference(1_000.0, 0.2)


def test_value_that_is_no_number_offline_either_is_equal():
    golden = GoldenRows([{"x": 1.0}], [], [[math.nan]])

    assert golden.difference([{"value": math.nan}], tolerance=1e-4) is None
    assert golden.difference([{"value": 1.0}], tolerance=1e-4) is not None


def test_rows_come_back_from_their_file_with_missing_cells(tmp_path):
    write(CLASSIFIER, tmp_path)

    again = read(tmp_path)

    assert (again.rows[0], again.classes, again.outputs) == ({"x": 1.0}, CLASSIFIER.classes, CLASSIFIER.outputs)
    assert math.isnan(again.rows[1]["x"])

import math

import pytest

from kubetfx.components.report import formats


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.123456, 4, "0.1235"),
        (0.0, 4, "0"),
        (1.0, 4, "1"),
        (498.4, 2, "498"),
        (31.2, 1, "31"),
        (9.96, 1, "10"),
        (1234.5, 4, "1234"),
        (-12345.6, 4, "-12,346"),
        (2e20, 4, "2e+20"),
        (None, 4, "–"),
        (math.nan, 4, "–"),
        (math.inf, 2, "–"),
    ],
)
def test_numbers_are_short_and_whole_where_they_are_large(value: float | None, digits: int, text: str) -> None:
    assert formats.number(value, digits=digits) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 %"), (0.0004, "<0.1 %"), (0.125, "12.5 %"), (1.0, "100 %"), (0.9999, "100 %")]
)
def test_shares_are_percentages(value: float, text: str) -> None:
    assert formats.share(value) == text


def test_shares_of_two_splits_share_their_unit() -> None:
    assert formats.shares([0.435, 0.0004]) == "43.5 / <0.1 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (41.5, "41.5 s"), (125, "2 min 5 s"), (3 * 3600 + 240, "3 h 4 min")],
)
def test_durations_have_the_unit_that_fits(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.00003, "<0.001"), (0.0498, "0.05"), (0.4567, "0.46")])
def test_distances_are_not_more_exact_than_they_are(value: float, text: str) -> None:
    assert formats.distance(value) == text

"""Numbers as people and spreadsheets write them."""

import pyarrow as pa
import pytest

from kubetfx.tables.spelled_numbers import understand

WITH_POINTS = {
    "1200": "1200",
    " 12 ": "12",
    "+7": "7",
    "1e5": "1e5",
    "1.5E-3": "1.5E-3",
    ".5": ".5",
    "5.": "5",
    "$1,200": "1200",
    "-$5": "-5",
    "$-5": "-5",
    "(1,200.50)": "-1200.50",
    "US$3.50": "3.50",
    "EUR 7": "7",
    "5 €": "5",
    "€ 5": "5",
    "1 000 000": "1000000",
    "1\u202f000,5": None,
    "1'200": "1200",
    "\N{MINUS SIGN}4": "-4",
    "45%": "0.45",
    "12.5 %": "0.125",
    "\u0661\u0662\N{ARABIC DECIMAL SEPARATOR}\u0665": "12.5",
    "\N{FULLWIDTH DIGIT THREE}4": "34",
    "1,2,3": None,
    "12,34,567": None,
    "1,5": None,
    "1.234,5": None,
    "": None,
    "$": None,
    "%": None,
    "(5": None,
    "5)": None,
    "1-2": None,
    "2024-05-01": None,
    "10:30": None,
    "12 kg": None,
    "1.2.3": None,
}
WITH_COMMAS = {
    "1,5": "1.5",
    "1.234,5": "1234.5",
    "1.234.567": "1234567",
    "1 234,5": "1234.5",
    "12,5 %": "0.125",
    "1.5": None,
    "7": "7",
}


@pytest.mark.parametrize(("decimal", "spellings"), [(".", WITH_POINTS), (",", WITH_COMMAS)], ids=["point", "comma"])
def test_spellings_are_understood(decimal: str, spellings: dict[str, str | None]) -> None:
    found = understand(pa.array(list(spellings)), decimal=decimal)
    assert dict(zip(spellings, found.texts.to_pylist(), strict=True)) == spellings
    odd = [cell for cell, is_odd in zip(spellings, found.odd.to_pylist(), strict=True) if is_odd]
    assert odd == [cell for cell, number in spellings.items() if number is None and cell]


def test_placeholders_are_missing_and_not_odd() -> None:
    found = understand(pa.array(["?", "-", "N/A.", "None", " ", "#DIV/0!", None, "x"]))
    assert found.texts.null_count == 8
    assert found.odd.to_pylist() == [False] * 7 + [True]

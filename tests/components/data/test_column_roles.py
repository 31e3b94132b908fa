from dataclasses import replace

import pytest

from kubetfx.components.data.column_roles import choose_role
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import ColumnType

NUM_ROWS = 100


def role(column: ColumnProfile, *, num_rows: int = NUM_ROWS, **config) -> tuple[str, str]:
    return choose_role(column, num_rows=num_rows, config=FeaturesConfig.model_validate(config))


def number(name: str = "x", **fields) -> ColumnProfile:
    return ColumnProfile(
        name, "float", **{"num_values": NUM_ROWS, "num_distinct": None, "minimum": 0.0, "maximum": 9.5} | fields
    )


def integer(name: str = "x", **fields) -> ColumnProfile:
    defaults = {"num_values": NUM_ROWS, "num_distinct": 50, "values_repeat": True, "minimum": 0, "maximum": 900}
    return ColumnProfile(name, "int64", **defaults | fields)


def text(name: str = "x", **fields) -> ColumnProfile:
    return ColumnProfile(name, "string", **{"num_values": NUM_ROWS, "num_distinct": 3, "values_repeat": True} | fields)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (number(), "numeric"),
        (integer(), "numeric"),
        (integer(num_distinct=20), "vocabulary"),
        (integer(num_distinct=21), "numeric"),
        (integer(num_distinct=None), "numeric"),
        (text(), "vocabulary"),
        (text(num_distinct=1_000), "vocabulary"),
        (text(num_distinct=1_001), "hashed"),
        (text(num_distinct=None), "hashed"),
    ],
    ids=[
        "decimals",
        "whole numbers",
        "few whole numbers",
        "one whole number too many",
        "uncounted whole numbers",
        "text",
        "as many words as fit",
        "one word too many",
        "uncounted words",
    ],
)
def test_role_goes_by_type_and_number_of_distinct_values(column, expected):
    assert role(column)[0] == expected


COUNTS = {"num_distinct": 8, "minimum": 0, "maximum": 9, "mean": 1.1}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (integer(**COUNTS), "numeric"),
        (integer(**COUNTS | {"minimum": 1, "mean": 2.0}), "numeric"),
        (integer(**COUNTS | {"mean": 4.4}), "vocabulary"),
        (integer(num_distinct=12, minimum=1, maximum=12, mean=6.6), "vocabulary"),
        (integer(num_distinct=3, minimum=1, maximum=3, mean=2.3), "vocabulary"),
        (integer(num_distinct=3, minimum=2007, maximum=2009, mean=2007.3), "vocabulary"),
        (integer(**COUNTS | {"minimum": -1, "mean": 0.1}), "vocabulary"),
        (integer(num_distinct=2, minimum=0, maximum=1, mean=0.6), "numeric"),
        (integer(num_distinct=2, minimum=7, maximum=9, mean=8.0), "numeric"),
    ],
    ids=[
        "counts from 0",
        "counts from 1",
        "codes from 0",
        "months",
        "classes of three",
        "years",
        "below 0",
        "yes and no",
        "two codes",
    ],
)
def test_counts_are_numbers_and_codes_are_categories(column, expected):
    assert role(column)[0] == expected
    assert role(column, categorical=["x"])[0] == "vocabulary"
    assert role(column, numeric=["x"])[0] == "numeric"


@pytest.mark.parametrize(
    ("column", "config", "expected"),
    [
        (integer(num_distinct=5), {"integer_categories": 4}, "numeric"),
        (text(num_distinct=5), {"vocabulary_size": 4}, "hashed"),
        (integer(num_distinct=5), {"vocabulary_size": 4}, "hashed"),
        (integer(num_distinct=2), {"numeric": ["x"]}, "numeric"),
        (integer(num_distinct=90), {"categorical": ["x"]}, "vocabulary"),
        (integer(num_distinct=None), {"categorical": ["x"]}, "hashed"),
        (text(num_distinct=1), {"categorical": ["x"]}, "vocabulary"),
        (integer("id", num_distinct=None, values_repeat=False), {"numeric": ["id"]}, "numeric"),
        (number(), {"numeric": ["y"]}, "numeric"),
    ],
    ids=[
        "fewer integer categories",
        "smaller vocabulary, text",
        "smaller vocabulary, integers",
        "numeric of few values",
        "categorical of many values",
        "categorical of uncounted values",
        "categorical of one value",
        "numeric that looks like an identifier",
        "another column is named",
    ],
)
def test_config_has_the_last_word(column, config, expected):
    assert role(column, **config)[0] == expected


@pytest.mark.parametrize(
    "column",
    [
        number(minimum=3.5, maximum=3.5),
        integer(num_distinct=1, minimum=3, maximum=3),
        integer(num_distinct=None, minimum=3, maximum=3),
        text(num_distinct=1),
    ],
    ids=["decimal", "whole number", "uncounted whole number", "text"],
)
def test_constant_is_left_out(column):
    assert role(column) == ("excluded", "it has the same value in every row")


def test_one_value_and_missing_cells_tell_rows_apart():
    assert role(text(num_distinct=1, num_values=60))[0] == "vocabulary"
    assert role(number(minimum=1.0, maximum=1.0, num_values=60))[0] == "numeric"


@pytest.mark.parametrize(
    "column",
    [
        number(num_values=0, minimum=None, maximum=None),
        integer(num_values=0, num_distinct=0, minimum=None, maximum=None),
        text(num_values=0, num_distinct=0),
    ],
    ids=["decimal", "whole number", "text"],
)
def test_column_without_a_value_is_left_out(column):
    assert role(column) == ("excluded", "it has no value")


@pytest.mark.parametrize(
    "column",
    [
        text(num_distinct=100, values_repeat=False),
        text(num_distinct=None, values_repeat=False),
        integer("passenger_id", num_distinct=100, values_repeat=False, maximum=5_000),
        integer("PassengerId", num_distinct=100, values_repeat=False, maximum=5_000),
        integer("rowid", num_distinct=100, values_repeat=False, maximum=5_000),
        integer("Unnamed: 0", num_distinct=100, values_repeat=False, minimum=5, maximum=5_000),
        integer("anything", num_distinct=100, values_repeat=False, minimum=1, maximum=100),
        text(num_distinct=60, num_values=60, values_repeat=False),
    ],
    ids=[
        "text that never repeats",
        "uncounted text that never repeats",
        "name that ends in _id",
        "name that ends in Id",
        "rowid",
        "saved index",
        "row numbers",
        "with missing cells",
    ],
)
def test_identifier_is_left_out(column):
    assert role(column) == ("excluded", "it has a different value in every row: an identifier")


def test_row_numbers_with_gaps_are_left_out():
    reason = "it has a different value in every row, as row numbers with gaps have: an identifier"
    column = integer("n", num_distinct=100, values_repeat=False, minimum=7, maximum=206)
    assert role(column) == ("excluded", reason)
    assert role(replace(column, maximum=207))[0] == "numeric"
    assert role(replace(column, num_values=49, num_distinct=49, maximum=70), num_rows=49)[0] == "numeric"


@pytest.mark.parametrize(
    "column",
    [
        integer("price", num_distinct=100, values_repeat=False, maximum=5_000),
        integer("paid", num_distinct=100, values_repeat=False, maximum=5_000),
        integer("customer_id", num_distinct=60, values_repeat=True),
        number("id"),
    ],
    ids=["plain measurements", "a word that ends in id", "an identifier that repeats", "decimals"],
)
def test_numbers_that_differ_are_no_identifier_by_themselves(column):
    assert role(column)[0] == "numeric"


def test_few_rows_that_differ_are_no_identifier():
    column = text(num_values=19, num_distinct=19, values_repeat=False)

    assert role(column, num_rows=19)[0] == "vocabulary"


def test_type_is_asked_about_its_cells_alone_and_without_the_distinct_values(monkeypatch):
    asked = []

    class Words(ColumnType):
        tag = "words"
        cells = frozenset({"string"})

        def choose(self, column, *, num_rows, config):
            asked.append(column)

    monkeypatch.setattr(known_types, "COLUMN_TYPES", (Words(), *known_types.COLUMN_TYPES))

    assert [role(column)[0] for column in (number(), text(values=("no", "yes")))] == ["numeric", "vocabulary"]
    assert asked == [text()]

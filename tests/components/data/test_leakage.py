"""Columns that tell the label are found, and columns that are merely good are not."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from kubetfx.components.data.leakage import find_leaks, told_by_groups

ROWS = 600
DRAWN = np.random.default_rng(0)
WAGES = np.round(np.exp(DRAWN.normal(4.6, 0.35, ROWS)), 2)
CASUAL, REGISTERED = DRAWN.integers(0, 400, ROWS), DRAWN.integers(0, 600, ROWS)
TOTAL = CASUAL + REGISTERED
RATES = np.sort(np.round(DRAWN.uniform(5, 30, ROWS), 2))
CLASSES = DRAWN.choice(["no", "yes", "perhaps"], ROWS, p=[0.6, 0.3, 0.1])
EVEN = DRAWN.permutation(ROWS) // 4.0
SHARES = DRAWN.uniform(0, 0.4, ROWS)
WITH_GAPS = np.cumsum(DRAWN.integers(1, 9, ROWS))
NOISE = DRAWN.normal(size=ROWS)


def leaks(label, *, is_class: bool = False, **columns) -> dict[tuple[str, ...], str]:
    rows = pa.RecordBatch.from_pydict({"label": label, "noise": NOISE[: len(label)], **columns})
    return {leak.columns: leak.evidence for leak in find_leaks(rows, "label", is_class=is_class)}


def with_gaps(values, *, every: int) -> pa.Array:
    return pa.array([None if row % every == 0 else value for row, value in enumerate(values)])


def spread(classes) -> list[float]:
    """A score, whose bounds tell the classes apart."""
    return [{"no": -1.0, "yes": 0.0, "perhaps": 1.0}[name] + more for name, more in zip(classes, SHARES, strict=True)]


@pytest.mark.parametrize(
    ("label", "column", "right"),
    [
        (CLASSES, CLASSES, "100.0%"),
        (CLASSES, [{"no": 7, "yes": 3, "perhaps": 5}[name] for name in CLASSES], "100.0%"),
        (CLASSES, spread(CLASSES), "100.0%"),
        (CLASSES, [f"{name} {row % 7}" for row, name in enumerate(CLASSES)], "100.0%"),
        (np.where(WAGES > 99, "a", "b"), pa.array([3.5 if wage > 99 else None for wage in WAGES]), "100.0%"),
        (np.repeat(["a", "b", "c"], ROWS // 3), WITH_GAPS, "100.0%"),
        (np.repeat(["a", "b"], ROWS // 2), [*["x"] * (ROWS // 2 - 1), *["y"] * (ROWS // 2 + 1)], "99.8%"),
    ],
    ids=["copy", "recoded", "score", "finer classes", "a value for one class", "row numbers", "but for a row"],
)
def test_column_that_tells_the_class_is_a_leak(label, column, right):
    found = leaks(label, is_class=True, told=column)
    assert list(found) == [("told",)]
    assert found["told",].startswith(f"'told' alone predicts {right} of the labels, of which guessing finds ")


@pytest.mark.parametrize(
    ("label", "column"),
    [
        (WAGES, np.log(WAGES)),
        (WAGES, np.round(np.log(WAGES), 2)),
        (WAGES, -1000 / WAGES),
        (np.abs(EVEN - 200.5), EVEN),
        (RATES, [f"grade {index // 20}" for index in range(ROWS)]),
        (RATES, WITH_GAPS),
    ],
    ids=["logarithm", "rounded", "decreasing", "not monotone", "fine grade", "row numbers with gaps"],
)
def test_function_of_an_amount_is_a_leak(label, column):
    assert list(leaks(label, told=column)) == [("told",)]


def test_evidence_is_said():
    assert leaks(WAGES, logwage=np.log(WAGES)) == {
        ("logwage",): "'logwage' alone predicts the label: 99.99% of the variance of its ranks"
    }
    grades = np.array(list("ABCDEFG"))[np.searchsorted([9, 12, 15, 18, 22, 26], RATES)]
    assert leaks(RATES, grade=grades) == {
        ("grade",): "'grade' is the label in steps: each of its values covers a separate range of labels"
    }
    assert leaks(RATES, row=WITH_GAPS)["row",].endswith(", and is another number in every row, as an identifier is")


@pytest.mark.parametrize(
    ("label", "columns", "said"),
    [
        (TOTAL, {"casual": CASUAL, "registered": REGISTERED}, "'registered' + 'casual' is 'label'"),
        (CASUAL - REGISTERED, {"income": CASUAL, "costs": REGISTERED}, "- 'costs' + 'income' is 'label'"),
        (
            np.round(CASUAL / 7 + REGISTERED / 7, 1),
            {"a": np.round(CASUAL / 7, 1), "b": np.round(REGISTERED / 7, 1)},
            "'b' + 'a' is 'label'",
        ),
        (
            TOTAL,
            {"casual": with_gaps(CASUAL, every=9), "registered": with_gaps(REGISTERED, every=7)},
            "'registered' + 'casual' is 'label'",
        ),
        (
            0.3 * CASUAL + 0.7 * REGISTERED,
            {"exam": REGISTERED, "homework": CASUAL},
            "a weighted sum of 'exam' and 'homework' is 'label'",
        ),
    ],
    ids=["sum", "difference", "rounded", "missing cells", "weights"],
)
def test_columns_that_add_up_to_the_label_are_a_leak(label, columns, said):
    found = leaks(label, **columns)
    assert [set(leak) for leak in found] == [set(columns)]
    assert next(iter(found.values())) == f"{said}, up to rounding"


def test_months_of_a_year_add_up_to_it():
    months = {f"month {number}": DRAWN.normal(size=ROWS) for number in range(12)}
    assert [set(leak) for leak in leaks(sum(months.values()), **months)] == [set(months)]
    del months["month 3"]
    assert leaks(sum(months.values()) + NOISE[::-1] / 10, **months) == {}


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_diabetes])
def test_strong_features_of_real_tables_are_none(load):
    table = load()
    columns = {str(name): column for name, column in zip(table.feature_names, table.data.T, strict=True)}
    rows = pa.RecordBatch.from_pydict({"label": table.target, **columns})
    assert find_leaks(rows, "label", is_class=load is not load_diabetes) == []


def test_what_is_almost_the_label_is_none():
    assert leaks(WAGES, last_year=WAGES * DRAWN.normal(1, 0.02, ROWS)) == {}
    mistaken = np.where(DRAWN.random(ROWS) < 0.02, "no", CLASSES)
    assert leaks(CLASSES, is_class=True, guess=mistaken) == {}


def test_chance_is_none():
    noise = {f"noise {number}": DRAWN.normal(size=60) for number in range(1_000)}
    texts = {f"text {number}": DRAWN.choice(list("abcdefgh"), 60) for number in range(100)}
    assert leaks(DRAWN.choice(["a", "b"], 60), is_class=True, **noise, **texts) == {}
    assert leaks(DRAWN.normal(size=60), **noise, **texts) == {}


def test_names_that_differ_in_every_row_tell_nothing():
    assert leaks(CLASSES, is_class=True, name=[f"name {row}" for row in range(ROWS)]) == {}
    assert leaks(WAGES, name=[f"name {row}" for row in range(ROWS)]) == {}


@pytest.mark.parametrize("label", [np.arange(20.0), np.full(99, 1.0), [*["a"] * 90, *["b"] * 9]])
def test_too_little_to_judge_by(label):
    assert leaks(label, is_class=isinstance(label, list), copy=label) == {}


def test_columns_without_values_and_of_other_types_are_passed_over():
    odd = pa.array([[1.0]] * ROWS)
    assert leaks(WAGES, empty=pa.nulls(ROWS, pa.float64()), infinite=[float("inf")] * ROWS, list=odd) == {}


def test_label_that_a_group_has_in_common():
    customers = np.repeat(np.arange(ROWS // 4), 4)
    of_customer = pa.array(np.repeat(DRAWN.choice(["a", "b"], ROWS // 4), 4))
    assert told_by_groups(of_customer, customers, is_class=True) == 1
    assert told_by_groups(pa.array(CLASSES), customers, is_class=True) < 0.1
    assert told_by_groups(pa.array(WAGES), customers, is_class=False) < 0.1

"""The cells of training.sample_weight."""

import pyarrow as pa
import pytest

from kubetfx.errors import DataError
from kubetfx.models.row_weights import check_weights, weights_of


def blocks(*parts: pa.Array, labels: list[str | None] | None = None) -> list[tuple[str, pa.RecordBatch]]:
    """Of one file."""
    return [
        ("sales.csv", pa.RecordBatch.from_pydict({"times": part, "kind": pa.array(labels or ["a"] * len(part))}))
        for part in parts
    ]


def test_weights_are_numbers() -> None:
    (_, block), *_ = blocks(pa.array([1, 0, 3]))

    assert weights_of(block, "times").tolist() == [1.0, 0.0, 3.0]
    assert weights_of(block, None).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("second", "received"),
    [
        (pa.array([1.0, -0.5]), r"-0\.5 in row 5 of sales.csv"),
        (pa.array([1, None]), "a missing cell in row 5 of sales.csv"),
        (pa.array([float("inf"), 1.0]), "inf in row 4 of sales.csv"),
        (pa.array(["1", "heavy"]), "'heavy' in row 5 of sales.csv"),
        (pa.array(["1", "2"]), "'1' as text in sales.csv"),
    ],
)
def test_what_is_no_weight_is_told_with_its_row(second: pa.Array, received: str) -> None:
    first = pa.array([1, 2, 3]).cast(second.type)

    with pytest.raises(DataError, match=f"the column 'times'. Received: {received}"):
        check_weights(blocks(first, second), column="times", label="kind")


def test_rows_without_a_label_need_no_weight() -> None:
    check_weights(blocks(pa.array([None, 1.0]), labels=[None, "a"]), column="times", label="kind")


def test_weights_that_are_all_nothing_are_an_error() -> None:
    with pytest.raises(DataError, match="all weights in the column 'times' are 0, so no row counts"):
        check_weights(blocks(pa.array([0, 0]), pa.array([0])), column="times", label="kind")

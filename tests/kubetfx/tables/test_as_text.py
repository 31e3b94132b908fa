from datetime import datetime

import pyarrow as pa
import pytest

from kubetfx.tables.as_text import LIST_SEPARATOR, in_utf8, lists_of, padded, texts_of


@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        (pa.array([1.0, None, float("nan"), 1.7e15]), ["1", None, None, "1700000000000000"]),
        (pa.array([1.5, 2.0]), ["1.5", "2"]),
        (pa.array([datetime(2024, 1, 1)], pa.timestamp("ms", "+02:00")), ["2024-01-01 00:00:00.000Z"]),
        (pa.array([["a", None, "b"], [], None, [""]]), [f"a{LIST_SEPARATOR}{LIST_SEPARATOR}b", None, None, None]),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)), [f"1{LIST_SEPARATOR}2", f"3{LIST_SEPARATOR}4"]),
        (pa.array([["a"], ["b", "c"]], pa.large_list(pa.string()))[1:], [f"b{LIST_SEPARATOR}c"]),
    ],
    ids=["whole numbers", "decimals", "zone", "lists", "lists of numbers", "part of large lists"],
)
def test_cells_have_one_text(cells, texts):
    assert texts_of(cells).to_pylist() == texts


def test_lists_are_taken_apart_without_spaces_and_empty_values():
    texts = pa.array([" AA, BB,", "CC", ",", "", None, "AA ,,AA"])

    lists = lists_of(texts, ",")

    assert lists.to_pylist() == [["AA", "BB"], ["CC"], None, None, None, ["AA", "AA"]]
    assert padded(lists).tolist() == [["AA", "BB"], ["CC", ""], ["", ""], ["", ""], ["", ""], ["AA", "AA"]]
    assert padded(lists[2:4]).tolist() == [[""], [""]]


def test_texts_in_utf8_keep_their_shape():
    lists = pa.array([["é", "b"], [], ["c"]], pa.list_(pa.string()))

    assert in_utf8(padded(lists)).tolist() == [["é".encode(), b"b"], [b"", b""], [b"c", b""]]
    assert in_utf8(padded(lists[:0])).shape == (0, 1)

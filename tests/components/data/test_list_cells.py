"""Lists in the cells of tables: where they are found by looking, and what is known of them."""

import pytest

from kubetfx.models.columns.column_profile import Lists
from kubetfx.tables.as_text import LIST_SEPARATOR
from tests.components.data.test_tables import column_of, inspect, read, types, write, write_parquet

TAGS = ["red", "green", "blue", "sky"]


def tags(number: int) -> list[str]:
    return [tag for bit, tag in enumerate(TAGS) if number >> bit & 1]


@pytest.mark.parametrize("separator", [";", "|", ","])
def test_lists_in_text_are_found_by_values_that_are_put_together_in_many_ways(tmp_path, separator):
    cells = [f"{separator} ".join(tags(i % 16)) for i in range(80)]
    path = write(tmp_path / "a.csv", "tags\ty", *(f"{cell}\t{i % 2}" for i, cell in enumerate(cells)))

    column = column_of(path, "tags")
    assert (column.lists, column.num_values) == (Lists(separator, 4, 4), 75)
    assert column.note == f"lists, separated by {separator!r}"
    assert read(path)[3]["tags"] == f"red{separator} green"


@pytest.mark.parametrize(
    "cells",
    [
        [f"Street {i}, Town {i % 9}" for i in range(60)],
        [f"name{i}, first{i % 7}, jr" if i % 3 else f"name{i}, first" for i in range(60)],
        [("a", "a; b", "b")[i % 3] for i in range(60)],
        [f"{i % 4},{i % 3},{i % 5}" for i in range(60)],
        [f"it was {i}, and then, of course, {i + 1}; or not" for i in range(60)],
    ],
    ids=["addresses", "names", "three kinds", "three parts", "sentences"],
)
def test_text_with_separators_is_not_always_a_list(tmp_path, cells):
    path = write(tmp_path / "a.csv", "tags\ty", *(f"{cell}\t{i % 2}" for i, cell in enumerate(cells)))

    assert column_of(path, "tags").lists is None
    assert column_of(path, "tags").type == "string"


def test_lists_can_be_said(tmp_path):
    path = write(tmp_path / "a.csv", "tags,y", "a; b,0", "b,1", "c d;a,0")

    assert column_of(path, "tags").lists is None
    assert column_of(path, "tags", types={"tags": "list"}).lists == Lists(";", 3, 2)
    assert column_of(path, "tags", types={"tags": {"list": " "}}).lists == Lists(" ", 4, 2)


def test_lists_of_parquet_are_columns_with_no_word_said(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet", tags=[["a, b", "c"], [], None, ["c"]], codes=[[1, 2, 3], [2], [], None], y=[0, 1, 0, 1]
    )

    assert column_of(path, "tags").lists == Lists(LIST_SEPARATOR, 2, 2)
    assert column_of(path, "codes").lists == Lists(LIST_SEPARATOR, 3, 3)
    assert inspect(path).notes == []
    assert [row["tags"] for row in read(path)] == [f"a, b{LIST_SEPARATOR}c", None, None, "c"]
    assert [row["codes"] for row in read(path)] == ["1\x1f2\x1f3", "2", None, None]
    assert types(path, types={"tags": "text"})["tags"] == "string"
    assert column_of(path, "tags", types={"tags": "text"}).lists is None


def test_lists_of_several_files_are_lists_if_their_separators_are_the_same(tmp_path):
    stated = {"tags": "list"}
    write(tmp_path / "a.csv", "tags\ty", "a;b\t0", "b\t1")
    write(tmp_path / "b.csv", "tags\ty", "a;c;d\t0", "b\t1")
    assert column_of(tmp_path, "tags", types=stated).lists == Lists(";", 6, 3)

    write(tmp_path / "c.csv", "tags\ty", "a|c|d\t0", "b\t1")
    assert column_of(tmp_path, "tags", types=stated).lists is None
    assert str(column_of(tmp_path, "tags", types=stated).note).startswith("text, since files differ: lists, separated")

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from kubetfx.errors import DataError
from kubetfx.tables import memory


def cells(columns: memory.Columns, *, numbers: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, and the reasons of the bad ones."""
    rows = memory.rows_of(columns, names=list(columns), numbers=numbers)
    assert len(rows.index) == rows.table.num_rows
    return rows.table.to_pylist(), [bad.reason for bad in rows.bad]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.json", '[{"x": 1, "s": "a"}, {"s": null}]'),
        ("rows.json", '\ufeff{"instances": [{"x": 1, "s": "a"}, {}]}'),
    ],
    ids=["a list", "a request"],
)
def test_json_is_read_and_missing_keys_are_missing_cells(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    columns = memory.read_json(tmp_path / name)

    rows, reasons = cells({key: columns[key] for key in ("x", "s")}, numbers=("x",))

    assert rows == [{"x": 1.0, "s": "a"}, {"x": None, "s": None}]
    assert reasons == []


def test_one_object_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text('{"x": 1}', encoding="utf-8")
    assert memory.read_json(tmp_path / "row.json") == {"x": [1]}


def test_cells_are_one_value_each_and_rows_with_others_are_bad() -> None:
    columns = {"x": [True, [1], 10**400, "2", None], "s": [True, "a", "b", {"c": 1}, 7]}

    rows, reasons = cells(columns, numbers=("x",))

    assert rows == [{"x": "1.0", "s": "true"}, {"x": None, "s": "7"}]
    assert reasons[0] == "Column 'x' holds numbers. Received: [1]."
    assert reasons[1].startswith("Column 'x' holds numbers. Received: 1000")
    assert reasons[2] == "Column 's' holds text. Received: {'c': 1}."


def test_bytes_are_base64_as_in_a_request() -> None:
    content = base64.b64encode(b"\x00picture").decode()

    rows, reasons = cells({"image_bytes": [{"b64": content}, {"b64": "?"}]})

    assert rows == [{"image_bytes": b"\x00picture"}]
    assert reasons == ["Column 'image_bytes' holds text. Received: {'b64': '?'}, which is not base64."]


def test_frame_has_missing_cells_where_pandas_has_nan() -> None:
    frame = pd.DataFrame(
        {"x": [1.0, float("nan")], "s": ["a", None], "mixed": [1, "b"], "c": pd.Categorical(["u", "v"])}
    )

    rows, reasons = cells(memory.columns_of(frame))

    assert rows == [{"x": 1.0, "s": "a", "mixed": "1", "c": "u"}, {"x": None, "s": None, "mixed": "b", "c": "v"}]
    assert reasons == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text", "a list of objects, a row each, was expected. Received: str"),
        ([1], "a list of objects, a row each, was expected. Received: list"),
        ([{}], "There are no rows"),
        (pa.table({"x": pa.array([], pa.int64())}), "There are no rows"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "several columns of one name. Received twice: x"),
    ],
    ids=["text", "numbers", "no columns", "no rows", "a name twice"],
)
def test_what_is_no_table_is_an_error(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        memory.columns_of(rows)


@pytest.mark.parametrize("text", ["[{", json.dumps(3)], ids=["broken", "a number"])
def test_json_that_is_no_table_is_an_error_that_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="The rows cannot be read"):
        memory.read_json(tmp_path / "rows.json")

"""A loaded model asked for rows from everywhere."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from kubetfx.errors import DataError, UsageError
from kubetfx.serving import remote_prediction, row_source
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.model import Model, to_prediction
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.predict_client import ClientOptions, Target
from kubetfx.serving.rest_client import RestClient
from kubetfx.serving.server import RunningServer, ServerOptions
from kubetfx.tables.table_file import Cut

ROWS = [
    {"size": 1.0, "colour": "red", "other": 1},
    {"size": -2.0, "colour": "blue", "other": 2},
    {"size": None, "colour": None, "other": 3},
]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`big` with the logistic of the size; `unknown` as the label of a row without a colour."""
    path = tmp_path_factory.mktemp("classifier") / "1"
    module = tf.Module()

    columns = [tf.TensorSpec([None], tf.float32, "size"), tf.TensorSpec([None], tf.string, "colour")]

    @tf.function(input_signature=columns)
    def serve(size: tf.Tensor, colour: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.assert_less(tf.where(tf.math.is_nan(size), 0.0, size), 1e6, message="size is too large.")
        big = tf.sigmoid(tf.where(tf.math.is_nan(size), tf.zeros_like(size), size))
        probabilities = tf.stack([1 - big, big], axis=1)
        names = tf.constant(["small", "big"])
        return {
            "label": tf.where(colour == "", "unknown", tf.gather(names, tf.argmax(probabilities, axis=1))),
            "score": tf.reduce_max(probabilities, axis=1),
            "probabilities": probabilities,
            "classes": tf.tile(names[tf.newaxis], [tf.shape(size)[0], 1]),
            "colour_again": colour,
        }

    module.serve = serve
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    facts = {"label": "y", "classes": ["small", "big"], "inputs": ["size", "colour"], "columns": {}}
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "kubetfx.json").write_text(json.dumps(facts), encoding="utf-8")
    return path


@pytest.fixture
def model(classifier: Path) -> Any:
    with Model.load(classifier) as loaded:
        yield loaded


def expected() -> list[dict[str, Any]]:
    return [
        {"label": "big", "score": 0.731, "probabilities": {"small": 0.269, "big": 0.731}, "colour_again": "red"},
        {"label": "small", "score": 0.881, "probabilities": {"small": 0.881, "big": 0.119}, "colour_again": "blue"},
        {"label": "unknown", "score": 0.5, "probabilities": {"small": 0.5, "big": 0.5}, "colour_again": ""},
    ]


def assert_as_expected(table: pa.Table) -> None:
    assert table.column_names == ["label", "score", "probabilities", "colour_again"]
    for found, wanted in zip(table.to_pylist(), expected(), strict=True):
        assert found["score"] == pytest.approx(wanted["score"], abs=1e-3)
        assert found["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-3)
        assert (found["label"], found["colour_again"]) == (wanted["label"], wanted["colour_again"])


def as_json(path: Path) -> Path:
    path.write_text(json.dumps({"instances": ROWS}), encoding="utf-8")
    return path


def as_json_lines(path: Path) -> Path:
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n", encoding="utf-8")
    return path


def as_csv(path: Path) -> Path:
    path.write_bytes(b"\xef\xbb\xbfcolour,size,other\nred,1,1\nblue,-2.0,2\nNA,,3\n")
    return path


def as_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    return path


def as_folder(path: Path) -> Path:
    path.mkdir()
    (path / "a.csv").write_text("colour,size\nred,1\nblue,-2.0\n", encoding="utf-8")
    (path / "b.csv").write_text("size,colour\nNA,\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.json", as_json),
        ("rows.jsonl", as_json_lines),
        ("rows.csv", as_csv),
        ("rows.parquet", as_parquet),
        ("folder", as_folder),
    ],
    ids=["json", "json lines", "csv", "parquet", "folder"],
)
def test_rows_of_a_file_are_predicted(model: Model, tmp_path: Path, name: str, write: Any) -> None:
    assert_as_expected(model.predict(write(tmp_path / name)))
    assert_as_expected(model.predict(str(tmp_path / name)))


def test_rows_in_memory_are_predicted(model: Model) -> None:
    assert_as_expected(model.predict(ROWS))
    assert_as_expected(model.predict(pa.Table.from_pylist(ROWS)))
    assert_as_expected(model.predict(pa.RecordBatch.from_pylist(ROWS)))
    assert model.inputs == ("colour", "size")
    assert model.classes == ("small", "big")


def test_frame_gives_a_frame_with_its_index(model: Model) -> None:
    frame = pd.DataFrame(ROWS, index=["a", "b", "c"])

    found = model.predict(frame)

    assert list(found.columns) == ["label", "score", "probabilities.small", "probabilities.big", "colour_again"]
    assert list(found.index) == ["a", "b", "c"]
    assert found.loc["a", "probabilities.big"] == pytest.approx(0.731, abs=1e-3)
    assert found["label"].tolist() == ["big", "small", "unknown"]


def test_blocks_are_as_the_whole(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"size": number / 7, "colour": "red"} for number in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    whole = model.predict(rows)
    monkeypatch.setattr(row_source, "TABLE_CUT", Cut(block_rows=9, segment_blocks=2))

    assert [len(block.index) for block in model.blocks(rows)] == [9] * 11 + [1]
    for found in (model.predict(rows), model.predict(tmp_path / "rows.parquet")):
        assert found["label"].to_pylist() == whole["label"].to_pylist()
        np.testing.assert_allclose(found["score"], whole["score"], rtol=1e-5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"size": 1e7, "colour": "red"}, r"refuses row 12: size is too large\."),
        ({"size": "tall", "colour": "red"}, r"refuses row 12: Column 'size' holds numbers\. Received: 'tall'\."),
        ({"size": [1.0], "colour": "red"}, r"refuses row 12: Column 'size' holds numbers\. Received: \[1\.0\]\."),
        ({"size": 1.0, "colour": ["red"]}, r"refuses row 12: Column 'colour' holds text\. Received: \['red'\]\."),
    ],
    ids=["the model", "text", "a list", "a list of text"],
)
def test_row_that_cannot_be_predicted_is_named(
    model: Model, bad: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_source, "TABLE_CUT", Cut(block_rows=5))
    rows = [{"size": 1.0, "colour": "red"}] * 11 + [bad, bad]

    with pytest.raises(DataError, match=message):
        model.predict(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "There are no rows"),
        ([{"size": 1}], r"lacks columns of the model: colour\. Received: size\."),
        (3, r"a list of objects, a row each, was expected\. Received: int"),
        (pa.table({"size": [[1.0]], "colour": ["a"]}), r"column 'size' must hold numbers \(float32\)\. Received: list"),
        (pa.table([[1.0], [2.0]], names=["size", "size"]), r"several columns of one name\. Received twice: size"),
    ],
    ids=["none", "a column missing", "a number", "lists", "a name twice"],
)
def test_rows_that_are_wrong_are_an_error(model: Model, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.predict(rows)


def test_mixed_and_typed_cells_are_read_as_what_the_model_takes(model: Model) -> None:
    rows = [{"size": True, "colour": True}, {"size": "2.5", "colour": 7}, {"size": 3, "colour": 1.5}]

    found = model.predict(rows)

    assert found["colour_again"].to_pylist() == ["true", "7", "1.5"]
    sizes = np.array([1.0, 2.5, 3.0])
    np.testing.assert_allclose(found["score"], 1 / (1 + np.exp(-sizes)), rtol=1e-5)


def test_server_asked_for_the_same_rows_says_the_same(model: Model, classifier: Path, tmp_path: Path) -> None:
    rows = as_csv(tmp_path / "rows.csv")
    expected_answers = [to_prediction(row) for row in model.predict(rows).to_pylist()]
    options = ServerOptions(models=(ModelConfig("sizes", classifier.parent),), rest_port=0, grpc_port=0)
    with RunningServer(options) as server:
        clients = (
            RestClient(f"http://127.0.0.1:{server.rest_port}", ClientOptions(batch_size=2)),
            GrpcClient(f"127.0.0.1:{server.grpc_port}", ClientOptions(batch_size=2)),
        )
        for client in clients:
            with client:
                found = remote_prediction.predict(client, Target("sizes"), rows)
                with pytest.raises(DataError, match=r"refuses row 2: Column 'size' holds numbers\. Received: 'tall'"):
                    remote_prediction.predict(
                        client, Target("sizes"), [{"size": 1, "colour": "a"}, {"size": "tall", "colour": "a"}]
                    )
            assert [answer["label"] for answer in found] == [answer["label"] for answer in expected_answers]
            for ours, theirs in zip(found, expected_answers, strict=True):
                assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


def test_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The model cannot be loaded: Could not find SavedModel .* Received: "):
        Model.load(tmp_path)


def test_importing_the_model_imports_no_tensorflow() -> None:
    code = "import sys, kubetfx.serving.model; print('tensorflow' in sys.modules, 'apache_beam' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_answer_of_another_model_is_refused_in_words() -> None:
    listed = {"label": "a", "score": 0.5, "probabilities": [0.5, 0.5], "classes": ["a", "b"]}
    assert to_prediction(listed)["probabilities"] == {"a": 0.5, "b": 0.5}
    assert to_prediction({"value": 1}) == {"value": 1.0}
    with pytest.raises(DataError, match=r"was not exported by kubetfx: .* Received: y"):
        to_prediction({"y": 1.0})

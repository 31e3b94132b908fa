import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from kubetfx.errors import DataError, KubetfxError, UsageError
from kubetfx.serving import bulk, bulk_output, bulk_workers, row_source
from kubetfx.serving.bulk import BulkJob
from kubetfx.serving.model_columns import ModelColumns
from kubetfx.serving.saved_model import SavedModel
from kubetfx.tables import text_table
from kubetfx.tables.csv_options import CsvOptions
from kubetfx.tables.table_file import Cut

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = ("--direct_running_mode=in_memory",)


@pytest.mark.parametrize(
    ("arguments", "num_segments", "workers"),
    [
        ([], 1, "1 thread"),
        ([], 9, "3 threads"),
        ([], 2, "2 threads"),
        (["--direct_num_workers=2"], 9, "2 threads"),
        (["--direct_running_mode=multi_processing"], 9, "3 processes"),
        (ONE_THREAD, 9, "1 thread"),
    ],
    ids=["one segment", "many segments", "two segments", "how many", "a mode", "one thread"],
)
def test_threads_where_there_is_work_for_several_unless_the_user_says_else(
    monkeypatch, arguments, num_segments, workers
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    options = PipelineOptions(list(arguments))
    bulk_workers._use_cores(options, arguments, num_segments)
    assert bulk_workers._describe_workers(options) == workers


Job = Callable[..., BulkJob]


def save(path: Path, call: tf.types.experimental.GenericFunction, name: str = "serving_default") -> Path:
    module = tf.Module()
    module.call = call
    tf.saved_model.save(module, str(path), signatures={name: call})
    return path


@pytest.fixture(scope="module")
def images_model(tmp_path_factory) -> Path:
    """From the bytes of a picture to its brightness, as its first pixel has it."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def first_pixel(content: tf.Tensor) -> tf.Tensor:
            is_long = tf.debugging.assert_greater(tf.strings.length(content), 20, message="image_bytes is no picture.")
            with tf.control_dependencies([is_long]):
                return tf.cast(tf.io.decode_image(content, channels=3, expand_animations=False)[0, 0], tf.float32)

        pixels = tf.map_fn(first_pixel, image_bytes, fn_output_signature=tf.TensorSpec([3], tf.float32))
        return {"brightness": pixels[:, 0], "pixel": pixels}

    return save(tmp_path_factory.mktemp("images") / "1", serve)


@pytest.fixture(scope="module")
def lookup_model(tmp_path_factory) -> Path:
    """Fails for an index that is not 0, 1 or 2."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.int64, "index")])
    def serve(index: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"value": tf.gather(tf.constant([10.0, 20.0, 30.0]), index[:, 0])}

    return save(tmp_path_factory.mktemp("lookup") / "1", serve)


@pytest.fixture
def job(tmp_path, kinds) -> Job:
    """A job, by default of the model `kinds`: number float, count integer, name text."""

    def make(source: Path, **changes: Any) -> BulkJob:
        values = {
            "saved_model": kinds,
            "model_name": "kinds",
            "model_version": 1,
            "model_digest": "digest",
            "input": str(source),
            "output": tmp_path / "out" / "predictions.parquet",
            "csv": CsvOptions(encoding="utf-8", missing_values=("", "NA")),
        }
        return BulkJob(**{**values, **changes})

    return make


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(row_source, "TABLE_CUT", Cut(block_rows=10, segment_blocks=2))


def table_of(num_rows: int) -> pa.Table:
    numbers = np.arange(num_rows)
    return pa.table(
        {
            "name": [f"name {number % 7}" for number in numbers],
            "number": pa.array(numbers / 4, pa.float64()),
            "count": pa.array(numbers % 5, pa.int32()),
            "day": pa.array(numbers, pa.int32()).cast(pa.date32()),
        }
    )


def write_table(path: Path, num_rows: int = 95, **options: Any) -> Path:
    pq.write_table(table_of(num_rows), path, **options)
    return path


def errors_of(result: bulk.BulkResult) -> list[dict[str, Any]]:
    return pq.read_table(result.errors_path).to_pylist() if result.errors_path else []


def test_predictions_of_a_csv_are_numbered_and_in_order(tmp_path, job):
    source = tmp_path / "rows.csv"
    source.write_text('number,unused,name,count\n1.5,x,"a, ""b""",2\nNA,x,,3\n-2,x,é,0\n')

    result = bulk.predict(job(source, columns=("unused", "number")))

    assert (result.num_rows, result.num_errors, result.errors_path) == (3, 0, None)
    rows = pq.read_table(result.path).to_pylist()
    assert [row["row"] for row in rows] == [1, 2, 3]
    assert [row["greeting"] for row in rows] == ['hello a, "b"', "hello ", "hello é"]
    assert [row["raw_bytes"] for row in rows] == [b'a, "b"', b"", "é".encode()]
    assert [row["count"] for row in rows] == [2, 3, 0]
    assert [row["positive"] for row in rows] == [True, False, False]
    assert rows[0]["pair"] == [1.5, -1.5]
    assert np.isnan(rows[1]["product"])
    assert rows[2]["product"] == 0.0
    assert [(row["unused"], row["number"]) for row in rows] == [("x", "1.5"), ("x", None), ("x", "-2")]


def test_json_lines_in_folders_that_name_a_column_are_predicted_in_blocks(tmp_path, job, monkeypatch):
    """A column whose values are of several types is text in every block of the output."""
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 120)
    folder = tmp_path / "in" / "day=2024-02-01"
    folder.mkdir(parents=True)
    rows = [{"number": n / 2, "name": f"n{n}", "count": n % 5, "mixed": n if n < 9 else str(n)} for n in range(20)]
    lines = [json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join([*lines[:12], "no row", *lines[12:]]))

    result = bulk.predict(job(tmp_path / "in", columns=("mixed", "day")))

    found = pq.read_table(result.path).to_pylist()
    assert [row["mixed"] for row in found] == [str(n) for n in range(20)]
    assert {row["day"] for row in found} == {"2024-02-01"}
    assert [row["greeting"] for row in found] == [f"hello n{n}" for n in range(20)]
    assert [row["row"] for row in found] == [*range(1, 13), *range(14, 22)]
    (error,) = errors_of(result)
    assert error["row"] == 13
    assert error["reason"].startswith("The line is not JSON")


def test_predictions_of_a_parquet_file_are_those_of_the_session(tmp_path, job, small_blocks):
    source = write_table(tmp_path / "rows.parquet", row_group_size=37)
    model = SavedModel(job(source).saved_model)
    inputs = {"number": np.float32, "count": np.int64}
    arrays = {name: table_of(95)[name].to_numpy().astype(dtype) for name, dtype in inputs.items()}
    arrays["name"] = np.array([name.encode() for name in table_of(95)["name"].to_pylist()], object)
    signature = model.signatures["serving_default"]
    feeds = [signature.inputs[name].tensor_name for name in arrays]
    (expected,) = model.run(feeds, list(arrays.values()), [signature.outputs["product"].tensor_name])
    model.close()

    result = bulk.predict(job(source, columns=("day",), batch_size=4))

    table = pq.read_table(result.path)
    assert table["row"].to_pylist() == list(range(1, 96))
    np.testing.assert_array_equal(table["product"].to_numpy(), expected)
    assert table["day"].equals(table_of(95)["day"])


def test_probabilities_are_named_by_their_classes_in_a_model_of_kubetfx(tmp_path, job):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "label": tf.where(x > 0.5, "yes", "no"),
            "score": tf.maximum(x, 1 - x),
            "probabilities": tf.stack([1 - x, x], axis=1),
            "classes": tf.tile([["no", "yes"]], [tf.size(x), 1]),
        }

    model = save(tmp_path / "1", serve)
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "kubetfx.json").write_text(json.dumps({"classes": ["no", "yes"]}))
    source = tmp_path / "rows.csv"
    source.write_text("x\n0.25\n0.75\n")

    result = bulk.predict(job(source, saved_model=model))

    assert pq.read_table(result.path).to_pylist() == [
        {"row": 1, "label": "no", "score": 0.75, "probabilities": {"no": 0.75, "yes": 0.25}},
        {"row": 2, "label": "yes", "score": 0.75, "probabilities": {"no": 0.25, "yes": 0.75}},
    ]


def test_rows_of_a_folder_are_counted_through_its_files(tmp_path, job):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "b.csv").write_text("name,number,count\nlast,1,1\n")
    (folder / "a.csv").write_text("count,number,name\n1,1,first\n1,1,second\n")
    (folder / "notes.txt").write_text("left alone")

    result = bulk.predict(job(folder))

    rows = pq.read_table(result.path).to_pylist()
    assert [(row["row"], row["greeting"]) for row in rows] == [
        (1, "hello first"),
        (2, "hello second"),
        (3, "hello last"),
    ]


def test_bad_rows_go_to_the_error_file_and_the_others_are_predicted(tmp_path, job):
    source = tmp_path / "rows.csv"
    source.write_bytes(b"number,name,count\n1,a,1\nmany,b,1\n1,c\n2,d,\n3,\xff,1\n4,e,1.5\n 5 ,f,2\n")

    result = bulk.predict(job(source))

    assert (result.num_rows, result.num_errors) == (7, 5)
    predicted = pq.read_table(result.path).to_pylist()
    assert [(row["row"], row["greeting"], row["product"]) for row in predicted] == [
        (1, "hello a", 1),
        (7, "hello f", 10),
    ]
    errors = errors_of(result)
    assert [error["row"] for error in errors] == [2, 3, 4, 5, 6]
    assert [error["reason"] for error in errors] == [
        "Column 'number' holds numbers. Received: 'many'.",
        "The header has 3 columns, this row has 2.",
        "Column 'count' is missing, and the model takes int64.",
        "Column 'name' is not UTF-8.",
        "Column 'count' holds numbers. Received: '1.5'.",
    ]
    assert json.loads(errors[0]["content"]) == {"count": "1", "name": "b", "number": "many"}
    assert errors[1]["content"] == "1,c"


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_rows_at_which_the_model_fails_are_found_among_the_others(tmp_path, job, lookup_model, batch_size):
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"index": [0, 7, 2, 1, -1, 1, 2, 9]}), source)

    result = bulk.predict(job(source, saved_model=lookup_model, batch_size=batch_size))

    rows = pq.read_table(result.path).to_pylist()
    assert [(row["row"], row["value"]) for row in rows] == [(1, 10), (3, 30), (4, 20), (6, 20), (7, 30)]
    errors = errors_of(result)
    assert [(error["row"], json.loads(error["content"])) for error in errors] == [
        (2, {"index": 7}),
        (5, {"index": -1}),
        (8, {"index": 9}),
    ]
    assert all("is not in [0, 3)" in error["reason"] for error in errors)


def test_model_that_no_row_can_help_ends_the_job(tmp_path, job):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "number")])
    def serve(number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"value": number + tf.strings.to_number(tf.io.read_file("/nowhere"))}

    source = write_table(tmp_path / "rows.parquet")

    with pytest.raises(KubetfxError, match=r"The model cannot be asked: NOT_FOUND: .*/nowhere"):
        bulk.predict(job(source, saved_model=save(tmp_path / "1", serve)))
    assert not list(tmp_path.glob("out/.predictions.parquet.*/*.arrow"))


def write_image(path: Path, brightness: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((4, 5, 3), brightness, np.uint8)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(pixels).numpy())


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Four good ones, and three that are none."""
    root = tmp_path / "pictures"
    for name, brightness in {"b/3.png": 30, "a/1.png": 10, "a/2.jpg": 20, "c/é 4.png": 40}.items():
        write_image(root / name, brightness)
    (root / "a" / "cut.png").write_bytes((root / "a" / "1.png").read_bytes()[:40])
    (root / "a" / "empty.png").touch()
    (root / "c" / "text.png").write_text("no picture")
    return root


@pytest.mark.parametrize("batch_size", [None, 2])
def test_folder_of_images_is_predicted_and_broken_ones_are_listed(job, pictures, images_model, batch_size):
    result = bulk.predict(job(pictures, saved_model=images_model, batch_size=batch_size))

    rows = pq.read_table(result.path).to_pylist()
    assert [(row["row"], row["path"]) for row in rows] == [
        (1, "a/1.png"),
        (2, "a/2.jpg"),
        (5, "b/3.png"),
        (7, "c/é 4.png"),
    ]
    assert [row["brightness"] for row in rows] == pytest.approx([10, 20, 30, 40], abs=1)
    errors = errors_of(result)
    assert [(error["row"], json.loads(error["content"])["path"]) for error in errors] == [
        (3, "a/cut.png"),
        (4, "a/empty.png"),
        (6, "c/text.png"),
    ]
    assert errors[1]["reason"] == "The file is empty."
    assert errors[2]["reason"] == "The model failed: image_bytes is no picture."


def test_list_of_images_is_predicted_relative_to_its_folder(job, pictures, images_model):
    source = pictures / "list.csv"
    source.write_text("label,path\nx,b/3.png\ny,nowhere.png\nz,\nx,a/1.png\n")

    result = bulk.predict(job(source, saved_model=images_model, columns=("label",)))

    rows = pq.read_table(result.path).to_pylist()
    assert [(row["row"], row["path"], row["label"], row["brightness"]) for row in rows] == [
        (1, "b/3.png", "x", 30),
        (4, "a/1.png", "x", 10),
    ]
    assert [error["reason"] for error in errors_of(result)] == [
        "The file cannot be read: No such file or directory.",
        "There is no path in column 'path'.",
    ]


def test_picture_of_a_list_that_was_mended_makes_another_input(job, pictures, images_model):
    source = pictures / "list.csv"
    source.write_text("path\na/1.png\na/cut.png\n")
    first = job(source, saved_model=images_model)
    assert bulk.predict(first).num_errors == 1
    assert bulk.predict(first).num_rows_before == 2

    write_image(pictures / "a" / "cut.png", 50)

    with pytest.raises(UsageError, match=r"There is an output already, of another input.*force=True"):
        bulk.predict(first)
    assert bulk.predict(dataclasses.replace(first, force=True)).num_errors == 0


def test_images_within_a_table_are_predicted(tmp_path, job, pictures, images_model):
    source = tmp_path / "images.parquet"
    contents = [(pictures / name).read_bytes() for name in ("a/2.jpg", "a/cut.png", "b/3.png")]
    keys = pa.array(["x", "y", "z"]).dictionary_encode()
    pq.write_table(pa.table({"image_bytes": contents, "key": keys}), source)

    result = bulk.predict(job(source, saved_model=images_model, columns=("key",)))

    assert [(row["row"], row["key"]) for row in pq.read_table(result.path).to_pylist()] == [(1, "x"), (3, "z")]
    assert json.loads(errors_of(result)[0]["content"]) == {"image_bytes": "40 bytes", "key": "y"}


def test_list_without_paths_is_an_error(tmp_path, job, images_model):
    source = tmp_path / "list.csv"
    source.write_text("file\na.png\n")

    with pytest.raises(DataError, match=r"lacks columns of the model: path. Received: file"):
        bulk.predict(job(source, saved_model=images_model))
    source.write_text("image_bytes\na.png\n")
    with pytest.raises(DataError, match=r"must hold the bytes of images. Received: string. .* a column 'path'"):
        bulk.predict(job(source, saved_model=images_model))


def test_broken_off_job_goes_on_where_it_was(tmp_path, job, small_blocks, monkeypatch):
    source = write_table(tmp_path / "rows.parquet")
    whole = bulk.predict(job(source, output=tmp_path / "whole.parquet"))
    write_block, written = bulk_output.write_block, []

    def write_three(folder: Path, block: Any, **values: Any) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(block.number)
        write_block(folder, block, **values)

    monkeypatch.setattr(bulk_output, "write_block", write_three)
    with pytest.raises(KubetfxError, match=r"could not be written: .*No space left .* Free the disk"):
        bulk.predict(job(source, beam_options=ONE_THREAD))
    assert not job(source).output.exists()
    kept = list(written)
    monkeypatch.setattr(bulk_output, "write_block", lambda *a, **k: (written.append(a[1].number), write_block(*a, **k)))

    result = bulk.predict(job(source))

    assert result.num_rows_before == 30
    assert sorted(written) == list(range(10))
    assert len(kept) == 3
    assert result.path.read_bytes() == whole.path.read_bytes()
    assert [path.name for path in result.path.parent.iterdir()] == ["predictions.parquet"]


def test_blocks_of_another_model_or_input_are_not_taken(tmp_path, job, small_blocks, monkeypatch):
    source = write_table(tmp_path / "rows.parquet")
    with monkeypatch.context() as patched:
        patched.setattr(bulk_output.BulkOutput, "publish", lambda *_: (_ for _ in ()).throw(KubetfxError("killed")))
        with pytest.raises(KubetfxError, match="killed"):
            bulk.predict(job(source))

    assert bulk.predict(dataclasses.replace(job(source), model_digest="other")).num_rows_before == 0
    assert [path.name for path in job(source).output.parent.iterdir()] == ["predictions.parquet"]


def test_output_of_the_same_input_and_model_is_left_as_it_is(tmp_path, job):
    source = write_table(tmp_path / "rows.parquet")
    first = bulk.predict(job(source))
    changed_at = first.path.stat().st_mtime_ns

    second = bulk.predict(job(source, batch_size=7))

    assert (second.num_rows, second.num_errors, second.seconds) == (95, 0, 0.0)
    assert first.path.stat().st_mtime_ns == changed_at


def test_output_of_something_else_is_replaced_only_by_force(tmp_path, job):
    source, other = write_table(tmp_path / "rows.parquet"), write_table(tmp_path / "other.parquet", 11)
    bulk.predict(job(source))

    for changed in (job(source, model_version=2), job(source, columns=("day",)), job(other)):
        with pytest.raises(UsageError, match=r"output already, .*rows.parquet, model version 1.*`force=True`"):
            bulk.predict(changed)
    result = bulk.predict(job(other, force=True))

    assert pq.read_metadata(result.path).num_rows == 11


def test_file_of_somebody_else_is_no_output_of_ours(tmp_path, job):
    source = write_table(tmp_path / "rows.parquet")
    job(source).output.parent.mkdir()
    shutil.copy(source, job(source).output)

    with pytest.raises(UsageError, match=r"of: not known"):
        bulk.predict(job(source))


def test_errors_of_an_output_that_is_replaced_go_with_it(tmp_path, job):
    source = tmp_path / "rows.csv"
    source.write_text("number,name,count\n1,a,1\nx,b,1\n")
    assert bulk.predict(job(source)).errors_path
    source.write_text("number,name,count\n1,a,1\n")

    result = bulk.predict(job(source, force=True))

    assert [path.name for path in result.path.parent.iterdir()] == ["predictions.parquet"]


def test_row_that_got_lost_is_an_error_and_nothing_is_published(tmp_path, job, small_blocks, monkeypatch):
    source = write_table(tmp_path / "rows.parquet")
    write_block = bulk_output.write_block

    def lose_a_row(folder: Path, block: Any, *, index: np.ndarray, columns: Any, bad: Any) -> None:
        if block.number == 2:
            index, columns = index[1:], {name: column[1:] for name, column in columns.items()}
        write_block(folder, block, index=index, columns=columns, bad=bad)

    monkeypatch.setattr(bulk_output, "write_block", lose_a_row)

    with pytest.raises(KubetfxError, match=r"Received: 9 predictions and 0 errors in block 2 for 10 rows"):
        bulk.predict(job(source))
    assert not job(source).output.exists()


def test_input_without_a_good_row_is_an_error_with_the_reasons_in_a_file(tmp_path, job):
    source = tmp_path / "rows.csv"
    source.write_text("number,name,count\nx,a,1\ny,b,1\n")

    with pytest.raises(DataError, match=r"No row could be predicted.*2 rows; the first: Column 'number' holds numbers"):
        bulk.predict(job(source))
    assert pq.read_table(job(source).output.with_name("predictions.errors.parquet"))["row"].to_pylist() == [1, 2]
    assert not job(source).output.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"number,nam\n1,a\n", r"lacks columns of the model: count, name. Received: number, nam"),
        ("rows.csv", b"number,name,count\n", "There are no rows"),
        ("rows.parquet", b"PAR1", "is not a Parquet file"),
        ("rows.xlsx", b"", "is a workbook"),
    ],
)
def test_input_that_cannot_be_predicted_is_refused(tmp_path, job, name, content, message):
    source = tmp_path / name
    source.write_bytes(content)

    with pytest.raises(DataError, match=message):
        bulk.predict(job(source))


def test_a_row_without_names_is_one_where_that_is_said(tmp_path):
    model = ModelColumns({"column_1": np.dtype(np.float32)}, {"column_1": False})
    (tmp_path / "rows.csv").write_text("2.5\n")

    with pytest.raises(DataError, match=r"Received: 2\.5\. .* needs data\.csv: \{header: false\}\."):
        row_source.open_rows(tmp_path / "rows.csv", model)
    (block,) = row_source.open_rows(tmp_path / "rows.csv", model, csv=CsvOptions(header=False)).blocks
    assert block.table.to_pylist() == [{"column_1": 2.5}]


def test_column_of_a_type_that_is_never_right_is_refused(tmp_path, job):
    source = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"number": [[1.0]], "name": ["a"], "count": [1]}), source)

    with pytest.raises(DataError, match=r"column 'number' must hold numbers \(float32\). Received: list"):
        bulk.predict(job(source))


def test_damaged_page_of_a_parquet_file_ends_the_job(tmp_path, job):
    source = write_table(tmp_path / "rows.parquet", compression="none", use_dictionary=False)
    content = bytearray(source.read_bytes())
    content[4:60] = bytes(56)
    source.write_bytes(content)

    with pytest.raises(DataError, match=r"rows.parquet cannot be read: .*\. Is it whole"):
        bulk.predict(job(source))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": "s3://bucket/rows.csv"}, DataError, "Received: s3://bucket/rows.csv. Mount the bucket"),
        ({"input": "nowhere.csv"}, DataError, "There is no such input. Received: nowhere.csv"),
        ({"output": Path("gs://bucket/predictions.parquet")}, DataError, "`output` is a path of this machine"),
        ({"output": Path("predictions.csv")}, UsageError, "Try predictions.parquet"),
        ({"output": Path("/dev/null/predictions.parquet")}, UsageError, "The output cannot be written"),
        ({"columns": ("nothing",)}, DataError, "lacks columns that `columns` names: nothing"),
        ({"columns": ("count",)}, UsageError, "the output has a column of that name. Received: count"),
        ({"saved_model": Path("/nowhere")}, UsageError, "Version 1 cannot be read: Could not find SavedModel"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_job_that_cannot_be_done_is_refused(tmp_path, job, changes, error, message):
    source = write_table(tmp_path / "rows.parquet")

    with pytest.raises(error, match=message):
        bulk.predict(job(source, **changes))
    assert not list(tmp_path.glob("out/.*"))


def test_folder_as_output_is_refused(tmp_path, job):
    with pytest.raises(UsageError, match=r"Add a name: predictions.parquet"):
        bulk.predict(job(write_table(tmp_path / "rows.parquet"), output=tmp_path))


def test_output_among_the_input_is_refused(tmp_path, job):
    write_table(tmp_path / "rows.parquet")

    with pytest.raises(UsageError, match="is in the folder of the input"):
        bulk.predict(job(tmp_path, output=tmp_path / "predictions.parquet"))


def test_model_that_takes_no_columns_is_refused(tmp_path, job):
    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.float32, "pixels")])
    def serve(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(pixels, axis=[1, 2])}

    source = write_table(tmp_path / "rows.parquet")

    with pytest.raises(UsageError, match=r"other than columns. Received: the input 'pixels' of shape \[-1, 28, 28\]"):
        bulk.predict(job(source, saved_model=save(tmp_path / "1", serve)))
    with pytest.raises(UsageError, match=r"no signature 'serving_default'. Received: .*other"):
        bulk.predict(job(source, saved_model=save(tmp_path / "2", serve, "other")))


def test_output_that_is_not_by_row_is_an_error(tmp_path, job):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "number")])
    def serve(number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(number)}

    with pytest.raises(KubetfxError, match="'total' does not have one value per row"):
        bulk.predict(job(write_table(tmp_path / "rows.parquet"), saved_model=save(tmp_path / "1", serve)))


def test_two_jobs_for_one_output_are_kept_apart(tmp_path, job, monkeypatch):
    source = write_table(tmp_path / "rows.parquet")
    is_running, may_go_on = threading.Event(), threading.Event()
    run_beam = bulk_workers.run

    def wait(*arguments: Any) -> None:
        is_running.set()
        may_go_on.wait(30)
        run_beam(*arguments)

    monkeypatch.setattr(bulk_workers, "run", wait)
    first = threading.Thread(target=bulk.predict, args=(job(source),))
    first.start()
    is_running.wait(30)
    try:
        with pytest.raises(UsageError, match="Another process is writing this output"):
            bulk.predict(job(source))
    finally:
        may_go_on.set()
        first.join()
    assert pq.read_metadata(job(source).output).num_rows == 95


def test_progress_counts_finished_rows(tmp_path, job, small_blocks, monkeypatch):
    monkeypatch.setattr(bulk, "WATCH_SECONDS", 0.001)
    reports: list[bulk.Progress] = []

    bulk.predict(job(write_table(tmp_path / "rows.parquet")), report=reports.append)

    counts = [report.num_rows for report in reports]
    assert counts == sorted(counts)
    assert {report.total_rows for report in reports} == {95}


@pytest.fixture
def project(tmp_path) -> Path:
    """A pipeline.yaml with a pushed model that takes its time."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "number")])
    def serve(number: tf.Tensor) -> dict[str, tf.Tensor]:
        matrix = tf.eye(200)
        for _ in tf.range(15):
            matrix = tf.matmul(matrix, matrix)
        return {"value": number * 2 + tf.reduce_sum(matrix) * 0}

    save(tmp_path / ".kubetfx" / "slow" / "pushed" / "slow" / "7", serve)
    (tmp_path / "pipeline.yaml").write_text("name: slow\ndata: {path: data, label: y}\n")
    return tmp_path


@pytest.mark.long
def test_command_that_is_broken_off_twice_writes_what_an_undisturbed_one_does(project, kubetfx):
    source = project / "rows.csv"
    rows = [f"{number},{number % 1000}{'x' * (number % 5_000 == 7)},{'-' * 200}" for number in range(90_000)]
    source.write_text("row_id,number,padding\n" + "\n".join(rows))
    broken, whole = project / "broken" / "predictions.parquet", project / "whole.parquet"
    arguments = [
        "batch-predict",
        project / "pipeline.yaml",
        "--input",
        source,
        "--columns",
        "row_id",
    ]
    slowly = ["--batch-size", 32, "--set", "beam.arguments=[--direct_running_mode=in_memory]"]

    interrupted = break_off([*arguments, "--output", broken, *slowly], signal.SIGINT)
    killed = break_off([*arguments, "--output", broken, *slowly], signal.SIGKILL)
    exit_code, stdout, stderr = kubetfx(*arguments, "--output", broken)
    undisturbed = kubetfx(*arguments, "--output", whole, "--format", "json")

    assert interrupted[0] == 130, interrupted
    assert interrupted[1].endswith(
        "Error: Interrupted. What was finished is kept; the same command goes on from there.\n"
    )
    assert killed[0] == -signal.SIGKILL
    assert exit_code == 0, stderr
    assert Path(stdout.strip()).resolve() == broken
    assert "rows were finished by an earlier run." in stderr
    assert "90,000 rows: 89,982 predictions, 18 errors" in stderr
    assert broken.read_bytes() == whole.read_bytes()
    assert broken.with_suffix(".errors.parquet").read_bytes() == whole.with_suffix(".errors.parquet").read_bytes()
    document = json.loads(undisturbed[1])
    assert (document["rows"], document["predictions"], document["errors"]) == (90_000, 89_982, 18)
    assert undisturbed[2] == ""


def break_off(arguments: list[Any], number: signal.Signals) -> tuple[int, str]:
    """Start a command, and send it a signal once it has finished another block: its exit code and stderr."""
    output = Path(arguments[arguments.index("--output") + 1])

    def finished() -> int:
        return len(list(output.parent.glob(".predictions.parquet.*/*.arrow")))

    before, deadline = finished(), time.monotonic() + 90
    command = [sys.executable, "-m", "kubetfx", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while finished() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        _, stderr = process.communicate()
    assert finished() > before, stderr
    assert not output.exists()
    return process.returncode, stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model-version", "8"], "There is no such version. Received: 8. There are: 7."),
        (["--set", "serving.push_directory=nowhere"], "No model was pushed yet."),
        (["--columns", "nothing"], "lacks columns that --columns names: nothing"),
    ],
)
def test_command_says_what_is_wrong(project, kubetfx, arguments, message):
    (project / "rows.csv").write_text("number\n1\n")
    config, source, output = project / "pipeline.yaml", project / "rows.csv", project / "out.parquet"

    exit_code, stdout, stderr = kubetfx("batch-predict", config, "--input", source, "--output", output, *arguments)

    assert (exit_code, stdout) == (2, "")
    assert message in stderr


MEMORY_SCRIPT = """
import resource, sys
from pathlib import Path
from kubetfx.serving import bulk, row_source
from kubetfx.tables.table_file import Cut
row_source.TABLE_CUT = Cut(block_rows=2_048)
model, *tables = sys.argv[1:]
for table in tables:
    output = Path(table + ".out.parquet")
    bulk.predict(bulk.BulkJob(Path(model), "kinds", 1, "", table, output))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, kinds):
    """120 MB of text in ten times as many rows: the whole table would show."""
    names = [f"{number:01000d}" for number in range(120_000)]
    table = pa.table({"name": names, "number": np.zeros(120_000), "count": np.zeros(120_000, np.int64)})
    for name, num_rows in {"small": 12_000, "large": 120_000}.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table.slice(0, num_rows), path, row_group_size=12_000, use_dictionary=False)

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEMORY_SCRIPT,
            str(kinds),
            str(tmp_path / "small.parquet"),
            str(tmp_path / "large.parquet"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    small, large = (int(line) / 1024 for line in done.stdout.split())
    assert large - small < 80, f"{small:.0f} MiB for 12,000 rows, {large:.0f} MiB for 120,000"

"""Reading logs of PredictionLog, those of other writers among them, without TensorFlow."""

import gzip
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2

from kubetfx.serving import log_layouts
from kubetfx.serving.log_files import look_at
from kubetfx.serving.log_layouts import layout_of
from kubetfx.serving.log_records import Logged, predict_record
from kubetfx.serving.logged_rows import Block, LogReader, Wanted, joined
from kubetfx.serving.tensor_proto import from_array
from kubetfx.serving.tfrecords import RecordFile, Records, sound

CLASSES = ("no", "yes")
WANTED = Wanted("m", frozenset(("x", "n", "name", "tags")), classes=CLASSES)


def write(path: Path, records: Iterable[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def texts(*values: bytes) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def columns(rows: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    names = [b"x" * int(length) for length in random.integers(0, 300, rows)]
    return {
        "x": random.random(rows, dtype=np.float32),
        "n": random.integers(0, 9, rows).astype(np.float64),
        "name": texts(*names),
    }


def answers(rows: int, seed: int) -> dict[str, np.ndarray]:
    first = np.random.default_rng(seed + 1).random((rows, 1), dtype=np.float32)
    return {"probabilities": np.hstack([first, 1 - first]), "label": texts(*[b"no"] * rows)}


def ours(rows: int, seed: int, *, version: int = 3, seconds: int = 1_000, name: str = "m") -> bytes:
    served: Any = SimpleNamespace(model_name=name, version=version)
    return predict_record(Logged(served, "", 0.1, seconds), columns(rows, seed), (), answers(rows, seed))


def theirs(rows: int, seed: int, *, version: int = 3, seconds: int = 1_000) -> bytes:
    """As TensorFlow Serving writes it: values in their own fields, in any order."""
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value = "m", version
    log.log_metadata.timestamp_secs = seconds
    shuffled = np.random.default_rng(seed).permutation(list(columns(rows, seed))).tolist()
    for name in shuffled:
        from_array(columns(rows, seed)[name], log.predict_log.request.inputs[name])
    for name, array in answers(rows, seed).items():
        from_array(array, log.predict_log.response.outputs[name])
    return bytes(log.SerializeToString())


def read(*paths: Path, wanted: Wanted = WANTED) -> tuple[list[Block], LogReader]:
    reader = LogReader(wanted)
    blocks = []
    for path in paths:
        for chunk in RecordFile(path).chunks(max_records=1_000, max_bytes=2**24):
            blocks += reader.read(sound(chunk)[0])
    return blocks, reader


def together(blocks: list[Block], name: str) -> list[Any]:
    return sorted(cell for block in blocks for cell in block.inputs[name].tolist())


@pytest.mark.parametrize("make", [ours, theirs])
@pytest.mark.parametrize("sizes", [[1] * 40, [3] * 20, [1, 2, 5, 1, 7]])
def test_rows_are_those_that_were_sent(tmp_path: Path, make: Any, sizes: list[int]) -> None:
    path = write(tmp_path / "log", [make(rows, seed, seconds=seed) for seed, rows in enumerate(sizes)])
    blocks, reader = read(path)
    sent = [columns(rows, seed) for seed, rows in enumerate(sizes)]
    for name in ("x", "n", "name"):
        assert together(blocks, name) == sorted(cell for one in sent for cell in one[name].tolist())
    assert sorted(t for block in blocks for t in block.times.tolist()) == [
        seed for seed, rows in enumerate(sizes) for _ in range(rows)
    ]
    for block in blocks:
        assert block.version == 3
        assert block.outputs["probabilities"].shape == (len(block), 2)
        np.testing.assert_allclose(block.outputs["probabilities"].sum(axis=1), 1, rtol=1e-6)
    assert reader.skipped.broken == 0


def test_records_laid_out_alike_are_read_as_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "log", [ours(2, seed) for seed in range(200)])
    fast, reader = read(path)
    assert len(fast) < 40
    monkeypatch.setattr("kubetfx.serving.logged_rows.MAX_LAYOUTS", 0)
    (slow,), _ = read(path)
    assert reader.skipped.broken == 0
    found = {
        x: (name, p)
        for block in fast
        for x, name, p in zip(
            block.inputs["x"], block.inputs["name"], block.outputs["probabilities"].tolist(), strict=True
        )
    }
    assert len(found) == 400
    for x, name, p in zip(slow.inputs["x"], slow.inputs["name"], slow.outputs["probabilities"].tolist(), strict=True):
        assert found[x] == (name, p)


def test_layout_takes_no_record_of_another_version_model_or_column(tmp_path: Path) -> None:
    first = ours(1, 0)
    layout = layout_of(first, WANTED)
    others = [ours(1, 1, version=4), ours(1, 2, name="k"), ours(2, 3), theirs(1, 4), first[:-1]]
    data = b"".join(others)
    ends = np.cumsum([len(other) for other in others])
    records = Records(data, np.append(0, ends[:-1]), ends, 0, len(data))
    left, blocks = layout.take(records, np.frombuffer(data, np.uint8), np.arange(len(others)))
    assert left.tolist() == [0, 1, 2, 3, 4]
    assert list(blocks) == []


def test_examples_lists_and_other_tasks_are_read(tmp_path: Path) -> None:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(0.5)
    example.features.feature["n"].int64_list.value.append(-7)
    example.features.feature["name"].bytes_list.value.append(b"a")
    example.features.feature["tags"].bytes_list.value.extend([b"p", b"q"])
    bare = tf.train.Example()
    classify = prediction_log_pb2.PredictionLog()
    classify.log_metadata.model_spec.name, classify.log_metadata.timestamp_secs = "m", 5
    classify.log_metadata.model_spec.version.value = 2
    classify.classify_log.request.input.example_list.examples.extend([example, bare])
    for scores in ((0.25, 0.75), (1.0, 0.0)):
        classes = [classification_pb2.Class(label=n, score=s) for n, s in zip(CLASSES, scores, strict=True)]
        classify.classify_log.response.result.classifications.add(classes=classes)
    predict = prediction_log_pb2.PredictionLog()
    predict.log_metadata.CopyFrom(classify.log_metadata)
    from_array(texts(example.SerializeToString()), predict.predict_log.request.inputs["examples"])
    several = prediction_log_pb2.PredictionLog()
    several.multi_inference_log.request.input.example_list_with_context.context.CopyFrom(example)
    several.multi_inference_log.request.input.example_list_with_context.examples.add()
    result = several.multi_inference_log.response.results.add()
    result.model_spec.name, result.model_spec.version.value = "m", 2
    result.classification_result.CopyFrom(classify.classify_log.response.result)
    del result.classification_result.classifications[1]
    logs = [log.SerializeToString() for log in (classify, predict, several)]
    blocks, reader = read(write(tmp_path / "log", logs))
    assert reader.skipped.broken == 0
    assert sum(map(len, blocks)) == 4
    cells = [
        (x, n, name, tags)
        for block in blocks
        for x, n, name, tags in zip(*(block.inputs[key].tolist() for key in ("x", "n", "name", "tags")), strict=True)
    ]
    assert cells.count((0.5, -7.0, b"a", (b"p", b"q"))) == 3
    assert [name for *_, name, tags in cells if tags is None] == [None]
    found = [p for block in blocks if "probabilities" in block.outputs for p in block.outputs["probabilities"].tolist()]
    assert sorted(found) == [[0.25, 0.75], [0.25, 0.75], [1.0, 0.0]]


def test_regression_zero_and_compressed_tensors(tmp_path: Path) -> None:
    wanted = Wanted("m", frozenset(("x", "n")))
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value = "m", 1
    request, response = log.predict_log.request, log.predict_log.response
    request.inputs["x"].dtype = 1  # the last value stands for those that are left out
    request.inputs["x"].tensor_shape.dim.add(size=3)
    request.inputs["x"].float_val.append(2.5)
    from_array(np.array([[1], [2], [-3]]), request.inputs["n"])
    from_array(np.array([0, 1, 2], np.float32), response.outputs["value"])
    blocks, _ = read(write(tmp_path / "log", [log.SerializeToString()]), wanted=wanted)
    (block,) = joined(iter(blocks))
    assert block.inputs["x"].tolist() == [2.5, 2.5, 2.5]
    assert block.inputs["n"].tolist() == [1, 2, -3]
    assert block.outputs["value"].tolist() == [0, 1, 2]


# Files


@pytest.mark.parametrize("cut", [1, 4, 11, 13, 200])
def test_torn_file_is_read_up_to_the_tear(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "log", [ours(1, seed) for seed in range(20)])
    whole = path.read_bytes()
    last = len(ours(1, 19)) + 16
    path.write_bytes(whole[: len(whole) - last + min(cut, last - 1)])
    blocks, _ = read(path)
    assert sum(map(len, blocks)) == 19
    log = look_at([path], "m")
    assert log.torn == [("log", len(whole) - last, path.stat().st_size)]
    assert log.records == 19


def test_damaged_record_is_left_out_and_the_rest_read(tmp_path: Path) -> None:
    path = write(tmp_path / "log", [ours(1, seed) for seed in range(20)])
    content = bytearray(path.read_bytes())
    content[len(ours(1, 0)) + 16 + 40] ^= 1
    path.write_bytes(content)
    (chunk,) = RecordFile(path).chunks(max_records=100, max_bytes=2**20)
    records, damaged = sound(chunk)
    assert (len(records.starts), damaged) == (19, 1)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "notes.txt").write_text("nothing of a log " * 50)
    (tmp_path / "short").write_bytes(b"12345")
    with gzip.open(tmp_path / "packed.gz", "wb") as file:
        file.write(write(tmp_path / "log", [ours(1, 1)]).read_bytes())
    write(tmp_path / "examples", [tf.train.Example().SerializeToString(), b"\xff\xff"])
    log = look_at(sorted(tmp_path.iterdir()), "m")
    assert (log.no_logs, log.packed) == (["notes.txt", "short"], ["packed.gz"])
    assert log.versions == [3]
    _, reader = read(tmp_path / "examples")
    assert reader.skipped.broken == 2


def test_requests_to_other_models_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "log", [ours(1, seed, name="k" if seed % 2 else "m") for seed in range(40)])
    blocks, reader = read(path)
    assert sum(map(len, blocks)) == 20
    assert reader.skipped.of_other_models == {"k": 20}


def test_the_version_of_the_newest_requests_is_chosen(tmp_path: Path) -> None:
    day = 86_400
    old = [ours(1, seed, version=9, seconds=20 * day + seed) for seed in range(50)]
    path = write(tmp_path / "log", [*old, *(ours(1, seed, version=8, seconds=23 * day + seed) for seed in range(5))])
    log = look_at([path], "m")
    assert log.version(within_seconds=day) == 8
    assert log.version(within_seconds=10 * day) in (8, 9)
    assert log.newest == 23 * day + 4


def test_reading_imports_no_tensorflow() -> None:
    code = "import sys, kubetfx.pipeline.monitoring as m; print('tensorflow' in sys.modules, m.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


def test_numbers_of_any_length_are_left_to_the_other_reader() -> None:
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value = "m", 1
    from_array(np.array([1, 2]), log.predict_log.request.inputs["n"])
    with pytest.raises(log_layouts.LayoutError):
        layout_of(log.SerializeToString(), WANTED)

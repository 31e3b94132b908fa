"""Transform of a table in spans: the rows of a span are analyzed once, and the graph is that of a fresh workspace."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from kubetfx.artifacts import SPANS
from kubetfx.components.data.analysis import Phase
from kubetfx.components.transform import Executor
from kubetfx.workspace import METADATA

SCHEMA = """
feature { name: "height" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 1 } } }
feature { name: "island" type: BYTES presence { min_fraction: 1 } shape { dim { size: 1 } } }
"""
MODULE = """
import tensorflow_transform as tft

def preprocess(inputs):
    above = inputs["height"] - tft.min(inputs["height"])
    return {
        "island": tft.compute_and_apply_vocabulary(inputs["island"]),
        "bucket": tft.bucketize(inputs["height"], 4),
        "share": above / tft.max(above),  # known after a second pass
    }
"""


class Workspace:
    """Analyzes days of rows, as Transform does in a pipeline."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        folder.mkdir()
        (folder / METADATA).touch()

    def analyze(self, days: list[int], *, custom_config: dict[str, object] | None = None) -> tft.TFTransformOutput:
        self._number += 1
        examples, schema, graph = (
            self._artifact(kind)
            for kind in (standard_artifacts.Examples, standard_artifacts.Schema, standard_artifacts.TransformGraph)
        )
        examples.split_names = '["train"]'
        shards = {}
        for number, day in enumerate(days):
            name = f"part-{number}.parquet"
            shards[name] = [f"day {day}", f"examples of day {day}"]
            path = Path(examples.uri, "Split-train", name)
            path.parent.mkdir(exist_ok=True)
            pq.write_table(rows(day), path)
        Path(examples.uri, SPANS).write_text(json.dumps({"spans": [], "shards": shards}))
        Path(schema.uri, "schema.pbtxt").write_text(text_format.MessageToString(parsed(SCHEMA)))
        properties = {
            "preprocessing_fn": "preprocessing_of_spans.preprocess",
            "custom_config": json.dumps(custom_config or {}),
            "disable_statistics": 1,
        }
        executor = Executor(Executor.Context(beam_pipeline_args=[], tmp_dir=str(self._folder / "tmp")))
        executor.Do({"examples": [examples], "schema": [schema]}, {"transform_graph": [graph]}, properties)
        return tft.TFTransformOutput(graph.uri)

    def _artifact(self, kind):
        artifact = kind()
        path = self._folder / "artifacts" / kind.TYPE_NAME / "x" / str(self._number)
        path.mkdir(parents=True)
        artifact.uri = str(path)
        return artifact


def parsed(text: str) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


def rows(day: int) -> pa.Table:
    random = np.random.default_rng(day)
    islands = np.array(["Dream", "Biscoe", f"island of day {day}"])
    return pa.table(
        {
            "height": random.normal(day, 2, 300).astype(np.float32),
            "island": islands[random.integers(0, 3, 300)].astype(object),
        }
    )


def answers(output: tft.TFTransformOutput) -> dict[str, np.ndarray]:
    table = rows(4)
    raw = {
        "height": tf.constant(table["height"].to_numpy()[:, None]),
        "island": tf.constant(table["island"].to_numpy()[:, None]),
    }
    return {name: tensor.numpy() for name, tensor in output.transform_features_layer()(raw).items()}


@pytest.fixture
def passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each row group that was read, whether it was for the first phase."""
    (tmp_path / "preprocessing_of_spans.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    done: list[bool] = []
    blocks = Phase.blocks

    def noted(self, item):
        done.append(self.is_first)
        yield from blocks(self, item)

    monkeypatch.setattr(Phase, "blocks", noted)
    return done


def test_rows_of_a_span_are_analyzed_once_and_the_graph_is_that_of_a_fresh_workspace(passes, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    workspace.analyze([1, 2, 3])
    assert (passes.count(True), passes.count(False)) == (3, 3)
    passes.clear()

    second = workspace.analyze([2, 3, 4])

    assert (passes.count(True), passes.count(False)) == (1, 3)
    fresh = Workspace(tmp_path / "fresh").analyze([2, 3, 4])
    expected = answers(fresh)
    for name, values in answers(second).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    (vocabulary,) = Path(second.transform_savedmodel_dir, "assets").iterdir()
    assert set(vocabulary.read_text().split("\n")) == {
        "Dream", "Biscoe", "island of day 2", "island of day 3", "island of day 4", "",
    }  # fmt: skip


def test_what_transform_is_asked_for_decides_whether_a_span_is_known(passes, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    workspace.analyze([1, 2])
    passes.clear()

    workspace.analyze([1, 2], custom_config={"module_digest": "of another module"})

    assert passes.count(True) == 2

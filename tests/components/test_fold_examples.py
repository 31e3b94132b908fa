"""FoldExamples: the rows of a fold are written in the splits that they have in it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.data.folds import FoldRule
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.table_profile import read as read_profile
from kubetfx.components.data.table_profile import write as write_profile
from kubetfx.components.fold_examples import Executor
from kubetfx.config.cross_validation_section import CrossValidationConfig
from kubetfx.errors import DataError
from kubetfx.models.columns.column_profile import ColumnProfile, Texts
from kubetfx.models.examples import files_in, read_blocks
from kubetfx.models.features import TEXT, set_role

SPLITS = {"train": 70, "validation": 10, "eval": 20}
WORDS = np.random.default_rng(0).choice([f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(260)], (50, 9))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, list[Any]]:
    """100 rows with a number, a customer and a label, in three splits."""
    examples, schema = standard_artifacts.Examples(), standard_artifacts.Schema()
    examples.uri, schema.uri = str(tmp_path / "examples"), str(tmp_path / "schema")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    start = 0
    for split, rows in SPLITS.items():
        folder = Path(artifact_utils.get_split_uri([examples], split))
        folder.mkdir(parents=True)
        numbers = list(range(start, start + rows))
        labels = ["a" if number % 3 else "b" for number in numbers]
        columns = {"number": numbers, "customer": [number % 10 for number in numbers], "label": labels}
        pq.write_table(pa.table(columns), folder / "data-0.parquet", row_group_size=16, compression="zstd")
        start += rows
    columns = (ColumnProfile("number", "int64"), ColumnProfile("customer", "int64"), ColumnProfile("label", "string"))
    write_profile(Path(examples.uri), TableProfile(columns, 100), label="label")
    document = schema_pb2.Schema()
    for column, role in zip(columns, ("numeric", "excluded", "label"), strict=True):
        kind = schema_pb2.BYTES if column.type == "string" else schema_pb2.INT
        set_role(document.feature.add(name=column.name, type=kind), role, "")
    Path(schema.uri).mkdir()
    (Path(schema.uri) / "schema.pbtxt").write_text(text_format.MessageToString(document))
    return {"examples": [examples], "schema": [schema]}


def run(inputs: dict[str, list[Any]], folder: Path, fold: int, **folds: Any) -> standard_artifacts.Examples:
    written = standard_artifacts.Examples()
    written.uri = str(folder)
    rule = FoldRule(folds=CrossValidationConfig(**folds), validation=0.125, seed=3)
    properties = {"rule": rule.model_dump_json(), "fold": fold}
    Executor().Do(inputs, {"fold_examples": [written]}, properties)
    return written


def rows_of(examples: standard_artifacts.Examples, split: str) -> list[dict[str, Any]]:
    files = files_in(artifact_utils.get_split_uri([examples], split))
    return [row for block in read_blocks(files) for row in block.to_pylist()]


def test_every_row_is_in_one_split_of_a_fold_as_it_was(inputs, tmp_path):
    found = run(inputs, tmp_path / "fold", 1, folds=5)

    by_split = {split: rows_of(found, split) for split in SPLITS}
    assert sorted(row["number"] for rows in by_split.values() for row in rows) == list(range(100))
    assert {split: len(rows) for split, rows in by_split.items()} == {"train": 70, "validation": 10, "eval": 20}
    for row in by_split["eval"]:
        assert (row["customer"], row["label"]) == (row["number"] % 10, "a" if row["number"] % 3 else "b")


def test_fold_says_which_it_is_and_how_many_rows_it_has(inputs, tmp_path):
    found = run(inputs, tmp_path / "fold", 7, folds=5, repeats=2)

    about = json.loads((Path(found.uri) / "fold.json").read_text())
    assert about == {
        "fold": 2,
        "repeat": 1,
        "rows": {"train": 70, "validation": 10, "eval": 20},
        "classes_without_training_rows": [],
    }
    assert json.loads(found.get_string_custom_property("num_examples")) == about["rows"]


def test_rows_of_a_customer_are_together_in_whatever_split_they_were(inputs, tmp_path):
    found = run(inputs, tmp_path / "fold", 0, folds=5, group="customer")

    held_out = {row["customer"] for row in rows_of(found, "eval")}
    assert len(held_out) == 2
    assert held_out.isdisjoint(row["customer"] for split in ("train", "validation") for row in rows_of(found, split))


def test_column_that_is_not_there_is_named(inputs, tmp_path):
    with pytest.raises(DataError, match=r"validation\.group: the rows have no such column\. .*'client'.*Known: number"):
        run(inputs, tmp_path / "fold", 0, group="client")


def test_rows_of_the_evaluation_split_are_in_no_fold_where_it_is_to_judge(inputs, tmp_path):
    written = standard_artifacts.Examples()
    written.uri = str(tmp_path / "fold")
    rule = FoldRule(folds=CrossValidationConfig(folds=4), validation=0.125, seed=3, without=("eval",))

    Executor().Do(inputs, {"fold_examples": [written]}, {"rule": rule.model_dump_json(), "fold": 0})

    assert sorted(row["number"] for split in SPLITS for row in rows_of(written, split)) == list(range(80))
    assert len(rows_of(written, "eval")) == 20


def test_near_copies_of_a_text_are_in_one_split_of_every_fold(inputs, tmp_path):
    (examples,) = inputs["examples"]
    for split in SPLITS:
        (file,) = Path(artifact_utils.get_split_uri([examples], split)).glob("*.parquet")
        table = pq.read_table(file)
        texts = [" ".join(WORDS[number % 50]) for number in table["number"].to_pylist()]
        pq.write_table(table.append_column("text", pa.array(texts)), file, row_group_size=16, compression="zstd")
    profile = read_profile(Path(examples.uri))
    column = ColumnProfile("text", "string", 100, num_distinct=100, texts=Texts(900, (100, *[0] * 128)))
    write_profile(Path(examples.uri), replace(profile, columns=(*profile.columns, column)), label="label")
    path = Path(inputs["schema"][0].uri) / "schema.pbtxt"
    schema = text_format.Parse(path.read_text(), schema_pb2.Schema())
    set_role(schema.feature.add(name="text", type=schema_pb2.BYTES), TEXT, "")
    path.write_text(text_format.MessageToString(schema))

    for fold in range(3):
        written = run(inputs, tmp_path / str(fold), fold, folds=3)
        numbers = [{row["number"] % 50 for row in rows_of(written, split)} for split in SPLITS]
        assert sum(map(len, numbers)) == 50
        assert read_profile(Path(written.uri)).copies_together == "text"

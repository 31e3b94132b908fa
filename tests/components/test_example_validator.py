"""Anomalies that are found some columns at a time are those that TFDV finds in all at once; and what rows say."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components import example_validator, schema_gen
from kubetfx.components.anomaly_gate import read_anomalies
from kubetfx.components.data import table_profile
from kubetfx.components.statistics_gen import ODD_CELLS
from kubetfx.components.statistics_gen import Executor as StatisticsExecutor
from kubetfx.config.data_section import FeaturesConfig, ValidationConfig
from kubetfx.models.columns.column_profile import ColumnProfile


def table(**changes):
    columns = {f"number_{index}": [1.0, 2.0, 3.0] for index in range(5)}
    columns |= {f"word_{index}": ["a", "b", "a"] for index in range(5)}
    return pd.DataFrame({name: values for name, values in {**columns, **changes}.items() if values is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"word_1": ["a", "c", "c"], "number_2": None, "number_4": ["x", "y", "z"], "another": [1, 2, 3]},
        {f"number_{index}": None for index in range(5)},
    ],
    ids=["none", "of many kinds", "a part without statistics"],
)
def test_anomalies_are_those_of_tfdv(monkeypatch, changes):
    schema = tfdv.infer_schema(tfdv.generate_statistics_from_dataframe(table()))
    schema.dataset_constraints.min_examples_count = 5
    group = schema.tensor_representation_group[""].tensor_representation
    for feature in schema.feature:
        group[feature.name].dense_tensor.column_name = feature.name
    statistics = tfdv.generate_statistics_from_dataframe(table(**changes))
    expected = tfdv.validate_statistics(statistics, schema)
    monkeypatch.setattr(example_validator, "COLUMNS_AT_ONCE", 3)
    found = example_validator.validate(statistics, schema)
    assert bool(expected.anomaly_info) == bool(changes)
    assert expected.HasField("dataset_anomaly_info")
    assert found == expected


def test_cells_that_are_no_numbers_are_an_anomaly_with_value_row_and_count():
    statistics = tfdv.generate_statistics_from_dataframe(table())
    schema = tfdv.infer_schema(statistics)
    said = "1 of 10,000 cells is not a number, the first '12o5' in row 6,001"
    (feature,) = [f for f in statistics.datasets[0].features if f.path.step[0] == "number_1"]
    feature.custom_stats.add(name=ODD_CELLS, str=said)

    found = example_validator.validate(statistics, schema).anomaly_info

    assert list(found) == ["number_1"]
    assert found["number_1"].severity == anomalies_pb2.AnomalyInfo.ERROR
    assert found["number_1"].reason[0].description.startswith(f"{said}. They are read as missing.")
    assert "data.types: {number_1: text}" in found["number_1"].reason[0].description


LOOP, THREADS = ["--direct_num_workers=1"], ["--direct_num_workers=3"]
BEAM = ["--direct_running_mode=in_memory", "--direct_num_workers=2"]


def artifact_at(kind, folder: Path):
    artifact = kind()
    artifact.uri = str(folder)
    if kind is not standard_artifacts.Schema:
        artifact.split_names = artifact_utils.encode_split_names(["train", "eval"])
    return artifact


def wages(folder: Path, *, texts: dict[str, list[str]] | None = None):
    """Examples, statistics and schema of a table with `logwage` for `wage`, of which rows are on both sides."""
    drawn = np.random.default_rng(0)
    numbers = drawn.normal(size=(400, 3))
    texts = texts or {}
    columns = {"wage": np.exp(numbers[:, 0]), "logwage": numbers[:, 0], "age": numbers[:, 1], "years": numbers[:, 2]}
    columns |= {name: np.resize(cells, 400) for name, cells in texts.items()}
    examples = artifact_at(standard_artifacts.Examples, folder / "examples")
    for split, rows in (("train", slice(0, 300)), ("eval", slice(200, 400))):
        (folder / "examples" / f"Split-{split}").mkdir(parents=True)
        part = pa.table({name: values[rows] for name, values in columns.items()})
        pq.write_table(part, folder / "examples" / f"Split-{split}" / "data.parquet", row_group_size=60)
    described = tuple(ColumnProfile(name, "string" if name in texts else "float", 500) for name in columns)
    profile = table_profile.TableProfile(described, 500, split_notes=("The split 'eval' has 40.0%.",))
    table_profile.write(folder / "examples", profile, label="wage")
    statistics = artifact_at(standard_artifacts.ExampleStatistics, folder / "statistics")
    StatisticsExecutor().Do({"examples": [examples]}, {"statistics": [statistics]}, {})
    schema = artifact_at(standard_artifacts.Schema, folder / "schema")
    (folder / "schema").mkdir()
    written = tfdv.load_stats_binary(str(folder / "statistics" / "Split-train" / "FeatureStats.pb"))
    inferred = tfdv.infer_schema(written)
    schema_gen.complete_schema(
        inferred, profile, label="wage", task="regression", config=FeaturesConfig(text=tuple(texts))
    )
    (folder / "schema" / "schema.pbtxt").write_text(str(inferred))
    return {"examples": [examples], "statistics": [statistics], "schema": [schema]}


@pytest.mark.parametrize("arguments", [LOOP, THREADS, BEAM], ids=["loop", "threads", "beam"])
def test_rows_are_looked_into_in_every_way(tmp_path, arguments):
    output = artifact_at(standard_artifacts.ExampleAnomalies, tmp_path / "anomalies")
    executor = example_validator.Executor()
    executor._beam_pipeline_args = arguments
    executor.Do(wages(tmp_path), {"anomalies": [output]}, {"leakage": "warn", "text": "warn"})

    folders = {split: tmp_path / "anomalies" / f"Split-{split}" for split in ("train", "eval")}
    found = {(one.split, one.feature, one.action, one.key): one for one in read_anomalies(folders, ValidationConfig())}
    whole = "the whole table"
    assert list(found) == [
        ("train", "logwage", "warn", "leakage"), ("train", whole, "warn", None), ("eval", whole, "warn", "leakage")
    ]  # fmt: skip
    assert found["train", "logwage", "warn", "leakage"].problem == (
        "Leakage: 'logwage' alone predicts the label: 99.97% of the variance of its ranks (300 rows). Leave out what "
        "is not yet known at prediction time, data.drop: [logwage]; or let it pass, "
        "validation.features: {logwage: ignore}."
    )
    assert found["train", whole, "warn", None].problem == "Shares of the splits: The split 'eval' has 40.0%."
    assert found["eval", whole, "warn", "leakage"].problem.startswith(
        "Leakage: 100 rows (50.0%) have all the features of a"
    )
    noise = json.loads((tmp_path / "anomalies" / "label_noise.json").read_text())
    assert noise == {"rows": 0, "total_rows": 500, "ceiling": 1.0}
    assert output.get_json_value_custom_property("blessed") == {"train": 0, "eval": 0}


def test_leakage_is_not_looked_for_where_it_is_off(tmp_path):
    output = artifact_at(standard_artifacts.ExampleAnomalies, tmp_path / "anomalies")
    example_validator.Executor().Do(wages(tmp_path), {"anomalies": [output]}, {"leakage": "off", "text": "off"})
    content = (tmp_path / "anomalies" / "Split-train" / "SchemaDiff.pb").read_bytes()
    assert list(anomalies_pb2.Anomalies.FromString(content).anomaly_info) == ["Shares of the splits: the whole table"]
    assert (tmp_path / "anomalies" / "label_noise.json").is_file()


def test_words_of_training_rows_are_kept_also_where_a_text_has_none(tmp_path):
    output = artifact_at(standard_artifacts.ExampleAnomalies, tmp_path / "anomalies")
    inputs = wages(tmp_path, texts={"review": ["a fine film", "a dull film"], "mood": ["!!!", "?? ..."]})
    example_validator.Executor().Do(inputs, {"anomalies": [output]}, {"leakage": "off", "text": "warn"})
    words = pq.read_table(tmp_path / "anomalies" / "words.parquet").to_pylist()
    assert {row["column"] for row in words} == {"review"}
    assert {row["word"] for row in words} == {"a", "fine", "dull", "film"}

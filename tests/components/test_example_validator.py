"""Anomalies that are found some columns at a time are those that TFDV finds in all at once."""

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2

from kubetfx.components import example_validator
from kubetfx.components.statistics_gen import ODD_CELLS


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

"""Anomalies that are found some columns at a time are those that TFDV finds in all at once."""

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv

from kubetfx.components import example_validator


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

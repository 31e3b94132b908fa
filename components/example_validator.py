"""ExampleValidator: TFX's, with TFDV given some of the columns at a time.

TFDV goes through the schema of all columns for each of them: with two thousand, eight seconds a split.
"""

import os
from collections.abc import Iterator
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, path_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import component as tfx_component
from tfx.components.example_validator import executor as tfx_executor
from tfx.components.example_validator import labels
from tfx.components.util import value_utils
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs
from tfx.utils import writer_utils

from kubetfx.components.statistics_gen import ODD_CELLS

COLUMNS_AT_ONCE = 200


def validate(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema
) -> anomalies_pb2.Anomalies:
    """Return TFDV's anomalies of the statistics of a split.

    Args:
        statistics: of the split.
        schema: that they are compared with.
    """
    anomalies: anomalies_pb2.Anomalies | None = None
    for some_statistics, some_schema in _parts(statistics, schema):
        found = tfdv.validate_statistics(some_statistics, some_schema)
        if anomalies is None:
            anomalies = found
            anomalies.baseline.CopyFrom(schema)
            continue
        for name, anomaly in found.anomaly_info.items():
            anomalies.anomaly_info[name].CopyFrom(anomaly)
        anomalies.drift_skew_info.extend(found.drift_skew_info)
    assert anomalies is not None
    for feature in statistics.datasets[0].features:
        for found in feature.custom_stats:
            if found.name == ODD_CELLS:
                _add_odd_cells(anomalies, feature.path, found.str)
    return anomalies


def _add_odd_cells(anomalies: anomalies_pb2.Anomalies, path: path_pb2.Path, said: str) -> None:
    (name,) = path.step
    info = anomalies.anomaly_info[name]
    info.path.CopyFrom(path)
    info.severity = anomalies_pb2.AnomalyInfo.ERROR
    info.reason.add(
        type=anomalies_pb2.AnomalyInfo.FLOAT_TYPE_STRING_NOT_FLOAT,
        short_description="Cells that mean nothing",
        description=f"{said}. They are read as missing. Name what stands for a missing cell in data.missing_values, or "
        f"say that the column is text: data.types: {{{name}: text}}.",
    )


def _parts(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema
) -> Iterator[tuple[statistics_pb2.DatasetFeatureStatisticsList, schema_pb2.Schema]]:
    """Statistics and schema of some columns each. What is said of the whole table stands in every part."""
    (dataset,) = statistics.datasets
    in_schema = {feature.name: feature for feature in schema.feature}
    in_statistics = {feature.path.step[0]: feature for feature in dataset.features}
    names = list(dict.fromkeys([*in_schema, *in_statistics]))
    empty_schema = schema_pb2.Schema()
    empty_schema.CopyFrom(schema)
    empty_schema.ClearField("feature")
    empty_schema.ClearField("tensor_representation_group")  # an entry a column, which TFDV copies for each column
    for start in range(0, max(len(names), 1), COLUMNS_AT_ONCE):
        some = names[start : start + COLUMNS_AT_ONCE]
        part = statistics_pb2.DatasetFeatureStatisticsList()
        part.datasets.add(
            name=dataset.name,
            num_examples=dataset.num_examples,
            weighted_num_examples=dataset.weighted_num_examples,
            features=[in_statistics[name] for name in some if name in in_statistics],
        )
        some_schema = schema_pb2.Schema()
        some_schema.CopyFrom(empty_schema)
        some_schema.feature.extend(in_schema[name] for name in some if name in in_schema)
        yield part, some_schema


class Executor(tfx_executor.Executor):
    """TFX's executor, with `validate` in TFDV's place."""

    def _Validate(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> anomalies_pb2.Anomalies:
        schema = value_utils.GetSoleValue(inputs, standard_component_specs.SCHEMA_KEY)
        statistics = value_utils.GetSoleValue(inputs, standard_component_specs.STATISTICS_KEY)
        folder = value_utils.GetSoleValue(outputs, labels.SCHEMA_DIFF_PATH)
        anomalies = validate(statistics, schema)
        writer_utils.write_anomalies(os.path.join(folder, tfx_executor.DEFAULT_FILE_NAME), anomalies)
        return anomalies


class ExampleValidator(tfx_component.ExampleValidator):
    """Anomalies of the statistics against the schema."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

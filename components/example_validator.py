"""ExampleValidator: TFDV's anomalies of the statistics, and checks of the rows themselves.

TFDV gets some of the columns at a time, since it goes through the schema of all columns for each of them: with two
thousand columns, that takes eight seconds per split.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, path_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor as tfx_executor
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import ANOMALIES, LABEL_NOISE, SCHEMA, STATISTICS, TEXTS, WORDS, split_folder
from kubetfx.components.anomaly_gate import DATASET, KINDS
from kubetfx.components.data import block_work, data_checks, table_profile
from kubetfx.components.data.data_checks import Finding
from kubetfx.components.data.example_parts import parts_of
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.statistics_gen import ODD_CELLS
from kubetfx.config.yaml_text import in_one_line
from kubetfx.models.features import read_features, read_schema

COLUMNS_AT_ONCE = 200


def validate(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema
) -> anomalies_pb2.Anomalies:
    """Return TFDV's anomalies of the statistics of a split.

    Args:
        statistics: The statistics of the split.
        schema: The schema to compare them with.
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
        short_description="Meaningless cells",
        description=f"{said}. They are read as missing. Name what stands for a missing cell in data.missing_values, or "
        f"say that the column is text: data.types: {in_one_line({name: 'text'})}.",
    )


def _parts(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema
) -> Iterator[tuple[statistics_pb2.DatasetFeatureStatisticsList, schema_pb2.Schema]]:
    """Yield statistics and schema of some columns each. Facts about the whole table are in every part."""
    (dataset,) = statistics.datasets
    in_schema = {feature.name: feature for feature in schema.feature}
    in_statistics = {feature.path.step[0]: feature for feature in dataset.features}
    names = list(dict.fromkeys([*in_schema, *in_statistics]))
    empty_schema = schema_pb2.Schema()
    empty_schema.CopyFrom(schema)
    empty_schema.ClearField("feature")
    empty_schema.ClearField("tensor_representation_group")  # an entry per column, which TFDV copies for each column
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


def _add_finding(anomalies: anomalies_pb2.Anomalies, finding: Finding) -> None:
    """Add a finding to TFDV's anomaly of the same column."""
    info = anomalies.anomaly_info[f"{finding.title}: {finding.column or DATASET}"]
    info.path.step[:] = [finding.column or DATASET]
    info.severity = anomalies_pb2.AnomalyInfo.WARNING
    types = (kind for kind, key in KINDS.items() if key == finding.key)
    kind = next(types, anomalies_pb2.AnomalyInfo.UNKNOWN_TYPE)
    info.reason.add(type=kind, short_description=finding.title, description=finding.description)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Validates the statistics of each split by `validate`, and checks the rows."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        self._log_startup(input_dict, output_dict, exec_properties)
        examples, statistics, schema_artifact, output = (
            artifact_utils.get_single_instance(artifacts)
            for artifacts in (
                *(input_dict[key] for key in ("examples", "statistics", "schema")),
                output_dict["anomalies"],
            )
        )
        splits = artifact_utils.decode_split_names(statistics.split_names)
        schema = read_schema(Path(schema_artifact.uri) / SCHEMA)
        folder = Path(output.uri)
        folder.mkdir(parents=True, exist_ok=True)
        checks = data_checks.check(
            parts_of(examples, splits),
            read_features(schema),
            table_profile.read(Path(examples.uri)),
            run=lambda work, parts: block_work.run(work, parts, executor=self, folder=folder),
            look_for_leaks=exec_properties["leakage"] != "off",
            look_at_texts=exec_properties["text"] != "off",
        )
        found = {}
        for split in splits:
            described = Path(artifact_utils.get_split_uri([statistics], split)) / STATISTICS
            found[split] = validate(
                statistics_pb2.DatasetFeatureStatisticsList.FromString(described.read_bytes()), schema
            )
            for finding in checks.findings:
                if finding.split == split:
                    _add_finding(found[split], finding)
            path = folder / split_folder(split) / ANOMALIES
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(found[split].SerializeToString(deterministic=True))
        if checks.noise is not None:
            (folder / LABEL_NOISE).write_text(json.dumps(asdict(checks.noise)), encoding="utf-8")
        if checks.texts:
            (folder / TEXTS).write_text(json.dumps([asdict(one) for one in checks.texts]), encoding="utf-8")
            columns = [pa.array([name] * len(own), pa.string()) for name, own in checks.words.items()]
            words = pa.table({"column": pa.chunked_array(columns), "word": pa.chunked_array(checks.words.values())})
            pq.write_table(words, folder / WORDS, compression="zstd")
        output.split_names = artifact_utils.encode_split_names(splits)
        output.span = statistics.span
        blessed = {split: int(not _has_any(anomalies)) for split, anomalies in found.items()}
        output.set_json_value_custom_property(tfx_executor.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)


def _has_any(anomalies: anomalies_pb2.Anomalies) -> bool:
    return bool(anomalies.anomaly_info) or anomalies.HasField("dataset_anomaly_info")


class ExampleValidator(Component, base_beam_component.BaseBeamComponent):
    """Finds anomalies of the statistics, leakage, unusual shares of classes, and unusual texts."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    INPUTS = {
        "examples": standard_artifacts.Examples,
        "statistics": standard_artifacts.ExampleStatistics,
        "schema": standard_artifacts.Schema,
    }
    OUTPUTS = {"anomalies": standard_artifacts.ExampleAnomalies}
    PARAMETERS = {"leakage": str, "text": str}

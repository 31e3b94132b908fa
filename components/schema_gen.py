"""SchemaGen: TFX's, or a frozen schema, plus what each column is used for (models/features.py)."""

import json
import os
import re
from typing import Any

from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.schema_gen import executor as tfx_schema_gen
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs

from components import example_gen, tables
from models import features
from pipeline.config import FeaturesConfig, Task

MIN_ROWS_OF_IDENTIFIER = 20
_IDENTIFIER_NAME = re.compile(r"(^|_)(id|uuid|guid|key|index|rownum|row_?id)$|Id$|ID$|^Unnamed: 0$", re.ASCII)


def complete_schema(
    schema: schema_pb2.Schema, profile: tables.TableProfile, *, label: str, task: Task, config: FeaturesConfig
) -> None:
    """Write into a schema how its columns are read and what they are used for. What it already says stays.

    Every column is read as one value a row; a missing cell becomes NaN, "" or features.MISSING_INTEGER. That way a column
    that never had a missing cell in training may have one in a request.
    """
    columns = {column.name: column for column in profile.columns}
    representations = schema.tensor_representation_group[""].tensor_representation
    for feature in schema.feature:
        column = columns.get(feature.name) or tables.Column(feature.name, "string")
        if feature.name == label:
            classes = [str(value) for value in column.values] if task == "classification" else []
            features.set_role(feature, "label", f"the label of a {task}", classes=classes)
        else:
            role, reason = choose_role(column, num_rows=profile.num_rows, config=config)
            features.set_role(feature, role, reason)
        if feature.name not in representations:
            dense = representations[feature.name].dense_tensor
            dense.column_name = feature.name
            dense.shape.dim.add(size=1)
            if feature.type == schema_pb2.FLOAT:
                dense.default_value.float_value = float("nan")
            elif feature.type == schema_pb2.INT:
                dense.default_value.int_value = features.MISSING_INTEGER
            else:
                dense.default_value.bytes_value = b""


def choose_role(column: tables.Column, *, num_rows: int, config: FeaturesConfig) -> tuple[features.Role, str]:
    """The role of a column that is not the label, and the reason in words.

    Args:
        column: what the scan of the table found.
        num_rows: rows of the table.
        config: the `features` section; columns that it names have the role that it says.
    """
    fits_vocabulary = column.num_distinct is not None and column.num_distinct <= config.vocabulary_size
    category: features.Role = "vocabulary" if fits_vocabulary else "hashed"
    if column.name in config.numeric:
        return "numeric", "as configured"
    if column.name in config.categorical:
        return category, "as configured"
    if reason := _reason_to_exclude(column, num_rows=num_rows):
        return "excluded", reason
    if column.type == "float":
        return "numeric", "decimal numbers"
    if column.type == "string":
        return category, _count_of_values(column)
    if column.num_distinct is not None and column.num_distinct <= config.integer_categories:
        return category, _count_of_values(column)
    return "numeric", "whole numbers"


def _reason_to_exclude(column: tables.Column, *, num_rows: int) -> str | None:
    if column.num_values == 0:
        return "it has no value"
    if column.num_values == num_rows and (column.num_distinct == 1 or _is_one_number(column)):
        return "it has the same value in every row"
    if column.type != "float" and not column.values_repeat and column.num_values >= MIN_ROWS_OF_IDENTIFIER:
        if column.type == "string" or _IDENTIFIER_NAME.search(column.name) or _is_row_number(column):
            return "it has a different value in every row: an identifier"
    return None


def _is_one_number(column: tables.Column) -> bool:
    return column.minimum is not None and column.minimum == column.maximum


def _is_row_number(column: tables.Column) -> bool:
    assert column.minimum is not None and column.maximum is not None
    return column.maximum - column.minimum + 1 == column.num_values


def _count_of_values(column: tables.Column) -> str:
    return f"{column.num_distinct:,} distinct values" if column.num_distinct is not None else "many distinct values"


class Executor(tfx_schema_gen.Executor):
    """Infers the schema from the statistics, or reads the frozen one, and completes it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component."""
        path = os.path.join(artifact_utils.get_single_uri(output_dict["schema"]), tfx_schema_gen.DEFAULT_FILE_NAME)
        if exec_properties.get("frozen_schema"):
            schema = text_format.Parse(exec_properties["frozen_schema"], schema_pb2.Schema())
        else:
            super().Do(input_dict, output_dict, {standard_component_specs.INFER_FEATURE_SHAPE_KEY: 0})
            schema = features.read_schema(path)
        profile = example_gen.read_profile(artifact_utils.get_single_instance(input_dict["examples"]))
        config = FeaturesConfig.model_validate_json(exec_properties["features"])
        complete_schema(schema, profile, label=exec_properties["label"], task=exec_properties["task"], config=config)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text_format.MessageToString(schema))
        for name, reason in features.read_features(schema).excluded.items():
            logging.warning("Column %r is not used as a feature: %s.", name, reason)


class SchemaGenSpec(component_spec.ComponentSpec):
    """Channels and properties of SchemaGen."""

    PARAMETERS = {
        "label": component_spec.ExecutionParameter(type=str),
        "task": component_spec.ExecutionParameter(type=str),
        "features": component_spec.ExecutionParameter(type=str),
        "frozen_schema": component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"schema": component_spec.ChannelParameter(type=standard_artifacts.Schema)}


class SchemaGen(base_component.BaseComponent):
    """The schema of the table, and what its columns are used for."""

    SPEC_CLASS = SchemaGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        statistics: types.BaseChannel,
        examples: types.BaseChannel,
        *,
        label: str,
        task: Task,
        features: FeaturesConfig,
        frozen_schema: str | None = None,
    ) -> None:
        super().__init__(
            SchemaGenSpec(
                statistics=statistics,
                examples=examples,
                label=label,
                task=task,
                features=json.dumps(features.model_dump(mode="json")),
                frozen_schema=frozen_schema,
                schema=types.Channel(type=standard_artifacts.Schema),
            )
        )

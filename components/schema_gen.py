"""SchemaGen: TFDV's schema, or a frozen one, plus what each column is used for (components/data/column_roles.py).

TFX's executor makes two calls of TFDV's extension; to do so it would import TensorFlow, Keras and Beam, which takes
longer than everything else in this component.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import CONTENT_HASH, SCHEMA, STATISTICS
from kubetfx.components.data import column_roles, table_profile
from kubetfx.components.data.image_schema import set_ranges
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.metric_catalogue import Task
from kubetfx.errors import ConfigError
from kubetfx.models import features
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import ColumnType

MAX_DOMAIN_SIZE = 100
"""Distinct values of a text column up to which the schema lists them: TFDV's default."""


def infer_schema(statistics: Sequence[statistics_pb2.DatasetFeatureStatisticsList]) -> schema_pb2.Schema:
    """Return the schema of a table, without shapes: tfdv.infer_schema and update_schema.

    Args:
        statistics: The statistics of its splits.
    """
    from tensorflow_data_validation.pywrap.tensorflow_data_validation_extension import validation

    text = b""
    for split in statistics:
        (dataset,) = split.datasets
        with_values = [feature for feature in dataset.features if feature.WhichOneof("stats")]
        found = statistics_pb2.DatasetFeatureStatistics(
            name=dataset.name,
            num_examples=dataset.num_examples,
            weighted_num_examples=dataset.weighted_num_examples,
            features=with_values,
        ).SerializeToString()
        text = (
            validation.UpdateSchema(text, found, MAX_DOMAIN_SIZE)
            if text
            else validation.InferSchema(found, MAX_DOMAIN_SIZE, False)
        )
    return schema_pb2.Schema.FromString(text)


def complete_schema(
    schema: schema_pb2.Schema,
    profile: table_profile.TableProfile,
    *,
    label: str,
    task: Task,
    config: FeaturesConfig,
    weight: str | None = None,
) -> None:
    """Complete a schema with the type and the role of each column. Existing entries stay.

    Every column is read as one value per row; a missing cell becomes NaN, "" or MISSING_INTEGER. So a column
    without missing cells in training may have them in a request.

    Args:
        schema: as TFDV inferred it, or as the user froze it.
        profile: The profile of the table.
        label: the column that is predicted.
        task: The task of the model.
        config: the `features` section.
        weight: the column that says how often a row counts; None: each counts once.
    """
    _check_label(schema, label)
    _check_weight(schema, weight)
    for name in profile.names:
        if name not in profile.described and name not in {feature.name for feature in schema.feature}:
            schema.feature.add(name=name, type=schema_pb2.BYTES)  # pictures, of which no statistics are computed
    columns = {column.name: column for column in profile.columns}
    is_folder_of_images = CONTENT_HASH in columns
    if is_folder_of_images:
        set_ranges(schema, profile)
    for feature in schema.feature:
        column = columns.get(feature.name) or ColumnProfile(feature.name, "string")
        if feature.name == label:
            classes = [str(value) for value in column.values] if task == "classification" else []
            features.set_role(feature, "label", f"the label of a {task}", classes=classes)
            _check_classes(feature, classes)
        elif feature.name == weight:
            features.set_role(feature, features.WEIGHT, "how often the row counts")
        elif column.picture_reason or not is_folder_of_images:  # facts about an image are not features
            role, reason = column_roles.choose_role(column, num_rows=profile.num_rows, config=config)
            if (frozen := features.role_of(feature)) is not None:
                _check_details(feature, frozen, column)
                continue
            features.set_role(feature, role, reason)
            if role != features.EXCLUDED:
                _describe(schema, feature, known_types.type_of(role), column)
    features.set_representations(schema)


def _describe(
    schema: schema_pb2.Schema, feature: schema_pb2.Feature, column_type: ColumnType, column: ColumnProfile
) -> None:
    """Write the details of a column's type."""
    feature.annotation.tag.extend(f"{name}:{value}" for name, value in column_type.details(column).items())
    if not column_type.has_domain and feature.domain:
        (listed,) = (domain for domain in schema.string_domain if domain.name == feature.domain)
        schema.string_domain.remove(listed)
        feature.ClearField("domain")


def _check_details(feature: schema_pb2.Feature, role: str, column: ColumnProfile) -> None:
    """Refuse data that is written in another way than what a frozen schema was made from.

    Its features would all be missing.
    """
    if not known_types.is_tag(role):
        return
    stated = known_types.type_of(role).contradiction(column, features.details_of(feature))
    if stated is not None:
        raise ConfigError(
            f"data.schema_file says of the column {feature.name!r} that it is {stated}, and its cells are written "
            f"otherwise. Received: {column.note or column.type}. Say data.types: {{{feature.name}: {stated}}}, if they "
            "can be read as such; or freeze a newer schema."
        )


def _check_classes(label: schema_pb2.Feature, classes: list[str]) -> None:
    """Refuse a frozen schema that lacks a class of the data, or is that of another task."""
    frozen = [tag.removeprefix("class:") for tag in label.annotation.tag if tag.startswith("class:")]
    unknown = sorted(set(classes) - set(frozen))
    if unknown or bool(frozen) != bool(classes):
        problem = f"does not know the classes {', '.join(unknown)}" if classes else "is that of a classification"
        raise ConfigError(
            f"data.schema_file {problem}. Received: classes {', '.join(frozen) or 'none'} of {label.name!r}. "
            'Add `tag: "class:NAME"` to the label\'s annotation, leave the rows out, or freeze a newer schema.'
        )


def _check_label(schema: schema_pb2.Schema, label: str) -> None:
    """Refuse a frozen schema of another table, or of the same table with another label."""
    if label not in {feature.name for feature in schema.feature}:
        raise ConfigError(f"data.schema_file has no column {label!r}, which is the label. Leave data.schema_file out.")
    annotated = [feature.name for feature in schema.feature if "label" in feature.annotation.tag]
    if annotated and annotated != [label]:
        raise ConfigError(
            f"data.schema_file was made for another label. Received: {annotated[0]!r}, and data.label {label!r}. "
            "Remove its annotations, or freeze the schema of a run with this label."
        )


def _check_weight(schema: schema_pb2.Schema, weight: str | None) -> None:
    """Refuse a frozen schema with another column of weights, or one that uses this column as a feature."""
    roles = {feature.name: role for feature in schema.feature if (role := features.role_of(feature))}
    named = next((name for name, role in roles.items() if role == features.WEIGHT), None)
    used = roles.get(weight or "", features.WEIGHT)
    if (roles and named != weight) or used != features.WEIGHT:
        raise ConfigError(
            f"data.schema_file was made for other weights. Received: training.sample_weight: {weight}, and in the "
            f"schema {named}. Freeze the schema of a run with this one, or remove the annotations of both columns."
        )


class Executor(base_executor.BaseExecutor):
    """Infers the schema from the statistics, or reads the frozen one, and completes it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        if exec_properties.get("frozen_schema"):
            schema = text_format.Parse(exec_properties["frozen_schema"], schema_pb2.Schema())
        else:
            schema = infer_schema(read_statistics(statistics_files(input_dict["statistics"])))
        profile = table_profile.read(Path(artifact_utils.get_single_uri(input_dict["examples"])))
        config = FeaturesConfig.model_validate_json(exec_properties["features"])
        label = exec_properties["label"]
        complete_schema(
            schema,
            profile,
            label=label,
            task=exec_properties["task"],
            config=config,
            weight=exec_properties.get("weight"),
        )
        path = Path(artifact_utils.get_single_uri(output_dict["schema"])) / SCHEMA
        path.write_text(text_format.MessageToString(schema), encoding="utf-8")
        for name, reason in features.read_features(schema).excluded.items():
            logging.warning("Column %r is not used as a feature: %s.", name, reason)


def statistics_files(statistics: list[types.Artifact]) -> list[Path]:
    """Return the files with the statistics of each split.

    Args:
        statistics: the artifact.
    """
    splits = artifact_utils.decode_split_names(artifact_utils.get_single_instance(statistics).split_names)
    return [Path(artifact_utils.get_split_uri(statistics, split)) / STATISTICS for split in splits]


def read_statistics(files: Sequence[Path]) -> list[statistics_pb2.DatasetFeatureStatisticsList]:
    """Return the statistics of each split.

    Args:
        files: as `statistics_files` gives them.
    """
    return [statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes()) for file in files]


class SchemaGen(Component):
    """The schema of the table, and what its columns are used for."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {"statistics": standard_artifacts.ExampleStatistics, "examples": standard_artifacts.Examples}
    OUTPUTS = {"schema": standard_artifacts.Schema}
    PARAMETERS = {
        "label": str,
        "task": str,
        "features": FeaturesConfig,
        "types_digest": str,
        "frozen_schema": str,
        "weight": str,
    }
    OPTIONAL = ("types_digest", "frozen_schema", "weight")

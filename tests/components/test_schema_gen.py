import math
from pathlib import Path

import pandas
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.data import table_profile
from kubetfx.components.data.tables import TableProfile
from kubetfx.components.schema_gen import Executor, complete_schema, infer_schema
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.errors import ConfigError, KubetfxError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import MISSING_INTEGER
from kubetfx.models.features import read_features, read_schema

PROFILE = TableProfile(
    (
        ColumnProfile("mass", "float", 90, None, minimum=1.0, maximum=9.0),
        ColumnProfile("year", "int64", 100, 3, True, 2007, 2009),
        ColumnProfile("count", "int64", 100, 80, True, 0, 900),
        ColumnProfile("island", "string", 100, 3, True),
        ColumnProfile("name", "string", 100, None, True),
        ColumnProfile("site", "string", 100, 1, True),
        ColumnProfile("species", "string", 100, 2, True, values=("Adelie", "Gentoo")),
    ),
    100,
)
TYPES = {"float": schema_pb2.FLOAT, "int64": schema_pb2.INT, "string": schema_pb2.BYTES}


def bare_schema(profile: TableProfile = PROFILE) -> schema_pb2.Schema:
    """What TFDV infers: a type and a presence for each feature."""
    schema = schema_pb2.Schema()
    for column in profile.columns:
        feature = schema.feature.add(name=column.name, type=TYPES[column.type])
        feature.presence.min_fraction = column.num_values / profile.num_rows
        feature.value_count.min = feature.value_count.max = 1
    return schema


def completed(schema: schema_pb2.Schema | None = None, *, task="classification", label="species", **config):
    schema = schema or bare_schema()
    complete_schema(schema, PROFILE, label=label, task=task, config=FeaturesConfig.model_validate(config))
    return schema


def test_columns_get_their_roles():
    features = read_features(completed())

    assert features.label == "species"
    assert features.classes == ("Adelie", "Gentoo")
    assert features.numeric == ("mass", "count")
    assert features.vocabulary == ("island", "year")
    assert features.hashed == ("name",)
    assert features.columns["count"].type == "int64"
    assert features.excluded == {"site": "it has the same value in every row"}
    assert [name for name, column in features.columns.items() if column.is_optional] == ["mass"]


def test_config_overrides_roles():
    features = read_features(completed(numeric=["year"], categorical=["count"], vocabulary_size=2))

    assert features.numeric == ("mass", "year")
    assert features.hashed == ("island", "name", "count")


def test_regression_has_no_classes():
    features = read_features(completed(task="regression", label="count"))

    assert (features.label, features.classes) == ("count", ())


def test_integer_classes_are_named_by_their_digits():
    profile = TableProfile(
        (ColumnProfile("x", "float", 10), ColumnProfile("y", "int64", 10, 3, True, 0, 10, values=(0, 2, 10))), 10
    )
    schema = bare_schema(profile)

    complete_schema(schema, profile, label="y", task="classification", config=FeaturesConfig())

    assert read_features(schema).classes == ("0", "2", "10")


def test_missing_cells_of_every_column_can_be_read():
    schema = completed()
    representations = schema.tensor_representation_group[""].tensor_representation

    defaults = {name: representation.dense_tensor.default_value for name, representation in representations.items()}
    assert set(defaults) == {column.name for column in PROFILE.columns}
    assert math.isnan(defaults["mass"].float_value)
    assert defaults["count"].int_value == MISSING_INTEGER
    assert defaults["island"].WhichOneof("kind") == "bytes_value"
    assert defaults["island"].bytes_value == b""


def test_roles_that_a_frozen_schema_has_stay():
    schema = bare_schema()
    schema.feature[3].annotation.tag.append("hashed")
    schema.feature[3].annotation.comment.append("by hand")

    features = read_features(completed(schema))

    assert "island" in features.hashed
    assert list(schema.feature[3].annotation.comment) == ["by hand"]


def test_completing_a_schema_twice_changes_nothing():
    once = completed()
    twice = schema_pb2.Schema()
    twice.CopyFrom(once)

    completed(twice, numeric=["year"])

    assert text_format.MessageToString(twice) == text_format.MessageToString(once)


def test_frozen_schema_of_a_classification_is_refused_for_a_regression():
    with pytest.raises(ConfigError, match=r"is that of a classification\. Received: classes Adelie, Gentoo"):
        completed(completed(), task="regression")


def test_class_that_a_frozen_schema_does_not_know_is_refused():
    schema = completed()
    label = next(feature for feature in schema.feature if "label" in feature.annotation.tag)
    label.annotation.tag.remove("class:Gentoo")

    with pytest.raises(ConfigError, match="does not know the classes Gentoo"):
        completed(schema)


def test_representation_that_a_frozen_schema_has_stays():
    schema = bare_schema()
    dense = schema.tensor_representation_group[""].tensor_representation["mass"].dense_tensor
    dense.column_name = "mass"
    dense.shape.dim.add(size=1)
    dense.default_value.float_value = -1.0

    completed(schema)

    kept = schema.tensor_representation_group[""].tensor_representation["mass"].dense_tensor
    assert kept.default_value.float_value == -1.0


def test_other_tags_of_a_frozen_schema_do_not_count_as_roles():
    schema = bare_schema()
    schema.feature[0].annotation.tag.append("measured")

    assert read_features(completed(schema)).numeric[0] == "mass"


def test_frozen_schema_of_another_label_is_refused():
    """Its annotations would train the model on the label that it was frozen with."""
    with pytest.raises(KubetfxError, match="species"):
        completed(completed(), label="island")


def test_schema_is_the_one_that_tfdv_infers():
    """With a column that the second split alone has, one without values, and one of more texts than a schema lists."""
    train = pandas.DataFrame(
        {
            "height": [1.5, None, 2.5] * 100,
            "year": [2007, 2008, 2009] * 100,
            "island": ["Dream", None, ""] * 100,
            "name": [f"n{number}" for number in range(300)],
            "empty": [None] * 300,
        }
    )
    splits = [tfdv.generate_statistics_from_dataframe(table) for table in (train, train.assign(late="x"))]
    expected = tfdv.update_schema(tfdv.infer_schema(splits[0], infer_feature_shape=False), splits[1])

    assert infer_schema(splits) == expected
    assert {feature.name for feature in expected.feature} >= {"height", "island", "late"}


def run_executor(tmp_path: Path, *, frozen_schema: str | None = None) -> schema_pb2.Schema:
    examples, statistics, schema = (
        standard_artifacts.Examples(),
        standard_artifacts.ExampleStatistics(),
        standard_artifacts.Schema(),
    )
    for artifact, name in ((examples, "examples"), (statistics, "statistics"), (schema, "schema")):
        artifact.uri = str(tmp_path / name)
        (tmp_path / name).mkdir()
    table_profile.write(tmp_path / "examples", PROFILE, label="species")
    statistics.split_names = artifact_utils.encode_split_names(["train"])
    table = pandas.DataFrame({column.name: _values(column) for column in PROFILE.columns})
    folder = tmp_path / "statistics" / "Split-train"
    folder.mkdir()
    content = tfdv.generate_statistics_from_dataframe(table).SerializeToString()
    (folder / "FeatureStats.pb").write_bytes(content)
    Executor().Do(
        {"statistics": [statistics], "examples": [examples]},
        {"schema": [schema]},
        {
            "label": "species",
            "task": "classification",
            "features": FeaturesConfig().model_dump_json(),
            "frozen_schema": frozen_schema,
        },
    )
    return read_schema(tmp_path / "schema" / "schema.pbtxt")


def _values(column: ColumnProfile) -> list:
    if column.values:
        return [column.values[i % len(column.values)] for i in range(100)]
    if column.type == "float":
        return [None if i >= column.num_values else i / 10 for i in range(100)]
    if column.type == "int64":
        return [i % column.num_distinct for i in range(100)]
    return [f"word{i % (column.num_distinct or 100)}" for i in range(100)]


def test_schema_is_inferred_from_the_statistics(tmp_path):
    schema = run_executor(tmp_path)

    features = read_features(schema)
    assert {feature.name for feature in schema.feature} == {column.name for column in PROFILE.columns}
    assert features.label == "species"
    assert [name for name, column in features.columns.items() if column.is_optional] == ["mass"]


def test_frozen_schema_is_taken_as_it_is(tmp_path):
    frozen = completed()
    frozen.feature[0].float_domain.max = 123

    schema = run_executor(tmp_path, frozen_schema=text_format.MessageToString(frozen))

    assert schema == frozen


def test_column_of_weights_is_no_feature():
    schema = bare_schema()
    complete_schema(schema, PROFILE, label="species", task="classification", config=FeaturesConfig(), weight="count")
    features = read_features(schema)

    assert features.weight == "count"
    assert "count" not in {*features.inputs, *features.excluded}
    assert read_features(completed()).weight is None


@pytest.mark.parametrize(("frozen", "weight"), [("count", None), (None, "count"), ("count", "mass")])
def test_frozen_schema_of_other_weights_is_refused(frozen, weight):
    schema = bare_schema()
    arguments = {"label": "species", "task": "classification", "config": FeaturesConfig()}
    complete_schema(schema, PROFILE, weight=frozen, **arguments)

    with pytest.raises(ConfigError, match=f"was made for other weights. Received: training.sample_weight: {weight}"):
        complete_schema(schema, PROFILE, weight=weight, **arguments)

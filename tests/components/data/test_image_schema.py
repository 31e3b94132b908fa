from pathlib import Path
from typing import Any

import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from kubetfx.components.data import table_profile
from kubetfx.components.schema_gen import Executor as SchemaExecutor
from kubetfx.components.schema_gen import complete_schema
from kubetfx.components.statistics_gen import Executor as StatisticsExecutor
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.features import read_features, read_schema
from tests.components.image_runs import run_executor
from tests.components.pictures import write_classes


def statistics_of(examples: standard_artifacts.Examples, folder: Path) -> standard_artifacts.ExampleStatistics:
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(folder)
    StatisticsExecutor().Do({"examples": [examples]}, {"statistics": [statistics]}, {"exclude_splits": "[]"})
    return statistics


def train_statistics(statistics: standard_artifacts.ExampleStatistics) -> Any:
    return tfdv.load_stats_binary(str(Path(statistics.uri) / "Split-train" / "FeatureStats.pb"))


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[Any, Any]:
    """Schema and statistics of a first set of images."""
    folder = tmp_path_factory.mktemp("first")
    examples = run_executor(write_classes(folder / "images"), folder / "examples")
    statistics = statistics_of(examples, folder / "statistics")
    schema = standard_artifacts.Schema()
    schema.uri = str(folder / "schema")
    Path(schema.uri).mkdir()
    properties = {"label": "label", "task": "classification", "features": FeaturesConfig().model_dump_json()}
    SchemaExecutor().Do({"statistics": [statistics], "examples": [examples]}, {"schema": [schema]}, properties)
    return read_schema(Path(schema.uri) / "schema.pbtxt"), train_statistics(statistics)


def test_statistics_are_about_the_images_and_not_their_bytes(first):
    (dataset,) = first[1].datasets
    names = {feature.path.step[0] for feature in dataset.features}

    assert {"width", "height", "channels", "brightness", "num_bytes", "label"} <= names
    assert "image" not in names


def test_schema_has_the_encoded_bytes_the_classes_and_ranges(first):
    schema, statistics = first
    features = {feature.name: feature for feature in schema.feature}

    assert read_features(schema).classes == ("cat", "dog")
    assert not read_features(schema).excluded
    assert read_features(schema).inputs == ("image",)
    assert (features["width"].int_domain.min, features["width"].int_domain.max) == (6, 24)
    assert 0 <= features["brightness"].float_domain.min < features["brightness"].float_domain.max <= 1
    assert features["path"].WhichOneof("domain_info") is None
    assert not tfdv.validate_statistics(statistics, schema).anomaly_info


def test_frozen_schema_of_before_images_had_a_type_is_understood(first):
    old = schema_pb2.Schema()
    old.CopyFrom(first[0])
    (image,) = (feature for feature in old.feature if feature.name == "image")
    del image.annotation.tag[:]
    columns = (
        ColumnProfile("content_hash", "string"),
        ColumnProfile("image", "string", picture_reason="the encoded picture"),
        ColumnProfile("label", "string", values=("cat", "dog")),
    )
    profile = table_profile.TableProfile(columns, 2)

    complete_schema(old, profile, label="label", task="classification", config=FeaturesConfig())

    assert read_features(old).inputs == ("image",)


def test_other_images_are_anomalies(first, tmp_path):
    root = write_classes(tmp_path / "images", number=10, classes=("cat", "cow"))
    for path in sorted((root / "cat").iterdir()):
        from PIL import Image

        Image.new("L", (80, 70), 255).save(path)
    examples = run_executor(root, tmp_path / "examples")

    anomalies = tfdv.validate_statistics(train_statistics(statistics_of(examples, tmp_path / "s")), first[0])

    assert {"label", "width", "height", "channels", "brightness"} <= set(anomalies.anomaly_info)

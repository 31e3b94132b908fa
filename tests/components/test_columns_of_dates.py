"""A column of dates through statistics, schema, validation and the facts of the report."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components import statistics_gen
from kubetfx.components.data import table_profile
from kubetfx.components.data.table_scan import scan
from kubetfx.components.example_validator import validate
from kubetfx.components.report import data_facts, figures, formats
from kubetfx.components.schema_gen import complete_schema, infer_schema
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.features import read_features

DAYS = [f"{i % 28 + 1}.{i % 12 + 1}.{1960 + i % 80}" if i % 10 else None for i in range(100)]


def statistics_of(folder: Path, days: list[str | None]):
    """Of the split for training, and the profile of the table."""
    table = pa.table({"day": pa.array(days, pa.string()), "kind": ["ab"[i % 2] for i in range(len(days))]})
    profile = scan(lambda: iter(table.to_batches()), "rows", names=table.column_names, stated={}, decimal=".")
    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    examples.uri, statistics.uri = str(folder / "examples"), str(folder / "statistics")
    examples.split_names = artifact_utils.encode_split_names(["train"])
    (folder / "examples" / "Split-train").mkdir(parents=True)
    pq.write_table(table, folder / "examples" / "Split-train" / "data.parquet", row_group_size=30)
    table_profile.write(folder / "examples", profile, label="kind")
    assert table_profile.read(folder / "examples").column("day") == replace(profile.column("day"), values=())
    statistics_gen.Executor().Do({"examples": [examples]}, {"statistics": [statistics]}, {"max_rows": None})
    return data_facts.read_statistics(folder / "statistics"), profile


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    statistics, profile = statistics_of(tmp_path_factory.mktemp("dates"), DAYS)
    schema = infer_schema([statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics["train"]])])
    complete_schema(schema, profile, label="kind", task="classification", config=FeaturesConfig())
    return statistics, schema


def test_schema_has_the_format_and_lists_no_dates(described):
    _, schema = described
    (day,) = (feature for feature in schema.feature if feature.name == "day")

    assert list(day.annotation.tag) == ["date", "format:%d.%m.%Y", "cycles:month weekday"]
    assert [domain.name for domain in schema.string_domain] == ["kind"]
    assert text_format.Parse(text_format.MessageToString(schema), type(schema)()) == schema
    (column,) = read_features(schema).by_type["date"]
    assert (column.type, column.is_optional) == ("string", True)


def test_dates_that_are_new_are_no_anomaly(described, tmp_path):
    _, schema = described
    later, _ = statistics_of(tmp_path, [f"{i % 28 + 1}.{i % 12 + 1}.2050" for i in range(100)])
    found = validate(statistics_pb2.DatasetFeatureStatisticsList(datasets=[later["train"]]), schema)

    assert not found.anomaly_info


def test_report_says_when_the_dates_are(described, tmp_path):
    statistics, schema = described
    later, _ = statistics_of(tmp_path, [f"{i % 28 + 1}.{i % 12 + 1}.2050" for i in range(100)])

    data = data_facts.describe(statistics, schema=schema, previous=later)

    (day,) = (column for column in data.columns if column.name == "day")
    assert (day.type, day.role, day.drift) == ("date", "date", None)
    assert formats.value_range(day) == "1961-02-02 … 2039-08-24"
    assert figures.ends(day) == ("1961-02-02", "2039-08-24")
    assert day.splits["train"].missing == pytest.approx(0.1)
    assert sum(day.splits["train"].shares) == pytest.approx(1, abs=1e-3)

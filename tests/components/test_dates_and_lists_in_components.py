"""Columns of dates and lists through statistics, schema, validation and the facts of the report."""

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
from kubetfx.config.data_section import FeaturesConfig, Stated
from kubetfx.errors import ConfigError
from kubetfx.models.features import read_features

TAGS = [";".join(("red", "green", "blue")[: i % 4]) or None for i in range(100)]
DAYS = [f"{i % 28 + 1}.{i % 12 + 1}.{1960 + i % 80}" if i % 10 else None for i in range(100)]


def statistics_of(folder: Path, days: list[str | None], tags: list[str | None] = TAGS):
    """Of the split for training, and the profile of the table."""
    kinds = ["ab"[i % 2] for i in range(len(days))]
    table = pa.table({"day": pa.array(days, pa.string()), "tags": pa.array(tags, pa.string()), "kind": kinds})
    stated = {"tags": Stated("list", ";")}
    profile = scan(lambda: iter(table.to_batches()), "rows", names=table.column_names, stated=stated, decimal=".")
    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    examples.uri, statistics.uri = str(folder / "examples"), str(folder / "statistics")
    examples.split_names = artifact_utils.encode_split_names(["train"])
    (folder / "examples" / "Split-train").mkdir(parents=True)
    pq.write_table(table, folder / "examples" / "Split-train" / "data.parquet", row_group_size=30)
    table_profile.write(folder / "examples", profile, label="kind")
    for name in ("day", "tags"):
        assert table_profile.read(folder / "examples").column(name) == replace(profile.column(name), values=())
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
    assert {domain.name: list(domain.value) for domain in schema.string_domain} == {
        "tags": ["blue", "green", "red"],
        "kind": ["a", "b"],
    }
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


def test_schema_knows_how_a_list_is_read_and_how_many_values_a_row_has(described):
    _, schema = described
    (tags,) = (feature for feature in schema.feature if feature.name == "tags")

    assert list(tags.annotation.tag) == ["list", "separator:;", "length:3", "flags:3"]
    assert (tags.value_count.min, tags.value_count.max) == (1, 0)
    assert schema.tensor_representation_group[""].tensor_representation["tags"].dense_tensor.shape.dim[0].size == 1


def test_value_of_a_list_that_is_new_is_an_anomaly(described, tmp_path):
    _, schema = described
    later, _ = statistics_of(tmp_path, DAYS, ["red;violet", *TAGS[1:]])

    found = validate(statistics_pb2.DatasetFeatureStatisticsList(datasets=[later["train"]]), schema)

    assert list(found.anomaly_info) == ["tags"]
    assert "violet" in found.anomaly_info["tags"].description


def test_report_shows_in_which_share_of_the_rows_a_value_is(described):
    statistics, schema = described
    (tags,) = (column for column in data_facts.describe(statistics, schema=schema).columns if column.name == "tags")

    assert tags.values == ["red", "green", "blue"]
    assert tags.splits["train"].shares == pytest.approx([1, 50 / 75, 25 / 75], abs=1e-4)
    assert tags.splits["train"].missing == 0.25


@pytest.mark.parametrize(
    ("day", "tags", "message"),
    [
        ("2/13/2024", "red", r"'day' that it is \{date: \"%d\.%m\.%Y\"\}.*Received: dates as %m/%d/%Y"),
        ("13.2.2024", None, None),
        ("2024-02-13", "red", None),
    ],
    ids=["another format", "the same", "ISO"],
)
def test_frozen_schema_whose_dates_are_written_otherwise_is_refused(described, tmp_path, day, tags, message):
    _, schema = described
    _, profile = statistics_of(tmp_path, [day] * 30, [tags] * 30)
    frozen = type(schema)()
    frozen.CopyFrom(schema)

    def complete():
        complete_schema(frozen, profile, label="kind", task="classification", config=FeaturesConfig())

    if message is None:
        complete()
        assert frozen == schema
    else:
        with pytest.raises(ConfigError, match=message):
            complete()

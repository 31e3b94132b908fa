import json
from pathlib import Path

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from kubetfx.components.report import data_facts as data
from kubetfx.components.report import render
from kubetfx.config.data_section import ValidationConfig
from kubetfx.config.report_section import ReportConfig
from tests.components.report import sample


def buckets(counts: list[float], low: float = 0.0, high: float = 1.0) -> list[tuple[float, float, float]]:
    edges = np.linspace(low, high, len(counts) + 1)
    return [(float(a), float(b), c) for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)]


def test_equal_distributions_have_no_distance() -> None:
    assert data.jensen_shannon(buckets([1, 2, 3]), buckets([10, 20, 30])) == pytest.approx(0)
    assert data.l_infinity({"a": 1, "b": 3}, {"a": 2, "b": 6}) == 0


def test_disjoint_distributions_are_one_apart() -> None:
    assert data.jensen_shannon(buckets([1, 1]), buckets([1, 1], 5, 6)) == pytest.approx(1)
    assert data.l_infinity({"a": 1}, {"b": 1}) == 1


def test_divergence_is_that_of_the_formula() -> None:
    p, q = np.array([0.2, 0.8]), np.array([0.6, 0.4])
    m = (p + q) / 2
    expected = (np.sum(p * np.log2(p / m)) + np.sum(q * np.log2(q / m))) / 2

    assert data.jensen_shannon(buckets([2, 8]), buckets([6, 4])) == pytest.approx(expected)


def test_divergence_does_not_depend_on_where_the_bounds_are() -> None:
    fine, coarse = buckets([1] * 12), buckets([1] * 4)

    assert data.jensen_shannon(fine, coarse) == pytest.approx(0, abs=1e-12)


def test_values_that_are_all_one_number_are_a_point() -> None:
    point = [(2.0, 2.0, 50.0)]

    assert data.jensen_shannon(point, point) == 0
    assert data.jensen_shannon(point, [(3.0, 3.0, 50.0)]) == 1
    assert data.jensen_shannon(point, buckets([5, 5], 0, 4)) == pytest.approx(1, abs=1e-6)


def test_drift_and_skew_are_marked_where_they_are_over_their_thresholds() -> None:
    found = sample.data_facts()
    drifted = {column.name for column in found.drifted}

    assert drifted == {"number_0"}
    assert found.drifted[0].drift.measure == "Jensen-Shannon divergence"
    text = next(column for column in found.columns if column.name == sample.SCRIPT)
    assert text.drift.measure == "L-infinity"


def test_thresholds_are_those_of_the_config() -> None:
    tables = {"train": sample.table(400, seed=1), "eval": sample.table(120, seed=3)}
    strict = data.describe(sample.statistics(tables), config=ReportConfig(skew_threshold=0.001))

    assert len(strict.skewed) > len(data.describe(sample.statistics(tables)).skewed)


def test_histograms_of_the_splits_share_their_bars_and_sum_to_one() -> None:
    column = next(column for column in sample.data_facts().columns if column.name == "number_0")

    assert len(column.edges) == data.BARS + 1
    for split in ("train", "eval"):
        assert len(column.splits[split].shares) == data.BARS
        assert sum(column.splits[split].shares) == pytest.approx(1, abs=1e-3)


def test_whole_numbers_of_a_small_range_have_a_bar_each() -> None:
    """The years of the penguins, in the buckets that TFDV makes of them."""
    feature = sample.number_statistics("year", np.array([2007.0] * 3 + [2008.0] * 5 + [2009.0] * 2))
    feature.type = statistics_pb2.FeatureNameStatistics.INT
    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=10, features=[feature])
    (column,) = data.describe({"train": dataset}).columns

    assert column.edges == [2006.5, 2007.5, 2008.5, 2009.5]
    assert column.splits["train"].shares == pytest.approx([0.3, 0.5, 0.2])


def test_columns_say_what_is_missing_and_why_one_is_left_out() -> None:
    found = {column.name: column for column in sample.data_facts().columns}

    assert found["number_1"].splits["train"].missing == pytest.approx(0.2)
    assert found["empty"].splits["train"].missing == 1
    assert found["empty"].splits["train"].mean is None
    assert [column.name for column in sample.data_facts().excluded] == ["constant", "empty"]
    assert found["constant"].reason == "it has the same value in every row"


def test_rows_are_said_to_count_once_where_metrics_weight_them() -> None:
    schema = schema_pb2.Schema()
    schema.feature.add(name="hours", type=schema_pb2.FLOAT).annotation.tag.append("weight")
    found = data.describe(sample.statistics({"train": sample.table(40, seed=1)}), schema=schema)

    assert found.sample_weight == "hours"
    assert sample.data_facts().sample_weight is None
    assert "Each row counts once here, whatever its hours is" in render.statistics_page(found)


def test_splits_are_in_the_order_in_which_they_are_used(tmp_path: Path) -> None:
    statistics = sample.statistics({"eval": {"x": np.ones(3)}, "train": {"x": np.ones(9)}, "other": {"x": np.ones(2)}})
    for split, dataset in statistics.items():
        (tmp_path / f"Split-{split}").mkdir()
        document = statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset])
        (tmp_path / f"Split-{split}" / "FeatureStats.pb").write_bytes(document.SerializeToString())

    assert list(data.read_statistics(tmp_path)) == ["train", "eval", "other"]


@pytest.mark.parametrize(
    ("action", "remedy"),
    [("stop", "let it pass with validation.features: {colour: warn}"), ("warn", "The config lets it pass.")],
)
def test_anomalies_come_with_their_remedy(tmp_path: Path, action: str, remedy: str) -> None:
    document = anomalies_pb2.Anomalies()
    info = document.anomaly_info["colour"]
    info.path.step.append("colour")
    info.severity = anomalies_pb2.AnomalyInfo.ERROR
    info.reason.add(short_description="Unexpected string values", description="Examples contain values: blue.")
    (tmp_path / "Split-train").mkdir()
    (tmp_path / "Split-train" / "SchemaDiff.pb").write_bytes(document.SerializeToString())

    (found,) = data.anomalies(tmp_path, ValidationConfig(on_anomaly=action))
    assert (found.column, found.split, found.action) == ("colour", "train", action)
    assert "Unexpected string values" in found.problem
    assert remedy in found.remedy


def test_anomalies_of_the_training_rows_come_first(tmp_path: Path) -> None:
    document = anomalies_pb2.Anomalies()
    document.anomaly_info["colour"].description = "Unexpected string values"
    for split in ("eval", "train", "validation"):
        (tmp_path / f"Split-{split}").mkdir()
        (tmp_path / f"Split-{split}" / "SchemaDiff.pb").write_bytes(document.SerializeToString())

    assert [one.split for one in data.anomalies(tmp_path)] == ["train", "validation", "eval"]


def test_schema_alone_tells_columns_with_their_use(tmp_path: Path) -> None:
    schema = sample.schema_of(sample.table(5, seed=0))

    assert data.label_of(schema) == "label"
    assert {column.name: (column.type, column.role) for column in data.columns_of(schema)}["number_0"] == (
        "float",
        "numeric",
    )
    assert data.label_of(schema_pb2.Schema()) is None


def test_facts_survive_their_file() -> None:
    facts = sample.facts()
    again = type(facts).model_validate(json.loads(facts.model_dump_json()))

    assert again.data == facts.data
    assert np.isnan(again.evaluation.metric("precision").value)


def whole_numbers(values: list[int]) -> statistics_pb2.FeatureNameStatistics:
    feature = sample.number_statistics("day", np.array(values, float))
    feature.type = statistics_pb2.FeatureNameStatistics.INT
    return feature


def test_months_have_a_bar_each_though_tfdv_has_ten_buckets() -> None:
    dataset = statistics_pb2.DatasetFeatureStatistics(
        num_examples=1200, features=[whole_numbers([*range(1, 13)] * 100)]
    )
    (column,) = data.describe({"train": dataset}).columns

    assert len(column.edges) == 13
    assert column.splits["train"].shares == pytest.approx([1 / 12] * 12, abs=1e-4)


def test_another_range_of_whole_numbers_is_no_drift_by_itself() -> None:
    """2007 to 2009, and a single row of 2010: the bounds of all buckets move."""
    years = [2007, 2008, 2009] * 200
    now, before = (
        statistics_pb2.DatasetFeatureStatistics(num_examples=len(values), features=[whole_numbers(values)])
        for values in ([*years, 2010], years)
    )
    (column,) = data.describe({"train": now}, previous={"train": before}).columns

    assert column.drift is not None
    assert column.drift.value < 0.01
    assert not column.drift.is_large

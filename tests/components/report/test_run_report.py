"""Reports of runs in a workspace, from what they left there."""

from pathlib import Path
from typing import Any

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from kubetfx import run_record
from kubetfx.artifacts import FACTS
from kubetfx.components.data import table_profile
from kubetfx.components.report import facts, run_report
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from tests.components.report import sample


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {"name": "shells", "data": {"path": "data", "label": "label"}, "workspace": str(tmp_path)}
    )


def write_statistics(config: PipelineConfig, number: int, tables: dict[str, Any]) -> Path:
    folder = config.workspace_path / "artifacts" / "StatisticsGen" / "statistics" / str(number)
    for split, dataset in sample.statistics(tables).items():
        (folder / f"Split-{split}").mkdir(parents=True)
        document = statistics_pb2.DatasetFeatureStatisticsList(datasets=[dataset])
        (folder / f"Split-{split}" / "FeatureStats.pb").write_bytes(document.SerializeToString())
    return folder


def recorded(config: PipelineConfig, run_id: str, state: run_record.RunState, statistics: Path) -> run_record.RunRecord:
    nodes = [
        run_record.NodeRecord(
            id="StatisticsGen", state="done", seconds=1, log="", outputs={"statistics": [str(statistics)]}
        ),
        run_record.NodeRecord(id="Trainer", state="failed" if state == "failed" else "done", seconds=2, log="/no/log"),
    ]
    record = run_record.begin(config, run_id=run_id, command=["kubetfx", "run", "pipeline.yaml"])
    update = {"nodes": nodes, "planned_nodes": ["StatisticsGen", "Trainer", "Report"], "state": state}
    record = record.model_copy(update=update)
    run_record.write(config.workspace_path, record)
    return record


def test_run_that_failed_shows_what_there_is_and_its_drift(config: PipelineConfig) -> None:
    earlier = write_statistics(config, 1, {"train": sample.table(300, seed=1)})
    recorded(config, "20260101-000000-aaa", "pushed", earlier)
    now = write_statistics(config, 2, {"train": sample.table(300, seed=2, shift=3.0)})
    record = recorded(config, "20260102-000000-bbb", "failed", now)
    path = run_report.publish(config, record, ask_model=False)
    html = path.read_text(encoding="utf-8")

    assert "Failed at Trainer, node 2 of 3" in html
    assert "they were in the run 20260101-000000-aaa" in html
    assert "not reached" in html
    assert "A part of this report could not be made" not in html


def test_first_run_says_that_there_is_nothing_to_compare_with(config: PipelineConfig) -> None:
    statistics = write_statistics(config, 1, {"train": sample.table(100, seed=1)})
    record = recorded(config, "20260101-000000-aaa", "interrupted", statistics)
    html = run_report.publish(config, record, ask_model=False).read_text(encoding="utf-8")

    assert "there is no earlier run with other data" in html


def test_distinct_values_are_those_of_the_table_though_no_model_is_asked(
    config: PipelineConfig, tmp_path: Path
) -> None:
    statistics = write_statistics(config, 1, {"train": sample.table(100, seed=1)})
    record = recorded(config, "20260101-000000-aaa", "interrupted", statistics)
    text = ColumnProfile(sample.SCRIPT, "string", num_values=100, num_distinct=77)
    number = ColumnProfile("number_0", "float", num_values=100, num_distinct=None, num_decimals=99)
    table_profile.write(tmp_path, table_profile.TableProfile((text, number), 100), label="label")
    node = run_record.NodeRecord(
        id="TableExampleGen", state="done", seconds=1, log="", outputs={"examples": [str(tmp_path)]}
    )
    run_report.publish(config, record.model_copy(update={"nodes": [node, *record.nodes]}), ask_model=False)

    data = run_report.facts_of(config, record).data
    distinct = {one.name: one.distinct for one in data.columns}
    assert (distinct[sample.SCRIPT], distinct["number_0"]) == (77, 99)


def test_facts_are_kept_when_the_artifacts_are_gone(config: PipelineConfig) -> None:
    folder = config.workspace_path / "artifacts" / "Report" / "report" / "9"
    folder.mkdir(parents=True)
    facts.write(sample.facts(), folder)
    record = recorded(config, "20260101-000000-aaa", "not_blessed", folder)
    node = run_record.NodeRecord(id="Report", state="done", seconds=1, log="", outputs={"report": [str(folder)]})
    run_report.publish(config, record.model_copy(update={"nodes": [*record.nodes, node]}))
    (folder / FACTS).unlink()

    found = run_report.facts_of(config, record)
    assert found is not None
    assert found.data == sample.facts().data
    assert found.evaluation is not None
    assert found.evaluation.checks == sample.evaluation_facts().checks

from pathlib import Path

import pytest

from kubetfx import run_record
from kubetfx.components.report import previous
from kubetfx.config.pipeline import PipelineConfig


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def statistics_of(workspace: Path, number: int, *, place: str = "artifacts/StatisticsGen/statistics") -> Path:
    folder = workspace / place / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def recorded(workspace: Path, run_id: str, state: run_record.RunState, statistics: Path) -> None:
    config = PipelineConfig.model_validate(
        {"name": "shells", "data": {"path": "data", "label": "kind"}, "workspace": str(workspace)}
    )
    record = run_record.begin(config, run_id=run_id, command=[])
    node = run_record.NodeRecord(
        id="StatisticsGen", state="done", seconds=1, log="", outputs={"statistics": [str(statistics)]}
    )
    run_record.write(workspace, record.model_copy(update={"nodes": [node], "state": state}))


def test_newest_finished_run_with_other_data_is_the_previous_one(workspace: Path) -> None:
    first, second, third, ours = (statistics_of(workspace, number) for number in range(4))
    recorded(workspace, "20260101-a", "pushed", first)
    recorded(workspace, "20260102-b", "not_blessed", second)
    recorded(workspace, "20260103-c", "failed", third)
    recorded(workspace, "20260104-d", "unchanged", ours)
    recorded(workspace, "20260105-e", "running", ours)

    assert previous.find(ours) == previous.Previous("20260102-b", second)


def test_run_that_computed_the_same_statistics_again_is_passed_over(workspace: Path) -> None:
    first, second, ours = (statistics_of(workspace, number) for number in range(3))
    for folder, content in ((first, b"A"), (second, b"B"), (ours, b"B")):
        (folder / "Split-train").mkdir()
        (folder / "Split-train" / "FeatureStats.pb").write_bytes(content)
    recorded(workspace, "20260101-a", "pushed", first)
    recorded(workspace, "20260102-b", "pushed", second)

    assert previous.find(ours) == previous.Previous("20260101-a", first)


def test_run_on_kfp_local_is_compared_with_the_runs_of_its_workspace(workspace: Path) -> None:
    local = statistics_of(workspace, 1)
    recorded(workspace, "20260101-a", "pushed", local)
    ours = statistics_of(workspace, 7, place="kfp-local/minio/mlpipeline/v2/artifacts/shells/run/statisticsgen/x")

    assert previous.find(ours).run_id == "20260101-a"


def test_run_whose_statistics_are_gone_is_passed_over(workspace: Path) -> None:
    recorded(workspace, "20260101-a", "pushed", workspace / "gone")

    assert "no earlier run with other data" in previous.find(statistics_of(workspace, 1)).missing_because


def test_cluster_says_that_no_records_are_in_sight(tmp_path: Path) -> None:
    found = previous.find(statistics_of(tmp_path / "s3" / "bucket", 1, place="runs/penguins/statisticsgen"))

    assert found.statistics is None
    assert found.missing_because == "the records of earlier runs are in no place that this run sees"

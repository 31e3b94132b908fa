from pathlib import Path

import pytest

from kubetfx import run_record
from kubetfx.artifacts import REPORT
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import AnomaliesError, KubetfxError, UsageError


def config_in(folder: Path) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {"name": "shells", "data": {"path": str(folder), "label": "kind"}, "workspace": str(folder)}
    )


def record_of(folder: Path, run_id: str) -> run_record.RunRecord:
    record = run_record.begin(config_in(folder), run_id=run_id, command=["kubetfx", "run", "pipeline.yaml"])
    run_record.write(folder, record)
    return record


def test_record_survives_its_file(tmp_path: Path) -> None:
    record = record_of(tmp_path, "20260101-000000-abc")
    ended = run_record.ended(record, "pushed", seconds=1.23456, pushed_version=7, metrics={"accuracy": 0.5})
    run_record.write(tmp_path, ended)

    (read,) = run_record.read_all(tmp_path)
    assert read == ended
    assert (read.seconds, read.pushed_version, read.config["name"]) == (1.235, 7, "shells")
    assert read.ended_at is not None


def test_newest_run_comes_first_and_is_found_without_an_id(tmp_path: Path) -> None:
    for run_id in ("20260101-000000-abc", "20260103-000000-abc", "20260102-000000-abc"):
        record_of(tmp_path, run_id)

    assert [record.run_id[:8] for record in run_record.read_all(tmp_path)] == ["20260103", "20260102", "20260101"]
    assert run_record.find(tmp_path, None).run_id == "20260103-000000-abc"
    assert run_record.find(tmp_path, "20260101").run_id == "20260101-000000-abc"


@pytest.mark.parametrize(
    ("run_id", "message"),
    [
        ("2026", r"Several runs begin so. Received: 2026. The newest: 20260102"),
        ("x", "There is no such run. Received: x"),
    ],
)
def test_id_that_is_none_or_several_is_refused(tmp_path: Path, run_id: str, message: str) -> None:
    record_of(tmp_path, "20260101-000000-abc")
    record_of(tmp_path, "20260102-000000-abc")

    with pytest.raises(UsageError, match=message):
        run_record.find(tmp_path, run_id)


def test_run_that_was_killed_is_ended_by_the_next_one(tmp_path: Path) -> None:
    for run_id, state in (("1", "pushed"), ("2", "running")):
        run_record.write(tmp_path, record_of(tmp_path, run_id).model_copy(update={"state": state}))
    report = run_record.run_folder(tmp_path, "2") / REPORT
    report.write_text("Running")
    run_record.end_killed(tmp_path)

    assert [record.state for record in run_record.read_all(tmp_path)] == ["interrupted", "pushed"]
    assert not report.exists()


def test_workspace_without_runs_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No run has been recorded yet.*Run the pipeline"):
        run_record.find(tmp_path, None)


def test_record_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    record_of(tmp_path, "20260101-000000-abc")
    broken = run_record.run_folder(tmp_path, "20260102-000000-abc") / run_record.RECORD
    broken.parent.mkdir(parents=True)
    broken.write_text("{")

    assert [record.run_id for record in run_record.read_all(tmp_path)] == ["20260101-000000-abc"]


def test_output_is_known_only_as_long_as_its_folder_is_there(tmp_path: Path) -> None:
    node = run_record.NodeRecord(
        id="Trainer", state="done", seconds=1, log="", outputs={"model": [str(tmp_path)], "gone": ["/no/such/folder"]}
    )
    record = record_of(tmp_path, "1").model_copy(update={"nodes": [node]})

    assert record.output("Trainer", "model") == tmp_path
    assert record.output("Trainer", "gone") is None
    assert record.output("Pusher", "pushed_model") is None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (AnomaliesError("x"), "stopped_by_anomalies"),
        (KubetfxError("x"), "failed"),
        (RuntimeError("x"), "failed"),
    ],
)
def test_state_tells_how_a_run_ended(error: BaseException, state: str) -> None:
    assert run_record.end_state(error) == state

"""Old runs of a workspace, and what of their artifacts others use."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from kubetfx import run_record
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import UsageError
from kubetfx.pipeline.pruning import prune
from kubetfx.run_record import NodeRecord
from kubetfx.workspace import METADATA, locked

RUNS = [f"2026010{day}-000000-abc" for day in range(1, 5)]


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return PipelineConfig(
        name="shells", data={"path": str(tmp_path), "label": "kind"}, workspace=str(tmp_path / "work")
    )


@pytest.fixture
def workspace(config: PipelineConfig) -> Path:
    """Four runs: the second took its rows from the first, the others made their own; the first was pushed."""
    workspace = config.workspace_path
    for number, run_id in enumerate(RUNS, start=1):
        rows = artifact(workspace, "ExampleGen", "examples", 1 if number == 2 else 10 * number)
        model = artifact(workspace, "Trainer", "model", 10 * number + 1)
        nodes = [
            NodeRecord(id="ExampleGen", state="done", seconds=1, log="", outputs={"examples": [rows]}),
            NodeRecord(id="Trainer", state="done", seconds=1, log="", outputs={"model": [model]}),
        ]
        record = run_record.begin(config, run_id=run_id, command=[])
        started = (datetime.now(UTC) - timedelta(days=10 * (5 - number))).isoformat()
        fields: dict[str, Any] = {"state": "pushed", "started_at": started, "nodes": nodes}
        if number < 3:
            fields["pushed_version"] = 7  # the second found it to be there
        run_record.write(workspace, record.model_copy(update=fields))
        (workspace / "logs" / run_id).mkdir(parents=True)
    first = run_record.find(workspace, RUNS[0])
    first.nodes[0].outputs["examples"] = [artifact(workspace, "ExampleGen", "examples", 1)]
    run_record.write(workspace, first)
    (workspace / "comparisons").mkdir()
    for pair in (f"{RUNS[0]}..{RUNS[1]}", f"{RUNS[2]}..{RUNS[3]}"):
        (workspace / "comparisons" / f"{pair}.html").touch()
    return workspace


def artifact(workspace: Path, node: str, key: str, execution: int) -> str:
    folder = workspace / "artifacts" / node / key / str(execution)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").write_bytes(b"x" * 100)
    (workspace / "artifacts" / node / ".system" / "executor_execution" / str(execution)).mkdir(
        parents=True, exist_ok=True
    )
    return str(folder)


def artifacts(workspace: Path) -> set[str]:
    return {path.name for path in (workspace / "artifacts").glob("*/[!.]*/*")}


def test_old_runs_go_with_what_no_other_uses(config: PipelineConfig, workspace: Path) -> None:
    removed = prune(config, keep=3)

    assert removed.runs == (RUNS[0],)
    assert removed.num_bytes > 100
    assert artifacts(workspace) == {"1", "21", "30", "31", "40", "41"}  # 10 and 11 were the first run's alone
    assert {path.name for path in workspace.glob("artifacts/*/.system/*/*")} == artifacts(workspace)
    assert {path.name for path in (workspace / "runs").iterdir()} == set(RUNS[1:])
    assert {path.name for path in (workspace / "logs").iterdir()} == set(RUNS[1:])
    assert [path.stem for path in (workspace / "comparisons").iterdir()] == [f"{RUNS[2]}..{RUNS[3]}"]
    assert prune(config, keep=3).runs == ()
    with pytest.raises(UsageError, match="There is no such run"):
        run_record.find(workspace, RUNS[0])


def test_run_that_pushed_what_is_served_stays(config: PipelineConfig, workspace: Path) -> None:
    version = workspace / "pushed" / "shells" / "7"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()

    assert prune(config, keep=1).runs == (RUNS[2], RUNS[1])
    assert artifacts(workspace) == {"1", "11", "40", "41"}


def test_young_runs_stay(config: PipelineConfig, workspace: Path) -> None:
    assert prune(config, keep=1, older_than=timedelta(days=25)).runs == (RUNS[1], RUNS[0])
    assert {path.name for path in (workspace / "runs").iterdir()} == set(RUNS[2:])


def test_dry_run_says_the_same_and_removes_nothing(config: PipelineConfig, workspace: Path) -> None:
    said = prune(config, keep=1, dry_run=True)

    assert said.runs == (RUNS[2], RUNS[1], RUNS[0])
    assert len(artifacts(workspace)) == 8
    assert len(list((workspace / "runs").iterdir())) == 4
    assert prune(config, keep=1) == said
    assert str(said).startswith("3 of 4 runs, ")


def test_ml_metadata_knows_that_they_are_gone(config: PipelineConfig, workspace: Path) -> None:
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(workspace / METADATA)
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = MetadataStore(connection)
    type_id = store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Examples"))
    live = metadata_store_pb2.Artifact.LIVE
    uris = [str(path) for path in (workspace / "artifacts").glob("*/[!.]*/*")]
    store.put_artifacts([metadata_store_pb2.Artifact(type_id=type_id, uri=uri, state=live) for uri in uris])

    prune(config, keep=1)

    for found in store.get_artifacts():
        assert (found.state == live) == Path(found.uri).exists()


def test_workspace_of_a_run_that_goes_on_is_left_alone(config: PipelineConfig, workspace: Path) -> None:
    with locked(workspace), pytest.raises(UsageError, match="Another run is using the workspace"):
        prune(config, keep=1)
    with pytest.raises(UsageError, match=r"`keep` is a number of runs, at least 1\. Received: 0"):
        prune(config, keep=0)
    assert len(artifacts(workspace)) == 8


def test_nothing_is_made_where_nothing_ran(config: PipelineConfig) -> None:
    assert prune(config).runs == ()
    assert not config.workspace_path.exists()

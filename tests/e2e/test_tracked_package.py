"""A package whose last task sends the run to a real server of MLflow."""

from pathlib import Path

import pytest

from kubetfx.artifacts import REPORT
from kubetfx.components.tracking import tracking_queue
from tests.components.tracking.mlflow_server import mlflow_server, python_with_mlflow
from tests.e2e.project import penguins_in, states


@pytest.mark.long
def test_run_of_a_package_is_on_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking_queue.PYTHON, python_with_mlflow())
    project = penguins_in(tmp_path / "penguins")
    with mlflow_server(tmp_path) as server:
        tracking = f"tracking={{mlflow: {server.url}, register: true}}"
        done = project.run("--on", "kfp-local", "--set", "kubeflow.fuse=light", "--set", tracking, seconds=900)
        assert done.exit_code == 0, done.stdout
        (run,) = server.runs("penguins")
        files = {one["path"] for one in server.get("artifacts/list", run_id=run["info"]["run_id"])["files"]}
        model = server.get("registered-models/get", name="penguins")["registered_model"]

    (version,) = project.versions
    tags = {one["key"]: one["value"] for one in run["data"]["tags"]}
    metrics = {one["key"]: one["value"] for one in run["data"]["metrics"]}
    assert (tags["kubetfx.version"], tags["kubetfx.state"]) == (str(version), "pushed")
    assert metrics["eval/accuracy"] == pytest.approx(done.document["metrics"]["accuracy"])
    assert {REPORT, "config.json"} <= files
    assert len(model["latest_versions"]) == 1
    assert states(done)["Tracker"] == "done"

"""The task that sends a run on Kubeflow: what it sends, and what is left where nobody answers."""

import json
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from kubetfx.artifacts import REPORT
from kubetfx.components.report import facts
from kubetfx.components.report.component import RunReport
from kubetfx.components.tracker import Executor, TrackedRuns
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.tracking_section import TrackingConfig
from kubetfx.errors import ConfigError
from kubetfx.kubeflow import compilation
from kubetfx.pipeline.tracker_node import written
from tests.ports import free_ports


@pytest.fixture
def config(tmp_path) -> PipelineConfig:
    (port,) = free_ports(1)
    tracking = {"mlflow": f"http://127.0.0.1:{port}", "register": True}
    return PipelineConfig(name="shells", data={"path": str(tmp_path), "label": "kind"}, tracking=tracking)


def execute(config: PipelineConfig, folder: Path) -> Path:
    report, model, pushed, output = (
        RunReport(),
        standard_artifacts.Model(),
        standard_artifacts.PushedModel(),
        TrackedRuns(),
    )
    for artifact, name in ((report, "report"), (model, "model"), (pushed, "pushed"), (output, "output")):
        artifact.uri = str(folder / name)
        Path(artifact.uri).mkdir(exist_ok=True)
    pushed.set_string_custom_property("pushed_version", "7")
    found = facts.Facts(settings=facts.Settings.of(config), push=facts.Push(version=7))
    facts.write(found, Path(report.uri))
    (Path(report.uri) / REPORT).write_text("<p>fine</p>")
    tracking: TrackingConfig | None = config.tracking
    assert tracking is not None
    Executor().Do(
        {"report": [report], "model": [model], "pushed_model": [pushed]},
        {"tracked_runs": [output]},
        {"tracking": tracking.model_dump_json(by_alias=True), "config": written(config)},
    )
    return Path(output.uri)


def test_what_could_not_be_sent_is_in_the_artifact_and_no_run_fails(config, tmp_path):
    output = execute(config, tmp_path)

    (entry,) = output.glob("*/entry.json")
    document = json.loads(entry.read_text())
    assert document["register"] == "shells"
    assert document["experiment"] == "shells"
    assert {key: document["tags"][key] for key in ("kubetfx.version", "kubetfx.state")} == {
        "kubetfx.version": "7",
        "kubetfx.state": "pushed",
    }
    assert document["params"]["data.label"] == "kind"
    assert (entry.parent / "files" / REPORT).is_file()


def test_task_that_is_tried_again_is_the_same_run(config, tmp_path):
    first = {path.parent.name for path in execute(config, tmp_path).glob("*/entry.json")}
    second = {path.parent.name for path in execute(config, tmp_path).glob("*/entry.json")}

    assert first == second


def test_pods_without_the_password_are_refused(config):
    secret = config.model_copy(update={"tracking": TrackingConfig(mlflow="http://me:${SHELLS_PASSWORD}@mlflow")})

    with pytest.raises(ConfigError, match=r"tracking: the pods will not have the environment variable SHELLS_PASSWORD"):
        compilation._check_variables(secret)
    resources = {"Tracker": {"secrets": [{"name": "mlflow", "env": {"password": "SHELLS_PASSWORD"}}]}}
    given = PipelineConfig(name="shells", data=config.data, tracking=secret.tracking, kubeflow={"resources": resources})
    compilation._check_variables(given)


def test_package_has_the_task_and_the_reference_but_no_password(config, tmp_path, monkeypatch):
    from kubetfx.pipeline.definition import create_pipeline

    monkeypatch.setenv("SHELLS_PASSWORD", "geheimnis")
    secret = config.model_copy(update={"tracking": TrackingConfig(mlflow="http://me:${SHELLS_PASSWORD}@mlflow")})
    nodes = {node.id: node for node in create_pipeline(secret, in_cluster=True).components}

    assert "${SHELLS_PASSWORD}" in nodes["Tracker"].exec_properties["tracking"]
    assert "geheimnis" not in str(nodes["Tracker"].exec_properties)
    assert "Tracker" not in {node.id for node in create_pipeline(secret).components}

"""The compiled package, task by task in processes of their own, beside the plain local run."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tensorflow.core.protobuf import saved_model_pb2

from kubetfx.run_record import find
from kubetfx.workspace import locked
from tests.command import Finished
from tests.e2e.project import Project, kubetfx, penguins_in, report_of, states
from tests.e2e.pushed import pushed_files, pushed_tensors


@pytest.fixture(scope="module")
def on_kfp_local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Finished]:
    """A penguins project whose package has run here, its light nodes fused: each process costs its imports."""
    project = penguins_in(tmp_path_factory.mktemp("kfp") / "penguins")
    finished = project.run("--on", "kfp-local", "--set", "kubeflow.fuse=light")
    assert finished.exit_code == 0, finished.stdout
    return project, finished


@pytest.fixture(scope="module")
def unfused_on_kfp_local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A penguins project whose package has run here, a task per node."""
    project = penguins_in(tmp_path_factory.mktemp("unfused") / "penguins")
    finished = project.run("--on", "kfp-local")
    assert finished.exit_code == 0, finished.stdout
    return project


def signatures(project: Project) -> dict[str, str]:
    (version,) = project.versions
    content = (project.pushed / str(version) / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    return {
        name: f"{sorted(signature.inputs)} {sorted(signature.outputs)} {signature.method_name}"
        for name, signature in graph.signature_def.items()
    }


def test_it_pushes_the_model_of_the_plain_local_run(on_kfp_local, penguins):
    project, _ = on_kfp_local
    ours, theirs = pushed_tensors(project), pushed_tensors(penguins)

    assert ours.keys() == theirs.keys()
    assert ours
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert signatures(project) == signatures(penguins)
    assert pushed_files(project) == pushed_files(penguins)


@pytest.mark.long
def test_fused_nodes_push_the_model_that_a_task_per_node_pushes(on_kfp_local, unfused_on_kfp_local):
    project, _ = on_kfp_local
    fused, unfused = pushed_tensors(project), pushed_tensors(unfused_on_kfp_local)

    assert fused.keys() == unfused.keys()
    assert fused
    for name, array in fused.items():
        np.testing.assert_array_equal(array, unfused[name], err_msg=name)
    assert pushed_files(project) == pushed_files(unfused_on_kfp_local)


def test_each_task_of_the_run_is_in_ml_metadata_once(on_kfp_local):
    project, finished = on_kfp_local
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(project.workspace / "kfp-local" / "metadata.sqlite")
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    store = metadata_store.MetadataStore(config)

    run = store.get_context_by_type_and_name("system.PipelineRun", finished.document["run_id"])
    titles = [e.custom_properties["display_name"].string_value for e in store.get_executions_by_context(run.id)]
    assert sorted(filter(None, titles)) == sorted(states(finished))


def test_it_finds_the_metrics_of_the_plain_local_run(on_kfp_local, penguins):
    _, finished = on_kfp_local
    local = json.loads((penguins.folder / "first.json").read_text())

    assert finished.document["metrics"] == pytest.approx(local["metrics"], rel=1e-6)  # Beam adds up in another order
    assert finished.document["blessed"]
    assert [check["passed"] for check in finished.document["checks"]] == [check["passed"] for check in local["checks"]]


def test_each_task_is_told_and_logged(on_kfp_local):
    _, finished = on_kfp_local

    assert list(states(finished)) == [
        "TableExampleGen driver",
        "TableExampleGen",
        "StatisticsGen + SchemaGen + ExampleValidator + AnomalyGate",
        "Transform",
        "Trainer",
        "ServedModelResolver + Evaluator + Pusher + Report",
    ]
    for node in finished.document["nodes"]:
        assert re.search(r"begins, \d+\.\d\d s after", Path(node["log"]).read_text()) or "driver" in node["id"]


def test_it_is_among_the_runs_with_a_report_of_its_own(on_kfp_local):
    project, finished = on_kfp_local
    (run,) = [
        run
        for run in kubetfx("runs", project.config, "--format", "json").document["runs"]
        if run["run_id"] == finished.document["run_id"]
    ]
    html = Path(run["report"]).read_text(encoding="utf-8")

    assert (run["state"], run["pushed_version"]) == ("pushed", finished.document["pushed_version"])
    assert run["metrics"] == finished.document["metrics"]
    assert report_of(finished) == Path(run["report"])
    for words in ("Pushed as version", "Confusion matrix", "What the model looks at", "Chain of artifacts"):
        assert words in html
    assert "there is no earlier run with other data" in html  # and not that no records are in sight
    record = find(project.workspace, run["run_id"])
    assert record.node("Trainer").upstream == ["TableExampleGen", "AnomalyGate", "Transform"]
    assert record.output("Evaluator", "evaluation").is_dir()
    assert record.node("Evaluator").seconds is None  # it shared its task


def test_artifacts_lie_where_the_launcher_puts_an_object_stores(on_kfp_local):
    project, _ = on_kfp_local

    (model,) = (project.workspace / "kfp-local").glob("minio/mlpipeline/v2/artifacts/penguins/*/trainer/*/model")
    assert (model / "Format-Serving" / "saved_model.pb").is_file()


@pytest.mark.long
def test_failing_task_shows_its_exit_status_and_the_end_of_its_log(on_kfp_local):
    """What comes before the user's own module is taken from the cache."""
    project, _ = on_kfp_local
    module = project.folder / "broken_network.py"
    module.write_text("def preprocessing_fn(inputs, custom_config):\n    raise RuntimeError('broken on purpose')\n")
    failed = kubetfx(
        "run",
        project.config,
        "--on",
        "kfp-local",
        "--set",
        "model.module=broken_network",
        "--set",
        "kubeflow.fuse=light",
    )

    assert failed.exit_code == 1
    assert "Transform failed: exit status 1. The end of its log:" in failed.stderr
    assert "broken on purpose" in failed.stderr
    assert re.search(r"\[4/6\] +Transform +failed after", failed.stderr)
    assert re.search(r"\[3/6\].*AnomalyGate +cached", failed.stderr)
    assert "Trainer" not in failed.stderr
    newest = kubetfx("runs", project.config, "--format", "json").document["runs"][0]
    assert newest["state"] == "failed"
    html = Path(newest["report"]).read_text(encoding="utf-8")
    assert "Failed at Transform, node 7 of 12" in html
    assert 'id="data"' in html


def test_second_run_is_kept_out_of_the_workspace(new_penguins):
    with locked(new_penguins.workspace):
        refused = new_penguins.run("--on", "kfp-local")

    assert refused.exit_code == 2
    assert "Another run is using the workspace" in refused.document["error"]["message"]


def test_docker_needs_the_package(new_penguins):
    refused = new_penguins.run("--docker")

    assert refused.exit_code == 2
    assert (
        "--docker requires --on kfp-local. Received: --docker and --on local." in refused.document["error"]["message"]
    )


def test_docker_that_starts_no_container_is_told_with_what_to_do(new_penguins, tmp_path, monkeypatch):
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\necho \"Unable to find image 'kubetfx/pipeline' locally\" >&2\nexit 125\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=os.pathsep)

    failed = new_penguins.run("--on", "kfp-local", "--docker")

    message = failed.document["error"]["message"]
    assert failed.exit_code == 1
    assert "TableExampleGen driver failed: exit status 125." in message
    assert "Unable to find image" in message
    assert "Docker did not start it. Is Docker running, and the image there?" in message

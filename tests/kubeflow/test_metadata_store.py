"""What a run leaves in ML Metadata, beside what Kubeflow Pipelines 2.17.0 records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.dsl.experimental.conditionals.conditional import Cond

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.errors import CompileError
from kubetfx.kubeflow.compiler import compile_pipeline, write_package
from kubetfx.kubeflow.emulation.metadata_store import Output, RunMetadata, TaskStart
from kubetfx.kubeflow.emulation.task_results import TaskFailedError
from kubetfx.kubeflow.emulator import METADATA_STORE, Emulator
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.kubeflow.package_document import read_package
from tests.kubeflow.conftest import InThisProcess
from tests.kubeflow.taxi_pipeline import Fail, Number, Read, Write, small

State = mlmd.Execution.State


class Recorded:
    """A store, as whoever looks into it finds it."""

    def __init__(self, path: Path) -> None:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        self.store: Any = metadata_store.MetadataStore(config)

    def run(self, run_id: str) -> Any:
        return self.store.get_context_by_type_and_name("system.PipelineRun", run_id)

    def executions(self, run_id: str) -> dict[str, Any]:
        """By display name; the root has none."""
        found = self.store.get_executions_by_context(self.run(run_id).id)
        return {execution.custom_properties["display_name"].string_value: execution for execution in found}

    def states(self, run_id: str) -> dict[str, str]:
        return {title: State.Name(e.last_known_state) for title, e in self.executions(run_id).items()}

    def events(self, execution: Any) -> dict[tuple[str, str], int]:
        """Artifact by direction and path."""
        return {
            (mlmd.Event.Type.Name(event.type), event.path.steps[0].key): event.artifact_id
            for event in self.store.get_events_by_execution_ids([execution.id])
        }


@pytest.fixture
def record(tmp_path, launcher_root) -> Callable[..., Recorded]:
    def run(pipeline: Any, *, run_id: str = "1", config: dict[str, Any] | None = None) -> Recorded:
        path = tmp_path / "package.yaml"
        write_package(compile_pipeline(pipeline, KubeflowConfig.model_validate(config or {})), path)
        emulator = Emulator(read_package(path), root=launcher_root, run_id=run_id, run_command=InThisProcess())
        try:
            emulator.run({})
        finally:
            del emulator  # and with it the connection
        return Recorded(launcher_root / METADATA_STORE)

    return run


def pair(text: str = "x") -> Any:
    write = Write(text=text, times=1)
    return small("pair", write, Read(model=write.outputs["model"]))


def test_run_and_pipeline_are_contexts_of_every_execution(record):
    recorded = record(pair())

    (pipeline,) = recorded.store.get_contexts_by_type("system.Pipeline")
    run = recorded.run("1")
    assert pipeline.name == "pair"
    assert [parent.id for parent in recorded.store.get_parent_contexts_by_context(run.id)] == [pipeline.id]
    assert run.custom_properties["pipeline_root"].string_value == "minio://mlpipeline/v2/artifacts/pair/1"
    executions = recorded.store.get_executions()
    assert len(executions) == 3
    for execution in executions:
        contexts = recorded.store.get_contexts_by_execution(execution.id)
        assert {context.id for context in contexts} == {pipeline.id, run.id}
    for artifact in recorded.store.get_artifacts():
        contexts = recorded.store.get_contexts_by_artifact(artifact.id)
        assert {context.id for context in contexts} == {pipeline.id, run.id}


def test_container_is_an_execution_with_its_inputs_and_outputs(record):
    recorded = record(pair())

    executions = recorded.executions("1")
    root, write, read = executions[""], executions["Write"], executions["Read"]
    assert (root.type, root.name) == ("system.DAGExecution", "run/1")
    assert (write.type, write.name) == ("system.ContainerExecution", "")
    assert write.custom_properties["task_name"].string_value == "write"
    assert write.custom_properties["parent_dag_id"].int_value == root.id
    assert write.custom_properties["cache_fingerprint"].string_value
    assert recorded.states("1") == {"": "RUNNING", "Write": "COMPLETE", "Read": "COMPLETE"}
    written = recorded.events(write)
    assert set(written) == {("OUTPUT", "model"), ("OUTPUT", "model_page"), ("OUTPUT", "executor-logs")}
    taken = recorded.events(read)
    assert taken["INPUT", "model"] == written["OUTPUT", "model"]
    assert {key for kind, key in taken if kind == "INPUT"} == {"model"}
    assert {key for kind, key in taken if kind == "OUTPUT"} == {"text", "summary", "executor-logs"}
    (model,) = recorded.store.get_artifacts_by_id([written["OUTPUT", "model"]])
    assert (model.type, model.state) == ("system.Model", mlmd.Artifact.LIVE)
    assert model.custom_properties["display_name"].string_value == "model"
    assert model.custom_properties["tfx_type"].string_value == "Model"
    assert local_path(model.uri).is_dir()


def test_task_from_the_cache_names_the_execution_that_it_is_taken_from(record):
    record(pair())
    recorded = record(pair(), run_id="2")

    first, second = recorded.executions("1")["Write"], recorded.executions("2")["Write"]
    assert recorded.states("2") == {"": "RUNNING", "Write": "CACHED", "Read": "CACHED"}
    assert second.custom_properties["cached_execution_id"].string_value == str(first.id)
    assert recorded.events(second) == recorded.events(first)


def test_task_is_not_taken_from_the_cache_of_a_store_that_is_gone(record, launcher_root):
    record(pair())
    (launcher_root / METADATA_STORE).unlink()
    recorded = record(pair(), run_id="2")

    assert recorded.states("2") == {"": "RUNNING", "Write": "COMPLETE", "Read": "COMPLETE"}


@pytest.mark.parametrize("value", [1, 2], ids=["holds", "does not hold"])
def test_tasks_under_a_condition_are_a_dag_that_ends_with_them(record, value):
    number = Number(value=value)
    with Cond(number.outputs["number"].future()[0].value == 1):
        write = Write(text="x", times=1)
        read = Read(model=write.outputs["model"])
    recorded = record(small("conditional", number, write, read))

    states, executions = recorded.states("1"), recorded.executions("1")
    (title,) = (title for title in states if title.startswith("number"))
    dag = executions[title]
    assert executions["Number"].custom_properties["outputs"].struct_value["condition_1"] == (
        "true" if value == 1 else "false"
    )
    assert (dag.type, dag.custom_properties["total_dag_tasks"].int_value) == ("system.DAGExecution", 2)
    if value == 1:
        assert states[title] == states["Write"] == states["Read"] == "COMPLETE"
        assert executions["Read"].custom_properties["parent_dag_id"].int_value == dag.id
    else:
        assert states[title] == "CANCELED"
        assert "Write" not in states  # no driver of it runs


def test_task_that_fails_leaves_its_log_alone_at_each_try(record):
    with pytest.raises(TaskFailedError):
        record(small("bad", Fail(reason="for a test")), config={"resources": {"Fail": {"retries": {"count": 1}}}})
    recorded = record(small("bad", Number(value=1)), run_id="2")

    failed = recorded.executions("1")["Fail"]
    assert recorded.states("1")["Fail"] == "FAILED"
    events = recorded.store.get_events_by_execution_ids([failed.id])
    assert [event.path.steps[0].key for event in events] == ["executor-logs"] * 2


def test_refused_task_leaves_no_execution(tmp_path):
    run = RunMetadata(tmp_path / "store", pipeline="p", run_id="1", root="minio://x")
    dag = run.start_root({})
    first = run.start_container(TaskStart("a", "A", dag, {}, {}))

    stored = run.ended(first, succeeded=True, outputs={"x": Output("system.Model", "minio://x/x", {})}, parameters={})

    with pytest.raises(CompileError, match=r"B: takes one artifact .*'one' and 'two' are artifact 1 \(UNIQUE"):
        run.start_container(TaskStart("b", "B", dag, {}, {"one": [stored["x"]], "two": [stored["x"]]}))

    assert set(Recorded(tmp_path / "store").executions("1")) == {"", "A"}


def test_metadata_comes_back_as_from_the_server(tmp_path):

    run = RunMetadata(tmp_path / "store", pipeline="p", run_id="1", root="s3://x")
    execution = run.start_container(TaskStart("a", "A", run.start_root({"rows": 3.0}), {}, {}))
    said = {"text": "é", "number": 3, "yes": True, "rows": [1, "a"], "tree": {"leaf": {"size": 2}}}

    stored = run.ended(
        execution, succeeded=True, outputs={"x": Output("system.Model", "s3://x/x", said)}, parameters={"a": "b"}
    )

    metadata = stored["x"]["metadata"]
    assert metadata.pop("store_session_info") == '{"Provider": "s3", "Params": {}}'
    assert metadata == {
        "display_name": "x",
        "text": "é",
        "number": 3.0,
        "yes": 1.0,
        "rows": {"list": [1.0, "a"]},
        "tree": {"struct": {"leaf": {"size": 2.0}}},
    }
    with pytest.raises(CompileError, match="takes no null"):
        run.ended(
            execution, succeeded=True, outputs={"y": Output("system.Model", "s3://x/y", {"n": None})}, parameters={}
        )

"""A task takes an artifact once: what is compiled does, and ML Metadata refuses the rest."""

import json
import shutil
from typing import Any

import pytest
import yaml
from kfp.compiler import Compiler

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.errors import CompileError
from kubetfx.kubeflow.compiler import compile_pipeline, write_package
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import ExecutorInput, local_path
from kubetfx.kubeflow.lint import lint
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.task_run import run_task
from kubetfx.kubeflow.task_spec import TaskSpec
from tests.kubeflow import sdk_packages
from tests.kubeflow.conftest import InThisProcess, specs
from tests.kubeflow.taxi_pipeline import (
    Compare,
    Number,
    Write,
    small,
)


def comparison() -> Any:
    """A user's pipeline that feeds one channel to two inputs of a component."""
    write, number = Write(text="ab", times=1), Number(value=2)
    model = write.outputs["model"]
    return small("compared", write, number, Compare(left=model, right=model, times=number.outputs["number"]))


def take_the_model_under_two_inputs(path: Any) -> None:
    """The package as it was compiled before: an input of the task per input of the node."""
    document = yaml.safe_load(path.read_text())
    executor = document["deploymentSpec"]["executors"]["exec-compare"]["container"]
    spec = TaskSpec.from_argument(executor["args"][1])
    (node,) = spec.nodes
    node = node.model_copy(update={"inputs": {**node.inputs, "right": ("right",)}})
    inputs = {**spec.inputs, "right": spec.inputs["left"]}
    executor["args"][1] = spec.model_copy(update={"nodes": (node,), "inputs": inputs}).to_argument()
    for artifacts in (
        document["components"]["comp-compare"]["inputDefinitions"]["artifacts"],
        document["root"]["dag"]["tasks"]["compare"]["inputs"]["artifacts"],
    ):
        artifacts["right"] = dict(artifacts["left"])
    path.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("fuse", [[], [["Write", "Number"]], [["Number", "Compare"]]], ids=str)
def test_channel_under_two_inputs_of_a_component_arrives_at_both(run, tmp_path, fuse):
    emulator, _ = run(comparison(), config=KubeflowConfig(fuse=fuse))

    (text,) = (entry for task in emulator.tasks for slot, entry in task.artifacts.items() if slot.endswith("text"))
    assert (local_path(text["uri"]) / "value").read_text() == "abab"
    assert lint(tmp_path / "package.yaml") == []


def test_task_that_takes_an_artifact_under_two_inputs_is_refused_by_ml_metadata(tmp_path, launcher_root):
    path, tasks = tmp_path / "package.yaml", InThisProcess()
    write_package(compile_pipeline(comparison(), KubeflowConfig()), path)
    take_the_model_under_two_inputs(path)
    emulator = Emulator(read_package(path), root=launcher_root, run_id="1", run_command=tasks)

    with pytest.raises(CompileError, match="Compare: takes one artifact under several inputs") as refused:
        emulator.run({})

    message = str(refused.value)
    assert "UNIQUE constraint failed: Event.artifact_id, Event.execution_id, Event.type" in message
    assert "Received: 'left' and 'right' are artifact" in message
    assert [finding.rule for finding in lint(path)] == ["artifact-twice"]
    assert "Compare" not in tasks.seen  # no container of it was started


def test_container_understands_the_argument_of_a_package_that_was_compiled_before(run, tmp_path):
    _, tasks = run(comparison())
    take_the_model_under_two_inputs(tmp_path / "package.yaml")
    argument = specs(yaml.safe_load((tmp_path / "package.yaml").read_text()))["compare"]
    document = json.loads(tasks.seen["Compare"][0])
    document["inputs"]["artifacts"]["right"] = document["inputs"]["artifacts"]["left"]
    shutil.rmtree(local_path(document["outputs"]["artifacts"]["text"]["artifacts"][0]["uri"]))

    run_task(argument, ExecutorInput.from_json(json.dumps(document)))

    assert len(argument.inputs) == 3
    text = local_path(document["outputs"]["artifacts"]["text"]["artifacts"][0]["uri"])
    assert (text / "value").read_text() == "abab"


@pytest.mark.parametrize(
    ("package", "title"),
    [
        (sdk_packages.once_more, "compare"),
        (sdk_packages.twice_to_a_dag, "hand-on"),
        (sdk_packages.twins, "compare"),
    ],
    ids=["given to a task twice", "given to a DAG twice", "made by two tasks that do the same"],
)
def test_package_of_the_sdk_that_ml_metadata_refuses_is_refused(tmp_path, launcher_root, package, title):
    path = tmp_path / "package.yaml"
    Compiler().compile(package, str(path))
    emulator = Emulator(read_package(path), root=launcher_root, run_id="1", run_command=lambda *_: 0)

    with pytest.raises(CompileError, match=f"^{title}: .* 'left' and 'right' are artifact .*UNIQUE constraint failed"):
        emulator.run({})

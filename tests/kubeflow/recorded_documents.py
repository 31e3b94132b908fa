"""ExecutorInput documents as the launcher of Kubeflow Pipelines 2.17.0 hands them to a container, a file per task.

They are those of a package of a table with `fuse: light`, in the order in which the tasks run: URIs under the default
root, with the ids of a run and of its tasks; input artifacts with the id that ML Metadata gave them, a blank type, and
the session of the object store; the log of the first try; output files at the places of a pod. Nothing of kubetfx's
emulator went into them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kubetfx.config.loading import load_config
from kubetfx.kubeflow.compiler import write_package
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.kubeflow.package import compile_config
from tests.kubeflow.test_task_run import write_table

FOLDER = Path(__file__).parent / "recorded"
RESOLVE, EXAMPLE_GEN = "resolve-table-example-gen", "table-example-gen"
CHECKS = "statistics-gen-schema-gen-example-validator-anomaly-gate"
TASKS = (RESOLVE, EXAMPLE_GEN, CHECKS)
DATA = "/data"
"""Where the pods had the table."""


def recorded(task: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))
    return document


def moved(task: str, *, root: Path, data: Path) -> dict[str, Any]:
    """A document for this machine: only the paths that are absolute are others than in the pod."""
    document = recorded(task)
    outputs = document["outputs"]
    outputs["outputFile"] = f"{root}{outputs['outputFile']}"
    for output in outputs.get("parameters", {}).values():
        output["outputFile"] = f"{root}{output['outputFile']}"
    parameters = document["inputs"].get("parameterValues", {})
    for name, value in parameters.items():
        parameters[name] = value.replace(DATA, str(data))
    return document


def compiled_package(folder: Path) -> Path:
    """The package whose tasks were recorded, and beside it the folder `data` with its table."""
    write_table(folder / "data")
    (folder / "pipeline.yaml").write_text(
        "name: any\ndata: {path: data, label: kind}\ntraining: {epochs: 2}\nkubeflow: {fuse: light}\n"
    )
    path = folder / "package.yaml"
    write_package(compile_config(load_config(folder / "pipeline.yaml"))[0], path)
    return path


def command_of(package: Path, task: str, document: Mapping[str, Any]) -> list[str]:
    """The command of a task's container with its document, as the launcher starts it."""
    executors = next(yaml.safe_load_all(package.read_text()))["deploymentSpec"]["executors"]
    container = executors[f"exec-{task}"]["container"]
    words = [*container["command"], *container["args"]]
    return [word.replace("{{$}}", json.dumps(document)) for word in words]


def make_folders(document: Mapping[str, Any], root: Path) -> None:
    """Make what the launcher makes before a container starts: the folders of its outputs, and its log."""
    artifacts = document["outputs"]["artifacts"]
    paths = [local_path(found["artifacts"][0]["uri"], root) for found in artifacts.values()]
    paths += [_below(root, output["outputFile"]) for output in document["outputs"].get("parameters", {}).values()]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    local_path(artifacts["executor-logs"]["artifacts"][0]["uri"], root).touch()


def output_of(document: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The ExecutorOutput that a container has written."""
    output: dict[str, Any] = json.loads(_below(root, document["outputs"]["outputFile"]).read_text())
    return output


def check_output(document: Mapping[str, Any], output: Mapping[str, Any], root: Path) -> None:
    """Check that a container has written what its document asks for, where it asks for it."""
    asked = document["outputs"]["artifacts"]
    assert set(output.get("artifacts", {})) == set(asked) - {"executor-logs"}
    for key, found in output.get("artifacts", {}).items():
        (artifact,), (wanted,) = found["artifacts"], asked[key]["artifacts"]
        assert (artifact["name"], artifact["uri"]) == (key, wanted["uri"])
        assert local_path(artifact["uri"], root).exists()
        assert str(root) not in json.dumps(artifact["metadata"])
    assert set(output.get("parameterValues", {})) == set(document["outputs"].get("parameters", {}))


def _below(root: Path, path: str) -> Path:
    """The file on this machine of an absolute path in a document, which may be one of this machine already."""
    return Path(path) if Path(path).is_relative_to(root) else root / path.lstrip("/")


def form(document: Any, *, inside: str = "") -> Any:
    """What a document consists of, without its values: fields, and the types of what is in them."""
    if inside in ("metadata", "parameterValues") or not isinstance(document, dict | list):
        return type(document).__name__
    if isinstance(document, list):
        return [form(item) for item in document]
    return {key: form(value, inside=key) for key, value in document.items() if value != {}}

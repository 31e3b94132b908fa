"""Runs a container as the launcher of Kubeflow Pipelines 2.17.0 does: its documents, placeholders, tries and outputs.

backend/src/v2: provisionOutputs in `driver/driver.go`, resolveContainerArgs in `driver/util.go`, and
`component/launcher_v2.go`. Settings of pods are ignored, but for the deadline.
"""

import errno
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubetfx.artifact_store import remove_here
from kubetfx.errors import CompileError
from kubetfx.kubeflow.emulation import object_store
from kubetfx.kubeflow.emulation.driver_inputs import Inputs
from kubetfx.kubeflow.emulation.metadata_store import Output, RunMetadata
from kubetfx.kubeflow.emulation.parameter_text import as_double, as_json, as_text, from_text
from kubetfx.kubeflow.emulation.task_results import TaskFailedError, TaskResult
from kubetfx.kubeflow.executor_io import local_path

RunCommand = Callable[[Sequence[str], Mapping[str, str], str, TaskResult], int]
"""Runs a command with its environment and image, for a task; returns the exit status."""

_LOGS = "executor-logs"
"""Output that the driver adds to each container, with the launcher's log. Its place ends in the number of the try."""
_POD_OUTPUTS = "tmp/kfp/outputs"
"""Where the files of output parameters are in a pod."""
KILLED = 137
"""Exit status of a container that Kubernetes ended."""
_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+?)']}}")


@dataclass(frozen=True)
class Launch:
    """A container to run."""

    component: Mapping[str, Any]
    container: Mapping[str, Any]
    inputs: Inputs
    place: str
    """URI under which its outputs are."""
    max_retries: int = 0
    deadline_seconds: int | None = None
    """Time after which Kubernetes ends a pod of it."""
    ends_at: float = math.inf
    """When Argo ends the whole run, by `time.monotonic`."""
    has_store: bool = False
    """Whether artifacts are in an object store. Otherwise a folder stands for it, and nothing is copied."""


def launch(task: Launch, result: TaskResult, *, root: Path, metadata: RunMetadata, run_command: RunCommand) -> None:
    """Run a container until it succeeds or no try is left, and record what it wrote.

    Args:
        task: to run.
        result: The result of the task, which is filled.
        root: folder instead of `/` in the launcher's paths.
        metadata: The metadata of the run.
        run_command: runs the container's command.

    Raises:
        TaskFailedError: the last try ended with an exit status that is not 0, or the run's time was over before it.
        CompileError: the launcher would fail.
    """
    for attempt in range(1 + task.max_retries):
        _bound(task, result)
        document = _executor_input(task, attempt, root)
        result.arguments = list(_command(task, document, root))
        shutil.rmtree(root / _POD_OUTPUTS, ignore_errors=True)  # each pod has a disk of its own
        (root / _POD_OUTPUTS).mkdir(parents=True)
        log = local_path(_first(document, _LOGS)["uri"], root)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        if task.has_store:
            object_store.download(_input_uris(task), root)
        metadata.runs(result.execution)
        result.exit_code = _run(task, result, run_command)
        if result.exit_code == 0:
            break
        logs = {_LOGS: _output(_first(document, _LOGS))} if log.is_file() else {}
        metadata.ended(result.execution, succeeded=False, outputs=logs, parameters={})
    if result.exit_code:
        raise TaskFailedError(result)
    if not log.is_file():
        raise CompileError(
            f"{result.title}: removed the launcher's log. Received: no {log}. Kubeflow Pipelines would not record "
            "it, and would fail at the next cache hit, which asks for every output."
        )
    if task.has_store:
        uris = [found["artifacts"][0]["uri"] for found in document["outputs"]["artifacts"].values()]
        object_store.upload(uris, root)
        for uri in {*uris, *_input_uris(task)}:  # each pod has a disk of its own
            remove_here(local_path(uri, root))
    _collect(task, document, result, metadata)
    result.state = "done"


def _input_uris(task: Launch) -> list[str]:
    return [artifact["uri"] for found in task.inputs.artifacts.values() for artifact in found]


def _bound(task: Launch, result: TaskResult) -> None:
    """Give a container the time that is left: its own, or the run's if that is less."""
    left = task.ends_at - time.monotonic()
    if left <= 0:
        result.exit_code = KILLED
        raise TaskFailedError(result)
    bounds = [seconds for seconds in (task.deadline_seconds, left) if seconds is not None and seconds < math.inf]
    result.deadline_seconds = math.ceil(min(bounds)) if bounds else None


def _executor_input(task: Launch, attempt: int, root: Path) -> dict[str, Any]:
    """Return the document of the driver, with what the launcher adds: defaults, and the number of the try."""
    outputs = task.component.get("outputDefinitions", {})
    declared = {**outputs.get("artifacts", {}), _LOGS: {"artifactType": {"schemaTitle": "system.Artifact"}}}
    defaults = {
        key: as_double(spec["defaultValue"])
        for key, spec in task.component.get("inputDefinitions", {}).get("parameters", {}).items()
        if spec.get("defaultValue") is not None
    }
    artifacts = {}
    for key, spec in declared.items():
        uri = f"{task.place}/{key}-{attempt}" if key == _LOGS else f"{task.place}/{key}"
        artifact = {"name": key, "uri": uri, "type": spec["artifactType"], "metadata": spec.get("metadata", {})}
        artifacts[key] = {"artifacts": [artifact]}
    return {
        "inputs": {
            "parameterValues": {**defaults, **task.inputs.parameters},
            "artifacts": {
                key: {"artifacts": [{**artifact, "type": {"instanceSchema": ""}} for artifact in found]}
                for key, found in task.inputs.artifacts.items()
            },
        },
        "outputs": {
            "parameters": {
                key: {"outputFile": str(root / _POD_OUTPUTS / key)} for key in outputs.get("parameters", {})
            },
            "artifacts": artifacts,
            "outputFile": str(local_path(task.place, root) / "output_metadata.json"),
        },
    }


def _command(task: Launch, document: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Fill the placeholders in: the driver those of inputs, the launcher the others."""
    placeholders = dict(_placeholders(document, root))
    whole = as_json(document)
    words = [word for part in _words(task) for word in _driver_filled(part, task.inputs.parameters)]
    for index, word in enumerate(words):
        filled = word.replace("{{$}}", whole)
        for placeholder, text in placeholders.items() if index else ():  # the launcher leaves the command itself
            filled = filled.replace(placeholder, text)
        yield filled


def _words(task: Launch) -> list[str]:
    return [*task.container.get("command", ()), *task.container.get("args", ())]


def _driver_filled(part: str, parameters: Mapping[str, Any]) -> list[str]:
    if "$.outputs" in part:
        return [part]
    if not part.lstrip().startswith('{"IfPresent":'):
        return [_with_parameters(part, parameters)]
    condition = json.loads(part)["IfPresent"]
    words = condition.get("Then" if parameters.get(condition["InputName"]) is not None else "Else") or []
    return [_with_parameters(word, parameters) for word in ([words] if isinstance(words, str) else words)]


def _with_parameters(part: str, parameters: Mapping[str, Any]) -> str:
    def text_of(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            raise CompileError(
                f"The driver cannot fill a placeholder in. Received: {part!r}, and no value for {match[1]!r}. Pass a "
                "value, or put the placeholder into a dsl.IfPresentPlaceholder."
            )
        return as_text(parameters[match[1]])

    return _PARAMETER.sub(text_of, part)


def _placeholders(document: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    for side in ("inputs", "outputs"):
        for key, found in document[side]["artifacts"].items():
            for artifact in found["artifacts"][:1]:
                yield f"{{{{$.{side}.artifacts['{key}'].uri}}}}", artifact["uri"]
                yield f"{{{{$.{side}.artifacts['{key}'].path}}}}", str(local_path(artifact["uri"], root))
    for key, value in document["inputs"]["parameterValues"].items():
        yield f"{{{{$.inputs.parameters['{key}']}}}}", as_text(value)
    for key, output in document["outputs"]["parameters"].items():
        yield f"{{{{$.outputs.parameters['{key}'].output_file}}}}", output["outputFile"]


def _run(task: Launch, result: TaskResult, run_command: RunCommand) -> int:
    environment = {variable["name"]: variable["value"] for variable in task.container.get("env", ())}
    try:
        return run_command(result.arguments, environment, task.container["image"], result)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        longest = max(len(part.encode()) for part in result.arguments)
        raise CompileError(
            f"{result.title}: its arguments are longer than Linux takes, here and in a container. Received: an "
            f"argument of {longest:,} bytes; 131,071 are the most. Give the node less in its properties, its "
            "inputs' properties, and its modules."
        ) from None


def _collect(task: Launch, document: Mapping[str, Any], result: TaskResult, metadata: RunMetadata) -> None:
    """Read the ExecutorOutput.

    A field that the launcher does not know is an error, and of several artifacts the first counts; the log's place is
    the launcher's own.
    """
    path = Path(document["outputs"]["outputFile"])
    output = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if unknown := set(output) - {"artifacts", "parameterValues", "taskStatusMessage"}:
        raise CompileError(
            f"{result.title}: the launcher refuses the field {sorted(unknown)[0]!r} of an ExecutorOutput."
        )
    result.parameters = {key: as_double(value) for key, value in output.get("parameterValues", {}).items()}
    for key, spec in task.component.get("outputDefinitions", {}).get("parameters", {}).items():
        if key not in result.parameters:
            result.parameters[key] = _read_parameter(document, key, spec["parameterType"], result.title)
    written = {key: value for key, value in output.get("artifacts", {}).items() if key != _LOGS}
    outputs = {key: _output(_first(document, key), written.get(key)) for key in document["outputs"]["artifacts"]}
    stored = metadata.ended(result.execution, succeeded=True, outputs=outputs, parameters=result.parameters)
    result.artifacts = {key: artifact for key, artifact in stored.items() if key != _LOGS}


def _read_parameter(document: Mapping[str, Any], key: str, parameter_type: str, title: str) -> Any:
    file = Path(document["outputs"]["parameters"][key]["outputFile"])
    if not file.is_file():
        raise CompileError(
            f"{title}: has not written the output parameter {key!r}, and the launcher fails the task. Received: no "
            f"{file}, and nothing under parameterValues in {document['outputs']['outputFile']}. Write it there."
        )
    return from_text(file.read_text(encoding="utf-8"), parameter_type)


def _first(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    artifact: dict[str, Any] = document["outputs"]["artifacts"][key]["artifacts"][0]
    return artifact


def _output(declared: Mapping[str, Any], written: Mapping[str, Any] | None = None) -> Output:
    """Return an output artifact, as the driver declared it, with what the container wrote about it."""
    said = ((written or {}).get("artifacts") or [{}])[0]
    metadata = {**declared["metadata"], **said.get("metadata", {})}
    return Output(declared["type"]["schemaTitle"], said.get("uri") or declared["uri"], metadata)

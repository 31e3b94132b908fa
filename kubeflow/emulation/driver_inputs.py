"""Looks up what a task is given, as the driver of Kubeflow Pipelines 2.17.0 does (backend/src/v2/driver/resolve.go)."""

import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubetfx.errors import CompileError
from kubetfx.kubeflow.emulation.expressions import selected
from kubetfx.kubeflow.emulation.parameter_text import as_double, as_json, as_text
from kubetfx.kubeflow.emulation.task_results import Finished, RuntimeArtifact

WORKSPACE_PATH = "/kfp-workspace"
"""Where a run's workspace volume is in the pods (WorkspaceMountPath in component/constants.go)."""

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "NUMBER_DOUBLE": float,
    "NUMBER_INTEGER": float,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
    "TASK_FINAL_STATUS": dict,
    "TASK_CONFIG": dict,
}


@dataclass(frozen=True)
class RunNames:
    """What placeholders about the run stand for."""

    pipeline: str
    run_id: str
    created: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    @property
    def workflow(self) -> str:
        """Name of the Argo workflow: that of the pipeline and five characters."""
        return f"{self.pipeline}-{hashlib.sha256(self.run_id.encode()).hexdigest()[:5]}"


@dataclass
class Scope:
    """A DAG that is running: its own inputs, and the tasks in it that have ended."""

    run: RunNames
    execution: int
    """Execution of the DAG, in ML Metadata."""
    parameters: Mapping[str, Any]
    artifacts: Mapping[str, list[RuntimeArtifact]]
    state_of: Callable[[int], str]
    """Returns ML Metadata's word for the state of an execution."""
    suffix: str = ""
    """What names of its tasks end in, in an iteration of a loop."""
    tasks: dict[str, Finished] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """What a task is given."""

    parameters: dict[str, Any]
    artifacts: dict[str, list[RuntimeArtifact]]


class _NullError(Exception):
    """A parameter of the DAG has no value."""


def resolve(name: str, task: Mapping[str, Any], component: Mapping[str, Any], scope: Scope) -> Inputs:
    """Look up the inputs of a task.

    Args:
        name: The name of the task.
        task: its PipelineTaskSpec.
        component: its ComponentSpec.
        scope: the DAG around it.

    Returns:
        The inputs. A container's optional parameters without a value are left to the launcher; those of a DAG have
        their defaults, or None.

    Raises:
        CompileError: the driver would fail.
    """
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    given = task.get("inputs", {}).get("parameters", {})
    parameters: dict[str, Any] = {}
    if "dag" in component:
        absent = (key for key, spec in declared.items() if key not in given and spec.get("isOptional"))
        parameters = {key: as_double(declared[key].get("defaultValue")) for key in absent}
    with _named(name):
        for key, spec in given.items():
            if declared.get(key, {}).get("parameterType") == "TASK_CONFIG":
                continue
            try:
                value = parameter(spec, scope, name=name, task=task)
            except _NullError as error:
                if declared.get(key, {}).get("isOptional"):
                    continue
                raise CompileError(f"The parameter {error} of the run has no value, and {key!r} needs one.") from error
            _check_literal(key, declared.get(key, {}), value)
            selector = spec.get("parameterExpressionSelector")
            parameters[key] = selected(value, selector) if selector else value
        left_to_iterations = _loop_item(task)
        for key, spec in declared.items():
            if key != left_to_iterations:
                _check(key, spec, parameters)
        found = task.get("inputs", {}).get("artifacts", {})
        return Inputs(parameters, {key: _artifacts(key, spec, scope) for key, spec in found.items()})


def parameter(spec: Mapping[str, Any], scope: Scope, *, name: str, task: Mapping[str, Any]) -> Any:
    """Look up one parameter.

    Args:
        spec: InputParameterSpec of the task.
        scope: the DAG around the task.
        name: The name of the task.
        task: its PipelineTaskSpec.

    Returns:
        The value, with numbers as doubles.

    Raises:
        CompileError: the driver would fail.
    """
    if key := spec.get("componentInputParameter"):
        if key not in scope.parameters:
            raise CompileError(f"The DAG around the task has no input parameter {key!r}.")
        if scope.parameters[key] is None:
            raise _NullError(key)
        return scope.parameters[key]
    if source := spec.get("taskOutputParameter"):
        producer = _producer(source["producerTask"], scope)
        values = producer.values(source["outputParameterKey"])
        return values if producer.is_collected else values[0]
    if "constant" in spec.get("runtimeValue", {}):
        return _constant(spec["runtimeValue"]["constant"], scope, name)
    if "taskFinalStatus" in spec:
        return _final_status(task, scope)
    raise CompileError(f"An input of a task cannot be looked up here. Received: {sorted(spec)}.")


def items_of(task: Mapping[str, Any], inputs: Inputs) -> list[Any]:
    """Return the items of a loop (getItems in driver/util.go).

    Args:
        task: with a `parameterIterator`.
        inputs: The inputs of the task.

    Raises:
        CompileError: they are not a list.
    """
    source = task["parameterIterator"]["items"]
    value = source["raw"] if "raw" in source else inputs.parameters[source["inputParameter"]]
    try:
        items = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise CompileError(f"A loop goes over a list, or over a list in JSON. Received: {value!r}.")
    return [as_double(item) for item in items]


def iteration_inputs(task: Mapping[str, Any], inputs: Inputs, item: Any) -> Inputs:
    """Return the inputs of one iteration: the item instead of the list.

    Args:
        task: with a `parameterIterator`.
        inputs: The inputs of the loop.
        item: of the iteration.
    """
    iterator = task["parameterIterator"]
    whole = iterator["items"].get("inputParameter") or iterator["itemInput"]
    others = {key: value for key, value in inputs.parameters.items() if key != whole}
    return Inputs({**others, iterator["itemInput"]: item}, inputs.artifacts)


def _loop_item(task: Mapping[str, Any]) -> str | None:
    item: str | None = task.get("parameterIterator", {}).get("itemInput")
    return item


def _check(key: str, spec: Mapping[str, Any], parameters: dict[str, Any]) -> None:
    """Check the type of a parameter. What is to be text may be anything, and becomes JSON."""
    if key not in parameters:
        if not spec.get("isOptional") and "defaultValue" not in spec:
            raise CompileError(f"Neither a value nor a default for the parameter {key!r}, which is not optional.")
        return
    value, kind = parameters[key], spec.get("parameterType", "")
    if value is None and spec.get("isOptional"):
        return
    if kind == "STRING":
        parameters[key] = as_text(value)
    elif not isinstance(value, _KINDS.get(kind, ())):
        raise CompileError(f"The parameter {key!r} is to be {kind}. Received: {value!r}.")


def _check_literal(key: str, spec: Mapping[str, Any], value: Any) -> None:
    literals = [as_double(literal) for literal in spec.get("literals", ())]
    if literals and value not in literals:
        raise CompileError(f"The parameter {key!r} is to be one of {as_json(literals)}. Received: {as_json(value)}.")


def _artifacts(key: str, spec: Mapping[str, Any], scope: Scope) -> list[RuntimeArtifact]:
    if outer := spec.get("componentInputArtifact"):
        if outer not in scope.artifacts:
            raise CompileError(f"The DAG around the task has no input artifact {outer!r}, which {key!r} takes.")
        return scope.artifacts[outer]
    source = spec["taskOutputArtifact"]
    return _producer(source["producerTask"], scope).runtime_artifacts(source["outputArtifactKey"])


def _producer(name: str, scope: Scope) -> Finished:
    if name not in scope.tasks:
        raise CompileError(f"The driver finds no task {name!r} in the DAG. Received: {', '.join(scope.tasks)}.")
    return scope.tasks[name]


def _constant(value: Any, scope: Scope, name: str) -> Any:
    if not isinstance(value, str):
        return as_double(value)
    if "{{$.workspace_path}}" in value:
        return value.replace("{{$.workspace_path}}", WORKSPACE_PATH)
    placeholders = {
        "{{$.pipeline_job_name}}": scope.run.run_id,
        "{{$.pipeline_job_resource_name}}": scope.run.workflow,
        "{{$.pipeline_job_uuid}}": scope.run.run_id,
        "{{$.pipeline_task_name}}": name,
        "{{$.pipeline_task_uuid}}": str(scope.execution),
        "{{$.pipeline_job_create_time_utc}}": scope.run.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "{{$.pipeline_job_schedule_time_utc}}": scope.run.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return placeholders.get(value, value)


def _final_status(task: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """Return the state of the task before an exit task, as ML Metadata has it.

    Only launchers move the state of a DAG on: one whose last tasks came from the cache, or were not triggered, is still
    RUNNING.
    """
    (first, *_) = task.get("dependentTasks") or [""]
    return {
        "state": scope.state_of(_producer(first, scope).execution),
        "pipelineJobResourceName": scope.run.workflow,
        "pipelineTaskName": first,
        "error": {},
    }


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the name of the task before an error."""
    try:
        yield
    except CompileError as error:
        raise CompileError(f"{name}: {error}") from error

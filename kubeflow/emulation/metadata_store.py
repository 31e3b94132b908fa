"""Records a run in ML Metadata, in a store of its own, as the driver and the launcher of Kubeflow Pipelines do.

It follows Kubeflow Pipelines 2.17.0, under backend/src/v2: `metadata/client.go` (GetPipeline, CreateExecution,
PrePublishExecution, PublishExecution, RecordArtifact, UpdateDAGExecutionsState), `metadata/converter.go`,
`driver/root_dag.go`, `driver/dag.go`, `driver/container.go`, `driver/cache.go` and `component/launcher_v2.go`. There it
is a server with MySQL behind it; here it is the same library on SQLite, which refuses the same. Fields about pods stay
empty.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format, struct_pb2
from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from kubetfx.errors import CompileError
from kubetfx.kubeflow.emulation.task_results import RuntimeArtifact

_PIPELINE, _RUN = "system.Pipeline", "system.PipelineRun"
_DAG, _CONTAINER, _IMPORTER = "system.DAGExecution", "system.ContainerExecution", "system.ImporterExecution"

_ENDED_WELL = frozenset({mlmd.Execution.COMPLETE, mlmd.Execution.CACHED, mlmd.Execution.CANCELED})

_CONSTRAINT = re.compile(r"UNIQUE constraint failed: [\w.]+(, [\w.]+)*")
"""SQLite's part of ML Metadata's error."""


@dataclass(frozen=True)
class TaskStart:
    """A task as its driver records it."""

    name: str
    title: str
    dag: int
    """Execution of the DAG around it."""
    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Sequence[RuntimeArtifact]]
    """By input: one, or one per iteration of a loop that it collects."""
    is_triggered: bool = True
    """Whether its condition holds."""
    iteration: int | None = None
    """Index, for an iteration of a loop."""


@dataclass(frozen=True)
class Output:
    """An output artifact as the launcher records it."""

    type: str
    """The schema's title: `system.Model`."""
    uri: str
    metadata: Mapping[str, Any]


class RunMetadata:
    """One run in the store.

    Args:
        path: SQLite file of the store, which is created if there is none. Runs share it, as what a run takes from the
            cache is of another run's execution.
        pipeline: name of the pipeline.
        run_id: The id of the run.
        root: URI under which the run's artifacts are.
    """

    def __init__(self, path: Path, *, pipeline: str, run_id: str, root: str) -> None:
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self._store: Any = metadata_store.MetadataStore(config)
        self._run_id = run_id
        self._session = json.dumps({"Provider": root.partition("://")[0], "Params": {}})
        properties = {
            "namespace": "",
            "resource_name": "run-resource",
            "pipeline_root": root,
            "store_session_info": self._session,
        }
        self._pipeline = self._context(_PIPELINE, pipeline, {})
        self._run = self._context(_RUN, run_id, properties)
        if not self._store.get_parent_contexts_by_context(self._run.id):
            self._store.put_parent_contexts([mlmd.ParentContext(child_id=self._run.id, parent_id=self._pipeline.id)])

    def start_root(self, parameters: Mapping[str, Any]) -> int:
        """Record the pipeline as a whole. A run that is tried again keeps its execution.

        Args:
            parameters: The parameters of the run.

        Returns:
            Id of the execution.
        """
        name = f"run/{self._run_id}"
        if known := self._store.get_execution_by_type_and_name(_DAG, name):
            return int(known.id)
        execution = self._new_execution(_DAG, title="", name="", parameters=parameters)
        execution.name = name
        return self._put(execution)

    def start_dag(self, task: TaskStart, dag: Mapping[str, Any], *, iterations: int | None = None) -> int:
        """Record a task that is a DAG, with where its outputs come from.

        Args:
            task: that starts.
            dag: its DagSpec.
            iterations: number of them, for a loop.

        Returns:
            Id of the execution.

        Raises:
            CompileError: ML Metadata refuses it.
        """
        outputs = dag.get("outputs", {})
        execution = self._started(_DAG, task)
        selectors = {name: json.dumps(spec) for name, spec in outputs.get("parameters", {}).items()}
        _set_struct(execution.custom_properties["parameter_producer_task"], selectors)
        execution.custom_properties["artifact_producer_task"].string_value = json.dumps(outputs.get("artifacts", {}))
        execution.custom_properties["total_dag_tasks"].int_value = len(dag["tasks"])
        if iterations is not None:
            execution.custom_properties["iteration_count"].int_value = iterations
        return self._put_task(execution, task)

    def start_container(self, task: TaskStart, *, fingerprint: str = "", cached: int | None = None) -> int:
        """Record a task that is a container, before it runs.

        Args:
            task: that starts.
            fingerprint: its key in the cache; empty for a task that is not cached.
            cached: id of the execution whose outputs are taken instead of running the task.

        Returns:
            Id of the execution.

        Raises:
            CompileError: ML Metadata refuses it.
        """
        execution = self._started(_CONTAINER, task)
        for key in ("pod_name", "pod_uid", "namespace", "image"):
            execution.custom_properties[key].string_value = ""
        if cached is not None:
            execution.custom_properties["cached_execution_id"].string_value = str(cached)
        if fingerprint:
            execution.custom_properties["cache_fingerprint"].string_value = fingerprint
        execution_id = self._put_task(execution, task)
        if cached is not None:
            self._publish_cached(execution_id, cached)
        return execution_id

    def imported(self, task: TaskStart, key: str, output: Output, *, reimport: bool) -> tuple[int, dict[str, Any]]:
        """Record an importer, with the artifact that it names.

        It is one that the pipeline has imported before, if there is one of the same place, type and metadata
        (findOrNewArtifactToImport in component/importer_launcher.go).

        Args:
            task: that starts.
            key: The key of the output.
            output: to import.
            reimport: whether it is a new artifact in any case.

        Returns:
            Id of the execution, and the RuntimeArtifact.
        """
        artifact = mlmd.Artifact(uri=output.uri, state=mlmd.Artifact.LIVE)
        artifact.type_id = self._store.put_artifact_type(mlmd.ArtifactType(name=output.type))
        provider = output.uri.partition("://")[0]
        session = json.dumps({"Provider": provider, "Params": {"fromEnv": "true"}})
        for name, value in {**output.metadata, "store_session_info": session}.items():
            _set(artifact.custom_properties[name], value)
        known = [] if reimport else self._store.get_artifacts_by_uri(output.uri)
        artifact_id = next((other.id for other in known if self._is_the_same(artifact, other)), None)
        if artifact_id is None:
            (artifact_id,) = self._store.put_artifacts([artifact])
        execution = self._started(_IMPORTER, task)
        execution.last_known_state = mlmd.Execution.COMPLETE
        execution_id = self._put(execution, [_event(mlmd.Event.OUTPUT, key, artifact_id)])
        (stored,) = self._store.get_artifacts_by_id([artifact_id])
        return execution_id, _runtime_artifact(stored)

    def _is_the_same(self, artifact: Any, other: Any) -> bool:
        contexts = {context.id for context in self._store.get_contexts_by_artifact(other.id)}
        properties = artifact.custom_properties.items()
        return (
            (artifact.type_id, artifact.state) == (other.type_id, other.state)
            and self._pipeline.id in contexts
            and all(other.custom_properties.get(name) == value for name, value in properties)
        )

    def state_of(self, execution_id: int) -> str:
        """Return the state of an execution in ML Metadata's words.

        Args:
            execution_id: The id of an execution of this run.
        """
        return str(mlmd.Execution.State.Name(self._execution(execution_id).last_known_state))

    def has(self, execution_id: int, *, fingerprint: str) -> bool:
        """Return whether the store holds the execution that an entry of the cache is about.

        Args:
            execution_id: The id of the execution in the entry.
            fingerprint: The key of the entry.
        """
        found = self._store.get_executions_by_id([execution_id])
        return any(e.custom_properties["cache_fingerprint"].string_value == fingerprint for e in found)

    def runs(self, execution_id: int) -> None:
        """Record that the launcher starts the container, for the first time or again.

        Args:
            execution_id: The id of the container's execution.
        """
        execution = self._execution(execution_id)
        execution.last_known_state = mlmd.Execution.RUNNING
        self._store.put_executions([execution])

    def done_by_driver(self, execution_id: int, parameters: Mapping[str, Any]) -> None:
        """Record the end of a task that the driver does itself. Only launchers bring the DAGs around it further.

        Args:
            execution_id: The id of the task's execution.
            parameters: output parameters by name.
        """
        self._publish(self._execution(execution_id), mlmd.Execution.COMPLETE, {}, parameters)

    def ended(
        self, execution_id: int, *, succeeded: bool, outputs: Mapping[str, Output], parameters: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Record what the launcher publishes of a container that ended, and how far that brings the DAGs around it.

        Args:
            execution_id: The id of the container's execution.
            succeeded: whether it ended with exit status 0.
            outputs: artifacts by output; the log alone for a container that failed.
            parameters: output parameters by name.

        Returns:
            RuntimeArtifact by output, as later tasks receive it.
        """
        stored = {key: self._put_artifact(key, output) for key, output in outputs.items()}
        state = mlmd.Execution.COMPLETE if succeeded else mlmd.Execution.FAILED
        execution = self._execution(execution_id)
        self._publish(execution, state, {key: artifact.id for key, artifact in stored.items()}, parameters)
        self._update_dags(execution.custom_properties["parent_dag_id"].int_value)
        return {key: _runtime_artifact(artifact) for key, artifact in stored.items()}

    def _context(self, type_name: str, name: str, properties: Mapping[str, str]) -> Any:
        found = self._store.get_context_by_type_and_name(type_name, name)
        if found is None:
            context = mlmd.Context(name=name, type_id=self._store.put_context_type(mlmd.ContextType(name=type_name)))
            for key, value in properties.items():
                context.custom_properties[key].string_value = value
            self._store.put_contexts([context])
            found = self._store.get_context_by_type_and_name(type_name, name)
        return found

    def _new_execution(self, type_name: str, *, title: str, name: str, parameters: Mapping[str, Any]) -> Any:
        type_id = self._store.put_execution_type(mlmd.ExecutionType(name=type_name))
        execution = mlmd.Execution(type_id=type_id, last_known_state=mlmd.Execution.RUNNING)
        execution.custom_properties["display_name"].string_value = title
        execution.custom_properties["task_name"].string_value = name
        _set_struct(execution.custom_properties["inputs"], parameters)
        return execution

    def _started(self, type_name: str, task: TaskStart) -> Any:
        execution = self._new_execution(type_name, title=task.title, name=task.name, parameters=task.parameters)
        if not task.is_triggered:
            execution.last_known_state = mlmd.Execution.CANCELED
        execution.custom_properties["parent_dag_id"].int_value = task.dag
        if task.iteration is not None:
            execution.custom_properties["iteration_index"].int_value = task.iteration
        return execution

    def _put_task(self, execution: Any, task: TaskStart) -> int:
        """Put a task with one INPUT event per input, whose path is the input's name."""
        taken = ((key, artifact) for key, found in task.artifacts.items() for artifact in found)
        events = [_event(mlmd.Event.INPUT, key, int(artifact["name"])) for key, artifact in taken]
        try:
            return self._put(execution, events)
        except errors.AlreadyExistsError as error:
            raise _refused(task, error) from error

    def _put(self, execution: Any, events: Iterable[Any] = ()) -> int:
        pairs = [(None, event) for event in events]
        execution_id, _, _ = self._store.put_execution(execution, pairs, [self._pipeline, self._run])
        return int(execution_id)

    def _put_artifact(self, key: str, output: Output) -> Any:
        artifact = mlmd.Artifact(uri=output.uri, state=mlmd.Artifact.LIVE)
        artifact.type_id = self._store.put_artifact_type(mlmd.ArtifactType(name=output.type))
        defaults = {"display_name": key, "store_session_info": self._session}
        for name, value in {**defaults, **output.metadata}.items():
            _set(artifact.custom_properties[name], value)
        (artifact_id,) = self._store.put_artifacts([artifact])
        (stored,) = self._store.get_artifacts_by_id([artifact_id])
        return stored

    def _publish(self, execution: Any, state: int, artifacts: Mapping[str, int], parameters: Mapping[str, Any]) -> None:
        execution.last_known_state = state
        _set_struct(execution.custom_properties["outputs"], parameters)
        self._put(execution, [_event(mlmd.Event.OUTPUT, key, artifact) for key, artifact in artifacts.items()])

    def _publish_cached(self, execution_id: int, cached: int) -> None:
        """Give an execution the outputs of the one that was found in the cache, its log included."""
        events = self._store.get_events_by_execution_ids([cached])
        outputs = {e.path.steps[0].key: e.artifact_id for e in events if e.type == mlmd.Event.OUTPUT}
        parameters = self._execution(cached).custom_properties["outputs"].struct_value
        self._publish(self._execution(execution_id), mlmd.Execution.CACHED, outputs, dict(parameters))

    def _update_dags(self, dag: int) -> None:
        """Update the state of a DAG, and of those around it: complete when all its tasks are, failed when one is.

        As in UpdateDAGExecutionsState, a loop counts its iterations, the root has no number of tasks and so keeps its
        state, and executions that a driver alone records change nothing.
        """
        execution = self._execution(dag)
        counts = execution.custom_properties
        expected = counts["iteration_count" if "iteration_count" in counts else "total_dag_tasks"].int_value
        if not expected:
            return
        around = "parent_dag_id"
        tasks = self._store.get_executions_by_context(self._run.id)
        states = [task.last_known_state for task in tasks if task.custom_properties[around].int_value == dag]
        if sum(state in _ENDED_WELL for state in states) == expected:
            execution.last_known_state = mlmd.Execution.COMPLETE
        elif mlmd.Execution.FAILED in states:
            execution.last_known_state = mlmd.Execution.FAILED
        else:
            return
        self._store.put_executions([execution])
        self._update_dags(execution.custom_properties[around].int_value)

    def _execution(self, execution_id: int) -> Any:
        (found,) = self._store.get_executions_by_id([execution_id])
        return found


def _event(kind: int, key: str, artifact_id: int) -> Any:
    event = mlmd.Event(type=kind, artifact_id=artifact_id)
    event.path.steps.add().key = key
    return event


def _refused(task: TaskStart, error: Exception) -> CompileError:
    """Return the error of the driver's pod.

    It takes the execution for one of an earlier try, and does not find it.
    """
    inputs: dict[str, list[str]] = {}
    for key, artifacts in task.artifacts.items():
        for artifact in artifacts:
            inputs.setdefault(str(artifact["name"]), []).append(key)
    twice = [f"{' and '.join(map(repr, keys))} are artifact {name}" for name, keys in inputs.items() if len(keys) > 1]
    reason = _CONSTRAINT.search(str(error))
    received = f"{'; '.join(twice)} ({reason[0] if reason else error})"
    return CompileError(
        f"{task.title}: takes one artifact under several inputs, and ML Metadata keeps one INPUT event per artifact "
        "and execution: at Kubeflow Pipelines the pod of the task's driver ends with `failed to lookup existing "
        f"execution`. Received: {received}. Give the task one input for it, and read it from there wherever it is "
        "needed; compile again what kubetfx compiled. If two tasks made it that do the same, the second took it from "
        "the cache of the first: let them differ in an argument, or do not cache them."
    )


def _set(target: Any, value: Any) -> None:
    """Set a property as StructValueToMLMDValue in converter.go does."""
    if value is None:
        raise CompileError("The metadata store takes no null.")
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.int_value = int(value)
    elif isinstance(value, int | float):
        target.double_value = value
    else:
        _set_struct(target, {"list" if isinstance(value, list) else "struct": value})


def _set_struct(target: Any, values: Mapping[str, Any]) -> None:
    target.struct_value.SetInParent()  # a property without a value ends the process: ML Metadata aborts
    target.struct_value.update(values)


def _value(stored: Any) -> Any:
    """Read a property as toRuntimeArtifact in converter.go does, which makes a double of every number."""
    kind = stored.WhichOneof("value")
    value = getattr(stored, kind)
    if isinstance(value, struct_pb2.Struct):
        return json_format.MessageToDict(value)
    return float(value) if kind == "int_value" else value


def _runtime_artifact(artifact: Any) -> dict[str, Any]:
    metadata = {name: _value(value) for name, value in artifact.custom_properties.items()}
    return {"name": str(artifact.id), "uri": artifact.uri, "metadata": metadata}

"""Runs a compiled package task by task, as the driver and the launcher of open-source Kubeflow Pipelines would.

It does to a container's documents what those two do: types of inputs are blank, numbers become doubles, there is an
output that nobody declared, and the URI of an object store is a local path. Conditions, exit handlers and the cache
work as they do there, and each task is recorded in ML Metadata (kubeflow/metadata_store.py). Settings of pods are
ignored.
"""

import contextlib
import errno
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kubetfx.errors import CompileError, UsageError
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.kubeflow.lint_rules.containers import former_entrypoint
from kubetfx.kubeflow.lint_rules.task_graph import EXIT_STRATEGY
from kubetfx.kubeflow.metadata_store import Output, RunMetadata, TaskStart
from kubetfx.kubeflow.package_document import Package, in_order

BUCKET = "minio://mlpipeline/v2/artifacts"
_EXECUTOR_LOGS = "executor-logs"
"""Output that KFP's driver adds to each container (driver/container.go), with the launcher's log."""
METADATA_STORE = "metadata.sqlite"
"""File of ML Metadata's store."""

_TaskState = Literal["done", "cached", "failed", "skipped"]
_RunCommand = Callable[[Sequence[str], Mapping[str, str], str, "TaskResult"], int]
"""Runs a command with its environment and image, for a task; returns the exit status."""

_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'")


@dataclass
class TaskResult:
    """A task that has run, or is running."""

    name: str
    title: str
    state: _TaskState = "failed"
    exit_code: int = 0
    arguments: Sequence[str] = ()
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """RuntimeArtifact by output."""
    parameters: dict[str, Any] = field(default_factory=dict)
    execution: int = 0
    """Id of the execution in ML Metadata that wrote the outputs."""


class TaskFailedError(Exception):
    """A task ended with an exit status that is not 0."""

    def __init__(self, task: TaskResult) -> None:
        """Make the error.

        Args:
            task: that failed.
        """
        super().__init__(f"{task.title} ended with exit status {task.exit_code}")
        self.task = task


class Emulator:
    """One run of a package.

    Args:
        package: to run.
        root: folder in the place of `/` in the launcher's paths. It also holds the cache and ML Metadata's store, which
            all runs share.
        run_id: names the run's folder. Ids of later runs must sort behind it.
        run_command: runs a container's command.
        bucket: URI under which artifacts are.
        begin: is called before each task, with its title.
        end: is called after each task that was run or taken from the cache.
    """

    def __init__(
        self,
        package: Package,
        *,
        root: Path,
        run_id: str,
        run_command: _RunCommand,
        bucket: str = BUCKET,
        begin: Callable[[str], None] = lambda _: None,
        end: Callable[[TaskResult], None] = lambda _: None,
    ) -> None:
        self._package = package
        self._root = root
        self._run_command = run_command
        self._bucket = bucket
        self._begin, self._end = begin, end
        self._run_id = run_id
        self.tasks: list[TaskResult] = []

    def run(self, arguments: Mapping[str, Any]) -> None:
        """Run every task whose conditions hold.

        Args:
            arguments: values of run parameters by name, in the place of the package's defaults.

        Raises:
            TaskFailedError: a task failed; exit handlers have run.
            UsageError: a run parameter is unknown or missing, or an earlier kubetfx compiled the package.
            CompileError: Kubeflow Pipelines would not run a task of the package.
        """
        _refuse_former_entrypoint(self._package)
        root = self._package.spec["root"]
        parameters = self._run_parameters(arguments)
        self._metadata = self._open_metadata()
        self._run_dag(root, self._metadata.start_root(parameters), parameters=parameters, artifacts={})

    def _open_metadata(self) -> RunMetadata:
        self._root.mkdir(parents=True, exist_ok=True)
        place = f"{self._bucket}/{self._package.name}/{self._run_id}"
        return RunMetadata(self._root / METADATA_STORE, pipeline=self._package.name, run_id=self._run_id, root=place)

    def _run_parameters(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        declared = self._package.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        if unknown := sorted(set(arguments) - set(declared)):
            raise UsageError(f"The package has no run parameter {unknown[0]!r}. Known: {', '.join(sorted(declared))}.")
        values = {name: arguments.get(name, spec.get("defaultValue")) for name, spec in declared.items()}
        if missing := [name for name, value in values.items() if value is None]:
            raise UsageError(f"The run parameter {missing[0]!r} has no default. Give it a value.")
        return {name: _as_double(value) for name, value in values.items()}

    def _run_dag(
        self,
        component: Mapping[str, Any],
        execution: int,
        *,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Any],
    ) -> None:
        results: dict[str, TaskResult] = {}
        failure: TaskFailedError | None = None
        tasks = component["dag"]["tasks"]
        for name in in_order(tasks):
            task = tasks[name]
            needed = [results.get(other) for other in task.get("dependentTasks", ())]
            policy = task.get("triggerPolicy", {})
            runs_always = policy.get("strategy") == EXIT_STRATEGY
            if not runs_always and (failure or any(n is None or n.state == "skipped" for n in needed)):
                results[name] = TaskResult(name, name, "skipped")
                continue
            scope = _Scope(parameters, artifacts, results, failure, self._package.name)
            inputs = {key: scope.parameter(spec) for key, spec in task.get("inputs", {}).get("parameters", {}).items()}
            taken = {key: scope.artifact(spec) for key, spec in task.get("inputs", {}).get("artifacts", {}).items()}
            is_triggered = _holds(policy.get("condition"), inputs, name)
            title = task.get("taskInfo", {}).get("name", name)
            start = TaskStart(name, title, execution, inputs, taken, is_triggered)
            inner = self._package.spec["components"][task["componentRef"]["name"]]
            results[name] = TaskResult(name, title, "done" if is_triggered else "skipped")
            try:
                if "dag" in inner:
                    inner_execution = self._metadata.start_dag(start, inner["dag"])
                    if is_triggered:
                        self._run_dag(inner, inner_execution, parameters=inputs, artifacts=taken)
                elif is_triggered:
                    results[name] = self._run_container(start, task, inner)
                else:
                    self._metadata.start_container(start)
            except TaskFailedError as error:
                failure = failure or error
                results[name] = error.task
        if failure:
            raise failure

    def _run_container(self, start: TaskStart, task: Mapping[str, Any], component: Mapping[str, Any]) -> TaskResult:
        result = TaskResult(start.name, start.title)
        container = self._package.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        self._begin(result.title)
        is_cached = bool(task.get("cachingOptions", {}).get("enableCache"))
        key = _cache_key(component, container, start.parameters, start.artifacts) if is_cached else ""
        entry = self._cache / f"{key}.json"
        self.tasks.append(result)
        if is_cached and self._take_from_cache(entry, result):
            self._metadata.start_container(start, fingerprint=key, cached=result.execution)
            self._put_into_cache(entry, result)
            self._end(result)
            return result
        result.execution = self._metadata.start_container(start, fingerprint=key)
        document = self._executor_input(start.name, component, start.parameters, start.artifacts)
        command = [_filled(part, document) for part in (*container.get("command", ()), *container.get("args", ()))]
        result.arguments = command
        environment = {variable["name"]: variable["value"] for variable in container.get("env", ())}
        log = local_path(document["outputs"]["artifacts"][_EXECUTOR_LOGS]["artifacts"][0]["uri"])
        log.parent.mkdir(parents=True)
        for _ in range(1 + int(task.get("retryPolicy", {}).get("maxRetryCount", 0))):
            log.touch()
            self._metadata.runs(result.execution)
            try:
                result.exit_code = self._run_command(command, environment, container["image"], result)
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                longest = max(len(part.encode()) for part in command)
                raise CompileError(
                    f"{result.title}: its arguments are longer than Linux takes, here and in a container. Received: an "
                    f"argument of {longest:,} bytes; 131,071 are the most. Give the node less in its properties, its "
                    "inputs' properties, and its modules."
                ) from None
            if result.exit_code == 0:
                break
            self._record_failure(document, result)
        if result.exit_code:
            self._end(result)
            raise TaskFailedError(result)
        if not log.is_file():
            raise CompileError(
                f"{result.title}: removed the launcher's log. Received: no {log}. Kubeflow Pipelines would not record "
                "it, and would fail at the next cache hit, which asks for every output."
            )
        self._collect(document, component, result)
        result.state = "done"
        if is_cached:
            self._put_into_cache(entry, result)
        self._end(result)
        return result

    def _put_into_cache(self, entry: Path, result: TaskResult) -> None:
        """Keep what a task wrote. Artifacts that only have metadata have no file."""
        uris = [artifact["uri"] for artifact in result.artifacts.values()]
        outcome = {
            "run": self._run_id,
            "artifacts": result.artifacts,
            "files": [uri for uri in uris if local_path(uri).exists()],
            "parameters": result.parameters,
            "arguments": list(result.arguments),
            "execution": result.execution,
        }
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text(json.dumps(outcome), encoding="utf-8")

    def _take_from_cache(self, entry: Path, result: TaskResult) -> bool:
        """Take what a task wrote before, if it is still there and known to ML Metadata; return whether it was."""
        if not entry.is_file():
            return False
        outcome = json.loads(entry.read_text(encoding="utf-8"))
        if not all(local_path(uri).exists() for uri in outcome["files"]):
            return False
        if not self._metadata.has(outcome.get("execution", 0), fingerprint=entry.stem):
            return False
        result.artifacts, result.parameters = outcome["artifacts"], outcome["parameters"]
        result.arguments, result.execution = outcome["arguments"], outcome["execution"]
        result.state = "cached"
        return True

    @property
    def _cache(self) -> Path:
        return self._root / "cache"

    def remove_old_runs(self, *, keep: int) -> None:
        """Remove what all but the last runs left, except for what these took from the cache.

        Args:
            keep: number of runs whose artifacts stay.
        """
        entries = {path: json.loads(path.read_text(encoding="utf-8")) for path in self._cache.glob("*.json")}
        places = (local_path(f"{self._bucket}/{self._package.name}"), self._root / "tmp" / self._package.name)
        run_folders = [folder for place in places for folder in place.glob("*")]
        runs = sorted({entry["run"] for entry in entries.values()} | {folder.name for folder in run_folders})
        kept = set(runs[-keep:])
        needed = set()
        for path, entry in entries.items():
            if entry["run"] in kept:
                needed |= {local_path(uri).parent for uri in entry["files"]}
            else:
                path.unlink()
        for folder in (folder for folder in run_folders if folder.name not in kept):
            for task_folder in folder.glob("*/*"):
                if task_folder not in needed:
                    shutil.rmtree(task_folder)
            for empty in (*folder.glob("*"), folder):
                with contextlib.suppress(OSError):
                    empty.rmdir()

    def _executor_input(
        self, name: str, component: Mapping[str, Any], parameters: Mapping[str, Any], artifacts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The document that KFP's driver writes for a container (driver/container.go)."""
        folder = f"{self._package.name}/{self._run_id}/{name}/{uuid.uuid4()}"
        outputs = component.get("outputDefinitions", {})
        declared = {key: spec["artifactType"] for key, spec in outputs.get("artifacts", {}).items()}
        declared[_EXECUTOR_LOGS] = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
        local = self._root / "tmp" / folder
        return {
            "inputs": {
                "parameterValues": dict(parameters),
                "artifacts": {
                    key: {"artifacts": [{**artifact, "type": {"instanceSchema": ""}}]}
                    for key, artifact in artifacts.items()
                },
            },
            "outputs": {
                "parameters": {
                    key: {"outputFile": str(local / "parameters" / key)} for key in outputs.get("parameters", {})
                },
                "artifacts": {
                    key: {
                        "artifacts": [
                            {"name": key, "uri": f"{self._bucket}/{folder}/{key}", "type": kind, "metadata": {}}
                        ]
                    }
                    for key, kind in declared.items()
                },
                "outputFile": str(local / "output_metadata.json"),
            },
        }

    def _collect(self, document: Mapping[str, Any], component: Mapping[str, Any], result: TaskResult) -> None:
        """Read the ExecutorOutput as KFP's launcher does (component/launcher_v2.go).

        A field that it does not know is an error, and of several artifacts the first counts.
        """
        path = Path(document["outputs"]["outputFile"])
        output = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if unknown := set(output) - {"artifacts", "parameterValues", "taskStatusMessage"}:
            raise CompileError(
                f"{result.title}: the launcher refuses the field {sorted(unknown)[0]!r} of an ExecutorOutput."
            )
        for key in component.get("outputDefinitions", {}).get("parameters", {}):
            file = Path(document["outputs"]["parameters"][key]["outputFile"])
            value = output.get("parameterValues", {}).get(key)
            result.parameters[key] = file.read_text(encoding="utf-8") if value is None else value
        outputs = {
            key: _output(entry, output.get("artifacts", {}).get(key, {}))
            for key, entry in document["outputs"]["artifacts"].items()
        }
        stored = self._metadata.ended(result.execution, succeeded=True, outputs=outputs, parameters=result.parameters)
        result.artifacts = {key: artifact for key, artifact in stored.items() if key != _EXECUTOR_LOGS}

    def _record_failure(self, document: Mapping[str, Any], result: TaskResult) -> None:
        """Record the log alone, as the launcher does for a container that failed."""
        log = document["outputs"]["artifacts"][_EXECUTOR_LOGS]
        outputs = {_EXECUTOR_LOGS: _output(log)} if local_path(log["artifacts"][0]["uri"]).is_file() else {}
        self._metadata.ended(result.execution, succeeded=False, outputs=outputs, parameters={})


@dataclass(frozen=True)
class _Scope:
    """Where the inputs of a task come from."""

    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Any]
    results: Mapping[str, TaskResult]
    failure: TaskFailedError | None
    pipeline: str

    def parameter(self, spec: Mapping[str, Any]) -> Any:
        if "componentInputParameter" in spec:
            return self.parameters[spec["componentInputParameter"]]
        if "taskOutputParameter" in spec:
            source = spec["taskOutputParameter"]
            return self.results[source["producerTask"]].parameters[source["outputParameterKey"]]
        if "taskFinalStatus" in spec:
            return {
                "state": "FAILED" if self.failure else "COMPLETE",  # ML Metadata's word
                "pipelineJobResourceName": self.pipeline,
                "pipelineTaskName": spec["taskFinalStatus"]["producerTask"],
                "error": {},
            }
        if "constant" in spec.get("runtimeValue", {}):
            return _as_double(spec["runtimeValue"]["constant"])
        raise CompileError(f"An input of a task cannot be looked up here. Received: {sorted(spec)}.")

    def artifact(self, spec: Mapping[str, Any]) -> Any:
        if "componentInputArtifact" in spec:
            return self.artifacts[spec["componentInputArtifact"]]
        source = spec["taskOutputArtifact"]
        return self.results[source["producerTask"]].artifacts[source["outputArtifactKey"]]


def _refuse_former_entrypoint(package: Package) -> None:
    for finding in former_entrypoint.findings(package):
        raise UsageError(
            f"No task of this package can run. Received: {finding.place}, {finding.what}. {finding.remedy}"
        )


def _holds(condition: str | None, inputs: Mapping[str, Any], task: str) -> bool:
    """Evaluate the comparisons that the kfp SDK writes for dsl.If, joined by &&."""
    if not condition:
        return True
    for part in condition.split(" && "):
        match = _CONDITION.fullmatch(part.strip())
        if not match:
            raise CompileError(f"{task}: this condition cannot be evaluated here. Received: {part}.")
        if str(inputs[match[1]]) != match[2]:
            return False
    return True


def _filled(part: str, document: Mapping[str, Any]) -> str:
    """Fill the placeholder of the whole ExecutorInput in, which is the only one that our compiler writes."""
    if part == "{{$}}":
        return json.dumps(document)
    if "{{$" in part:
        raise CompileError(f"A placeholder cannot be filled in here. Received: {part}.")
    return part


def _output(declared: Mapping[str, Any], written: Mapping[str, Any] | None = None) -> Output:
    """An output artifact, as the driver declared it, with what the container wrote about it."""
    (artifact,) = declared["artifacts"]
    said = (written or {}).get("artifacts", [{}])[0]
    return Output(artifact["type"]["schemaTitle"], said.get("uri", artifact["uri"]), said.get("metadata", {}))


def _cache_key(
    component: Mapping[str, Any],
    container: Mapping[str, Any],
    parameters: Mapping[str, Any],
    artifacts: Mapping[str, Any],
) -> str:
    """Hash what KFP's driver hashes (cacheutils/cache.go): inputs, declared outputs, image and command, no names."""
    document = {
        "parameters": dict(parameters),
        "artifacts": {key: artifact["name"] for key, artifact in artifacts.items()},
        "outputs": component.get("outputDefinitions", {}),
        "image": container["image"],
        "command": [*container.get("command", ()), *container.get("args", ())],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _as_double(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

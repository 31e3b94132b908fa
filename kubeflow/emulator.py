"""Runs a compiled package task by task, as the driver and the launcher of open-source Kubeflow Pipelines would.

It does to a container's documents what those two do: types of inputs are blank, numbers become doubles, there is an
output that nobody declared, and the URI of an object store is a local path. Conditions, loops, nested DAGs, importers,
exit handlers, retries and the cache work as they do there, and each task is recorded in ML Metadata.
docs/kubeflow-emulator.md lists what is done alike, with the source, and what is not. Tasks run one after another.
"""

import contextlib
import math
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubetfx.errors import CompileError, UsageError
from kubetfx.kubeflow.emulation.driver_inputs import Inputs, RunNames, Scope, items_of, iteration_inputs, resolve
from kubetfx.kubeflow.emulation.execution_cache import ExecutionCache, entries, fingerprint, volumes_of
from kubetfx.kubeflow.emulation.expressions import holds
from kubetfx.kubeflow.emulation.launcher import Launch, RunCommand, launch
from kubetfx.kubeflow.emulation.metadata_store import Output, RunMetadata, TaskStart
from kubetfx.kubeflow.emulation.parameter_text import as_double
from kubetfx.kubeflow.emulation.task_results import (
    DagResult,
    LoopResult,
    TaskFailedError,
    TaskResult,
    TaskState,
)
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.kubeflow.lint_rules.containers import former_entrypoint
from kubetfx.kubeflow.lint_rules.task_graph import EXIT_STRATEGY
from kubetfx.kubeflow.package_document import Package, in_order

BUCKET = "minio://mlpipeline/v2/artifacts"
METADATA_STORE = "metadata.sqlite"
"""File of ML Metadata's store."""
_VOLUMES = frozenset({"argostub/createpvc", "argostub/deletepvc"})
"""Images of tasks that the driver does itself (dummyImages in driver/k8s.go)."""


class Emulator:
    """One run of a package.

    Args:
        package: to run.
        root: folder instead of `/` in the launcher's paths. It also holds the cache and ML Metadata's store, which
            all runs share.
        run_id: names the run's folder. Ids of later runs must sort behind it.
        run_command: runs a container's command.
        bucket: URI under which artifacts are.
        has_store: whether the bucket is one that inputs are downloaded from and outputs uploaded to. Default: a folder
            of `root` stands for it.
        begin: is called before each task, with its label.
        end: is called after each task that was run or taken from the cache.
    """

    def __init__(
        self,
        package: Package,
        *,
        root: Path,
        run_id: str,
        run_command: RunCommand,
        bucket: str = BUCKET,
        has_store: bool = False,
        begin: Callable[[str], None] = lambda _: None,
        end: Callable[[TaskResult], None] = lambda _: None,
    ) -> None:
        self._package = package
        self._root = root
        self._run_command = run_command
        self._bucket, self._has_store = bucket, has_store
        self._begin, self._end = begin, end
        self._names = RunNames(package.name, run_id)
        self.tasks: list[TaskResult] = []
        """Containers and importers that were run or taken from the cache, in this order."""

    def run(self, arguments: Mapping[str, Any]) -> None:
        """Run every task whose conditions hold.

        Args:
            arguments: values of run parameters by name, instead of the package's defaults.

        Raises:
            TaskFailedError: a task failed; exit handlers have run.
            UsageError: a run parameter is unknown or missing, or an earlier kubetfx compiled the package.
            CompileError: Kubeflow Pipelines would not run a task of the package.
        """
        _refuse_former_entrypoint(self._package)
        parameters = self._run_parameters(arguments)
        self._root.mkdir(parents=True, exist_ok=True)
        self._ends_at = self._end_of_run()
        run_id, pipeline = self._names.run_id, self._names.pipeline
        place = f"{self._bucket}/{pipeline}/{run_id}"
        self._metadata = RunMetadata(self._root / METADATA_STORE, pipeline=pipeline, run_id=run_id, root=place)
        self._cache = ExecutionCache(self._cache_folder, run_id=run_id, metadata=self._metadata, root=self._root)
        execution = self._metadata.start_root(parameters)
        scope = Scope(self._names, execution, parameters, {}, self._metadata.state_of)
        self._run_dag(self._package.spec["root"]["dag"], scope)

    def _end_of_run(self) -> float:
        """Return when Argo ends the workflow, exit tasks included: its `activeDeadlineSeconds`."""
        config = self._package.platforms.get("kubernetes", {}).get("pipelineConfig", {})
        seconds = int(config.get("activeDeadlineSeconds", 0))
        return time.monotonic() + seconds if seconds > 0 else math.inf

    @property
    def _cache_folder(self) -> Path:
        return self._root / "cache" / self._names.pipeline

    def _run_parameters(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        declared = self._package.parameters
        if unknown := sorted(set(arguments) - set(declared)):
            raise UsageError(f"The package has no run parameter {unknown[0]!r}. Known: {', '.join(sorted(declared))}.")
        values = {name: arguments.get(name, spec.get("defaultValue")) for name, spec in declared.items()}
        needed = [name for name, value in values.items() if value is None and not declared[name].get("isOptional")]
        if needed:
            raise UsageError(f"The run parameter {needed[0]!r} has no default. Give it a value.")
        return {name: as_double(value) for name, value in values.items()}

    def _run_dag(self, dag: Mapping[str, Any], scope: Scope) -> None:
        """Run the tasks of a DAG.

        After a failure no task begins but exit tasks, which run after the task that they wait for, whatever became of
        it. A task after one that was skipped is skipped.
        """
        failure: TaskFailedError | None = None
        tasks = dag["tasks"]
        pending = list(in_order(tasks))
        while pending:
            name = self._next(pending, tasks, scope)
            pending.remove(name)
            task = tasks[name]
            needed = [scope.tasks.get(other) for other in task.get("dependentTasks", ())]
            is_exit = task.get("triggerPolicy", {}).get("strategy") == EXIT_STRATEGY
            if not is_exit and (failure or any(other is None or other.state == "skipped" for other in needed)):
                scope.tasks[name] = TaskResult(name, name, "skipped")
                continue
            try:
                self._run_task(name, task, scope)
            except TaskFailedError as error:
                failure = failure or error
        if failure:
            raise failure

    def _next(self, pending: Sequence[str], tasks: Mapping[str, Any], scope: Scope) -> str:
        """Return the next task: one whose condition does not hold, if there is one.

        Its driver has ended long before the container of another; else the DAG around both would be complete there and
        not here.
        """
        for name in pending:
            needed = [scope.tasks.get(other) for other in tasks[name].get("dependentTasks", ())]
            is_ready = all(other is not None and other.state in ("done", "cached") for other in needed)
            if is_ready and "condition" in tasks[name].get("triggerPolicy", {}):
                _, is_triggered = self._looked_up(name, tasks[name], scope)
                if not is_triggered:
                    return name
        return pending[0]

    def _looked_up(self, name: str, task: Mapping[str, Any], scope: Scope) -> tuple[Inputs, bool]:
        """Return the inputs of a task, and whether its condition holds."""
        inputs = resolve(name, task, self._package.components[task["componentRef"]["name"]], scope)
        condition = task.get("triggerPolicy", {}).get("condition", "")
        return inputs, holds(condition, parameters=inputs.parameters, artifacts=inputs.artifacts)

    def _run_task(self, name: str, task: Mapping[str, Any], scope: Scope) -> None:
        """Run a task, and put its result into its scope before it has ended: an exit task asks for its state."""
        component = self._package.components[task["componentRef"]["name"]]
        title = task.get("taskInfo", {}).get("name", name)
        executor = self._package.executors.get(component.get("executorLabel", ""), {})
        inputs, is_triggered = self._looked_up(name, task, scope)
        start = TaskStart(name, title, scope.execution, inputs.parameters, inputs.artifacts, is_triggered)
        if "parameterIterator" in task:
            self._run_loop(start, inputs, task, component["dag"], scope)
        elif "dag" in component:
            self._run_inner(start, inputs, component["dag"], scope)
        elif "importer" in executor:
            self._import(start, executor["importer"], component, scope)
        else:
            self._run_container(start, inputs, task, component, scope)

    def _run_inner(self, start: TaskStart, inputs: Inputs, dag: Mapping[str, Any], scope: Scope) -> None:
        result = self._new_dag(start, dag)
        scope.tasks[start.name] = result
        if start.is_triggered:
            with _failing(result):
                self._run_dag(dag, self._inside(result, inputs, scope.suffix))

    def _run_loop(
        self, start: TaskStart, inputs: Inputs, task: Mapping[str, Any], dag: Mapping[str, Any], scope: Scope
    ) -> None:
        """Run the iterations of a loop, all of them even if one fails, unless their number at a time is bounded."""
        items = items_of(task, inputs) if start.is_triggered else []
        execution = self._metadata.start_dag(start, dag, iterations=len(items) if start.is_triggered else None)
        result = LoopResult(start.name, "done" if start.is_triggered else "skipped", execution)
        scope.tasks[start.name] = result
        failure: TaskFailedError | None = None
        for index, item in enumerate(items):
            of_item = iteration_inputs(task, inputs, item)
            inner = TaskStart(
                start.name, start.title, execution, of_item.parameters, of_item.artifacts, iteration=index
            )
            iteration = self._new_dag(inner, dag)
            result.iterations.append(iteration)
            try:
                with _failing(iteration):
                    self._run_dag(dag, self._inside(iteration, of_item, f"{scope.suffix}-{index}"))
            except TaskFailedError as error:
                failure = failure or error
                if task.get("iteratorPolicy", {}).get("parallelismLimit"):
                    break
        if failure:
            result.state = "failed"
            raise failure

    def _new_dag(self, start: TaskStart, dag: Mapping[str, Any]) -> DagResult:
        execution = self._metadata.start_dag(start, dag)
        state: Any = "done" if start.is_triggered else "skipped"
        return DagResult(start.name, dag.get("outputs", {}), self._metadata.state_of, state, execution)

    def _inside(self, result: DagResult, inputs: Inputs, suffix: str) -> Scope:
        state_of = self._metadata.state_of
        return Scope(
            self._names, result.execution, inputs.parameters, inputs.artifacts, state_of, suffix, tasks=result.tasks
        )

    def _import(
        self, start: TaskStart, importer: Mapping[str, Any], component: Mapping[str, Any], scope: Scope
    ) -> None:
        """Record an artifact that is somewhere already. The launcher downloads it for the tasks that take it."""
        (key,) = component["outputDefinitions"]["artifacts"]
        place = importer["artifactUri"]
        uri = place["constant"] if "constant" in place else start.parameters.get(place["runtimeParameter"])
        if not isinstance(uri, str) or "://" not in uri:
            raise CompileError(
                f"{start.title}: an importer takes the URI of an object store. Received: {uri!r}. Name the store, as "
                "in gs://, s3:// or minio://."
            )
        title = importer.get("typeSchema", {}).get("schemaTitle", "system.Artifact")
        output = Output(title, uri, as_double(importer.get("metadata", {})))
        result = TaskResult(start.name + scope.suffix, start.title, "done", suffix=scope.suffix)
        is_new = bool(importer.get("reimport"))
        result.execution, artifact = self._metadata.imported(start, key, output, reimport=is_new)
        result.artifacts[key] = artifact
        self._begin(result.label)
        scope.tasks[start.name] = result
        self.tasks.append(result)
        self._end(result)

    def _run_container(
        self, start: TaskStart, inputs: Inputs, task: Mapping[str, Any], component: Mapping[str, Any], scope: Scope
    ) -> None:
        state: TaskState = "failed" if start.is_triggered else "skipped"
        result = TaskResult(start.name + scope.suffix, start.title, state, suffix=scope.suffix)
        scope.tasks[start.name] = result
        if not start.is_triggered:
            result.execution = self._metadata.start_container(start)
            return
        label = component["executorLabel"]
        container = self._package.executors[label]["container"]
        platform = self._platform_of(label)
        self._begin(result.label)
        self.tasks.append(result)
        if container["image"] in _VOLUMES:
            self._mount(start, result, inputs)
        else:
            is_cached = bool(task.get("cachingOptions", {}).get("enableCache"))
            volumes = volumes_of(platform, inputs, scope, name=start.name)
            key = fingerprint(component, container, inputs, volumes) if is_cached else ""
            if is_cached and self._cache.take(key, result):
                self._metadata.start_container(start, fingerprint=key, cached=result.execution)
            else:
                result.execution = self._metadata.start_container(start, fingerprint=key)
                place = f"{self._bucket}/{self._names.pipeline}/{self._names.run_id}/{result.name}/{uuid.uuid4()}"
                retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
                own = int(platform["activeDeadlineSeconds"]) if "activeDeadlineSeconds" in platform else None
                self._launch(
                    Launch(component, container, inputs, place, retries, own, self._ends_at, self._has_store), result
                )
            if is_cached:
                self._cache.put(key, result)
        self._end(result)

    def _launch(self, task: Launch, result: TaskResult) -> None:
        try:
            launch(task, result, root=self._root, metadata=self._metadata, run_command=self._run_command)
        except TaskFailedError:
            self._end(result)
            raise

    def _mount(self, start: TaskStart, result: TaskResult, inputs: Inputs) -> None:
        """Record a task that makes or deletes a volume, of which there is none here."""
        result.execution = self._metadata.start_container(start)
        suffix = inputs.parameters.get("pvc_name_suffix", "")
        result.parameters = {"name": inputs.parameters.get("pvc_name") or f"{uuid.uuid4()}{suffix}"}
        self._metadata.done_by_driver(result.execution, result.parameters)
        result.state = "done"

    def _platform_of(self, label: str) -> Mapping[str, Any]:
        kubernetes = self._package.platforms.get("kubernetes", {})
        found: Mapping[str, Any] = kubernetes.get("deploymentSpec", {}).get("executors", {}).get(label, {})
        return found

    def remove_old_runs(self, *, keep: int) -> None:
        """Remove what all but the last runs left, except for what these took from the cache.

        Args:
            keep: number of runs whose artifacts stay.
        """
        known = entries(self._cache_folder)
        folders = list(local_path(f"{self._bucket}/{self._names.pipeline}", self._root).glob("*"))
        runs = sorted({entry["run"] for entry in known.values()} | {folder.name for folder in folders})
        kept = set(runs[-keep:])
        needed = set()
        for path, entry in known.items():
            if entry["run"] in kept:
                needed |= {local_path(uri, self._root).parent for uri in entry["files"]}
            else:
                path.unlink()
        for folder in (folder for folder in folders if folder.name not in kept):
            for task_folder in folder.glob("*/*"):
                if task_folder not in needed:
                    shutil.rmtree(task_folder)
            for empty in (*folder.glob("*"), folder):
                with contextlib.suppress(OSError):
                    empty.rmdir()


@contextlib.contextmanager
def _failing(result: DagResult) -> Iterator[None]:
    """Say of a DAG that it failed if a task in it does."""
    try:
        yield
    except TaskFailedError:
        result.state = "failed"
        raise


def _refuse_former_entrypoint(package: Package) -> None:
    for finding in former_entrypoint.findings(package):
        raise UsageError(
            f"No task of this package can run. Received: {finding.place}, {finding.what}. {finding.remedy}"
        )

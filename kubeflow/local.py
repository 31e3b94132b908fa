"""`kubetfx run --on kfp-local`: compiles the package, and runs its very tasks on this machine.

Each container's command is a process of its own, or runs in its image by Docker. The order, the documents and the cache
are kubeflow/emulator.py's.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import kubetfx
from kubetfx import storage
from kubetfx.components.push import push_directory
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import AnomaliesError, KubetfxError, NodeFailedError, UsageError
from kubetfx.kubeflow.emulator import Emulator, TaskFailedError, TaskResult
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, local_path
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.run_progress import planned_tasks
from kubetfx.kubeflow.task_records import TaskRecords, metadata_of_examples
from kubetfx.kubeflow.task_spec import TaskSpec
from kubetfx.pipeline.run_recorder import RunRecorder
from kubetfx.pipeline.run_result import NodeResult, NodeState, ResultFolders, RunResult, summarize
from kubetfx.progress import Begin, End, NodeBegins, NodeEnds, Progress, silent
from kubetfx.redirection import logged_to
from kubetfx.run_record import FUSED
from kubetfx.workspace import locked

if TYPE_CHECKING:  # importing TFX takes seconds
    from tfx.orchestration.pipeline import Pipeline

Place = Literal["process", "docker"]
TAIL_LINES = 12
KEPT_RUNS = 3
"""Runs before this one whose artifacts stay."""
GRACE_SECONDS = 30
"""What Kubernetes leaves a container that is asked to end."""

NOT_STARTED = 125
"""Exit status of `docker run` where no container came to be."""

_STATES: Mapping[str, NodeState] = {"done": "done", "cached": "cached", "failed": "failed"}


class PackageRunner:
    """Compiles a package and runs its tasks in the workspace of its config, a process each."""

    place: Place = "process"

    def __init__(
        self,
        config: PipelineConfig,
        *,
        pipeline: "Pipeline | None" = None,
        progress: Progress = silent,
        command: Sequence[str] = (),
    ) -> None:
        """Prepare a run; nothing is written before `run`.

        Args:
            config: of the pipeline.
            pipeline: to compile. Default: what the config describes.
            progress: is given the events of the run.
            command: that started it, for its record.
        """
        if config.training.require_gpu is None:  # what the cluster has is no matter here
            training = config.training.model_copy(update={"require_gpu": False})
            config = config.model_copy(update={"training": training})
        self._config = config
        self._pipeline = pipeline
        self._progress = progress
        self._root = config.workspace_path / "kfp-local"
        self._versions_before = push_directory.versions(config.push_path)
        self._run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._log_folder = config.workspace_path / "logs" / self._run_id
        self._results: list[NodeResult] = []
        self._tasks: list[TaskResult] = []
        self._records = TaskRecords()
        self._recorder = RunRecorder(
            config,
            progress,
            run_id=self._run_id,
            log_folder=self._log_folder,
            examples_properties=lambda _: metadata_of_examples(self._tasks),
            command=command,
        )
        self._started = 0.0
        self._num_tasks = 0

    def run(self) -> RunResult:
        """Run every task that is not in the cache.

        Raises:
            NodeFailedError: a task failed.
            AnomaliesError: the gate stopped the run.
            UsageError: there is no Docker where it was asked for, or another run is using the workspace.
            CompileError: the pipeline cannot be expressed as a package.
        """
        if self.place == "docker" and shutil.which("docker") is None:
            raise UsageError(
                "Docker is not installed, and tasks are to run in it. Install it, or run them as processes: kfp-local."
            )
        with locked(self._config.workspace_path):
            return self._recorder.keep(self._run)

    def _run(self) -> RunResult:
        self._log_folder.mkdir(parents=True)
        self._root.mkdir(parents=True, exist_ok=True)
        self._progress(Begin("Compiling"))
        path = self._log_folder / "package.yaml"
        with logged_to(self._log_folder / "startup.log"):
            from kubetfx.kubeflow.package import compile_to_file

            compile_to_file(self._config, path, pipeline=self._pipeline)
        self._progress(End())
        package = read_package(path)
        plan = planned_tasks(package)
        self._num_tasks = len(plan)
        self._recorder.plan([node_id for task in plan for node_id in task.node_id.split(FUSED)])
        os.environ[LAUNCHER_ROOT] = str(self._root)
        emulator = Emulator(
            package,
            root=self._root,
            run_id=self._run_id,
            run_command=self._run_command,
            begin=self._begin,
            end=self._end,
        )
        emulator.remove_old_runs(keep=KEPT_RUNS)
        try:
            emulator.run({})
        except TaskFailedError as error:
            raise self._explained(error.task) from None
        with logged_to(self._log_folder / "summary.log"):
            return summarize(
                self._config,
                _result_folders(emulator.tasks),
                run_id=self._run_id,
                nodes=self._results,
                versions_before=self._versions_before,
            )

    def _begin(self, title: str) -> None:
        self._started = time.monotonic()
        self._progress(NodeBegins(self._number, self._num_tasks, title))

    def _end(self, task: TaskResult) -> None:
        outputs = {key: [str(local_path(artifact["uri"]))] for key, artifact in task.artifacts.items()}
        seconds = time.monotonic() - self._started
        result = NodeResult(task.title, _STATES[task.state], seconds, self._log_path(task), outputs)
        self._progress(NodeEnds(self._number, self._num_tasks, task.title, result.state, seconds))
        self._results.append(result)
        self._tasks.append(task)
        self._recorder.add(*self._records.of(task, result))

    @property
    def _number(self) -> int:
        """Of the task that runs, from 1."""
        return len(self._results) + 1

    def _log_path(self, task: TaskResult) -> Path:
        return self._log_folder / f"{task.name}.log"

    def _run_command(self, command: Sequence[str], environment: Mapping[str, str], image: str, task: TaskResult) -> int:
        source = str(Path(kubetfx.__file__).parent.parent)
        if self.place == "docker":
            places = [storage.locate(self._config.data.path), self._config.push_path]
            folders = [self._root, *(place for place in places if isinstance(place, Path))]
            name = f"kubetfx-{uuid.uuid4().hex[:12]}"
            line = docker_command(command, environment, image, name=name, root=self._root, folders=folders)
            variables = dict(os.environ)
        else:
            line = [sys.executable, *command[1:]] if command[0] == "python" else list(command)
            path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
            variables = {**os.environ, "PYTHONPATH": path, LAUNCHER_ROOT: str(self._root), **environment}
        with self._log_path(task).open("ab") as log:
            process = subprocess.Popen(line, stdout=log, stderr=log, env=variables, cwd=self._root)
            try:
                return process.wait()
            except BaseException:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                seconds = time.monotonic() - self._started
                interrupted = NodeResult(task.title, "interrupted", seconds, self._log_path(task))
                self._progress(NodeEnds(self._number, self._num_tasks, task.title, "interrupted", seconds))
                self._recorder.add(interrupted.record(upstream=[]))
                raise

    def _explained(self, task: TaskResult) -> KubetfxError:
        """The error that the command ends with: exit status and last lines of the task's log."""
        path = self._log_path(task)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
        if task.exit_code == AnomaliesError.exit_code:
            return AnomaliesError(f"{task.title} stopped the run; the end of its log ({path}):\n{tail}")
        reason = f"exit status {task.exit_code}. The end of its log:\n{tail}"
        if self.place == "docker" and task.exit_code == NOT_STARTED:
            reason += "\n  Docker did not start it. Is Docker running, and the image there? docs/image.md builds it."
        return NodeFailedError(task.title, reason, log_path=path)


class DockerRunner(PackageRunner):
    """Runs each task in its image, by Docker."""

    place = "docker"


def docker_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    image: str,
    *,
    name: str,
    root: Path,
    folders: Sequence[Path],
) -> list[str]:
    """The command that runs a task in its image, as the user who asks, with a root that cannot be written.

    Args:
        command: of the container.
        environment: variables of the container.
        image: to run.
        name: of the container.
        root: folder that stands for `/` in the launcher's paths.
        folders: that exist at the same path in the container; a glob stands for the folder before it.
    """
    line = ["docker", "run", "--rm", "--init", "--name", name, "--user", f"{os.getuid()}:{os.getgid()}"]
    line += ["--read-only", "--tmpfs", "/tmp", "--workdir", "/tmp"]
    mounted: list[Path] = []
    for folder in folders:
        existing = next(place for place in (folder, *folder.parents) if place.is_dir())
        if not any(existing.is_relative_to(other) for other in mounted):
            mounted.append(existing)
            line += ["--volume", f"{existing}:{existing}"]
    for variable in sorted(storage.environment().keys() - environment.keys()):
        line += ["--env", variable]  # no value: docker takes it from its own, and no list of processes shows it
    for key, value in {**environment, LAUNCHER_ROOT: str(root)}.items():
        line += ["--env", f"{key}={value}"]
    return [*line, "--entrypoint", command[0], image, *command[1:]]


def _result_folders(tasks: Sequence[TaskResult]) -> ResultFolders:
    outputs = {key: artifact for task in tasks for key, artifact in _node_outputs(task)}
    folders = {key: local_path(artifact["uri"]) for key, artifact in outputs.items()}
    version = outputs.get("pushed_model", {}).get("metadata", {}).get("pushed_version")
    return ResultFolders.of(folders, pushed_version=int(str(version)) if version is not None else None)


def _node_outputs(task: TaskResult) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The artifacts that the nodes of a task wrote, by the nodes' own output keys."""
    if "--task" not in task.arguments:  # the task of a package that somebody else wrote
        return
    spec = TaskSpec.from_argument(task.arguments[task.arguments.index("--task") + 1])
    if spec.role == "nodes":
        for node in spec.nodes:
            for key, slot in node.outputs.items():
                if slot in task.artifacts:
                    yield key, task.artifacts[slot]

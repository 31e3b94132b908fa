"""`kubetfx run --on kfp-local`: compiles the package, and runs its very tasks on this machine.

Each container's command is a process of its own, or runs in its image by Docker. The order, the documents and the cache
are kubeflow/emulator.py's.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubetfx
from kubetfx import storage
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.references import redact_file
from kubetfx.errors import AnomaliesError, KubetfxError, NodeFailedError, UsageError
from kubetfx.kubeflow.emulation.launcher import KILLED
from kubetfx.kubeflow.emulation.task_results import TaskFailedError, TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import LAUNCHER_FOLDERS, LAUNCHER_ROOT, local_path
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.run_progress import planned_tasks
from kubetfx.kubeflow.task_records import TaskRecords
from kubetfx.machine_errors import memory_advice
from kubetfx.pipeline.run_result import NodeResult, NodeState, RunResult
from kubetfx.pipeline.runner import Runner
from kubetfx.progress import Begin, End, NodeBegins, NodeEnds
from kubetfx.redirection import logged_to
from kubetfx.run_record import FUSED, RunRecord

_TAIL_LINES = 12
_KEPT_RUNS = 3
"""Runs before this one whose artifacts stay."""
_GRACE_SECONDS = 30
"""What Kubernetes leaves a container that is asked to end."""
_NOT_STARTED = 125
"""Exit status of `docker run` where no container was started."""

_STATES: Mapping[str, NodeState] = {"done": "done", "cached": "cached", "failed": "failed"}


class PackageRunner(Runner):
    """Compiles a package and runs its tasks, each as a process."""

    def _run_nodes(self) -> None:
        self._progress(Begin("Compiling"))
        path = self._log_folder / "package.yaml"
        with logged_to(self._log_folder / "startup.log"):
            from kubetfx.kubeflow.package import compile_to_file

            compile_to_file(_for_this_machine(self._config), path, pipeline=self._pipeline)
        self._progress(End())
        package = read_package(path)
        plan = planned_tasks(package, each_iteration=True)
        self._num_tasks = len(plan)
        self._records = TaskRecords()
        self._root = self._config.workspace_path / "kfp-local"
        self._root.mkdir(parents=True, exist_ok=True)
        self._emulator = Emulator(
            package,
            root=self._root,
            run_id=self._run_id,
            run_command=self._run_command,
            begin=self._begin,
            end=self._end,
        )
        self._recorder.plan([node_id for task in plan for node_id in task.node_id.split(FUSED)])
        self._emulator.remove_old_runs(keep=_KEPT_RUNS)
        try:
            self._emulator.run({})
        except TaskFailedError as error:
            raise self._explained(error.task) from None

    def _begin(self, title: str) -> None:
        self._started = time.monotonic()
        self._progress(NodeBegins(self._number, self._num_tasks, title))

    def _end(self, task: TaskResult) -> None:
        outputs = {key: [str(local_path(artifact["uri"], self._root))] for key, artifact in task.artifacts.items()}
        result = self._ended(task, _STATES[task.state], outputs)
        self._results.append(result)
        self._recorder.add(*self._records.of(task, result))
        if task.state == "done" and (version := _pushed_version(task)) is not None:
            self._recorder.pushed(version)

    def _ended(self, task: TaskResult, state: NodeState, outputs: dict[str, list[str]]) -> NodeResult:
        redact_file(self._log_path(task))
        result = NodeResult(task.label, state, time.monotonic() - self._started, self._log_path(task), outputs)
        self._progress(NodeEnds(self._number, self._num_tasks, task.label, state, result.seconds))
        return result

    @property
    def _number(self) -> int:
        """Number of the task that runs, from 1."""
        return len(self._results) + 1

    def _log_path(self, task: TaskResult) -> Path:
        return self._log_folder / f"{task.name}.log"

    def _run_command(self, command: Sequence[str], environment: Mapping[str, str], image: str, task: TaskResult) -> int:
        line, variables = self._process(command, environment, image)
        with self._log_path(task).open("ab") as log:
            process = subprocess.Popen(line, stdout=log, stderr=log, env=variables, cwd=self._root)
            try:
                return process.wait(task.deadline_seconds)
            except subprocess.TimeoutExpired:
                _end(process)
                log.write(f"\nThe task was ended after its timeout of {task.deadline_seconds} s.\n".encode())
                return KILLED
            except BaseException:
                _end(process)
                self._recorder.add(self._ended(task, "interrupted", {}).record(upstream=[]))
                raise

    def _process(
        self, command: Sequence[str], environment: Mapping[str, str], image: str
    ) -> tuple[list[str], dict[str, str]]:
        """Return command and environment of the process that runs a container's command."""
        line = [sys.executable, *command[1:]] if command[0] == "python" else list(command)
        source = str(Path(kubetfx.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        return line, {**os.environ, "PYTHONPATH": path, LAUNCHER_ROOT: str(self._root), **environment}

    def _explained(self, task: TaskResult) -> KubetfxError:
        """Return the error that the run ends with: exit status and last lines of the task's log."""
        path = self._log_path(task)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
        if task.exit_code == AnomaliesError.exit_code:
            return AnomaliesError(f"{task.label} stopped the run; the end of its log ({path}):\n{tail}")
        reason = f"exit status {task.exit_code}. The end of its log:\n{tail}{self._hint(task)}"
        return NodeFailedError(task.label, reason, log_path=path)

    def _hint(self, task: TaskResult) -> str:
        if task.exit_code != -signal.SIGKILL:
            return ""
        return f"\n  It was killed: if nobody did it, there was not enough memory. {memory_advice(task.label)}"

    def _pushed_version(self) -> int | None:
        versions = [version for task in self._emulator.tasks if (version := _pushed_version(task)) is not None]
        return versions[-1] if versions else None

    def _waiting_version(self) -> int | None:
        found = [_pushed_version(task, "waiting_version") for task in self._emulator.tasks]
        return next((version for version in reversed(found) if version is not None), None)

    def _examples_properties(self, record: RunRecord) -> Mapping[str, Any]:
        found = (
            task.artifacts["examples"]["metadata"] for task in self._emulator.tasks if "examples" in task.artifacts
        )
        return next(found, {})


class DockerRunner(PackageRunner):
    """Compiles a package and runs its tasks, each in its image by Docker."""

    def run(self) -> RunResult:
        """Run every task that is not in the cache.

        Raises:
            UsageError: Docker is not installed, or another run is using the workspace.
        """
        if shutil.which("docker") is None:
            raise UsageError(
                "Docker is not installed, and tasks are to run in it. Install it, or run them as processes: kfp-local."
            )
        return super().run()

    def _process(
        self, command: Sequence[str], environment: Mapping[str, str], image: str
    ) -> tuple[list[str], dict[str, str]]:
        places = [storage.locate(self._config.data.path), self._config.push_path]
        folders = [place for place in places if isinstance(place, Path)]
        name = f"kubetfx-{uuid.uuid4().hex[:12]}"
        line = docker_command(command, environment, image, name=name, root=self._root, folders=folders)
        return line, dict(os.environ)

    def _hint(self, task: TaskResult) -> str:
        if task.exit_code != _NOT_STARTED:
            return ""
        return "\n  Docker did not start it. Is Docker running, and the image there? docs/image.md builds it."


def _for_this_machine(config: PipelineConfig) -> PipelineConfig:
    """Return the config without what only the cluster needs to have: GPUs, and pods for workers."""
    training = config.training
    changes: dict[str, Any] = {"require_gpu": False} if training.require_gpu is None else {}
    if training.distribution is not None:
        changes["distribution"] = training.distribution.model_copy(update={"launcher": "processes"})
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pushed_version(task: TaskResult, name: str = "pushed_version") -> int | None:
    """Return the version that kubetfx's Pusher wrote into the properties of its output."""
    versions = (artifact["metadata"].get(name) for artifact in task.artifacts.values())
    return next((int(version) for version in versions if version is not None), None)


def docker_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    image: str,
    *,
    name: str,
    root: Path,
    folders: Sequence[Path],
    user: str = "",
) -> list[str]:
    """Return the command that runs a task in its image as a pod would.

    The container has any user, no rights, a root that cannot be written, and the launcher's folders in their places.

    Args:
        command: of the container.
        environment: variables of the container.
        image: to run.
        name: The name of the container.
        root: folder instead of `/` in the launcher's paths.
        folders: to mount at the same paths; for a glob, the folder before its first wildcard.
        user: number of the user, and of the group after a colon. Default: those of this process.
    """
    line = ["docker", "run", "--rm", "--init", "--name", name, "--user", user or f"{os.getuid()}:{os.getgid()}"]
    line += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]  # as the pods of Kubeflow Pipelines
    line += ["--read-only", "--tmpfs", "/tmp", "--workdir", "/tmp"]
    for place in LAUNCHER_FOLDERS:
        (root / place).mkdir(parents=True, exist_ok=True)
        line += ["--volume", f"{root / place}:/{place}"]
    mounted: list[Path] = []
    for folder in folders:
        existing = next(place for place in (folder, *folder.parents) if place.is_dir())
        if not any(existing.is_relative_to(other) for other in mounted):
            mounted.append(existing)
            line += ["--volume", f"{existing}:{existing}"]
    for variable in sorted(storage.environment().keys() - environment.keys()):
        line += ["--env", variable]  # no value: docker takes it from its own, and no list of processes shows it
    for key, value in environment.items():
        line += ["--env", f"{key}={value}"]
    program, *arguments = (_in_a_pod(word, root) for word in command)
    return [*line, "--entrypoint", program, image, *arguments]


def _in_a_pod(word: str, root: Path) -> str:
    """Return a word of a command, or a document in it, with the paths that a pod has."""
    for written in (str(root), json.dumps(str(root), ensure_ascii=False)[1:-1]):
        word = word.replace(f"{written}/", "/")
    return word

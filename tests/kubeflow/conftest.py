"""Configs and packages to compile; the emulator with tasks in this process."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubetfx.config.kubeflow import KubeflowConfig
from kubetfx.kubeflow import emulator
from kubetfx.kubeflow.compiler import Extras, compile_pipeline, write_package
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, ExecutorInput
from kubetfx.kubeflow.task_run import run_task
from kubetfx.kubeflow.task_spec import TaskSpec


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def specs(package: Mapping[str, Any]) -> dict[str, TaskSpec]:
    """What each task's container is told, by executor label without `exec-`."""
    executors = package["deploymentSpec"]["executors"]
    return {
        label.removeprefix("exec-"): TaskSpec.from_argument(entry["container"]["args"][1])
        for label, entry in executors.items()
    }


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Compile a TFX pipeline; the documents of the package."""

    def compile_to_documents(
        pipeline: Any, config: dict[str, Any] | None = None, **extras: Any
    ) -> list[dict[str, Any]]:
        path = tmp_path / "package.yaml"
        write_package(compile_pipeline(pipeline, KubeflowConfig.model_validate(config or {}), Extras(**extras)), path)
        return documents(path)

    return compile_to_documents


class InThisProcess:
    """Runs the commands of containers without starting a process, and keeps what went in and out."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, dict[str, Any]]] = {}
        """ExecutorInput and ExecutorOutput by title of the task."""
        self.errors: dict[str, Exception] = {}

    def __call__(
        self, command: Sequence[str], environment: Mapping[str, str], image: str, task: emulator.TaskResult
    ) -> int:
        import json

        assert list(command[:3]) == ["python", "-m", "kubetfx.kubeflow.entrypoint"]
        spec, text = TaskSpec.from_argument(command[4]), command[6]
        executor_input = ExecutorInput.from_json(text)
        try:
            run_task(spec, executor_input)
        except Exception as error:
            self.errors[task.title] = error
            return 1
        self.seen[task.title] = (text, json.loads(executor_input.output_file.read_text()))
        return 0


@contextlib.contextmanager
def launcher_root_at(root: Path) -> Iterator[Path]:
    """Let a folder stand for `/` in the launcher's paths."""
    before = os.environ.get(LAUNCHER_ROOT)
    os.environ[LAUNCHER_ROOT] = str(root)
    try:
        yield root
    finally:
        del os.environ[LAUNCHER_ROOT]
        if before is not None:
            os.environ[LAUNCHER_ROOT] = before


@pytest.fixture
def launcher_root(tmp_path: Path) -> Iterator[Path]:
    """The folder that stands for `/` in the launcher's paths."""
    with launcher_root_at(tmp_path / "launcher") as root:
        yield root

"""Configs and packages to compile; the emulator with tasks in this process; a server of Kubeflow Pipelines."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler
from kfp.client import Client

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.kubeflow.compiler import Extras, compile_pipeline, write_package
from kubetfx.kubeflow.emulation.task_results import TaskFailedError, TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, ExecutorInput
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.task_run import run_task
from kubetfx.kubeflow.task_spec import TaskSpec
from tests.command import Finished
from tests.kubeflow import sdk_packages
from tests.kubeflow.api_contract import MISSING, Contract, find_definition
from tests.kubeflow.kfp_server import KfpServer, serve

TASKS = ("count", "flip", "train")
"""Of the package `two-steps`."""


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def specs(package: Mapping[str, Any]) -> dict[str, TaskSpec]:
    """What each task's container is told, by executor label without `exec-`."""
    executors = package["deploymentSpec"]["executors"]
    return {
        label.removeprefix("exec-"): TaskSpec.from_argument(entry["container"]["args"][1])
        for label, entry in executors.items()
    }


def artifacts_taken(package: dict[str, Any]) -> dict[str, list[str]]:
    """What each task takes, by its DAG and name."""
    dags = {"root": package["root"], **package["components"]}
    return {
        f"{name}.{task}": [str(source) for source in entry.get("inputs", {}).get("artifacts", {}).values()]
        for name, component in dags.items()
        for task, entry in component.get("dag", {}).get("tasks", {}).items()
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

    def __call__(self, command: Sequence[str], environment: Mapping[str, str], image: str, task: TaskResult) -> int:
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


@pytest.fixture
def run(tmp_path: Path, launcher_root: Path) -> Callable[..., tuple[Emulator, InThisProcess]]:
    """Compile a pipeline and run it; the emulator and what the tasks saw."""

    def run_pipeline(
        pipeline: Any,
        *,
        extras: Extras | None = None,
        config: KubeflowConfig | None = None,
        tasks: InThisProcess | None = None,
        run_id: str = "1",
        **arguments: Any,
    ) -> tuple[Emulator, InThisProcess]:
        path = tmp_path / "package.yaml"
        write_package(compile_pipeline(pipeline, config or KubeflowConfig(), extras), path)
        tasks = tasks or InThisProcess()
        one_run = Emulator(read_package(path), root=launcher_root, run_id=run_id, run_command=tasks)
        try:
            one_run.run(arguments)
        except TaskFailedError:
            assert tasks.errors
            raise
        return one_run, tasks

    return run_pipeline


@pytest.fixture
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES_", "KUBETFX_KFP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))


@pytest.fixture(scope="session")
def contract() -> Contract | None:
    path = find_definition()
    return Contract(path) if path else None


@pytest.fixture
def server(contract: Contract | None, nobody_is_logged_in: None) -> Iterator[KfpServer]:
    """A server that holds what it is sent to the API's definition; without that, the test runs and the check is said to
    be skipped.
    """
    with serve(KfpServer(contract, frames=[dict.fromkeys(TASKS, "done")])) as running:
        yield running
    assert running.violations == []
    if contract is None:
        pytest.skip(MISSING)


@pytest.fixture(scope="session")
def two_steps_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("package") / "two-steps.yaml"
    compiler.Compiler().compile(sdk_packages.two_steps, str(path))
    return path


@pytest.fixture(scope="session")
def two_steps(two_steps_package: Path) -> dict[str, Any]:
    """The document, not to be changed."""
    document: dict[str, Any] = yaml.safe_load(two_steps_package.read_text())
    return document


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*documents: dict[str, Any]) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return path

    return write


@pytest.fixture
def package(two_steps_package: Path, tmp_path: Path, nobody_is_logged_in: None) -> Path:
    return Path(shutil.copy(two_steps_package, tmp_path / "two-steps.yaml"))


@pytest.fixture
def submit(kubetfx: Callable[..., Finished], package: Path, server: KfpServer) -> Callable[..., Finished]:
    def call(*arguments: object) -> Finished:
        return kubetfx("submit", package, "--host", server.url, "--poll-seconds", "0.1", *arguments)

    return call


@pytest.fixture
def schedule(kubetfx: Callable[..., Finished], package: Path, server: KfpServer) -> Callable[..., Finished]:
    def call(*arguments: object, cron: str = "30 6 * * mon-fri") -> Finished:
        return kubetfx("schedule", package, "--host", server.url, "--cron", cron, *arguments)

    return call


def change(package: Path) -> None:
    """Another version of the same pipeline."""
    package.write_text(package.read_text().replace("heads", "tails"))

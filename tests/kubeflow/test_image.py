"""The container image: what is left out of it, and, with KUBETFX_DOCKER_TESTS=1, building it and running in it.

Building takes minutes and needs the base image and a package index. KUBETFX_DOCKER_BUILD_OPTIONS are given to
`docker build` as they are, for example `--network=host`.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from kubetfx.config.loading import load_config
from kubetfx.kubeflow.compiler import write_package
from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.local import docker_command
from kubetfx.kubeflow.package import compile_config
from kubetfx.kubeflow.package_document import read_package
from kubetfx.version import library_version, own_version
from tests.components.pictures import write_classes
from tests.e2e.project import penguins_in
from tests.e2e.pushed import pushed_tensors
from tests.kubeflow.conftest import launcher_root_at
from tests.kubeflow.recorded_documents import (
    DATA,
    TASKS,
    check_output,
    command_of,
    compiled_package,
    make_folders,
    output_of,
    recorded,
)
from tests.kubeflow.test_task_run import write_table

ROOT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
IMAGE = "kubetfx/pipeline:under-test"
BIGGEST_BYTES = 2_000_000_000
ANYONE = 12345
"""A user whom the image does not know."""


def _script() -> ModuleType:
    path = ROOT / "scripts" / "slim_environment.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


slim_environment = _script()


# What is left out


@pytest.mark.parametrize("path", slim_environment.UNUSED)
def test_what_is_left_out_is_where_it_was_seen(path: str) -> None:
    assert list(SITE_PACKAGES.glob(path))


@pytest.mark.parametrize("package", slim_environment.TESTED_PACKAGES)
def test_packages_whose_tests_are_left_out_have_some(package: str) -> None:
    assert list((SITE_PACKAGES / package).rglob("tests"))


@pytest.mark.parametrize("pattern", slim_environment.STRIPPED)
def test_libraries_that_are_stripped_are_there(pattern: str) -> None:
    assert list(SITE_PACKAGES.glob(pattern))


def test_boot_program_of_workers_is_of_the_version_that_is_installed() -> None:
    (version,) = re.findall(r"^ARG BEAM_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert version == importlib.metadata.version("apache-beam")


@pytest.mark.long
def test_no_component_imports_what_is_left_out() -> None:
    names = {path.replace("/", ".") for path in slim_environment.UNUSED if path.replace("/", "").isidentifier()}
    unused = sorted(names | {"pyarrow.flight"})
    assert {"jedi", "tfx.examples"} <= set(unused)
    program = f"""
import importlib, pkgutil, sys
for name in {unused!r}:
    sys.modules[name] = None  # importing it is an ImportError
import kubetfx
names = [module.name for module in pkgutil.walk_packages(kubetfx.__path__, "kubetfx.")]
assert "kubetfx.components.report.render" in names
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_slimming_removes_and_strips_in_the_environment_alone(tmp_path: Path) -> None:
    if shutil.which("strip") is None:
        pytest.skip("strip (binutils) is not installed")
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    kept = site_packages / "tensorflow" / "python" / "tests.py"
    removed = [
        site_packages / "tensorflow" / "include" / "a.h",
        site_packages / "pandas" / "tests" / "frame" / "tests" / "test_a.py",
        site_packages / "nvidia" / "cublas" / "include" / "cublas.h",
        site_packages / "tensorboard" / "webfiles.zip",
    ]
    for path in (kept, *removed):
        path.parent.mkdir(parents=True)
        path.write_text("")
    (source,) = (SITE_PACKAGES / "zstandard").glob("backend_c*.so")
    library = site_packages / "zstandard" / source.name
    library.parent.mkdir()
    shutil.copy(source, library)
    slim_environment.main(tmp_path)
    assert kept.is_file()
    assert not any(path.exists() for path in removed)
    assert library.stat().st_size < source.stat().st_size / 2
    program = f"""
import importlib.machinery, importlib.util
loader = importlib.machinery.ExtensionFileLoader("zstandard.backend_c", {str(library)!r})
importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# With Docker


def _docker_is_missing() -> str:
    if os.environ.get("KUBETFX_DOCKER_TESTS") != "1":
        return "KUBETFX_DOCKER_TESTS is not 1; building the image takes minutes"
    if shutil.which("docker") is None:
        return "docker is not installed"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        return "no Docker engine answers"
    return ""


needs_docker = pytest.mark.skipif(bool(_docker_is_missing()), reason=_docker_is_missing() or "Docker is here")
READ_ONLY = (
    *("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", f"--user={ANYONE}"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
)


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    return subprocess.run(["docker", *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    options = shlex.split(os.environ.get("KUBETFX_DOCKER_BUILD_OPTIONS", ""))
    built = docker("build", *options, "--target=pipeline", f"--tag={IMAGE}", str(ROOT))
    assert built.returncode == 0, built.stderr[-4000:]
    yield IMAGE
    docker("image", "rm", IMAGE)


@needs_docker
def test_image_is_labelled_and_checked_runs_as_a_user_and_is_not_too_big(image: str) -> None:
    (facts,) = json.loads(docker("image", "inspect", image).stdout)
    config = facts["Config"]
    assert config["Entrypoint"] == ["kubetfx"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert config["Healthcheck"]["Test"] == ["CMD", "kubetfx", "schema"]
    assert config["Labels"]["org.opencontainers.image.title"] == "kubetfx"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert facts["Size"] < BIGGEST_BYTES


@needs_docker
@pytest.mark.parametrize("program", ["gcc", "g++", "cc", "ld", "strip", "uv"])
def test_image_has_no_tools_of_its_build(image: str, program: str) -> None:
    done = docker(*READ_ONLY, "--entrypoint=sh", image, "-c", f"command -v {program}")
    assert done.stdout == ""


@needs_docker
def test_every_component_runs_as_any_user_on_a_read_only_root(image: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "penguins", tmp_path / "penguins", ignore=shutil.ignore_patterns(".kubetfx"))
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777)
    run = ("run", "/work/penguins/pipeline.yaml", "--format", "json")
    done = docker(*READ_ONLY, f"--volume={tmp_path}:/work", image, *run)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    assert {node["state"] for node in result["nodes"]} == {"done"}
    version = result["pushed_version"]
    pushed = tmp_path / "penguins/.kubetfx/penguins/pushed/penguins" / str(version) / "saved_model.pb"
    assert pushed.stat().st_uid == ANYONE


@needs_docker
def test_command_knows_the_versions_of_what_is_in_the_image(image: str) -> None:
    done = docker(*READ_ONLY, image, "--version")
    libraries = ", ".join(f"{name} {library_version(name)}" for name in ("tfx", "tensorflow", "keras", "kfp"))
    assert done.stdout == f"kubetfx {own_version()} ({libraries})\n", done.stderr


@needs_docker
@pytest.mark.parametrize("module", ["tfx.v1", "kfp.kubernetes", "kubetfx.serving.server", "tensorflow_transform"])
def test_modules_of_users_and_of_kubeflow_are_left_in(image: str, module: str) -> None:
    done = docker(*READ_ONLY, "--entrypoint=python", image, "-c", f"import {module}")
    assert done.returncode == 0, done.stderr[-2000:]


# The tasks of packages, as Kubeflow's pods run them


class InTheImage:
    """Runs the commands of containers as a pod would, as a user whom nobody knows, and keeps the documents."""

    def __init__(self, root: Path, folders: Sequence[Path]) -> None:
        self._root = root
        self._folders = folders
        self.documents: dict[str, dict[str, Any]] = {}
        """ExecutorInput by title of the task."""

    def __call__(self, command: Sequence[str], environment: Mapping[str, str], image: str, task: TaskResult) -> int:
        line = docker_command(
            command, environment, IMAGE, name="kubetfx-test", root=self._root, folders=self._folders, user=str(ANYONE)
        )
        _open_to_all(self._root)
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        sys.stderr.write(done.stderr[-2_000:] if done.returncode else "")
        self.documents[task.title] = json.loads(line[-1])
        return done.returncode


def _open_to_all(root: Path) -> None:
    """Let all write into the folders, as into an emptyDir of a pod, and to the logs in them."""
    for path in (root, *root.rglob("*")):
        if path.stat().st_uid == os.getuid():
            path.chmod(0o777 if path.is_dir() else 0o666)


class Finished(NamedTuple):
    """A package that has run."""

    emulator: Emulator
    tasks: InTheImage
    root: Path
    """The folder in the place of `/` in the launcher's paths."""
    pushed: Path


@pytest.fixture(scope="module", params=["table", "fused table", "pictures"])
def ran(image: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A package whose every task has run in the image."""
    folder = tmp_path_factory.mktemp("package")
    if request.param == "pictures":
        write_classes(folder / "data")
    else:
        write_table(folder / "data")
    pushed = folder / "pushed"
    pushed.mkdir()
    pushed.chmod(0o777)
    (folder / "pipeline.yaml").write_text(
        f"name: any\ndata: {{path: data, {'format: images' if request.param == 'pictures' else 'label: kind'}}}\n"
        "training: {epochs: 2}\nserving: {push_directory: pushed}\n"
        "evaluation: {thresholds: {accuracy: {at_least: 0, better_than_baseline: false}}}\n"
        f"kubeflow: {{fuse: {'light' if 'fused' in request.param else 'none'}}}\n"
    )
    path = folder / "package.yaml"
    write_package(compile_config(load_config(folder / "pipeline.yaml"))[0], path)
    with launcher_root_at(folder / "launcher") as root:
        tasks = InTheImage(root, [folder / "data", pushed])
        emulator = Emulator(read_package(path), root=root, run_id="1", run_command=tasks)
        emulator.run({})
        return Finished(emulator, tasks, root, pushed)


@needs_docker
def test_every_task_of_the_package_ran_in_the_image(ran: Finished) -> None:
    documents = ran.tasks.documents
    assert [task.state for task in ran.emulator.tasks] == ["done"] * len(documents)
    nodes = " + ".join(documents).split(" + ")
    assert {"Transform", "Trainer", "Evaluator", "Pusher", "Report"} < set(nodes)
    assert len(nodes) == 12 if any("driver" in name for name in nodes) else 11


@needs_docker
def test_documents_were_those_of_a_pod(ran: Finished) -> None:
    for title, document in ran.tasks.documents.items():
        assert "/launcher/" not in json.dumps(document), title
        assert document["outputs"]["outputFile"].startswith("/minio/mlpipeline/v2/artifacts/any/1/")
        (log,) = document["outputs"]["artifacts"]["executor-logs"]["artifacts"]
        assert log["uri"].endswith("/executor-logs-0")
        for key, parameter in document["outputs"]["parameters"].items():
            assert parameter["outputFile"] == f"/tmp/kfp/outputs/{key}"
        for found in document["inputs"]["artifacts"].values():
            (artifact,) = found["artifacts"]
            assert artifact["type"] == {"instanceSchema": ""}
            assert {"display_name", "store_session_info"} <= artifact["metadata"].keys()


@needs_docker
def test_what_the_tasks_wrote_is_their_users(ran: Finished) -> None:
    (version,) = ran.pushed.iterdir()
    assert (version / "saved_model.pb").stat().st_uid == ANYONE
    for task in ran.emulator.tasks:
        for key, artifact in task.artifacts.items():
            path = ran.root / artifact["uri"].replace("://", "/")
            assert key == "executor-logs" or not path.exists() or path.stat().st_uid == ANYONE


@needs_docker
def test_tasks_take_the_documents_of_a_recorded_run_as_they_are(image: str, tmp_path: Path) -> None:
    package = compiled_package(tmp_path)
    root = tmp_path / "launcher"
    for task in TASKS:
        document = recorded(task)
        line = docker_command(
            command_of(package, task, document), {}, image, name="kubetfx-test", root=root, folders=[], user=str(ANYONE)
        )
        make_folders(document, root)
        _open_to_all(root)
        volume = ["--volume", f"{tmp_path / 'data'}:{DATA}:ro"]
        done = subprocess.run([*line[:2], *volume, *line[2:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4_000:]
        check_output(document, output_of(document, root), root)


# Runs of the same package: fused or not, in Docker or not


@pytest.mark.long
@needs_docker
def test_fused_or_not_and_in_docker_or_not_the_models_are_equal(image: str, tmp_path: Path) -> None:
    models = {}
    for fuse in ("none", "light"):
        for docker_option in ((), ("--docker",)):
            project = penguins_in(tmp_path / f"{fuse}{len(docker_option)}")
            settings = (f"kubeflow.fuse={fuse}", f"kubeflow.image={image}")
            options = [word for setting in settings for word in ("--set", setting)]
            finished = project.run("--on", "kfp-local", *docker_option, *options, seconds=1_200)
            assert finished.exit_code == 0, finished.stdout
            models[fuse, *docker_option] = pushed_tensors(project)
    first = models["none",]
    assert first
    for way, model in models.items():
        assert model.keys() == first.keys()
        for name, array in model.items():
            np.testing.assert_array_equal(array, first[name], err_msg=f"{way}: {name}")

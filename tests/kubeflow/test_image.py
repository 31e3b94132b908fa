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
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
IMAGE = "kubetfx/pipeline:under-test"
BIGGEST_BYTES = 2_700_000_000


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
    assert (SITE_PACKAGES / path).is_dir()


@pytest.mark.parametrize("package", slim_environment.TESTED_PACKAGES)
def test_packages_whose_tests_are_left_out_have_some(package: str) -> None:
    assert list((SITE_PACKAGES / package).rglob("tests"))


@pytest.mark.parametrize("pattern", slim_environment.STRIPPED)
def test_libraries_that_are_stripped_are_there(pattern: str) -> None:
    assert list(SITE_PACKAGES.glob(pattern))


def test_boot_program_of_workers_is_of_the_version_that_is_installed() -> None:
    (version,) = re.findall(r"^ARG BEAM_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert version == importlib.metadata.version("apache-beam")


def test_no_component_imports_what_is_left_out() -> None:
    unused = sorted({path.partition("/")[0] for path in slim_environment.UNUSED if "/" not in path})
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
    *("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--user=12345"),
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
    assert pushed.stat().st_uid == 12345


@needs_docker
@pytest.mark.parametrize("module", ["tfx.v1", "kfp.kubernetes", "kubetfx.serving.server", "tensorflow_transform"])
def test_modules_of_users_and_of_kubeflow_are_left_in(image: str, module: str) -> None:
    done = docker(*READ_ONLY, "--entrypoint=python", image, "-c", f"import {module}")
    assert done.returncode == 0, done.stderr[-2000:]

"""`pip install kubetfx`, without the libraries of the pipeline: a client, and the checks of configs and packages.

The environment of most tests here holds links to the files of what kubetfx declares, and nothing else. One that takes
minutes installs the wheel as a user does, from a package index.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import tensorflow as tf
from packaging.requirements import Requirement

from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from tests.serving.conftest import options

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "kubeflow" / "goldens" / "penguins.yaml"
CONFIG = {
    "name": "half_plus_two",
    "data": {"path": "/mnt/rows", "label": "y"},
    "serving": {"push_directory": "/mnt/models/half_plus_two"},
}
HEAVY = {
    "run": ["run", "CONFIG"],
    "compile": ["compile", "CONFIG"],
    "serve": ["serve", "CONFIG"],
    "gRPC": ["predict", "CONFIG", "--rows", "ROWS", "--grpc", "127.0.0.1:1"],
}


def distributions(requirements: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """What installers would take for requirements, of what is installed here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(Requirement(one), "") for one in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name not in found:
            found[name] = importlib.metadata.distribution(requirement.name)
        extras = sorted(requirement.extras) or [""]
        waiting += [
            (Requirement(one), extra) for one in found[name].requires or () for extra in extras if extra != name
        ]
    return found


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory):
    """Runs `kubetfx` where only what it declares is installed."""
    folder = tmp_path_factory.mktemp("light")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for distribution in distributions(declared).values():
        for file in distribution.files or ():
            link = folder / "site" / file
            if ".." not in file.parts and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(distribution.locate_file(file))
    (folder / "pipeline.yaml").write_text(json.dumps(CONFIG))
    (folder / "rows.csv").write_text("x\n1\n4\n")
    places = {"CONFIG": str(folder / "pipeline.yaml"), "ROWS": str(folder / "rows.csv")}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder / 'site'}:{ROOT}", "COLUMNS": "200"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-m", "kubetfx", *(places.get(one, one) for one in arguments)]
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)

    return run


def test_version_says_that_the_pipeline_is_missing(light):
    done = light("--version")
    assert done.returncode == 0, done.stderr
    assert "light" in done.stdout


def test_config_is_checked_and_what_pods_do_not_see_is_named(light):
    done = light("compile", "CONFIG", "--check", "--format", "json")
    assert done.returncode == 0, done.stderr
    warnings = json.loads(done.stdout)["warnings"]
    assert [warning.split()[0] for warning in warnings] == ["data.path", "serving.push_directory"]


def test_mistake_in_a_config_is_named(light):
    done = light("compile", "CONFIG", "--check", "--set", "training.epoch=3")
    assert done.returncode == 2
    assert "epochs" in done.stderr


def test_package_is_linted(light):
    done = light("lint", str(PACKAGE))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["schema"], ["--help"], ["runs", "CONFIG"]], ids=lambda found: found[0])
def test_command_that_needs_no_pipeline_runs(light, arguments):
    done = light(*arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def server(tmp_path: Path):
    """Serves a regression."""

    class HalfPlusTwo(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x):
            return {"value": x / 2 + 2}

    model = HalfPlusTwo()
    tf.saved_model.save(model, str(tmp_path / "models" / "1"), signatures={"serving_default": model.serve})
    with RunningServer(options(ModelConfig("half_plus_two", tmp_path / "models"))) as running:
        yield running


def test_served_model_is_asked_over_rest(light, server):
    address = f"http://127.0.0.1:{server.rest_port}"
    done = light("predict", "CONFIG", "--rows", "ROWS", "--rest", address, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert [row["value"] for row in json.loads(done.stdout)["predictions"]] == [2.5, 4.0]

    done = light("models", "--rest", address, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"half_plus_two"}


@pytest.mark.parametrize("arguments", HEAVY.values(), ids=HEAVY)
def test_command_that_needs_the_pipeline_says_how_to_install_it(light, arguments):
    done = light(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Received: no module" in done.stderr
    assert "kubetfx requirements > requirements.txt && pip install --no-deps -r requirements.txt" in done.stderr


def test_list_of_libraries_is_that_of_the_lock(light):
    done = light("requirements")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (ROOT / "requirements.txt").read_text()
    assert "tensorflow==" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_wheel_installs_from_an_index(tmp_path, installer):
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "environment", with_pip=installer == "pip", symlinks=True)
    python = tmp_path / "environment" / "bin" / "python"
    install = [python, "-m", "pip", "install"] if installer == "pip" else [uv, "pip", "install", "--python", python]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(command: list[object]) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        return subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run([*install, wheel])
    if done.returncode:
        pytest.skip(f"no package index answers: {done.stderr[-200:]}")
    for arguments in (["--version"], ["lint", PACKAGE], ["requirements"]):
        done = run([python.with_name("kubetfx"), *arguments])
        assert done.returncode == 0, done.stderr

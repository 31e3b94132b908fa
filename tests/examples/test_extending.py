"""Every example of extending/ runs, and compiles to a package without faults."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import kubetfx
from tests.warm_process import run_forked

ROOT = Path(__file__).parents[2]
EXTENDING = ROOT / "examples" / "extending"
PENGUINS = ROOT / "examples" / "penguins" / "data"


def run(folder: Path, workspace: Path, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """`kubetfx run` in a process of its own, in another folder than that of the example."""
    done = run_forked(
        [
            *("run", str(folder / "pipeline.yaml"), "--format", "json", "--set", f"workspace={workspace}"),
            *arguments,
        ],
        cwd=workspace.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        seconds=300,
    )
    assert done.exit_code == exit_code, done.stdout + done.stderr
    document: dict[str, Any] = done.document
    return document


NAMES = sorted(path.parent.name for path in EXTENDING.glob("*/pipeline.yaml"))
SHORT = ("component", "source")
"""Run by `make test`; `make test-all` runs all."""


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in NAMES]
)
def test_example_runs_and_reaches_its_thresholds(name: str, tmp_path: Path) -> None:
    found = run(EXTENDING / name, tmp_path / "workspace")

    assert found["blessed"]
    assert found["checks"]
    assert found["pushed_version"]


@pytest.mark.parametrize("name", NAMES)
def test_example_compiles_to_a_package_without_faults(name: str, tmp_path: Path) -> None:
    package = tmp_path / "package.yaml"
    overrides = {"data.path": "s3://team/data", "serving.push_directory": "s3://team/models"}
    kubetfx.compile(kubetfx.load_config(EXTENDING / name / "pipeline.yaml", overrides=overrides), package)

    assert kubetfx.lint(package) == []


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_package_of_the_example_runs(name: str, tmp_path: Path) -> None:
    found = run(EXTENDING / name, tmp_path / "workspace", "--on", "kfp-local")

    assert found["blessed"]
    assert found["pushed_version"]


def test_own_component_is_executed_and_stops_what_it_is_there_to_stop(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(EXTENDING / "component", folder)
    table = next(PENGUINS.glob("*.csv")).read_text().replace(",3750,", ",37500,", 1)
    (tmp_path / "penguins.csv").write_text(table)

    stopped = run(folder, tmp_path / "workspace", "--set", f"data.path={tmp_path / 'penguins.csv'}", exit_code=3)

    assert "body_mass_g" in stopped["error"]["message"]
    (record,) = (tmp_path / "workspace" / "runs").glob("*/run.json")
    nodes = [node["id"] for node in json.loads(record.read_text())["nodes"]]
    assert nodes[2:5] == ["SchemaGen", "BoundedSchema", "ExampleValidator"]

"""A secret that a run uses is nowhere in what it leaves behind."""

from pathlib import Path

import pytest

from tests.command import kubetfx_here
from tests.e2e.project import Project

SECRET = "open-sesame-7391"

SOURCE = """
import os
import pyarrow.csv

def read(path, password):
    assert password == os.environ["SHOP_PASSWORD"]
    if not os.path.exists(path):
        raise OSError(f"{password} does not open {path}")
    return pyarrow.csv.read_csv(path)
"""

CONFIG = """
name: penguins
data:
  source: shop:read
  source_options: {path: data/penguins.csv, password: "${SHOP_PASSWORD}"}
  label: species
training: {epochs: 1}
beam: {arguments: ["--labels=key=${SHOP_PASSWORD}"]}
"""


def holders(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.fixture
def project(new_penguins: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    monkeypatch.chdir(new_penguins.folder)
    (new_penguins.folder / "shop.py").write_text(SOURCE)
    new_penguins.config.write_text(CONFIG)
    return new_penguins


@pytest.mark.long
def test_secret_of_a_run_is_nowhere_in_the_workspace(project: Project) -> None:
    run = project.run()

    assert run.exit_code in (0, 4), run.stderr
    assert SECRET not in run.stdout + run.stderr
    assert holders(project.folder) == []


def test_secret_is_not_in_what_is_said_of_a_failure(project: Project) -> None:
    failed = project.run("--set", "data.source_options.path=none.csv")
    assert failed.exit_code == 2
    assert "${SHOP_PASSWORD} does not open none.csv" in failed.stdout + failed.stderr
    assert SECRET not in failed.stdout + failed.stderr
    assert holders(project.folder) == []


def test_secret_is_not_in_the_package_and_must_come_from_the_cluster(project: Project) -> None:
    package = project.folder / "package.yaml"
    refused = kubetfx_here("compile", project.config, "--output", package)
    assert refused.exit_code == 2
    assert "kubeflow.every_component.secrets" in refused.stderr

    secrets = "[{name: shop, env: {password: SHOP_PASSWORD}}]"
    compiled = kubetfx_here(
        "compile", project.config, "--output", package, "--set", f"kubeflow.every_component.secrets={secrets}"
    )

    assert compiled.exit_code == 0, compiled.stderr
    assert holders(project.folder) == []
    assert '"beam_arguments":["--runner=DirectRunner","--labels=key=\\u0024{SHOP_PASSWORD}"]' in package.read_text()
    assert "secretName: shop" in package.read_text()

"""`kubetfx doctor` where no engine is asked for, and what it says before it asks one."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from kubetfx.config.loading import load_config
from kubetfx.pipeline import doctor
from tests.command import kubetfx_here

CONFIG = "name: houses\ndata: {path: houses.csv, label: price}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(CONFIG)
    return path


def test_machine_without_an_engine_is_looked_at(config: Path) -> None:
    found = kubetfx_here("doctor", config, "--format", "json", "--set", "beam.arguments=[--direct_num_workers=3]")

    assert found.exit_code == 0, found.stdout
    assert found.document["healthy"]
    checks = {check["name"]: check["detail"] for check in found.document["checks"]}
    assert list(checks) == ["Python", "Workspace", "Disk", "Options", "Engine"]
    assert checks["Engine"] == "3 threads of this machine, without Beam"
    assert checks["Workspace"] == str(config.parent / ".kubetfx" / "houses")


def test_everything_that_is_wrong_here_is_said_before_an_engine_is_asked(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ("total", "used", "free"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30 - 2**20, 2**20))

    found = kubetfx_here("doctor", config, "--set", "beam.options={direct_num_wokers: 3}")

    assert found.exit_code == 1
    assert "Disk: The disk of the workspace is nearly full. Received: 1.0 MiB free at " in found.stderr
    assert "Options: beam: Beam has no such option. Did you mean 'direct_num_workers'?" in found.stderr
    assert "Engine" not in found.stderr


def test_workspace_that_cannot_be_written_is_said(config: Path) -> None:
    (config.parent / "file").write_text("")
    checks = doctor.examine(load_config(config, overrides={"workspace": "file/workspace"}))

    (failed,) = [check for check in checks if not check.passed]
    assert failed.name == "Workspace"
    assert "workspace cannot be written. Received: " in failed.detail


def test_endpoint_where_nobody_listens_is_said(config: Path) -> None:
    beam = {"runner": "PortableRunner", "endpoint": "localhost:1", "timeout": 1}
    checks = doctor.examine(load_config(config, overrides={"beam": beam}))

    assert [check.passed for check in checks] == [True, True, True, True, False]
    assert checks[-1].detail.startswith("beam.endpoint: the job service cannot be reached: nobody listens there. ")

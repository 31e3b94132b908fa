"""A clock that is set back, or forward, between two runs. A library of Debian's tells the command another time."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.chaos.proofs import Proofs
from tests.chaos.small_pipelines import Project, half_written
from tests.command import kubetfx_here
from tests.e2e.project import command, environment

pytestmark = pytest.mark.chaos

LIBRARY = Path(os.environ.get("KUBETFX_FAKETIME", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"))
CLOCKS = ("+0", "-1d", "-400d", "+30d", "-1h")


def test_clock_that_is_set_back_costs_no_run(tmp_path: Path, temporary_files: Path, proofs: Proofs) -> None:
    if not LIBRARY.is_file():
        pytest.skip("needs libfaketime: apt-get install libfaketime, or KUBETFX_FAKETIME=FILE")
    project = Project(tmp_path / "project")
    project.make()
    versions = []
    for number, clock in enumerate(CLOCKS):
        project.change(number)
        faked = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME": clock,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        for expected in ("done", "cached"):
            line = command("run", project.config, "--format", "json")
            done = subprocess.run(line, env=environment() | faked, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            states = {node["state"] for node in json.loads(done.stdout)["nodes"]}
            assert expected in states
        versions.append(json.loads(done.stdout)["pushed_version"])
    runs = kubetfx_here("runs", project.config, "--format", "json").document["runs"]
    assert len(runs) >= 4
    assert versions == sorted(set(versions))
    assert half_written(project.workspace) == []
    assert list(temporary_files.iterdir()) == []
    proofs.add(
        "The clock",
        done=f"set to {', '.join(CLOCKS[1:])} between runs",
        times=len(CLOCKS) - 1,
        result="Each run ended well, and pushed a version with a higher number than the one before; unchanged reruns "
        "came from the cache.",
    )

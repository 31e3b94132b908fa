"""Temporary files of a run go with it, also where it is killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kubetfx import temporary_files

ROOT = Path(__file__).parents[2]
WAITS = """
import sys, tempfile
from kubetfx import temporary_files
with temporary_files.of_a_run():
    tempfile.mkstemp(prefix="left-")
    print("there", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def waiting(place: Path) -> "subprocess.Popen[str]":
    """A run of another process, which has a temporary file."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", WAITS], text=True, env=env, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


def test_files_of_a_run_are_gone_with_it_and_are_those_of_its_children(place: Path) -> None:
    with temporary_files.of_a_run() as folder:
        _, name = tempfile.mkstemp()
        assert Path(name).parent == folder
        made = subprocess.run(["mktemp"], capture_output=True, text=True, check=True).stdout
        assert Path(made).parent == folder
        assert temporary_files.shared_folder() == place
    assert list(place.iterdir()) == []
    assert os.environ["TMPDIR"] == str(place)
    assert tempfile.gettempdir() == str(place)


def test_files_of_a_killed_run_are_gone_with_the_next(place: Path) -> None:
    with waiting(place) as process:
        process.send_signal(signal.SIGKILL)
    (left,) = place.iterdir()
    assert list(left.glob("left-*"))
    with temporary_files.of_a_run():
        assert not left.exists()
    assert list(place.iterdir()) == []


def test_files_of_a_run_that_goes_on_stay(place: Path) -> None:
    with waiting(place) as process:
        (other,) = place.iterdir()
        with temporary_files.of_a_run():
            assert list(other.glob("left-*"))
        assert process.stdin is not None
        process.stdin.close()
    assert list(place.iterdir()) == []


def test_folder_that_is_being_made_stays_for_an_hour(place: Path) -> None:
    new, old = place / "kubetfx-run-new", place / "kubetfx-run-old"
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (time.time() - 4000,) * 2)
    with temporary_files.of_a_run():
        pass
    assert [*place.iterdir()] == [new]

"""`kubetfx watch` with a command in place of the run."""

import shlex
import sys
from pathlib import Path

import pytest

from tests.command import kubetfx_here


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text("x,y\n1,a\n2,b\n")
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: rows\ndata: {path: rows.csv, label: y}\nretrain: {on: [new_span]}\n")
    return path


def ends_with(exit_code: int) -> str:
    return shlex.join([sys.executable, "-c", f"raise SystemExit({exit_code})"])


@pytest.mark.parametrize("exit_code", [0, 4])
def test_exit_code_is_that_of_the_command_and_then_nothing_is_to_be_done(config: Path, exit_code: int) -> None:
    dry = kubetfx_here("watch", config, "--dry-run")
    first = kubetfx_here("watch", config, "--once", "--run", ends_with(exit_code))
    second = kubetfx_here("watch", config, "--once", "--run", ends_with(1))

    assert (dry.exit_code, first.exit_code, second.exit_code) == (0, exit_code, 0)
    assert "Would run: No run has begun yet." in dry.stderr
    assert "Running: No run has begun yet." in first.stderr
    assert "Nothing to do: the data is that of the last run." in second.stderr


def test_command_that_failed_is_tried_again_later(config: Path) -> None:
    assert kubetfx_here("watch", config, "--once", "--run", ends_with(1)).exit_code == 1
    again = kubetfx_here("watch", config, "--once", "--run", ends_with(0))
    assert again.exit_code == 0
    assert "Not now: " in again.stderr
    assert "The last run failed, so the next begins at" in again.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program --now", "the program does not exist. Received: 'no-such-program --now'"),
        ("kubetfx 'submit", "--run must be a command in shell syntax. Received: kubetfx 'submit"),
    ],
)
def test_command_that_cannot_be_is_refused_before_anything_is_noted(config: Path, command: str, message: str) -> None:
    refused = kubetfx_here("watch", config, "--once", "--run", command)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not (config.parent / ".kubetfx").exists()


def test_section_is_asked_for(config: Path) -> None:
    config.write_text("name: rows\ndata: {path: rows.csv, label: y}\n")
    refused = kubetfx_here("watch", config, "--once")
    assert refused.exit_code == 2
    assert "There is no section `retrain`" in refused.stderr

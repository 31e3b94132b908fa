"""What happens when a run is killed, stopped by its data, or out of disk."""

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command import kubetfx_here
from tests.e2e.project import Project, command, environment, interrupt, output_folders, states


def test_killed_and_interrupted_runs_resume_and_leave_nothing_that_is_used(new_penguins: Project) -> None:
    project = new_penguins
    killed = interrupt(project, during="StatisticsGen", with_signal=signal.SIGKILL)
    assert killed.exit_code == -signal.SIGKILL
    of_killed = kubetfx_here("report", project.config, "--format", "json").document
    assert "killed without a word" in Path(of_killed["report"]).read_text(encoding="utf-8")

    interrupted = interrupt(project, during="Transform", with_signal=signal.SIGINT)
    assert interrupted.exit_code == 130
    assert "cached" in next(line for line in interrupted.stderr.splitlines() if "TableExampleGen" in line)
    assert "Transform" in interrupted.stderr
    assert "interrupted" in interrupted.stderr
    assert "the same command goes on from there" in interrupted.stderr
    assert output_folders(project, "Transform") == []
    runs = kubetfx_here("runs", project.config, "--format", "json").document["runs"]
    assert [run["state"] for run in runs] == ["interrupted", "interrupted"]
    report = Path(runs[0]["report"]).read_text(encoding="utf-8")
    assert "Interrupted at Transform, node 6 of 11" in report
    of_killed = kubetfx_here("report", project.config, "--run", runs[1]["run_id"], "--format", "json").document
    assert "<span>Killed</span>" in Path(of_killed["report"]).read_text(encoding="utf-8")

    terminated = interrupt(project, during="Trainer", with_signal=signal.SIGTERM)
    assert terminated.exit_code == 130
    assert output_folders(project, "Trainer") == []

    half_pushed = project.pushed / ".pushing-17"  # what a kill in the Pusher leaves
    half_pushed.mkdir(parents=True)
    finished = project.run()
    assert finished.exit_code == 0, finished.stdout
    assert states(finished)["Transform"] == "cached"
    assert states(finished)["Trainer"] == "done"
    assert not half_pushed.exists()
    assert project.versions == [finished.document["pushed_version"]]


def test_two_runs_in_one_workspace_are_refused(new_penguins: Project) -> None:
    project = new_penguins
    first = subprocess.Popen(command("run", project.config), stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert first.stderr is not None
        for line in first.stderr:
            if "TableExampleGen" in line:
                break
        second = project.run()
        assert second.exit_code == 2
        assert "Another run is using the workspace" in second.stdout
    finally:
        first.kill()
        first.communicate()


def test_disk_that_runs_full_leaves_nothing_half_written(new_penguins: Project, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    mount, answer = tmp_path / "small", tmp_path / "answer.json"
    mount.mkdir()
    run = shlex.join(command("run", new_penguins.config, "--format", "json", "--set", f"workspace={mount}/workspace"))
    script = f"mount -t tmpfs -o size=300k tmpfs {mount} && {run} > {answer}; code=$?; cd {mount}; find . ; exit $code"
    buffered = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=buffered, check=False
    )
    assert done.returncode == 1, answer.read_text() + done.stderr
    error = json.loads(answer.read_text())["error"]
    assert f"The disk is full. Received: {mount}/workspace, " in error["message"]
    failed_outputs = rf"/artifacts/{error['node']}/[^.][^/]*/\d+"
    assert not re.search(failed_outputs, done.stdout), done.stdout
    assert "/pushed/" not in done.stdout


def test_push_directory_that_cannot_be_written_is_an_error_before_any_work(new_penguins: Project) -> None:
    blocker = new_penguins.folder / "file"
    blocker.write_text("")
    refused = new_penguins.run("--set", f"serving.push_directory={blocker}/models")
    assert refused.exit_code == 2
    assert "serving.push_directory cannot be written" in refused.document["error"]["message"]
    assert not (new_penguins.workspace / "logs").exists()
    assert os.path.getsize(blocker) == 0

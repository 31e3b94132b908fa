"""Following a run on a server on this machine that answers as Kubeflow Pipelines does."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.kubeflow.conftest import TASKS

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_is_followed_with_the_lines_of_the_local_run(submit, server):
    server.frames = [
        {},
        {"count": "starting", "flip": "running"},
        {"count": "running", "flip": "done"},
        {"count": "cached", "flip": "done", "train": "running"},
        {"count": "cached", "flip": "done", "train": "done"},
    ]

    outcome = submit()

    assert outcome.exit_code == 0, outcome.stderr
    (run_id,) = server.runs
    link = f"{server.url}/#/runs/details/{run_id}"
    assert outcome.stdout.strip() == link
    lines = [re.sub(" +", " ", line) for line in outcome.stderr.splitlines()]
    assert [line for line in lines if line.startswith("[")] == [
        "[1/3] flip done in 4.0 s",
        "[2/3] count cached",
        "[3/3] train done in 4.0 s",
    ]
    assert lines[-1] == f"Succeeded: {link}"


def test_the_json_document_holds_the_tasks(submit, server):
    outcome = submit("--format", "json")

    ((version,),) = server.versions.values()
    assert outcome.document["state"] == "SUCCEEDED"
    assert outcome.document["version_id"] == version["pipeline_version_id"]
    assert [(task["id"], task["state"], task["seconds"]) for task in outcome.document["tasks"]] == [
        (name, "done", 4.0) for name in TASKS
    ]


def test_what_a_condition_leaves_out_is_skipped(submit, server):
    server.frames = [{"count": "done", "flip": "skipped"}]

    outcome = submit("--format", "json")

    assert {task["id"]: task["state"] for task in outcome.document["tasks"]} == {
        "count": "done",
        "flip": "skipped",
        "train": "skipped",
    }


def test_a_server_that_tells_of_no_task_skipped_none(submit, server):
    server.frames = [{}]

    outcome = submit()

    assert outcome.exit_code == 0
    assert "skipped" not in outcome.stderr
    assert "Succeeded: " in outcome.stderr


@pytest.mark.parametrize(
    ("state", "template"), [("failed", "system-container-impl"), ("driver-failed", "system-container-driver")]
)
def test_a_failed_task_is_named_with_the_way_to_its_log(submit, server, state, template):
    server.frames = [{"count": "running"}, {"count": "done", "flip": "done", "train": state}]
    server.final_state = "FAILED"

    outcome = submit()

    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    assert "Error: train failed on Kubeflow." in outcome.stderr
    (run_id,) = server.runs
    assert f"{server.url}/#/runs/details/{run_id}" in outcome.stderr
    assert re.search(rf"kubectl logs -n kubeflow penguins-{run_id[:5]}-{template}-\d+ -c main", outcome.stderr)


def test_a_failed_run_is_one_json_document(submit, server):
    server.frames = [{"count": "failed", "flip": "cached", "train": "omitted"}]
    server.final_state = "FAILED"

    outcome = submit("--format", "json")

    error = outcome.document["error"]
    assert (outcome.exit_code, error["type"], outcome.stderr) == (1, "RunFailedError", "")
    assert error["run"]["state"] == "FAILED"
    assert {task["id"]: task["state"] for task in error["run"]["tasks"]} == {
        "count": "failed",
        "flip": "cached",
        "train": "waiting",
    }


def test_a_cancelled_run_is_told(submit, server):
    server.final_state = "CANCELED"

    outcome = submit()

    assert outcome.exit_code == 1
    assert "The run was cancelled." in outcome.stderr


def test_a_server_that_fails_for_a_while_does_not_lose_the_run(submit, server):
    server.answers_to_looks = [503, 503, "drop", 500]

    outcome = submit()

    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stderr.count("does not answer (503). The run goes on") == 1
    assert "answers again" in outcome.stderr
    assert server.answers_to_looks == []


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (
            ["RUNTIME_STATE_UNSPECIFIED"] * 6,
            "says that the run is RUNTIME_STATE_UNSPECIFIED, a state that is not known",
        ),
        (["RUNTIME_STATE_UNSPECIFIED"] * 4, None),
        (["RUNNING", "PENDING", "PAUSED", "CANCELING"] * 2, None),
    ],
)
def test_state_that_says_nothing_is_said_once(submit, server, states, said):
    server.states = list(states)

    outcome = submit()

    assert outcome.exit_code == 0
    assert server.states == []
    assert outcome.stderr.count("Kubeflow Pipelines says") == (1 if said else 0)
    assert (said or "Succeeded") in outcome.stderr


def test_a_session_that_ends_leaves_the_run_and_says_so(submit, server):
    server.answers_to_looks = [401]

    outcome = submit()

    (run_id,) = server.runs
    assert outcome.exit_code == 130
    assert f"which goes on: {server.url}/#/runs/details/{run_id}" in outcome.stderr
    assert "--token" in outcome.stderr


def test_ctrl_c_leaves_the_run_running_and_tells_how_to_cancel_it(server, package, tmp_path):
    """One whole process: what the terminal does."""
    server.frames, server.final_state = [{"count": "running"}], "RUNNING"
    command = [sys.executable, "-m", "kubetfx", "submit", package, "--host", server.url, "--poll-seconds", "0.1"]
    environment = {**os.environ, "HOME": str(tmp_path), "NO_COLOR": "1"}
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(looks > 1 for looks in server.looks.values()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)

    (run,) = server.runs.values()
    assert (process.returncode, stdout) == (130, "")
    assert f"goes on: {server.url}/#/runs/details/{run['run_id']}" in stderr
    assert "Traceback" not in stderr
    assert run["state"] == "RUNNING"
    (cancel,) = [line.partition("To cancel it: ")[2] for line in stderr.splitlines() if "To cancel it" in line]
    words = shlex.split(cancel)
    assert words[:3] == ["curl", "-X", "POST"]
    assert httpx.post(words[-1]).status_code == 200
    assert run["state"] == "CANCELED"

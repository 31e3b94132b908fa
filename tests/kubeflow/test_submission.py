"""`kubetfx submit` with a server on this machine that answers as Kubeflow Pipelines does: from package to run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_run_options_reach_the_run_with_their_types(submit, server):
    submit(
        *("--param", "rows=7", "--param", "rate=1", "--param", "side=1=2", "--param", "sizes=[3]"),
        *("--experiment", "nightly", "--run-name", "by hand", "--service-account", "trainer"),
        *("--pipeline-root", "s3://bucket/root"),
    )

    (run,) = server.runs.values()
    assert run["runtime_config"] == {
        "parameters": {"rows": 7, "rate": 1, "side": "1=2", "sizes": [3]},
        "pipeline_root": "s3://bucket/root",
    }
    assert (run["display_name"], run["service_account"]) == ("by hand", "trainer")
    assert server.experiments[run["experiment_id"]]["display_name"] == "nightly"


def test_service_account_of_the_config_reaches_the_run(kubetfx, server, tmp_path):
    config = tmp_path / "pipeline.yaml"
    config.write_text("name: p\ndata: {path: /data, label: y}\nkubeflow: {service_account: of-the-config}\n")
    options = ("--host", server.url, "--no-wait")

    assert kubetfx("submit", config, *options).exit_code == 0
    assert kubetfx("submit", config, *options, "--service-account", "another").exit_code == 0
    assert kubetfx("schedule", config, "--host", server.url, "--cron", "0 6 * * *").exit_code == 0

    assert [run["service_account"] for run in server.runs.values()] == ["of-the-config", "another"]
    (recurring,) = server.recurring_runs.values()
    assert recurring["service_account"] == "of-the-config"


def test_no_wait_starts_and_leaves(submit, server):
    outcome = submit("--no-wait", "--format", "json")

    (run_id,) = server.runs
    assert outcome.exit_code == 0
    assert outcome.stderr == ""
    assert outcome.document["run_id"] == run_id
    assert outcome.document["state"] == "PENDING"
    assert server.looks[run_id] == 0


def test_a_package_that_lint_finds_faults_in_is_not_sent(submit, server, package):
    package.write_text(package.read_text().replace("schemaVersion: 2.1.0", "schemaVersion: 2.0.0"))

    outcome = submit()

    assert outcome.exit_code == 2
    assert "schemaVersion: schema version 2.0.0" in outcome.stderr
    assert server.pipelines == {}


def test_a_package_of_an_earlier_kubetfx_is_not_sent(kubetfx, server, tmp_path):
    config = tmp_path / "pipeline.yaml"
    config.write_text("name: p\ndata: {path: s3://bucket/data, label: y}\n")
    package = tmp_path / "package.yaml"
    assert kubetfx("compile", config, "--output", package).exit_code == 0
    package.write_text(package.read_text().replace("kubetfx.kubeflow.entrypoint", "kubeflow.entrypoint"))

    outcome = kubetfx("submit", package, "--host", server.url)

    assert outcome.exit_code == 2
    assert "compiled by an earlier kubetfx" in outcome.stderr
    assert "Compile it again" in outcome.stderr
    assert server.pipelines == {}


@pytest.mark.parametrize(
    ("command", "last_step"),
    [
        (("submit", "--set", "training.epochs=6"), "Waiting"),
        pytest.param(("schedule", "--cron", "30 6 * * mon-fri"), "Scheduling", marks=pytest.mark.long),
    ],
    ids=["submit", "schedule"],
)
def test_command_says_what_it_is_at_and_ends_with_its_last_line(server, tmp_path, command, last_step):
    """One whole process, whose lines come with their times. The bounds are parts of its time: machines are loaded."""
    config = tmp_path / "pipeline.yaml"
    config.write_text("name: p\ndata: {path: s3://b/data, label: y}\nserving: {push_directory: s3://b/models}\n")
    name, *options = command

    started, lines, ended = timed_lines("kubetfx", name, config, "--host", server.url, *options)

    total = ended - started
    steps = [line.removesuffix(" ...") for _, line in lines if line.endswith(" ...")]
    assert steps[:5] == [
        "Loading",
        "Compiling",
        "Checking the package",
        "Connecting to Kubeflow Pipelines",
        "Uploading the package",
    ]
    assert steps[-1] == last_step
    assert lines[0][0] - started < max(1.0, 0.15 * total)
    assert ended - lines[-1][0] < max(1.0, 0.06 * total)


def timed_lines(*command: object) -> tuple[float, list[tuple[float, str]], float]:
    """Run a command; when it began, its lines with their times, and when it ended."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = [(time.monotonic(), line.rstrip("\n")) for line in process.stdout]
    assert process.wait() == 0, lines
    return started, lines, time.monotonic()

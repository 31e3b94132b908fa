"""`kubetfx submit` and `kubetfx schedule` against a server on this machine that answers as Kubeflow Pipelines does."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jsonschema
import pytest
import yaml
from kfp import compiler
from kfp.client import Client

from kubetfx.errors import KubeflowError, UsageError
from kubetfx.kubeflow.kfp_connection import Connection, OpenConnection
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.parameter_values import parse_parameters
from kubetfx.kubeflow.pipeline_versions import upload
from kubetfx.kubeflow.run_progress import planned_tasks
from tests.command import Finished
from tests.kubeflow import sdk_packages
from tests.kubeflow.api_contract import FILE_NAME, Contract, find_definition
from tests.kubeflow.kfp_server import KfpServer, serve

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("count", "flip", "train")
"""Of the package `two-steps`."""
ALL_DONE = dict.fromkeys(TASKS, "done")
EVERY_OPERATION = {
    "HealthzService_GetHealthz",
    "PipelineService_ListPipelines",
    "UploadPipeline",
    "UploadPipelineVersion",
    "PipelineService_ListPipelineVersions",
    "ExperimentService_ListExperiments",
    "ExperimentService_CreateExperiment",
    "RunService_CreateRun",
    "RunService_GetRun",
    "RecurringRunService_ListRecurringRuns",
    "RecurringRunService_CreateRecurringRun",
    "RecurringRunService_DeleteRecurringRun",
}
"""Of the API, that the client uses."""


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch, tmp_path) -> None:
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES_", "KUBETFX_KFP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))


@pytest.fixture(scope="session")
def contract() -> Contract | None:
    path = find_definition()
    return Contract(path) if path else None


@pytest.fixture
def server(contract) -> Iterator[KfpServer]:
    with serve(KfpServer(contract, frames=[ALL_DONE])) as running:
        yield running
    assert running.violations == []


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("package") / "two-steps.yaml"
    compiler.Compiler().compile(sdk_packages.two_steps, str(path))
    return path


@pytest.fixture
def package(compiled, tmp_path) -> Path:
    return Path(shutil.copy(compiled, tmp_path / "two-steps.yaml"))


@pytest.fixture
def submit(kubetfx, package, server) -> Callable[..., Finished]:
    def call(*arguments: object) -> Finished:
        return kubetfx("submit", package, "--host", server.url, "--poll-seconds", "0.1", *arguments)

    return call


@pytest.fixture
def schedule(kubetfx, package, server) -> Callable[..., Finished]:
    def call(*arguments: object, cron: str = "30 6 * * mon-fri") -> Finished:
        return kubetfx("schedule", package, "--host", server.url, "--cron", cron, *arguments)

    return call


def change(package: Path) -> None:
    """Another version of the same pipeline."""
    package.write_text(package.read_text().replace("heads", "tails"))


# Submitting


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


def test_a_first_submission_uploads_a_pipeline_of_the_package_s_name(submit, server, package):
    submit()

    (pipeline,) = server.pipelines.values()
    ((version,),) = server.versions.values()
    (run,) = server.runs.values()
    assert pipeline["display_name"] == "two-steps"
    assert server.packages[version["pipeline_version_id"]] == package.read_text()
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert run["display_name"].startswith("two-steps 20")
    assert [experiment["display_name"] for experiment in server.experiments.values()] == ["Default"]


def test_a_changed_package_is_a_new_version_and_an_unchanged_one_is_not(submit, server, package):
    server.page_size = 1
    first = submit()
    again = submit()
    change(package)
    changed = submit()
    changed_again = submit()

    (versions,) = server.versions.values()
    assert len(server.pipelines) == 1
    assert len(versions) == 2
    assert [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.runs.values()] == [
        versions[1]["pipeline_version_id"],
        versions[1]["pipeline_version_id"],
        versions[0]["pipeline_version_id"],
        versions[0]["pipeline_version_id"],
    ]
    assert ["uploaded" in outcome.stderr for outcome in (first, again, changed, changed_again)] == [
        True,
        False,
        True,
        False,
    ]
    assert len(server.experiments) == 1


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


# Who asks, and where


def test_a_token_is_sent(submit, server, monkeypatch):
    server.token = "secret"

    assert submit("--token", "secret").exit_code == 0
    monkeypatch.setenv("KUBETFX_KFP_TOKEN", "secret")
    assert submit().exit_code == 0


def test_cookies_of_a_session_are_sent(submit, server):
    server.cookie = "authservice_session=abc"

    assert submit("--cookies", "authservice_session=abc").exit_code == 0


def test_a_pod_s_service_account_is_used(submit, server, monkeypatch, tmp_path):
    server.token = "projected"
    path = tmp_path / "token"
    path.write_text("projected")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(path))

    assert submit().exit_code == 0


def test_the_host_may_stand_in_the_environment(kubetfx, server, package, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.org/pipeline")

    outcome = kubetfx("submit", package, "--no-wait")

    (run_id,) = server.runs
    assert outcome.stdout.strip() == f"https://kubeflow.example.org/pipeline/#/runs/details/{run_id}"


def test_a_namespace_holds_pipeline_and_experiment_where_there_are_several_users(submit, server):
    server.is_multi_user = True

    outcome = submit("--namespace", "alice")

    assert outcome.exit_code == 0, outcome.stderr
    assert [pipeline["namespace"] for pipeline in server.pipelines.values()] == ["alice"]
    assert [experiment["namespace"] for experiment in server.experiments.values()] == ["alice"]


def test_a_namespace_is_kept_from_a_server_for_one_user(submit, server):
    assert submit("--namespace", "kubeflow-team").exit_code == 0
    assert "namespace" not in next(iter(server.pipelines.values()))


# Errors


@pytest.mark.parametrize(
    ("setting", "arguments", "exit_code", "messages"),
    [
        ({"token": "other"}, ["--token", "mine"], 1, ["does not know who asks", "401", "KUBETFX_KFP_TOKEN"]),
        ({"cookie": "a=b"}, [], 1, ["does not know who asks", "--cookies"]),
        ({"has_login_page": True}, [], 1, ["wants a login", "a web page", "--cookies"]),
        ({"is_multi_user": True}, [], 2, ["no namespace", "--namespace"]),
        ({"is_multi_user": True}, ["--namespace", "bob"], 1, ["403", "in bob", "kubeflow-edit"]),
        ({}, ["--param", "row=7"], 2, ["no parameter 'row'", "Did you mean 'rows'?"]),
        ({}, ["--param", "rows=many"], 2, ["takes an integer", "'many'"]),
        ({}, ["--param", "rows"], 2, ["given as NAME=VALUE", "On the command line: --param NAME=VALUE"]),
        ({}, ["--set", "training.epochs=3"], 2, ["this is a package", "--param"]),
    ],
    ids=["token", "no cookie", "login", "no namespace", "namespace", "parameter", "value", "pair", "set"],
)
def test_errors_say_what_to_do(submit, server, setting, arguments, exit_code, messages):
    for name, value in setting.items():
        setattr(server, name, value)

    outcome = submit(*arguments)

    assert outcome.exit_code == exit_code
    assert outcome.stdout == ""
    for message in messages:
        assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert server.runs == {}


def test_no_server_is_told_with_a_way_to_one(kubetfx, package):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    started = time.monotonic()
    outcome = kubetfx("submit", package, "--host", f"http://127.0.0.1:{port}")

    assert outcome.exit_code == 1
    assert f"cannot be reached. Received: http://127.0.0.1:{port}: " in outcome.stderr
    assert "Connection refused" in outcome.stderr
    assert "kubectl port-forward" in outcome.stderr
    assert outcome.stderr.count("refused") == 1, "urllib3 tells of each try"
    assert time.monotonic() - started < 10


def test_a_host_without_scheme_is_refused(kubetfx, package):
    outcome = kubetfx("submit", package, "--host", "localhost:8080")

    assert outcome.exit_code == 2
    assert "Try http://localhost:8080" in outcome.stderr
    assert "On the command line: --host URL" in outcome.stderr


def test_https_where_there_is_none_is_told(kubetfx, package, server):
    outcome = kubetfx("submit", package, "--host", server.url.replace("http:", "https:"))

    assert outcome.exit_code == 1
    assert "no secure connection" in outcome.stderr
    assert "--ca-cert FILE" in outcome.stderr


def test_another_web_server_is_no_kubeflow(kubetfx, package, server):
    outcome = kubetfx("submit", package, "--host", f"{server.url}/elsewhere")

    assert outcome.exit_code == 1
    assert "There is no API of Kubeflow Pipelines 2" in outcome.stderr


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


def test_what_the_server_says_of_a_package_is_passed_on(server, package):
    package.write_text(package.read_text().replace("schemaVersion: 2.1.0", "schemaVersion: 2.0.0"))

    with (
        OpenConnection(Connection(server.url)) as kfp,
        pytest.raises(KubeflowError, match=r"has version 2\.0\.0.* `kubetfx lint`"),
    ):
        upload(kfp, read_package(package))


def test_parameters_without_a_default_are_asked_for(tmp_path):
    path = tmp_path / "needs-a-side.yaml"
    compiler.Compiler().compile(sdk_packages.needs_a_side, str(path))
    package = read_package(path)

    with pytest.raises(UsageError, match="Give them in `parameters`: side=VALUE"):
        parse_parameters([], package)
    assert parse_parameters(["side="], package) == {"side": ""}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("STRING", "3", "3"),
        ("NUMBER_INTEGER", "-3", -3),
        ("NUMBER_INTEGER", "3.5", None),
        ("NUMBER_INTEGER", "true", None),
        ("NUMBER_DOUBLE", "1e-3", 0.001),
        ("NUMBER_DOUBLE", "NaN", None),
        ("NUMBER_DOUBLE", "1e999", None),
        ("BOOLEAN", "True", True),
        ("BOOLEAN", "1", None),
        ("LIST", "[1]", [1]),
        ("LIST", "{}", None),
        ("STRUCT", '{"a": 1}', {"a": 1}),
    ],
)
def test_values_have_the_type_that_the_package_declares(tmp_path, kind, text, value):
    path = tmp_path / "package.yaml"
    inputs = {"parameters": {"x": {"parameterType": kind}}}
    path.write_text(yaml.safe_dump({"pipelineInfo": {"name": "a"}, "root": {"inputDefinitions": inputs}}))
    package = read_package(path)

    if value is None:
        with pytest.raises(UsageError, match="Parameter 'x' takes"):
            parse_parameters([f"x={text}"], package)
    else:
        assert parse_parameters([f"x={text}"], package) == {"x": value}


def test_tasks_of_conditions_and_exit_handlers_are_counted_and_loops_once(tmp_path):
    path = tmp_path / "kitchen-sink.yaml"
    compiler.Compiler().compile(sdk_packages.kitchen_sink, str(path))

    keys = [task.key for task in planned_tasks(read_package(path))]

    assert {"count", "train", "push", "notify", "add", "importer"} <= set(keys)
    assert [key for key in keys if key.startswith("for-loop")] == sorted(k for k in keys if k.startswith("for-loop"))
    assert not [key for key in keys if key.startswith(("condition", "exit-handler"))]
    assert keys.index("count") < keys.index("train") < keys.index("push")


# Schedules


def test_a_schedule_is_created_with_seconds_in_front(schedule, server):
    outcome = schedule("--param", "rows=5", "--max-concurrency", "2")

    assert outcome.exit_code == 0, outcome.stderr
    (made,) = server.recurring_runs.values()
    assert outcome.stdout.strip() == f"{server.url}/#/recurringrun/details/{made['recurring_run_id']}"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 30 6 * * mon-fri"}}
    assert (made["display_name"], made["mode"], made["no_catchup"]) == ("two-steps", "ENABLE", True)
    assert made["max_concurrency"] == "2"
    assert made["runtime_config"]["parameters"] == {"rows": 5}
    assert "created" in outcome.stderr


def test_a_second_schedule_of_a_name_takes_the_first_one_s_place(schedule, server, package):
    first = schedule("--format", "json").document
    again = schedule("--format", "json").document
    later = schedule("--format", "json", cron="0 0 7 * * *").document
    change(package)
    changed = schedule("--format", "json", cron="0 0 7 * * *").document
    other = schedule("--format", "json", "--name", "another").document

    assert [found["change"] for found in (first, again, later, changed, other)] == [
        "created",
        "unchanged",
        "updated",
        "updated",
        "created",
    ]
    assert again["recurring_run_id"] == first["recurring_run_id"]
    assert set(server.recurring_runs) == {changed["recurring_run_id"], other["recurring_run_id"]}


def test_a_disabled_schedule_stays_disabled(schedule, server):
    schedule()
    for made in server.recurring_runs.values():
        made["mode"] = "DISABLE"

    outcome = schedule(cron="@daily")

    (made,) = server.recurring_runs.values()
    assert (made["mode"], made["trigger"]["cron_schedule"]["cron"]) == ("DISABLE", "@daily")
    assert "it is disabled, as it was" in outcome.stderr


def test_a_bad_schedule_is_refused_before_anything_is_uploaded(schedule, server):
    outcome = schedule(cron="6 o'clock")

    assert outcome.exit_code == 2
    assert "2 fields" in outcome.stderr
    assert server.pipelines == {}


# The API's own definition


def test_requests_and_answers_are_as_the_api_defines_them(submit, schedule, server, package, contract):
    if contract is None:
        pytest.skip(f"{FILE_NAME} is not beside the project, and KUBETFX_SCHEMAS names no folder with it")
    contract.used.clear()

    submit()
    change(package)
    schedule()
    schedule(cron="@daily")

    assert server.violations == []
    assert contract.used == EVERY_OPERATION


def test_the_definition_finds_what_is_not_in_it(contract):
    if contract is None:
        pytest.skip(f"{FILE_NAME} is not beside the project, and KUBETFX_SCHEMAS names no folder with it")

    with pytest.raises(AssertionError, match="takes no pipeline_name"):
        contract.check_request("GET", "/apis/v2beta1/pipelines", {"pipeline_name": "a"}, None)
    with pytest.raises(AssertionError, match="has no PUT"):
        contract.check_request("PUT", "/apis/v2beta1/runs", {}, {})
    with pytest.raises(jsonschema.ValidationError, match="job_name"):
        contract.check_request("POST", "/apis/v2beta1/runs", {}, {"job_name": "a"})
    with pytest.raises(jsonschema.ValidationError, match="DONE"):
        contract.check_answer("GET", "/apis/v2beta1/runs/1", 200, {"state": "DONE"})

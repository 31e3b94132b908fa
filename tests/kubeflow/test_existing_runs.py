"""`kubetfx logs` and `kubetfx retry`, with a server on this machine that answers as Kubeflow Pipelines does."""

from collections.abc import Callable

import pytest

from tests.command import Finished
from tests.kubeflow.conftest import TASKS
from tests.kubeflow.kfp_server import KfpServer, argo_nodes


def pod_of(run_id: str, task: str, state: str = "failed") -> str:
    *_, executor = argo_nodes(run_id, task, state)
    return str(executor["pod_name"])


@pytest.fixture
def ask(kubetfx: Callable[..., Finished], server: KfpServer) -> Callable[..., Finished]:
    def call(*arguments: object) -> Finished:
        return kubetfx(*arguments, "--host", server.url)

    return call


@pytest.fixture
def failed(submit, server) -> str:
    server.frames = [{"count": "done", "flip": "cached", "train": "failed"}]
    server.final_state = "FAILED"
    assert submit().exit_code == 1
    (run_id,) = server.runs
    return str(run_id)


@pytest.mark.parametrize("is_ui", [False, True], ids=["API server", "UI"])
def test_failed_run_shows_the_end_of_its_log_its_pod_and_its_link(submit, server, is_ui):
    server.is_ui = is_ui
    server.frames = [{"count": "running"}, {"count": "done", "flip": "done", "train": "failed"}]
    server.final_state = "FAILED"
    log = "\n".join(f"line {number}" for number in range(100))

    def let_pods_speak(run_id: str) -> None:
        server.logs = {pod_of(run_id, "train"): log}

    server.when_started = let_pods_speak
    outcome = submit()

    assert outcome.exit_code == 1
    (run_id,) = server.runs
    assert "train failed on Kubeflow." in outcome.stderr
    assert "line 99" in outcome.stderr
    assert "line 88" in outcome.stderr
    assert "line 87" not in outcome.stderr
    assert f"{server.url}/#/runs/details/{run_id}" in outcome.stderr
    assert f"kubectl logs -n kubeflow {pod_of(run_id, 'train')} -c main" in outcome.stderr


@pytest.mark.parametrize("is_ui", [False, True], ids=["API server", "UI"])
def test_logs_prints_what_the_failed_task_wrote(ask, server, failed, is_ui):
    server.is_ui = is_ui
    server.logs = {pod_of(failed, "train"): "all of it\n", pod_of(failed, "count", "done"): "counted\n"}

    assert ask("logs", "--run", failed).stdout == "all of it\n"
    assert ask("logs", "count", "--run", failed).stdout == "counted\n"
    document = ask("logs", "--run", failed, "--format", "json").document
    assert document == {"task": "train", "state": "failed", "pod": pod_of(failed, "train"), "text": "all of it\n"}


@pytest.mark.parametrize(
    "log",
    [
        'one\nsending {"error_message": "quota"} to the client\nthe real reason\n',
        '{"error_message": "quota", "attempt": 2}\n',
        '{"error_message": "quota"}\n{"error_message": "quota"}\n',
        "<html>\nfetched\n</html>\nand then it failed\n",
        "<!doctype html><html></html>\n",
    ],
)
@pytest.mark.parametrize("is_ui", [False, True], ids=["API server", "UI"])
def test_log_that_speaks_of_errors_and_pages_is_a_log(ask, server, failed, is_ui, log):
    server.is_ui = is_ui
    server.logs = {pod_of(failed, "train"): log}

    assert ask("logs", "--run", failed).stdout == log


def test_run_that_failed_before_any_task_leads_to_its_error_and_its_page(ask, submit, server):
    server.frames, server.final_state = [{}], "FAILED"
    server.error = "workflow pods is forbidden"
    followed = submit()
    (run_id,) = server.runs

    outcome = ask("logs", "--run", run_id)

    assert (followed.exit_code, outcome.exit_code) == (1, 2)
    assert "no task of it failed" in followed.stderr
    assert f"No task of this run has a log, as none has a pod. Received: {run_id}, FAILED." in outcome.stderr
    for stderr in (followed.stderr, outcome.stderr):
        assert f"{server.url}/#/runs/details/{run_id}" in stderr
        assert "Kubeflow Pipelines says: workflow pods is forbidden" in stderr


def test_log_is_read_in_the_namespace_of_the_profile(ask, server, failed):
    server.is_ui = server.is_multi_user = True
    for found in (*server.pipelines.values(), *server.experiments.values()):
        found["namespace"] = "alice"
    server.logs = {pod_of(failed, "train"): "of alice\n"}

    assert ask("logs", "--run", failed, "--namespace", "alice").stdout == "of alice\n"
    assert ask("logs", "--run", failed, "--namespace", "bob").exit_code == 1


def test_run_of_another_profile_is_not_shown(ask, server, failed):
    server.is_multi_user = True
    for found in (*server.pipelines.values(), *server.experiments.values()):
        found["namespace"] = "bob"

    outcome = ask("logs", "--run", failed, "--namespace", "alice")

    assert outcome.exit_code == 1
    assert "403" in outcome.stderr


def test_log_that_is_gone_is_an_error_that_says_where_logs_outlive_their_pods(ask, failed):
    outcome = ask("logs", "--run", failed)

    assert outcome.exit_code == 1
    assert "has no log of the pod any more" in outcome.stderr
    assert "archiveLogs" in outcome.stderr


def test_task_without_a_container_or_of_another_name_is_refused(ask, failed):
    cached = ask("logs", "flip", "--run", failed)
    unknown = ask("logs", "trian", "--run", failed)

    assert (cached.exit_code, unknown.exit_code) == (2, 2)
    assert "flip has no container whose log could be shown. Received: a task that is cached" in cached.stderr
    assert "The run has no task 'trian'. Did you mean 'train'?" in unknown.stderr


def test_unknown_run_is_said(ask, server, submit):
    submit()
    outcome = ask("logs", "--run", "nowhere")

    assert outcome.exit_code == 2
    assert "has no such run. Received: nowhere." in outcome.stderr


def test_failed_run_goes_on_and_is_followed(ask, server, failed):
    server.frames_of_retry = [{"count": "done", "flip": "cached", "train": "running"}, dict.fromkeys(TASKS, "done")]

    outcome = ask("retry", "--run", failed, "--poll-seconds", "0.1")

    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.strip() == f"{server.url}/#/runs/details/{failed}"
    assert "train" in outcome.stderr
    assert server.runs[failed]["state"] == "SUCCEEDED"


def test_run_that_succeeded_is_not_retried(ask, server, submit):
    submit()
    (run_id,) = server.runs
    outcome = ask("retry", "--run", run_id)

    assert outcome.exit_code == 2
    assert "has nothing to run again" in outcome.stderr

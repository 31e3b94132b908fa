"""Where Kubeflow Pipelines is and who asks it, and what is said where there is no answer."""

import socket
import time

import pytest


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
        ({}, ["--param", "rows"], 2, ["--param takes NAME=VALUE. Received: rows."]),
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
    assert "--host takes a URL" in outcome.stderr


def test_https_where_there_is_none_is_told(kubetfx, package, server):
    outcome = kubetfx("submit", package, "--host", server.url.replace("http:", "https:"))

    assert outcome.exit_code == 1
    assert "no secure connection" in outcome.stderr
    assert "--ca-cert FILE" in outcome.stderr


def test_another_web_server_is_no_kubeflow(kubetfx, package, server):
    outcome = kubetfx("submit", package, "--host", f"{server.url}/elsewhere")

    assert outcome.exit_code == 1
    assert "There is no API of Kubeflow Pipelines 2" in outcome.stderr

"""Where Kubeflow Pipelines is and who asks it, and what is said where there is no answer."""

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import urllib3

from kubetfx.errors import KubeflowError
from kubetfx.kubeflow import kfp_connection, kfp_errors


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


@pytest.mark.parametrize(
    ("setting", "option", "given"),
    [("token", "--token", "SECRET123\n"), ("cookie", "--cookies", " authservice_session=SECRET123\r\n")],
)
def test_line_break_at_the_end_of_a_mounted_secret_is_no_part_of_it(submit, server, setting, option, given):
    setattr(server, setting, given.strip())

    assert submit(option, given).exit_code == 0


@pytest.mark.parametrize("given", ["SECRET123\r\nX: y", "SECRET123\x01", "SECRET123\u2028x", "SECRETß"])
@pytest.mark.parametrize("option", ["--token", "--cookies"])
def test_credential_that_no_header_holds_is_refused_and_not_shown(submit, option, given):
    outcome = submit(option, given)

    assert outcome.exit_code == 2
    assert f"{option} has a line break, another control character" in outcome.stderr
    assert "SECRET" not in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_token_of_a_pod_that_no_header_holds_is_not_shown_either(submit, monkeypatch, tmp_path):
    path = tmp_path / "token"
    path.write_text("SECRET\nSECRET")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(path))

    outcome = submit()

    assert outcome.exit_code == 2
    assert "SECRET" not in outcome.stderr


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("http://user:SEC/RET@127.0.0.1:1", "host takes a URL"),
        ("http://user:SECRET@127.0.0.1:1", "without a user and a password"),
        ("user:SECRET@127.0.0.1:1", "Try http://127.0.0.1:1."),
        ("ftp://x", "begins with http:// or https://. Received: ftp://x."),
        ("http://", "Received: 'http://'. Such as"),
        ("http://[::", "Received: 'http://[::'. Such as"),
        ("http://a b", "Received: 'http://a b'. Such as"),
        ("http://a:99999", "Received: 'http://a:99999'. Such as"),
    ],
)
def test_host_that_is_none_is_refused_without_its_password(kubetfx, package, host, message):
    outcome = kubetfx("submit", package, "--host", host)

    assert outcome.exit_code == 2
    assert message in outcome.stderr
    assert "SEC" not in outcome.stderr
    assert "http://ftp" not in outcome.stderr


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"null", "'null'"),
        (b"[1]", "'[1]'"),
        (b"garbage", "'garbage'"),
        (b"", "''"),
        (b'"\xff"', "bytes that are not text"),
        (b"[" * 100_000, "'[["),
    ],
    ids=["null", "list", "text", "nothing", "bytes", "deep"],
)
@pytest.mark.parametrize("operation", ["health", "list_pipelines", "create_run"])
def test_another_service_is_said_to_be_no_kubeflow(submit, server, operation, answer, shown):
    server.strange_answers[operation] = answer
    outcome = submit("--no-wait")

    assert outcome.exit_code == 1
    assert f"What answers at {server.url} is not Kubeflow Pipelines" in outcome.stderr
    assert f"Received: {shown}" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections, and never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        listener.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


def test_server_that_never_answers_is_asked_once(kubetfx, package, silent_server, monkeypatch):
    url, taken = silent_server
    monkeypatch.setattr(kfp_connection, "_HEALTH_TIMEOUT_SECONDS", (1.0, 0.3))

    outcome = kubetfx("submit", package, "--host", url)

    assert outcome.exit_code == 1
    assert f"cannot be reached. Received: {url}: " in outcome.stderr
    assert "Read timed out" in outcome.stderr
    assert len(taken) == 1


def test_pages_without_an_end_are_an_error():
    page = SimpleNamespace(pipelines=[1], next_page_token="again")

    with pytest.raises(
        KubeflowError, match=r"lists pipelines without an end\. Received: the page 'again' a second time"
    ):
        kfp_connection.all_pages(lambda token: page, "pipelines")


def test_broken_answer_is_said_in_words_and_not_as_a_tuple():
    reason = urllib3.exceptions.IncompleteRead(2, 998)
    broken = urllib3.exceptions.ProtocolError(f"Connection broken: {reason!r}", reason)
    closed = urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset by peer"))

    assert "http://h: Connection broken: IncompleteRead(2 bytes read, 998 more expected). Is the URL" in (
        kfp_errors.unreachable(broken, "http://h")
    )
    assert "http://h: Connection aborted: [Errno 104] reset by peer. Is" in kfp_errors.unreachable(closed, "http://h")

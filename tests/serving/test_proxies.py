"""Servers behind a proxy: what fails on the way is told apart from what the server says."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kubetfx.errors import RequestError
from kubetfx.proxies import is_loopback, proxy_of
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.predict_client import ClientOptions, Target
from kubetfx.serving.rest_client import RestClient
from kubetfx.serving.server import RunningServer
from kubetfx.serving.status import Code

ONCE = ClientOptions(timeout_seconds=20, retry_seconds=0)


class Proxy(ThreadingHTTPServer):
    """Refuses every request, and counts them."""

    answer = (403, "text/html", b"<h1>Access denied by policy</h1>")
    num_requests = 0


class _Refuses(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.num_requests += 1
        status, kind, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_CONNECT = do_GET  # noqa: N815 - names of http.server

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", 0), _Refuses) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://me:sesame@127.0.0.1:{running.server_port}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield running
        running.shutdown()


def ask(client: RestClient | GrpcClient) -> RequestError:
    with client, pytest.raises(RequestError) as told:
        list(client.predict(Target("half_plus_two"), [{"x": 1.0}]))
    return told.value


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (403, b"<h1>Access denied by policy</h1>", Code.PERMISSION_DENIED),
        (502, b"Bad gateway", Code.UNAVAILABLE),
        (404, b"<h1>Not found</h1>", Code.NOT_FOUND),
        (200, b"<h1>Sign in</h1>", Code.UNKNOWN),
        (200, b'{"login": "needed"}', Code.UNKNOWN),
    ],
)
def test_answer_of_a_proxy_is_not_the_servers(proxy: Proxy, status: int, content: bytes, code: Code) -> None:
    proxy.answer = (status, "text/html", content)

    error = ask(RestClient("http://models.example:8501", ONCE))

    assert (error.is_answer, error.code) == (False, code)
    assert str(error).startswith("http://models.example:8501 did not answer: ")
    assert content.decode() in str(error).replace("'", '"')
    if content[:1] != b"{":
        assert f"through the proxy 127.0.0.1:{proxy.server_port}; around it goes NO_PROXY=models.example" in str(error)
    assert "sesame" not in str(error)


def test_proxy_that_refuses_grpc_is_not_the_server(proxy: Proxy) -> None:
    error = ask(GrpcClient("models.example:8500", ONCE))

    assert (error.is_answer, error.code) == (False, Code.UNAVAILABLE)
    assert "403" in str(error)
    assert f"through the proxy 127.0.0.1:{proxy.server_port}" in str(error)


def test_what_an_ingress_answers_over_http_2_or_1_is_not_grpc(proxy: Proxy) -> None:
    error = ask(GrpcClient(f"127.0.0.1:{proxy.server_port}", ONCE))
    assert error.is_answer is False


@pytest.mark.parametrize(
    "make",
    [
        lambda server, host: RestClient(f"http://{host}:{server.rest_port}", ONCE),
        lambda server, host: GrpcClient(f"{host}:{server.grpc_port}", ONCE),
    ],
    ids=["rest", "grpc"],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_around_proxies(
    proxy: Proxy, server: RunningServer, make: Callable[[RunningServer, str], Any], host: str
) -> None:
    with make(server, host) as client:
        assert [list(answer.values()) for answer in client.predict(Target("half_plus_two"), [{"x": 4.0}])] == [[5.0]]
        with pytest.raises(RequestError, match=r"answered NOT_FOUND") as told:
            client.input_types(Target("none"))
    assert told.value.is_answer
    assert proxy.num_requests == 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://models.example", "proxy.example:3128"),
        ("models.example:8500", "proxy.example:3128"),
        ("https://models.example", None),
        ("http://near.example:8501", None),
        ("http://[::1]:8501", None),
        ("127.0.0.7:8500", None),
    ],
)
def test_proxy_is_found_by_the_environment(monkeypatch: pytest.MonkeyPatch, address: str, expected: str | None) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:sesame@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert proxy_of(address) == expected


def test_loopback_is_known_by_name_and_number() -> None:
    assert all(map(is_loopback, ["localhost:1", "http://localhost", "127.0.0.1:80", "[::1]:80", "http://a.localhost"]))
    assert not any(map(is_loopback, ["10.0.0.1:80", "http://localhost.example", "models:8500"]))

"""What clients and disks do wrong: the request fails, the server lives."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kubetfx.serving.batching import BatchingParameters
from kubetfx.serving.data_plane import DataPlaneOptions
from kubetfx.serving.grpc_server import GrpcOptions
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.rest import RestOptions
from kubetfx.serving.server import RunningServer
from tests.serving.conftest import options, wait_until

SLOW = {"signature_name": "slow", "instances": [4000]}
PREDICT = "/v1/models/half_plus_two:predict"


def is_well(rest: httpx.Client) -> bool:
    return rest.post(PREDICT, json={"instances": [2]}).json() == {"predictions": [4.0]}


def connect(server: RunningServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.rest_port), timeout=20)


def request_head(length: int, path: str = PREDICT) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def test_graph_that_fails_fails_its_request_only(rest: httpx.Client) -> None:
    body = {"signature_name": "lookup", "instances": [7]}
    for _ in range(3):
        response = rest.post("/v1/models/kinds:predict", json=body)
        assert response.status_code == 400
        assert "Traceback" not in response.text
    assert is_well(rest)


def test_client_gone_in_mid_request_leaves_the_server_well(server: RunningServer, rest: httpx.Client) -> None:
    body = json.dumps({"signature_name": "slow", "instances": [300]}).encode()
    for sent in (body[:5], body):
        with connect(server) as client:
            client.sendall(request_head(len(body), "/v1/models/kinds:predict") + sent)
    assert is_well(rest)


def test_slow_body_is_given_up_and_holds_nobody_up(server: RunningServer, rest: httpx.Client) -> None:
    with connect(server) as client:
        client.sendall(request_head(1000) + b"{")
        assert is_well(rest)
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"The body did not arrive in time." in answer


def test_dripping_headers_hold_nobody_up(server: RunningServer, rest: httpx.Client) -> None:
    clients = [connect(server) for _ in range(50)]
    for client in clients:
        client.sendall(b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost")
    assert is_well(rest)
    body = b'{"instances": [2]}'
    clients[0].sendall(b": x\r\nContent-Length: %d\r\n\r\n" % len(body))
    clients[0].sendall(body)
    assert b"200 OK" in clients[0].recv(4096)
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 9]
)
def test_what_is_no_http_leaves_the_server_well(server: RunningServer, rest: httpx.Client, garbage: bytes) -> None:
    with connect(server) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert is_well(rest)


def test_body_of_many_small_pieces_is_put_together(server: RunningServer) -> None:
    body = b'{"instances": [2]}'
    with connect(server) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(request_head(len(body)))
        for index in range(len(body)):
            client.sendall(body[index : index + 1])
        assert b"200 OK" in client.recv(4096)


@pytest.fixture(scope="module", params=["alone", "batched"])
def narrow(request: pytest.FixtureRequest, base_paths: dict[str, Path]) -> Iterator[RunningServer]:
    """A server that takes two requests at once."""
    models = [ModelConfig(name, path) for name, path in base_paths.items()]
    batching = BatchingParameters() if request.param == "batched" else None
    plane = DataPlaneOptions(max_concurrent_requests=2, num_session_threads=2, batching=batching)
    with RunningServer(options(*models, data_plane=plane)) as running:
        yield running


def test_too_many_requests_over_rest_are_refused_and_not_queued(narrow: RunningServer) -> None:
    url = f"http://127.0.0.1:{narrow.rest_port}/v1/models/kinds:predict"
    with httpx.Client(timeout=60) as client, futures.ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: client.post(url, json=SLOW), range(4)))
        assert sorted(response.status_code for response in responses) == [200, 200, 429, 429]
        refused = next(response for response in responses if response.status_code == 429)
        assert refused.json()["error"].startswith("Too many requests at once: 2.")
        assert client.post(url, json={**SLOW, "instances": [1]}).status_code == 200


def test_too_many_requests_over_grpc_are_refused_and_not_queued(narrow: RunningServer) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "kinds"
    request.model_spec.signature_name = "slow"
    request.inputs["steps"].CopyFrom(tf.make_tensor_proto(np.array([4000], np.int32)))
    with grpc.insecure_channel(f"127.0.0.1:{narrow.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [stub.Predict.future(request, timeout=60) for _ in range(4)]
        codes = sorted(call.code().name for call in calls)
    assert codes == ["OK", "OK", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"]


def test_rest_request_that_takes_too_long_is_given_up(base_paths: dict[str, Path]) -> None:
    quick = options(ModelConfig("kinds", base_paths["kinds"]), rest=RestOptions(timeout_seconds=0.1))
    with RunningServer(quick) as running:
        started = time.monotonic()
        url = f"http://127.0.0.1:{running.rest_port}/v1/models/kinds:predict"
        response = httpx.post(url, json={**SLOW, "instances": [8000]}, timeout=60)
        assert (response.status_code, response.json()) == (504, {"error": "Timed out waiting for notification"})
        assert time.monotonic() - started < 1.5


def test_grpc_message_over_the_limit_is_refused(base_paths: dict[str, Path]) -> None:
    small = options(ModelConfig("m", base_paths["half_plus_two"]), grpc=GrpcOptions(max_message_bytes=10_000))
    with RunningServer(small) as running, grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(10_000, np.float32)))
        with pytest.raises(grpc.RpcError, match="larger than max") as caught:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_model_that_is_missing_is_not_ready_and_comes_later(tmp_path: Path, half_plus: Any) -> None:
    with RunningServer(options(ModelConfig("m", tmp_path / "none"))) as running:
        url = f"http://127.0.0.1:{running.rest_port}/v1/models/m"
        assert httpx.get(url).status_code == 404
        assert httpx.post(f"{url}:predict", json={"instances": [1]}).status_code == 404
        shutil.copytree(half_plus(2.0), tmp_path / "aside" / "1")
        (tmp_path / "aside").rename(tmp_path / "none")
        wait_until(lambda: httpx.post(f"{url}:predict", json={"instances": [2]}).status_code == 200)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(st.sampled_from(["x", "b64", "number", "count", "name", "a", "inputs"]), children, max_size=4),
    ),
    max_leaves=20,
)
documents = st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]),
    st.one_of(json_values, st.sampled_from(["floats", "strings", "int64", "classify", "regress", "lookup", "total"])),
    max_size=4,
)
bodies = st.one_of(st.binary(max_size=60), documents.map(lambda document: json.dumps(document).encode()))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies, method=st.sampled_from(["predict", "classify", "regress"]))
def test_fuzzed_body_is_answered_with_json_and_no_internal_error(rest: httpx.Client, body: bytes, method: str) -> None:
    response = rest.post(f"/v1/models/kinds:{method}", content=body)
    assert response.status_code in (200, 400, 501), (body, response.text)
    assert b"Traceback" not in response.content
    assert isinstance(json.loads(response.content), dict)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.binary(max_size=80))
def test_fuzzed_message_is_answered_with_a_status(channel: grpc.Channel, message: bytes) -> None:
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=20)
    assert "Traceback" not in caught.value.details()
    assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


def test_server_is_well_after_all_of_it(rest: httpx.Client) -> None:
    assert is_well(rest)

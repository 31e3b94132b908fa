import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from kubetfx.errors import RequestError, UsageError
from kubetfx.serving import predict_client
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.predict_client import ClientOptions, PredictClient, Target
from kubetfx.serving.rest_client import RestClient
from kubetfx.serving.server import RunningServer
from kubetfx.serving.status import Code
from kubetfx.serving.version_state import State
from tests.ports import free_ports
from tests.serving.conftest import options

ROWS = [{"number": 0.5 + index, "count": index, "name": f"n{index}"} for index in range(10)]


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[PredictClient]:
    made = make(request.param, server.rest_port, server.grpc_port, ClientOptions(batch_size=3))
    with made:
        yield made


def make(protocol: str, rest_port: int, grpc_port: int, client_options: ClientOptions) -> Any:
    if protocol == "rest":
        return RestClient(f"http://127.0.0.1:{rest_port}", client_options)
    return GrpcClient(f"127.0.0.1:{grpc_port}", client_options)


def test_request_has_fewer_rows_where_they_are_large_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_client, "PICTURE_BYTES", 100)
    rows = [{"image_bytes": {"b64": "x" * size}, "number": 1} for size in (40, 40, 40, 200, 10, 10, 10, 10)]

    batches = list(predict_client.batches(rows, 3))

    assert [len(batch) for batch in batches] == [2, 1, 1, 3, 1]
    assert [row for batch in batches for row in batch] == rows


def test_rows_are_answered_in_order_over_batches(client: PredictClient) -> None:
    answers = list(client.predict(Target("kinds"), ROWS))
    assert [answer["count"] for answer in answers] == list(range(10))
    assert answers[3]["greeting"] == "hello n3"
    assert answers[3]["pair"] == [3.5, -3.5]


def test_input_of_a_type_that_numpy_lacks_is_given_as_the_model_has_it(tmp_path: Path) -> None:
    class Doubled(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.bfloat16, name="x")])
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.cast(x, tf.float32) * 2}

    model = Doubled()
    tf.saved_model.save(model, str(tmp_path / "doubled" / "1"), signatures={"serving_default": model.serve})
    with (
        RunningServer(options(ModelConfig("doubled", tmp_path / "doubled"))) as server,
        GrpcClient(f"127.0.0.1:{server.grpc_port}") as asked,
    ):
        assert list(asked.predict(Target("doubled"), [{"x": 1.5}, {"x": 4}])) == [{"y": 3.0}, {"y": 8.0}]


def test_no_rows_ask_nothing_of_the_model(client: PredictClient) -> None:
    assert list(client.predict(Target("kinds"), [])) == []


@pytest.mark.parametrize("target", [Target("half_plus_two", version=123), Target("half_plus_two", label="stable")])
def test_version_and_label_are_asked_for(client: PredictClient, target: Target) -> None:
    (answer,) = client.predict(target, [{"x": 2.0}])
    assert list(answer.values()) == [3.0]


def test_refusal_carries_its_code(client: PredictClient) -> None:
    with pytest.raises(RequestError, match="foo") as caught:
        list(client.predict(Target("foo"), ROWS))
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(RequestError, match="more"):
        list(client.predict(Target("kinds"), [{**ROWS[0], "more": 1}]))


def test_signatures_are_shown_with_names_and_types(client: PredictClient) -> None:
    found = client.signatures(Target("kinds"))
    assert dict(found["serving_default"].inputs) == {"number": "DT_FLOAT", "count": "DT_INT64", "name": "DT_STRING"}
    assert {"greeting": "DT_STRING", "pair": "DT_FLOAT"}.items() <= found["serving_default"].outputs.items()


def test_status_shows_versions(client: PredictClient) -> None:
    statuses = client.status("half_plus_two")
    assert [(status.version, status.state, status.error) for status in statuses] == [
        (124, State.AVAILABLE, None),
        (123, State.AVAILABLE, None),
    ]


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_server_that_is_away_is_asked_again(protocol: str, base_paths: dict[str, Path]) -> None:
    rest_port, grpc_port = free_ports(2)
    late = RunningServer(
        options(ModelConfig("m", base_paths["half_plus_two"]), rest_port=rest_port, grpc_port=grpc_port)
    )
    starting = threading.Timer(0.3, late.start)
    with make(protocol, rest_port, grpc_port, ClientOptions(retry_seconds=20)) as client:
        starting.start()
        (answer,) = client.predict(Target("m"), [{"x": 2.0}])
        assert list(answer.values()) == [4.0]
    starting.join()
    late.ask_to_stop()
    late.wait()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_server_that_stays_away_is_given_up(protocol: str) -> None:
    with (
        make(protocol, *free_ports(2), ClientOptions(retry_seconds=0.2)) as client,
        pytest.raises(RequestError, match="did not answer") as caught,
    ):
        client.status("m")
    assert caught.value.code is Code.UNAVAILABLE


def test_address_without_scheme_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"`rest` is http://HOST:PORT. Received: localhost:8501. Try http://localhost:8501."
    ):
        RestClient("localhost:8501")

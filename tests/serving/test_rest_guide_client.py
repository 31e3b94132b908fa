"""A client written from TensorFlow Serving's REST guide alone, with nothing but the standard library.

It runs unchanged against tensorflow_model_server.
"""

import base64
import json
import urllib.error
import urllib.request
from typing import Any

import pytest


@pytest.fixture(scope="module")
def url(server: object) -> str:
    return f"http://127.0.0.1:{server.rest_port}/v1/models"  # type: ignore[attr-defined]


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data, timeout=20) as response:
        assert response.headers["Content-Type"] == "application/json"
        return json.load(response)


def test_status(url: str) -> None:
    assert ask(f"{url}/kinds") == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }


def test_predict_in_row_and_column_format(url: str) -> None:
    assert ask(f"{url}/half_plus_two/versions/123:predict", {"instances": [1.0, 2.0, 5.0]}) == {
        "predictions": [2.5, 3.0, 4.5]
    }
    rows = [{"number": 1.5, "count": 2, "name": "a"}, {"number": -1.0, "count": 3, "name": "b"}]
    by_row = ask(f"{url}/kinds:predict", {"signature_name": "serving_default", "instances": rows})["predictions"]
    by_column = ask(f"{url}/kinds:predict", {"inputs": {name: [row[name] for row in rows] for name in rows[0]}})[
        "outputs"
    ]
    assert [row["product"] for row in by_row] == by_column["product"] == [3.0, -3.0]
    assert [row["greeting"] for row in by_row] == by_column["greeting"] == ["hello a", "hello b"]


def test_binary_values(url: str) -> None:
    data = bytes(range(256))
    body = {"signature_name": "bytes", "instances": [{"b64": base64.b64encode(data).decode()}]}
    (prediction,) = ask(f"{url}/kinds:predict", body)["predictions"]
    assert base64.b64decode(prediction["b64"]) == data


def test_regress_and_classify(url: str) -> None:
    examples = [{"x": 1.0}, {"x": 0.5}]
    assert ask(f"{url}/kinds:regress", {"signature_name": "regress", "examples": examples}) == {"results": [2.5, 2.25]}
    body = {"signature_name": "classify", "context": {"x": 0.25}, "examples": [{}]}
    assert ask(f"{url}/kinds:classify", body) == {"results": [[["low", 0.75], ["high", 0.25]]]}


def test_numbers_that_are_not_finite(url: str) -> None:
    body = {"signature_name": "doubles", "instances": [float("inf"), 1e300]}
    assert ask(f"{url}/kinds:predict", body) == {"predictions": [float("inf"), 1e300]}


def test_error_is_an_object_with_a_message(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(f"{url}/half:predict", {"instances": [1.0, 5.0]})
    assert caught.value.code == 404
    assert json.load(caught.value) == {"error": "Servable not found for request: Latest(half)"}


def test_metadata(url: str) -> None:
    document = ask(f"{url}/half_plus_two/labels/stable/metadata")
    assert document["model_spec"]["version"] == "123"
    assert "serving_default" in document["metadata"]["signature_def"]["signature_def"]

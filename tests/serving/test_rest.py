"""The REST API against its specification: tensorflow/serving, g3doc/api_rest.md and http_rest_api_handler_test.cc."""

import gzip
import json
import math
from typing import Any

import httpx
import pytest

from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.status import Code
from tests.serving.conftest import MAX_BODY_BYTES

ROW = {"number": 2.5, "count": 4, "name": "Ann"}
PREDICT = "/v1/models/half_plus_two:predict"


def answer(rest: httpx.Client, path: str, body: Any, *, status: int = 200) -> Any:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    response = rest.post(path, content=content)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return json.loads(response.content)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("half_plus_two:predict", {"instances": [[1.0, 2.0], [3.0, 4.0]]}, {"predictions": [[3.5, 4.0], [4.5, 5.0]]}),
        ("half_plus_two/versions/123:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ("half_plus_two/labels/stable:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        (
            "half_plus_two/versions/123:predict",
            {"signature_name": "serving_default", "inputs": [3.0, 4.0]},
            {"outputs": [3.5, 4.0]},
        ),
        ("half_plus_two:predict", {"inputs": {"x": 4}}, {"outputs": 5.0}),
        ("half_plus_two:predict", {"instances": [{"x": 4}]}, {"predictions": [5.0]}),
        ("half%5Fplus%5Ftwo:predict", {"instances": [2]}, {"predictions": [4.0]}),
        ("kinds:regress", {"signature_name": "regress", "examples": [{"x": 80.0}]}, {"results": [42.0]}),
        (
            "kinds/versions/1:classify",
            {"signature_name": "classify", "context": {"x": 0.25}, "examples": [{}, {}]},
            {"results": [[["low", 0.75], ["high", 0.25]], [["low", 0.75], ["high", 0.25]]]},
        ),
        ("kinds:predict", {"signature_name": "bytes", "instances": ["hi"]}, {"predictions": [{"b64": "aGk="}]}),
        ("kinds:predict", {"signature_name": "strings", "instances": [{"b64": "aGk="}]}, {"predictions": ["hi"]}),
        (
            "kinds:predict",
            {"signature_name": "int64", "instances": [2**63 - 1, -(2**63)]},
            {"predictions": [2**63 - 1, -(2**63)]},
        ),
        ("kinds:predict", {"signature_name": "uint64", "instances": [2**64 - 1]}, {"predictions": [2**64 - 1]}),
        ("kinds:predict", {"signature_name": "uint8", "instances": [255, 256]}, {"predictions": [255, 0]}),
        ("kinds:predict", {"signature_name": "bools", "instances": [True, False]}, {"predictions": [True, False]}),
        ("kinds:predict", {"signature_name": "doubles", "instances": [0.1]}, {"predictions": [0.1]}),
        ("kinds:predict", {"signature_name": "floats", "instances": [0.1]}, {"predictions": [0.1]}),
        ("kinds:predict", {"signature_name": "total", "inputs": [1, 2]}, {"outputs": 3.0}),
        ("kinds:predict", {"signature_name": "floats", "inputs": []}, {"outputs": []}),
        ("kinds:predict", {"signature_name": "strings", "inputs": "hi"}, {"outputs": "hi"}),
        ("kinds:predict", {"signature_name": "bytes", "inputs": {"b64": "aGk="}}, {"outputs": {"b64": "aGk="}}),
    ],
)
def test_answers_as_specified(rest: httpx.Client, path: str, body: Any, expected: Any) -> None:
    assert answer(rest, f"/v1/models/{path}", body) == expected


def test_several_outputs_come_by_row_or_by_column(rest: httpx.Client) -> None:
    expected = {
        "product": 10.0,
        "count": 4,
        "greeting": "hello Ann",
        "raw_bytes": {"b64": "QW5u"},
        "pair": [2.5, -2.5],
        "positive": True,
    }
    assert answer(rest, "/v1/models/kinds:predict", {"instances": [ROW, ROW]}) == {"predictions": [expected] * 2}
    columns = {name: [value] for name, value in ROW.items()}
    assert answer(rest, "/v1/models/kinds:predict", {"inputs": columns}) == {
        "outputs": {name: [value] for name, value in expected.items()}
    }


def test_values_that_are_not_finite_go_in_and_out(rest: httpx.Client) -> None:
    body = '{"signature_name": "floats", "instances": [NaN, Infinity, -Infinity]}'
    first, second, third = answer(rest, "/v1/models/kinds:predict", body)["predictions"]
    assert (math.isnan(first), second, third) == (True, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("foo:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(foo)"),
        ("foo/versions/50:predict", {"instances": [1]}, 404, "Servable not found for request: Specific(foo, 50)"),
        (
            "half_plus_two/versions/9:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(half_plus_two, 9)",
        ),
        ("half_plus_two/labels/none:predict", {"instances": [1]}, 400, "Unrecognized servable version label: none"),
        ("foo:predict", "{", 400, "JSON Parse error: Missing a name for object member. at offset: 1"),
        ("foo:classify", {"examples": [{"x": 1.0}]}, 404, "Servable not found for request: Latest(foo)"),
        (
            "kinds:predict",
            {"signature_name": "no", "instances": [1]},
            400,
            'Serving signature name: "no" not found in signature def',
        ),
        ("kinds:predict", {"signature_name": 1, "instances": [1]}, 400, "'signature_name' key must be a string value."),
        ("kinds:predict", {"instances": [{**ROW, "more": 1}]}, 400, "does not have named input: more"),
        ("kinds:predict", {"inputs": {"number": [1]}}, 400, "Missing named input: count in 'inputs' object."),
        (
            "kinds:predict",
            {"signature_name": "total", "instances": [1]},
            400,
            "Tensor name: total has no shape information ",
        ),
        (
            "kinds:predict",
            {"signature_name": "half_precision", "instances": [1]},
            400,
            "Failed to write JSON value for tensor type: half",
        ),
        ("kinds:predict", {"signature_name": "lookup", "instances": [7]}, 400, "indices[0] = 7 is not in [0, 3)"),
        ("kinds:predict", {"signature_name": "lookup", "instances": [[[1], [2]]] * 2}, 200, ""),
        ("kinds:classify", {"signature_name": "no", "examples": [{}]}, 400, "No signature was found with the name: no"),
        ("kinds:classify", {"examples": [{}]}, 400, "Expected one input Tensor."),
        ("kinds:regress", {"signature_name": "classify", "examples": [{}]}, 400, "Expected one output Tensor."),
        (
            "kinds:regress",
            {"signature_name": "strings", "examples": [{}]},
            400,
            "No regression inputs found in SignatureDef",
        ),
        (
            "kinds:regress",
            {"signature_name": "regress", "examples": [{}]},
            400,
            "Feature: x (data type: float) is required",
        ),
        ("kinds:regress", {"signature_name": "regress"}, 400, "key 'examples' is expected and was not found"),
        ("half_plus_two:predict", b'{"instances": [\xff]}', 400, "JSON Parse error: Invalid value. at offset: 15"),
        ("foo/version/50:regress", {}, 400, "Malformed request: POST /v1/models/foo/version/50:regress"),
        ("foo/versions/HELLO:regress", {}, 400, "Malformed request"),
        (
            "foo/versions/18446744073709551615:regress",
            {},
            400,
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("foo/versions/50/labels/some:regress", {}, 400, "Malformed request"),
        ("foo/metadata", {}, 400, "Malformed request: POST /v1/models/foo/metadata"),
        ("half_plus_two:PREDICT", {"instances": [1]}, 400, "Malformed request"),
    ],
)
def test_refuses_as_specified(rest: httpx.Client, path: str, body: Any, status: int, message: str) -> None:
    document = answer(rest, f"/v1/models/{path}", body, status=status)
    if status != 200:
        assert list(document) == ["error"]
        assert message in document["error"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/debug/model_name", 400, "Malformed request"),
        ("/v1/models/foo:predict", 400, "Malformed request"),
        ("/v1/models/foo", 404, "Could not find any versions of model foo"),
        ("/v1/models/half_plus_two/versions/9", 404, "Could not find version 9 of model half_plus_two"),
        ("/v1/models/foo/metadata", 404, "Servable not found for request: Latest(foo)"),
        ("/statuspage", 404, "Not Found"),
        ("/", 404, "Not Found"),
    ],
)
def test_get_refuses_as_specified(rest: httpx.Client, path: str, status: int, message: str) -> None:
    response = rest.get(path)
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.mark.parametrize("path", ["/v1/models/kinds", "/v1/models/kinds/versions/1", "/V1/MODELS/kinds"])
def test_status_names_version_and_state(rest: httpx.Client, path: str) -> None:
    assert rest.get(path).json() == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }


def test_status_lists_versions_newest_first_and_a_label_does_not_narrow_them(rest: httpx.Client) -> None:
    for path in ("/v1/models/half_plus_two", "/v1/models/half_plus_two/labels/stable"):
        versions = [status["version"] for status in rest.get(path).json()["model_version_status"]]
        assert versions == ["124", "123"]


@pytest.mark.parametrize(("path", "version"), [("", "124"), ("/versions/123", "123"), ("/labels/stable", "123")])
def test_metadata_shows_the_signatures(rest: httpx.Client, path: str, version: str) -> None:
    document = rest.get(f"/v1/models/half_plus_two{path}/metadata").json()
    assert document["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": version}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}


def test_method_that_is_none_of_the_api_is_malformed(rest: httpx.Client) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        response = rest.request(method, "/v1/models/kinds")
        assert (response.status_code, response.json()) == (
            400,
            {"error": f"Malformed request: {method} /v1/models/kinds"},
        )


def test_preflight_needs_an_origin(rest: httpx.Client) -> None:
    assert rest.options(PREDICT, headers={"Origin": "http://example.com"}).status_code == 200
    response = rest.options(PREDICT)
    assert (response.status_code, response.json()["error"]) == (400, "Origin header is missing in CORS preflight")


def test_compressed_body_is_read(rest: httpx.Client) -> None:
    body = gzip.compress(b'{"instances": [2]}')
    response = rest.post(PREDICT, content=body, headers={"Content-Encoding": "gzip"})
    assert response.json() == {"predictions": [4.0]}


def test_body_that_unpacks_to_more_than_the_limit_is_refused(rest: httpx.Client) -> None:
    body = gzip.compress(b" " * (2 * MAX_BODY_BYTES))
    response = rest.post(PREDICT, content=body, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413


def test_body_that_only_says_it_is_compressed_is_refused(rest: httpx.Client) -> None:
    response = rest.post(PREDICT, content=b"{}", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 400
    assert "not gzip" in response.json()["error"]


@pytest.mark.parametrize("chunked", [False, True], ids=["with_length", "chunked"])
def test_body_over_the_limit_is_refused(rest: httpx.Client, chunked: bool) -> None:
    body = b" " * (MAX_BODY_BYTES + 1)
    response = rest.post(PREDICT, content=iter([body]) if chunked else body)
    assert response.status_code == 413
    assert f"larger than {MAX_BODY_BYTES} bytes" in response.json()["error"]
    assert answer(rest, PREDICT, {"instances": [2]}) == {"predictions": [4.0]}


@pytest.mark.parametrize(
    "name",
    ["..", "../kinds", "%2e%2e", "%2e%2e%2fkinds", "..%2f..%2fetc%2fpasswd", "kinds%00", "%ff", "a%2fb", "~", "%"],
)
def test_path_tricks_in_names_find_no_model(rest: httpx.Client, name: str) -> None:
    url = httpx.URL(str(rest.base_url)).copy_with(raw_path=f"/v1/models/{name}".encode())
    response = rest.get(url)
    assert response.status_code in (400, 404)
    assert list(response.json()) == ["error"]
    response = rest.post(url.copy_with(raw_path=f"/v1/models/{name}:predict".encode()), content=b'{"instances": [1]}')
    assert response.status_code in (400, 404)


def test_metrics_carry_the_names_of_tensorflow_serving(rest: httpx.Client) -> None:
    answer(rest, PREDICT, {"instances": [1]})
    answer(rest, "/v1/models/nobody_by_this_name:predict", {"instances": [1]}, status=404)
    answer(rest, "/v1/models/kinds:regress", {"signature_name": "regress", "examples": [{"x": 1.0}]})
    page = rest.get("/monitoring/prometheus/metrics").text
    assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"}' in page
    assert ':tensorflow:serving:request_count{model_name="nobody_by_this_name",status="NOT_FOUND"}' in page
    for name in ("request_count", "request_example_count_total"):
        assert f"# TYPE :tensorflow:serving:{name} counter\n" in page
    labels = 'API="predict",entrypoint="REST"'
    assert f':tensorflow:serving:request_latency_bucket{{{labels},le="10.0",model_name="half_plus_two"}}' in page
    assert ':tensorflow:serving:runtime_latency_count{API="Predict",model_name="half_plus_two",runtime="TF1"}' in page
    assert ':tensorflow:serving:request_example_count_total{model="kinds"}' in page


def test_names_that_nobody_serves_cannot_grow_the_page_for_ever() -> None:
    metrics = Metrics()
    for number in range(1_000):
        metrics.count_request(f"name_{number}", "predict", "REST", Code.NOT_FOUND, 0.0, is_served=False)
    metrics.count_request("served", "predict", "REST", Code.OK, 0.0, is_served=True)
    page = metrics.page().decode()
    assert page.count(":tensorflow:serving:request_count{") == 102
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 900.0' in page
    assert ':tensorflow:serving:request_count{model_name="served",status="OK"} 1.0' in page

import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2

from kubetfx.serving import json_answer, json_document, json_tensor
from kubetfx.serving.json_tensor import RequestFormat
from kubetfx.serving.status import Code, ServingError

FLOAT, DOUBLE, INT32, INT64, STRING = (
    types_pb2.DT_FLOAT,
    types_pb2.DT_DOUBLE,
    types_pb2.DT_INT32,
    types_pb2.DT_INT64,
    types_pb2.DT_STRING,
)


def read(body: str | bytes, **dtypes: int) -> dict[str, np.ndarray]:
    raw = body.encode() if isinstance(body, str) else body
    return json_tensor.predict_inputs(json_document.parse_object(raw), dtypes or {"x": FLOAT})[0]


def refuse(body: str | bytes, **dtypes: int) -> str:
    with pytest.raises(ServingError) as caught:
        read(body, **dtypes)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "dtype", "expected"),
    [
        ('{"instances": [[1,2],[3,4],[5,6]]}', INT32, np.array([[1, 2], [3, 4], [5, 6]], np.int32)),
        ('{"instances": [1, 2.0, 3, 5.003]}', FLOAT, np.array([1, 2, 3, 5.003], np.float32)),
        ('{"instances": [1.0, 2, 0.662]}', DOUBLE, np.array([1, 2, 0.662])),
        ('{"instances": [1435774380]}', FLOAT, np.array([1435774336], np.float32)),
        ('{"instances": [1.7976931348623157e308, -1e39, 1e-60]}', FLOAT, np.array([np.inf, -np.inf, 0], np.float32)),
        ('{"instances": [[]]}', FLOAT, np.zeros((1, 0), np.float32)),
        ('{"instances": [NaN, Infinity, -Infinity]}', FLOAT, np.array([np.nan, np.inf, -np.inf], np.float32)),
        ('{"instances": [9223372036854775807, -9223372036854775808]}', INT64, np.array([2**63 - 1, -(2**63)])),
        ('{"instances": [18446744073709551615]}', types_pb2.DT_UINT64, np.array([2**64 - 1], np.uint64)),
        ('{"instances": [300, -1]}', types_pb2.DT_UINT8, np.array([44, 255], np.uint8)),
        ('{"instances": [true, false]}', types_pb2.DT_BOOL, np.array([True, False])),
        ('{"instances": [{"x": 1}, {"x": 2}]}', FLOAT, np.array([1, 2], np.float32)),
        ('{"instances": [1]}X trailing', FLOAT, np.array([1], np.float32)),
        ('\ufeff{"instances": [1]}', FLOAT, np.array([1], np.float32)),
        ('{"inputs": 3.5}', FLOAT, np.array(3.5, np.float32)),
        ('{"inputs": [[1, 2]]}', FLOAT, np.array([[1, 2]], np.float32)),
        ('{"inputs": {"x": [[1, 2]]}}', FLOAT, np.array([[1, 2]], np.float32)),
        ('{"inputs": {"x": []}}', FLOAT, np.zeros(0, np.float32)),
    ],
)
def test_single_tensor_is_read_as_in_the_specification(body: str, dtype: int, expected: np.ndarray) -> None:
    array = read(body, x=dtype)["x"]
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ('{"instances": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]}', (2,)),
        ('{"instances": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ"}]]}', (2, 1)),
        ('{"instances": [{"x": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}]}', (1, 2, 1)),
        ('{"inputs": {"x": [{"b64": "aGVs bG8="}, "world"]}}', (2,)),
    ],
)
def test_base64_is_a_value_and_not_an_object(body: str, shape: tuple[int, ...]) -> None:
    array = read(body, x=STRING)["x"]
    assert array.shape == shape
    assert array.ravel().tolist() == [b"hello", b"world"]


def test_single_base64_is_a_scalar_in_column_format() -> None:
    array = read('{"inputs": {"b64": "aGVsbG8="}}', x=STRING)["x"]
    assert (array.shape, array.item()) == ((), b"hello")


def test_several_named_tensors_are_batched_by_row() -> None:
    arrays = read(
        '{"instances": [{"i": [[1,2],[3,4]], "s": ["foo", "bar"], "f": [1.0, NaN]}, '
        '{"i": [[7,8],[9,0]], "s": ["baz", "bat"], "f": [2.0, Infinity]}]}',
        i=INT32,
        s=STRING,
        f=FLOAT,
    )
    assert arrays["i"].tolist() == [[[1, 2], [3, 4]], [[7, 8], [9, 0]]]
    assert arrays["s"].tolist() == [[b"foo", b"bar"], [b"baz", b"bat"]]
    np.testing.assert_array_equal(arrays["f"], np.array([[1, np.nan], [2, np.inf]], np.float32))


def test_bytes_that_are_not_utf8_reach_the_model_as_they_are() -> None:
    assert read(b'{"instances": ["\xff\xfe"]}', x=STRING)["x"].tolist() == [b"\xff\xfe"]


def test_escaped_pairs_and_escaped_escapes_are_text() -> None:
    body = rb'{"instances": ["\ud83d\ude00", "\\ud800"]}'
    assert read(body, x=STRING)["x"].tolist() == ["\N{GRINNING FACE}".encode(), rb"\ud800"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty. at offset: 0"),
        ("   ", "JSON Parse error: The document is empty. at offset: 3"),
        ("instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        ('{"instances": [1, 2', "JSON Parse error: Missing a comma or ] after an array element. at offset: 19"),
        ('{"instances": [1] "x"}', "JSON Parse error: Missing a comma or } after an object member. at offset: 18"),
        ('{"instances" [1]}', "JSON Parse error: Missing a colon after a name of object member. at offset: 13"),
        ("{1: 2}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        ('{"instances": ["x]}', "JSON Parse error: Missing a closing quotation mark in string. at offset: 15"),
        ('{"instances": [1e999]}', "JSON Parse error: Number too big to be stored in double. at offset: 0"),
        (r'{"instances": ["\ud800"]}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 16"),
        (r'{"a": "\ud83d\ude00\udc00"}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 19"),
        (r'{"a": "\\\udc00"}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 9"),
        (
            '{"instances": [' + "[" * 70 + "1" + "]" * 70 + "]}",
            "Too many dimensions in tensor. Received: 71, at most 64",
        ),
        ('{"a":' + "[" * 100_000, "JSON Parse error: Nested too deeply. at offset: 0"),
        ("[1, 2]", "JSON Value: [1, 2] Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ('{"instances": 5}', "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array"),
        (
            '{"instances": [1], "inputs": [1]}',
            'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"instances": ["x", "y"]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "x" Type: String is '
            "not of expected type: float",
        ),
        (
            '{"instances": [1, null]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: null Type: Null is not "
            "of expected type: float",
        ),
        (
            '{"instances": [[1,2],[3,4],[5,6,7]]}',
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 3",
        ),
        (
            '{"instances": [[1,2],[3,4],[[5,6]]]}',
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [2] but got: [1,2]",
        ),
        (
            '{"instances": [1, [1]]}',
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [] but got: [1]",
        ),
        (
            '{"instances": [[[1,2],[3]]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected "
            "size: 1 at level: 1 expected size: 2",
        ),
        (
            '{"instances": [[[1], 2]]}',
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: 2 found at incorrect "
            "level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            '{"instances": [{"x": 1}, {"x": 1, "z": 2}]}',
            "Failed to process element: 1 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have "
            "named input: z",
        ),
        ('{"instances": [{"x": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 2}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"inputs": {"y": 1}}', "Missing named input: x in 'inputs' object."),
        ('{"inputs": [[1], 2]}', "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ],
)
def test_fault_is_named_in_the_words_of_tensorflow_serving(body: str, message: str) -> None:
    assert refuse(body) == message


def test_plain_list_is_refused_where_several_inputs_are_needed() -> None:
    assert refuse('{"instances": [1]}', a=FLOAT, b=FLOAT).startswith("instances is a plain list, but expecting list of")
    assert refuse('{"inputs": [1]}', a=FLOAT, b=FLOAT).startswith(
        "inputs is a plain value/list, but expecting an object"
    )


def test_missing_input_of_a_row_is_named() -> None:
    message = refuse('{"instances": [{"a": 1}]}', a=FLOAT, b=FLOAT)
    assert message.endswith('JSON object: {\n    "a": 1\n} keys must be equal to: a,b')


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ("1.5", INT32),
        ("1.0", INT64),
        ("2147483648", INT32),
        ("9223372036854775808", INT64),
        ("18446744073709551616", types_pb2.DT_UINT64),
        ("-1", types_pb2.DT_UINT32),
        ("true", INT32),
        ("true", FLOAT),
        ("1", types_pb2.DT_BOOL),
        ("1", STRING),
        ('"1.5"', FLOAT),
        ('{"b64": "aGVsbG8="}', FLOAT),
    ],
)
def test_value_of_another_type_or_range_is_refused(value: str, dtype: int) -> None:
    assert f"is not of expected type: {json_tensor.dtype_name(dtype)}" in refuse(f'{{"instances": [{value}]}}', x=dtype)


@pytest.mark.parametrize("text", ["####", "aGVsbG8==", "aGVsb", "a"])
def test_invalid_base64_is_refused(text: str) -> None:
    assert "Unable to base64 decode" in refuse(json.dumps({"inputs": [{"b64": text}]}), x=STRING)


def test_object_that_is_no_base64_is_refused() -> None:
    assert "not formatted correctly for base64 data" in refuse('{"inputs": [{"b64": 5}]}', x=STRING)


def test_quoted_json_is_cut() -> None:
    assert len(refuse(json.dumps({"instances": 1, "x": list(range(10_000))}))) < 400


def test_half_of_a_surrogate_pair_is_refused() -> None:
    assert "The surrogate pair in string is invalid." in refuse(r'{"instances": ["\ud800"]}', x=STRING)


@pytest.mark.parametrize("dtype", [types_pb2.DT_HALF, types_pb2.DT_COMPLEX64])
def test_type_without_json_form_is_unimplemented(dtype: int) -> None:
    with pytest.raises(ServingError, match=f"to type: {json_tensor.dtype_name(dtype)}") as caught:
        read('{"inputs": [1]}', x=dtype)
    assert caught.value.code is Code.UNIMPLEMENTED


nested_values = st.recursive(
    st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.booleans(), st.text(max_size=3), st.none()),
    lambda children: st.lists(children, max_size=3),
    max_leaves=8,
)


@given(instances=st.lists(nested_values, min_size=1, max_size=4), dtype=st.sampled_from([FLOAT, INT32, INT64, STRING]))
def test_fast_and_careful_reading_agree(instances: list[object], dtype: int) -> None:
    fast = json_tensor._dense(instances, dtype)
    if fast is None:
        return
    careful = json_tensor._Careful({"x": dtype}).instances(instances)["x"]
    assert fast.dtype == careful.dtype
    assert fast.shape == careful.shape
    assert fast.ravel().tolist() == careful.ravel().tolist()


def write(request_format: RequestFormat = RequestFormat.ROW, **outputs: object) -> str:
    return json_answer.predictions(
        {name: np.asarray(value) for name, value in outputs.items()}, request_format
    ).decode()


def test_unnamed_output_is_written_without_its_name() -> None:
    array = np.array([[1, 2], [3, 4]], np.int32)
    assert write(y=array) == '{"predictions":[[1,2],[3,4]]}'
    assert write(RequestFormat.COLUMN, y=array) == '{"outputs":[[1,2],[3,4]]}'


def test_several_outputs_are_objects_by_row_or_by_column() -> None:
    outputs = {
        "scalar": np.array([8.0, 9.0]),
        "text": np.array([[b"foo"], [b"bar"]], object),
        "text_bytes": np.array([b"hello", b"world"], object),
    }
    assert orjson.loads(write(**outputs)) == {
        "predictions": [
            {"scalar": 8.0, "text": ["foo"], "text_bytes": {"b64": "aGVsbG8="}},
            {"scalar": 9.0, "text": ["bar"], "text_bytes": {"b64": "d29ybGQ="}},
        ]
    }
    assert orjson.loads(write(RequestFormat.COLUMN, **outputs)) == {
        "outputs": {
            "scalar": [8.0, 9.0],
            "text": [["foo"], ["bar"]],
            "text_bytes": [{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}],
        }
    }


def test_floats_are_written_in_the_digits_of_their_own_width() -> None:
    assert write(y=np.array([0.2, 1, 1e-7, 0.1234567], np.float32)) == '{"predictions":[0.2,1.0,1e-7,0.1234567]}'
    assert write(y=np.array([0.1 + 0.2, 1.0])) == '{"predictions":[0.30000000000000004,1.0]}'


def test_values_that_are_not_finite_are_spelled() -> None:
    values = np.array([[0.2, np.nan], [np.inf, -np.inf]], np.float32)
    assert write(y=values) == '{"predictions":[[0.2,NaN],[Infinity,-Infinity]]}'
    assert write(RequestFormat.COLUMN, y=np.array(np.nan)) == '{"outputs":NaN}'
    assert math.isnan(json.loads(write(a=np.array([np.nan]), b=np.array([b"null"], object)))["predictions"][0]["a"])


def test_text_that_says_null_is_left_alone() -> None:
    assert write(y=np.array([b"null"], object)) == '{"predictions":["null"]}'


def test_output_that_is_not_utf8_is_written_as_it_is() -> None:
    body = json_answer.predictions({"y": np.array([b"\xff"], object)}, RequestFormat.ROW)
    assert body == b'{"predictions":["\xff"]}'


def test_output_without_batch_is_refused_in_row_format_only() -> None:
    with pytest.raises(ServingError, match="Tensor name: y has no shape information "):
        write(y=np.array(3.0))
    assert write(RequestFormat.COLUMN, y=np.array(3.0)) == '{"outputs":3.0}'


def test_outputs_of_different_batch_sizes_are_refused_in_row_format_only() -> None:
    outputs = {"a": np.zeros(2), "b": np.zeros(3)}
    with pytest.raises(ServingError, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        write(**outputs)
    assert orjson.loads(write(RequestFormat.COLUMN, **outputs))["outputs"]["b"] == [0, 0, 0]


def test_empty_batch_is_written_as_an_empty_list() -> None:
    assert write(y=np.zeros((0, 2))) == '{"predictions":[]}'
    assert write(a=np.zeros((0, 2)), b=np.zeros(0, object)) == '{"predictions":[]}'


def test_type_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ServingError, match="Failed to write JSON value for tensor type: half"):
        write(y=np.zeros(1, np.float16))


def examples(body: str) -> list[example_pb2.Example]:
    document = json_document.parse_object(body.encode())
    return [example_pb2.Example.FromString(data) for data in json_tensor.serialized_examples(document)]


def test_examples_take_scalars_lists_booleans_and_bytes_with_a_context() -> None:
    first, second = examples(
        '{"context": {"query": "pizza"}, "examples": [{"names": ["foo", {"b64": "aGVsbG8="}], "age": 20, '
        '"mix": [1, true]}, '
        '{"ratings": [8.0, NaN, -Infinity]}]}'
    )
    assert first.features.feature["names"].bytes_list.value == [b"foo", b"hello"]
    assert first.features.feature["age"].int64_list.value == [20]
    assert first.features.feature["mix"].int64_list.value == [1, 1]
    assert first.features.feature["query"].bytes_list.value == [b"pizza"]
    assert second.features.feature["query"].bytes_list.value == [b"pizza"]
    ratings = second.features.feature["ratings"].float_list.value
    assert (ratings[0], math.isnan(ratings[1]), ratings[2]) == (8.0, True, -math.inf)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"context": [{}], "examples": [{}]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [[{}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        ("{}", "When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": [{"n": [10, null]}]}', "Feature: n has element with unexpected JSON type: Null"),
        ('{"examples": [{"n": [10, 10.0]}]}', "Unexpected element type in feature: n expecting type: int64"),
        ('{"examples": [{"n": [10, {"test": 10}]}]}', "Feature: n has element with unexpected JSON type: Object"),
        ('{"examples": [{"n": [[10], 20]}]}', "Feature: n has element with unexpected JSON type: Array"),
        (
            '{"examples": [{"n": [18446744073709551603]}]}',
            "Feature: n has uint64_t element. Only int64_t is supported.",
        ),
    ],
)
def test_fault_in_an_example_is_named(body: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        examples(body)
    assert caught.value.message.endswith(message)


def test_signature_name_must_be_text() -> None:
    with pytest.raises(ServingError, match="'signature_name' key must be a string value"):
        json_tensor.signature_name({"signature_name": 100})


def test_classifications_without_labels_have_empty_ones() -> None:
    scores = np.array([[0.5, 0.25]], np.float32)
    assert json_answer.classifications(None, scores, 1) == b'{"results":[[["",0.5],["",0.25]]]}'
    labels = np.array([[b"car", b"bus"]], object)
    assert json_answer.classifications(labels, scores, 1) == b'{"results":[[["car",0.5],["bus",0.25]]]}'


def test_regressions_spell_what_is_not_finite() -> None:
    values = np.array([0.2, np.inf, -np.inf, np.nan], np.float32)
    assert json_answer.regressions(values) == b'{"results":[0.2,Infinity,-Infinity,NaN]}'

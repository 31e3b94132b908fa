"""The gRPC API against tensorflow/serving's apis/*.proto and the tests of its servables."""

import time
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kubetfx.serving import tensor_proto

ROW = {"number": np.array([2.5], np.float32), "count": np.array([4], np.int64), "name": np.array([b"Ann"], object)}


@pytest.fixture(scope="module")
def predictions(channel: grpc.Channel) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel: grpc.Channel) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request(model: str, inputs: dict[str, Any], *, signature: str = "", **spec: Any) -> predict_pb2.PredictRequest:
    made = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=model, signature_name=signature))
    if "version" in spec:
        made.model_spec.version.value = spec["version"]
    if "label" in spec:
        made.model_spec.version_label = spec["label"]
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value))
    return made


def example(**features: float) -> tf.train.Example:
    made = tf.train.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def example_list(*examples: tf.train.Example) -> input_pb2.Input:
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples))


def refuse(call: Any, message: Any, code: grpc.StatusCode, **options: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=20, **options)
    assert caught.value.code() is code, caught.value
    return str(caught.value.details())


def test_predict_answers_every_output_with_the_version(predictions: Any) -> None:
    response = predictions.Predict(request("kinds", ROW), timeout=20)
    assert response.model_spec.name == "kinds"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    values = {name: tf.make_ndarray(tensor).tolist() for name, tensor in response.outputs.items()}
    assert values == {
        "product": [10.0],
        "count": [4],
        "greeting": [b"hello Ann"],
        "raw_bytes": [b"Ann"],
        "pair": [[2.5, -2.5]],
        "positive": [True],
    }


def test_values_come_in_typed_fields(predictions: Any) -> None:
    response = predictions.Predict(request("half_plus_two", {"x": np.array([[2, 4]], np.float32)}), timeout=20)
    assert list(response.outputs["y"].float_val) == [4.0, 5.0]
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [1, 2]


@pytest.mark.parametrize(("spec", "expected"), [({}, 4.0), ({"version": 123}, 3.0), ({"label": "stable"}, 3.0)])
def test_predict_asks_for_newest_version_a_number_or_a_label(predictions: Any, spec: Any, expected: float) -> None:
    response = predictions.Predict(request("half_plus_two", {"x": np.float32(2)}, **spec), timeout=20)
    assert response.outputs["y"].float_val[0] == expected


def test_output_filter_picks_outputs(predictions: Any) -> None:
    message = request("kinds", ROW)
    message.output_filter.extend(["pair", "count"])
    assert set(predictions.Predict(message, timeout=20).outputs) == {"pair", "count"}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["none"], "output tensor alias not found in signature: none Outputs expected to be in the set {"),
        (["pair", "pair"], "duplicate output tensor alias: pair"),
    ],
)
def test_wrong_output_filter_is_refused(predictions: Any, outputs: list[str], message: str) -> None:
    wrong = request("kinds", ROW)
    wrong.output_filter.extend(outputs)
    assert refuse(predictions.Predict, wrong, grpc.StatusCode.INVALID_ARGUMENT).startswith(message)


@pytest.mark.parametrize(
    ("signature", "dtype"),
    [
        ("floats", np.float32),
        ("doubles", np.float64),
        ("int8", np.int8),
        ("uint8", np.uint8),
        ("int32", np.int32),
        ("int64", np.int64),
        ("uint32", np.uint32),
        ("uint64", np.uint64),
        ("bools", np.bool_),
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)], ids=str)
def test_every_type_and_shape_goes_in_and_out(predictions: Any, signature: str, dtype: Any, shape: Any) -> None:
    value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    response = predictions.Predict(request("kinds", {"x": value}, signature=signature), timeout=20)
    array = tf.make_ndarray(response.outputs["y"])
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, value)


def test_scalar_text_goes_in_and_out(predictions: Any) -> None:
    response = predictions.Predict(request("kinds", {"text": b"hi"}, signature="strings"), timeout=20)
    assert tf.make_ndarray(response.outputs["text"]).item() == b"hi"


def test_half_precision_goes_out(predictions: Any) -> None:
    message = request("kinds", {"x": np.array([0.5], np.float32)}, signature="half_precision")
    found = predictions.Predict(message, timeout=20).outputs["y"]
    assert tf.make_ndarray(found).tolist() == [0.5]
    assert (list(found.half_val), found.tensor_content) == ([0x3800], b"")  # as Tensor::AsProtoField writes it


@pytest.mark.parametrize(
    ("values", "field", "written"),
    [
        (np.array([1 + 2j], np.complex64), "scomplex_val", [1, 2]),
        (np.array([[1 + 2j, 3]], np.complex128), "dcomplex_val", [1, 2, 3, 0]),
        (np.array([1.0], tf.bfloat16.as_numpy_dtype), "half_val", [0x3F80]),
    ],
    ids=["complex64", "complex128", "bfloat16"],
)
def test_types_in_parts_are_written_in_their_fields(values: Any, field: str, written: list[float]) -> None:
    proto = tensor_pb2.TensorProto()
    tensor_proto.from_array(values, proto)
    assert list(getattr(proto, field)) == written
    assert np.array_equal(tf.make_ndarray(proto), values)


def test_last_value_of_a_short_tensor_is_repeated(predictions: Any) -> None:
    short = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1, 2])
    short.tensor_shape.dim.add(size=4)
    response = predictions.Predict(request("half_plus_two", {"x": short}), timeout=20)
    assert list(response.outputs["y"].float_val) == [3.5, 4.0, 4.0, 4.0]


def broken_tensor(**changes: Any) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=changes.get("dtype", types_pb2.DT_FLOAT))
    tensor.tensor_content = changes.get("content", b"")
    for size in changes["shape"]:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize(
    "tensor",
    [
        broken_tensor(shape=[-1]),
        broken_tensor(shape=[2**40]),
        broken_tensor(shape=[2**31, 2**31, 2**31]),
        broken_tensor(shape=[3], content=b"12345"),
        broken_tensor(shape=[1], dtype=types_pb2.DT_VARIANT),
        broken_tensor(shape=[1], dtype=0),
    ],
    ids=["negative", "vast", "overflowing", "too_few_bytes", "variant", "no_type"],
)
def test_tensor_that_is_none_is_refused(predictions: Any, tensor: tensor_pb2.TensorProto) -> None:
    message = request("half_plus_two", {"x": tensor})
    assert refuse(predictions.Predict, message, grpc.StatusCode.INVALID_ARGUMENT) == "tensor parsing error: x"


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request("", {}), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (request("foo", {}), "NOT_FOUND", "Servable not found for request: Latest(foo)"),
        (request("kinds", {}, version=7), "NOT_FOUND", "Servable not found for request: Specific(kinds, 7)"),
        (request("kinds", {}, label="x"), "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
        (request("kinds", {}, signature="no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
        (
            request("half_plus_two", {"x": 1.0, "z": 2.0}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
            "Missing but required: {}.",
        ),
        (
            request("kinds", {"number": [1.0]}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=3 len({number}) != len({count,name,number}). Sent extra: {}. "
            "Missing but required: {count,name}.",
        ),
        (
            request("half_plus_two", {"z": 1.0}),
            "INVALID_ARGUMENT",
            "input tensor alias not found in signature: z. Inputs expected to be in the set {x}.",
        ),
        (
            request("half_plus_two", {"x": "text"}),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but string is provided",
        ),
        (
            request("half_plus_two", {"x": np.int64(1)}),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but int64 is provided",
        ),
        (request("kinds", {"index": [7]}, signature="lookup"), "INVALID_ARGUMENT", "indices[0] = 7 is not in [0, 3)"),
    ],
)
def test_predict_refuses_as_specified(predictions: Any, message: Any, code: str, details: str) -> None:
    assert details in refuse(predictions.Predict, message, grpc.StatusCode[code])


def test_long_error_is_cut(predictions: Any) -> None:
    details = refuse(predictions.Predict, request("n" * 2000, {}), grpc.StatusCode.NOT_FOUND)
    assert len(details) < 1100
    assert details.endswith("...TRUNCATED")


def test_classify_answers_labels_and_scores(predictions: Any) -> None:
    message = classification_pb2.ClassificationRequest(
        model_spec=model_pb2.ModelSpec(name="kinds", signature_name="classify"),
        input=example_list(example(x=0.25), example(x=1)),
    )
    response = predictions.Classify(message, timeout=20)
    rows = [[(item.label, item.score) for item in row.classes] for row in response.result.classifications]
    assert rows == [[("low", 0.75), ("high", 0.25)], [("low", 0.0), ("high", 1.0)]]
    assert response.model_spec.signature_name == "classify"


def test_regress_merges_the_context_into_each_example(predictions: Any) -> None:
    message = regression_pb2.RegressionRequest(model_spec=model_pb2.ModelSpec(name="kinds", signature_name="regress"))
    message.input.example_list_with_context.context.CopyFrom(example(x=80))
    message.input.example_list_with_context.examples.extend([example(), example(other=1)])
    response = predictions.Regress(message, timeout=20)
    assert [item.value for item in response.result.regressions] == [42.0, 42.0]


@pytest.mark.parametrize(
    ("signature", "examples", "details"),
    [
        ("regress", [], "Input is empty."),
        ("no", [example()], "No signature was found with the name: no"),
        ("total", [example()], "No regression inputs found in SignatureDef"),
        ("classify", [example()], "Expected one output Tensor."),
    ],
)
def test_regress_refuses_as_specified(predictions: Any, signature: str, examples: Any, details: str) -> None:
    message = regression_pb2.RegressionRequest(
        model_spec=model_pb2.ModelSpec(name="kinds", signature_name=signature), input=example_list(*examples)
    )
    assert details in refuse(predictions.Regress, message, grpc.StatusCode.INVALID_ARGUMENT)


def multi_inference(*tasks: tuple[str, str, str], examples: int = 1) -> inference_pb2.MultiInferenceRequest:
    message = inference_pb2.MultiInferenceRequest(input=example_list(*[example(x=0.5)] * examples))
    for model, signature, method in tasks:
        message.tasks.add(
            model_spec=model_pb2.ModelSpec(name=model, signature_name=signature),
            method_name=f"tensorflow/serving/{method}",
        )
    return message


def test_multi_inference_answers_each_task(predictions: Any) -> None:
    message = multi_inference(("kinds", "regress", "regress"), ("kinds", "classify", "classify"))
    first, second = predictions.MultiInference(message, timeout=20).results
    assert first.regression_result.regressions[0].value == 2.25
    assert second.classification_result.classifications[0].classes[1].label == "high"
    assert second.model_spec.version.value == 1


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        (multi_inference(), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (
            multi_inference(("kinds", "regress", "regress"), ("kinds", "regress", "regress")),
            "INVALID_ARGUMENT",
            "Duplicate evaluation of signature: regress",
        ),
        (
            multi_inference(("kinds", "regress", "regress"), ("half_plus_two", "classify", "classify")),
            "INVALID_ARGUMENT",
            "must access the same model name",
        ),
        (
            multi_inference(("kinds", "no", "regress")),
            "INVALID_ARGUMENT",
            "Requested signature not found in model graph: no",
        ),
        (
            multi_inference(("kinds", "regress", "predict")),
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (multi_inference(("kinds", "regress", "regress"), examples=0), "INVALID_ARGUMENT", "Input is empty."),
    ],
)
def test_multi_inference_refuses_as_specified(predictions: Any, message: Any, code: str, details: str) -> None:
    assert details in refuse(predictions.MultiInference, message, grpc.StatusCode[code])


def test_metadata_carries_the_signatures(predictions: Any) -> None:
    message = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model_pb2.ModelSpec(name="half_plus_two"), metadata_field=["signature_def"]
    )
    response = predictions.GetModelMetadata(message, timeout=20)
    assert response.model_spec.version.value == 124
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == types_pb2.DT_FLOAT


@pytest.mark.parametrize(
    ("fields", "details"),
    [([], "must specify at least one metadata_field"), (["graph"], "Metadata field graph is not supported")],
)
def test_metadata_refuses_other_fields(predictions: Any, fields: list[str], details: str) -> None:
    message = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model_pb2.ModelSpec(name="half_plus_two"), metadata_field=fields
    )
    assert details in refuse(predictions.GetModelMetadata, message, grpc.StatusCode.INVALID_ARGUMENT)


def test_status_lists_versions(models: Any) -> None:
    message = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name="half_plus_two"))
    statuses = models.GetModelStatus(message, timeout=20).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(status.version, status.state) for status in statuses] == [(124, available), (123, available)]


def test_status_of_an_unknown_model_is_not_found(models: Any) -> None:
    message = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name="foo"))
    assert (
        refuse(models.GetModelStatus, message, grpc.StatusCode.NOT_FOUND) == "Could not find any versions of model foo"
    )


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService", "PredictionService", "ModelService"])
def test_health_service_says_serving(channel: grpc.Channel, service: str) -> None:
    response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (response,) = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20
    )
    names = {service.name for service in response.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health"} <= names


def test_deadline_is_honoured_and_the_server_lives(predictions: Any) -> None:
    slow = request("kinds", {"steps": np.array([5000], np.int32)}, signature="slow")
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(slow, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 2
    assert predictions.Predict(request("half_plus_two", {"x": 2.0}), timeout=20).outputs["y"].float_val[0] == 4.0


def test_slow_call_does_not_hold_up_others(predictions: Any) -> None:
    slow = predictions.Predict.future(
        request("kinds", {"steps": np.array([8000], np.int32)}, signature="slow"), timeout=60
    )
    response = predictions.Predict(request("half_plus_two", {"x": 2.0}), timeout=20)
    assert not slow.done()
    assert response.outputs["y"].float_val[0] == 4.0
    assert slow.result().outputs["sum"].float_val[0] == 8000


def test_cancelled_call_leaves_the_server_well(predictions: Any) -> None:
    call = predictions.Predict.future(
        request("kinds", {"steps": np.array([300], np.int32)}, signature="slow"), timeout=60
    )
    call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert predictions.Predict(request("half_plus_two", {"x": 2.0}), timeout=20).outputs["y"].float_val[0] == 4.0


def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel, predictions: Any) -> None:
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", timeout=20)
    assert caught.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert predictions.Predict(request("half_plus_two", {"x": 2.0}), timeout=20).outputs["y"].float_val[0] == 4.0

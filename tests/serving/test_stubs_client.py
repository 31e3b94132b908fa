"""A client that knows TensorFlow Serving by tensorflow-serving-api alone, and imports nothing of this project.

It is what the guides of TensorFlow Serving teach, and it runs unchanged against tensorflow_model_server.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)


@pytest.fixture(scope="module")
def address(server: object) -> str:
    return f"127.0.0.1:{server.grpc_port}"  # type: ignore[attr-defined]


def test_guide_for_predict(address: str) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = "serving_default"
    request.model_spec.version.CopyFrom(wrappers_pb2.Int64Value(value=123))
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0], shape=[3]))
    result = stub.Predict(request, 10.0)
    assert np.array(result.outputs["y"].float_val).tolist() == [2.5, 3.0, 4.5]
    assert tf.make_ndarray(result.outputs["y"]).shape == (3,)


def test_guide_for_asynchronous_predict(address: str) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))
    calls = []
    for value in range(20):
        request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="half_plus_two"))
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(float(value)))
        calls.append(stub.Predict.future(request, 10.0))
    assert [call.result().outputs["y"].float_val[0] for call in calls] == [value / 2 + 3 for value in range(20)]


def test_guide_for_classify_and_regress(address: str) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(address))
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[0.25]))
    example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
    examples = input_pb2.Input(example_list=input_pb2.ExampleList(examples=[example]))
    spec = model_pb2.ModelSpec(name="kinds", signature_name="classify")
    response = stub.Classify(classification_pb2.ClassificationRequest(model_spec=spec, input=examples), 10.0)
    best = max(response.result.classifications[0].classes, key=lambda item: item.score)
    assert (best.label, best.score) == ("low", 0.75)
    spec = model_pb2.ModelSpec(name="kinds", signature_name="regress")
    response = stub.Regress(regression_pb2.RegressionRequest(model_spec=spec, input=examples), 10.0)
    assert response.result.regressions[0].value == 2.125


def test_guide_for_status_and_metadata(address: str) -> None:
    channel = grpc.insecure_channel(address)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "kinds"
    response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, 10.0)
    assert response.model_version_status[0].state == get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    metadata.model_spec.name = "kinds"
    metadata.metadata_field.append("signature_def")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    signatures.ParseFromString(stub.GetModelMetadata(metadata, 10.0).metadata["signature_def"].value)
    assert set(signatures.signature_def["serving_default"].inputs) == {"number", "count", "name"}

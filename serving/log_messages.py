"""What is read of TensorFlow Serving's PredictionLog, as messages of our own with the same numbers.

The published classes come with TensorFlow, whose import takes longer than reading a log of some hours. Fields that are
not here are skipped. Packed numbers and tensors are taken as bytes, which on the wire they are.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "kubetfx.log"
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bytes": _Field.TYPE_BYTES,
    "text": _Field.TYPE_BYTES,  # names of others may be no UTF-8
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "float": _Field.TYPE_FLOAT,
}

_MESSAGES: dict[str, Sequence[tuple[str, int, str]]] = {
    # tensorflow_serving/apis/model.proto, logging.proto
    "Int64Value": [("value", 1, "int64")],
    "ModelSpec": [("name", 1, "text"), ("version", 2, "Int64Value"), ("signature_name", 3, "text")],
    "LogMetadata": [("model_spec", 1, "ModelSpec"), ("timestamp_secs", 4, "int64")],
    # tensorflow_serving/apis/predict.proto
    "Entry": [("key", 1, "text"), ("value", 2, "bytes")],
    "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "*Entry")],
    "PredictResponse": [("outputs", 1, "*Entry"), ("model_spec", 2, "ModelSpec")],
    "PredictLog": [("request", 1, "PredictRequest"), ("response", 2, "PredictResponse")],
    # tensorflow_serving/apis/input.proto
    "ExampleList": [("examples", 1, "*bytes"), ("context", 2, "bytes")],
    "Input": [("example_list", 1, "ExampleList"), ("example_list_with_context", 2, "ExampleList")],
    # tensorflow_serving/apis/classification.proto, regression.proto, inference.proto
    "Class": [("label", 1, "text"), ("score", 2, "float")],
    "Classes": [("classes", 1, "*Class")],
    "Regression": [("value", 1, "float")],
    "Result": [("classifications", 1, "*Classes")],
    "RegressionResult": [("regressions", 1, "*Regression")],
    "ExampleRequest": [("model_spec", 1, "ModelSpec"), ("input", 2, "Input")],
    "ClassificationResponse": [("result", 1, "Result"), ("model_spec", 2, "ModelSpec")],
    "RegressionResponse": [("result", 1, "RegressionResult"), ("model_spec", 2, "ModelSpec")],
    "ClassifyLog": [("request", 1, "ExampleRequest"), ("response", 2, "ClassificationResponse")],
    "RegressLog": [("request", 1, "ExampleRequest"), ("response", 2, "RegressionResponse")],
    "InferenceResult": [
        ("model_spec", 1, "ModelSpec"),
        ("classification_result", 2, "Result"),
        ("regression_result", 3, "RegressionResult"),
    ],
    "MultiRequest": [("input", 2, "Input")],
    "MultiResponse": [("results", 1, "*InferenceResult")],
    "MultiInferenceLog": [("request", 1, "MultiRequest"), ("response", 2, "MultiResponse")],
    # tensorflow_serving/apis/prediction_log.proto
    "PredictionLog": [
        ("log_metadata", 1, "LogMetadata"),
        ("classify_log", 2, "ClassifyLog"),
        ("regress_log", 3, "RegressLog"),
        ("multi_inference_log", 4, "MultiInferenceLog"),
        ("predict_log", 6, "PredictLog"),
    ],
    # tensorflow/core/framework/tensor.proto, tensor_shape.proto
    "Dim": [("size", 1, "int64")],
    "Shape": [("dim", 2, "*Dim")],
    "Tensor": [
        ("dtype", 1, "int64"),
        ("tensor_shape", 2, "Shape"),
        ("tensor_content", 4, "bytes"),
        ("float_val", 5, "bytes"),
        ("double_val", 6, "bytes"),
        ("int_val", 7, "*int64"),
        ("string_val", 8, "*bytes"),
        ("int64_val", 10, "*int64"),
        ("bool_val", 11, "*int64"),
        ("uint32_val", 16, "*uint64"),
        ("uint64_val", 17, "*uint64"),
    ],
    # tensorflow/core/example/example.proto, feature.proto
    "BytesList": [("value", 1, "*bytes")],
    "FloatList": [("value", 1, "bytes")],
    "Int64List": [("value", 1, "*int64")],
    "Feature": [("bytes_list", 1, "BytesList"), ("float_list", 2, "FloatList"), ("int64_list", 3, "Int64List")],
    "FeatureEntry": [("key", 1, "text"), ("value", 2, "Feature")],
    "Features": [("feature", 1, "*FeatureEntry")],
    "Example": [("features", 1, "Features")],
}


@functools.cache
def message(name: str) -> Any:
    """Return the class of a message.

    Args:
        name: `PredictionLog`, `Tensor` or `Example`, for example.
    """
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


KINDS = ("predict_log", "classify_log", "regress_log", "multi_inference_log")
"""Fields of a PredictionLog, of which each has one."""


@dataclass(frozen=True)
class Head:
    """What a record is of."""

    kind: str
    """One of KINDS."""
    model: str
    version: int
    seconds: int
    """Time of the request, since 1970."""


def head_of(log: Any) -> Head | None:
    """Return what a record is of: its metadata say it, or else the answer.

    Args:
        log: a PredictionLog.

    Returns:
        None: it has no request.
    """
    kind = next((name for name in KINDS if log.HasField(name)), None)
    if kind is None:
        return None
    response = getattr(log, kind).response
    parts = response.results if kind == "multi_inference_log" else [response]
    answered = parts[0].model_spec if parts else message("ModelSpec")()
    spec = log.log_metadata.model_spec if log.log_metadata.HasField("model_spec") else answered
    version = spec.version.value or answered.version.value
    return Head(kind, spec.name.decode(errors="replace"), version, log.log_metadata.timestamp_secs)


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="kubetfx/log.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        own = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = own.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
            if kind.startswith("*"):
                field.label = _Field.LABEL_REPEATED
            if (single := kind.lstrip("*")) in _TYPES:
                field.type = _TYPES[single]
            else:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{single}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool

"""A request and its answer as the bytes of a PredictionLog, TensorFlow Serving's record of what it was asked.

A Predict request is put together from bytes: a message per tensor would take as long as a tenth of the request itself.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import (
    input_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from kubetfx.arrays import Array
from kubetfx.serving import responses
from kubetfx.serving.inference import Classification, Regression, Task
from kubetfx.serving.saved_model import TAGS
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.tensor_proto import before_numbers, field, field_head, to_bytes, varint

_PREDICT_LOG = prediction_log_pb2.PredictionLog.PREDICT_LOG_FIELD_NUMBER
_REQUEST = prediction_log_pb2.PredictLog.REQUEST_FIELD_NUMBER
_RESPONSE = prediction_log_pb2.PredictLog.RESPONSE_FIELD_NUMBER
_INPUTS = predict_pb2.PredictRequest.INPUTS_FIELD_NUMBER
_OUTPUTS = predict_pb2.PredictResponse.OUTPUTS_FIELD_NUMBER
_METADATA = prediction_log_pb2.PredictionLog.LOG_METADATA_FIELD_NUMBER
_TIME = b"\x20"
"""Tag of `timestamp_secs` in the metadata: field 4, a varint."""
_KEY, _VALUE = 1, 2
"""Fields of an entry of a map."""


@dataclass(frozen=True)
class Logged:
    """What all records say of a request."""

    version: ServedVersion
    """The version that answered."""
    signature_name: str
    """Empty: the default."""
    sampling_rate: float
    seconds: int
    """Time of the answer, since the epoch."""


def predict_record(
    logged: Logged, inputs: Mapping[str, Array], output_filter: Sequence[str], outputs: Mapping[str, Array]
) -> bytes:
    """Make the record of a Predict request.

    Args:
        logged: what all records say.
        inputs: an array by input.
        output_filter: outputs that were asked for; empty for all.
        outputs: an array by output.

    Returns:
        A serialised PredictionLog.
    """
    version = logged.version
    metadata, request, response = _heads(
        version.model_name, version.version, logged.signature_name, logged.sampling_rate, tuple(output_filter)
    )
    log = field(_REQUEST, request + _tensors(_INPUTS, inputs)) + field(
        _RESPONSE, response + _tensors(_OUTPUTS, outputs)
    )
    return field(_METADATA, metadata + _TIME + varint(logged.seconds)) + field(_PREDICT_LOG, log)


@functools.lru_cache(maxsize=256)
def _heads(
    name: str, version: int, signature_name: str, rate: float, output_filter: tuple[str, ...]
) -> tuple[bytes, bytes, bytes]:
    """Return what all records of a version share: metadata without the time, and request and answer without tensors."""
    spec = responses.spec_of(name, version, signature_name)
    asked = model_pb2.ModelSpec(name=name, signature_name=signature_name)
    metadata = prediction_log_pb2.PredictionLog().log_metadata
    _fill_metadata(metadata, spec, rate)
    request = predict_pb2.PredictRequest(model_spec=asked, output_filter=output_filter)
    return (
        metadata.SerializeToString(),
        request.SerializeToString(),
        predict_pb2.PredictResponse(model_spec=spec).SerializeToString(),
    )


def classify_record(logged: Logged, examples: Sequence[bytes], result: Classification) -> bytes:
    """Make the record of a Classify request.

    Args:
        logged: what all records say.
        examples: serialised tf.Examples.
        result: the answer.

    Returns:
        A serialised PredictionLog.
    """
    log = _log(logged)
    _fill_request(log.classify_log.request, logged, examples)
    response = responses.classification_response(logged.version, logged.signature_name, result)
    log.classify_log.response.CopyFrom(response)
    return bytes(log.SerializeToString())


def regress_record(logged: Logged, examples: Sequence[bytes], result: Regression) -> bytes:
    """Make the record of a Regress request.

    Args:
        logged: what all records say.
        examples: serialised tf.Examples.
        result: the answer.

    Returns:
        A serialised PredictionLog.
    """
    log = _log(logged)
    _fill_request(log.regress_log.request, logged, examples)
    response = responses.regression_response(logged.version, logged.signature_name, result)
    log.regress_log.response.CopyFrom(response)
    return bytes(log.SerializeToString())


def multi_inference_record(
    logged: Logged, tasks: Sequence[Task], examples: Sequence[bytes], results: Sequence[Classification | Regression]
) -> bytes:
    """Make the record of a MultiInference request.

    Args:
        logged: what all records say.
        tasks: The tasks of the request.
        examples: serialised tf.Examples.
        results: the answer, one per task.

    Returns:
        A serialised PredictionLog.
    """
    log = _log(logged)
    request = log.multi_inference_log.request
    request.input.CopyFrom(_input(examples))
    for task in tasks:
        spec = model_pb2.ModelSpec(name=task.model_name, signature_name=task.signature_name)
        request.tasks.add(model_spec=spec, method_name=task.method)
    answer = responses.multi_inference_response(logged.version, tasks, results)
    log.multi_inference_log.response.CopyFrom(answer)
    return bytes(log.SerializeToString())


def _log(logged: Logged) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    spec = responses.model_spec(logged.version, logged.signature_name)
    _fill_metadata(log.log_metadata, spec, logged.sampling_rate)
    log.log_metadata.timestamp_secs = logged.seconds
    return log


def _fill_metadata(metadata: Any, spec: model_pb2.ModelSpec, rate: float) -> None:
    metadata.model_spec.CopyFrom(spec)
    metadata.sampling_config.sampling_rate = rate
    metadata.saved_model_tags.extend(TAGS)


def _asked(logged: Logged) -> model_pb2.ModelSpec:
    return model_pb2.ModelSpec(name=logged.version.model_name, signature_name=logged.signature_name)


def _fill_request(request: Any, logged: Logged, examples: Sequence[bytes]) -> None:
    request.model_spec.CopyFrom(_asked(logged))
    request.input.CopyFrom(_input(examples))


def _input(examples: Sequence[bytes]) -> input_pb2.Input:
    found = input_pb2.Input()
    found.example_list.examples.extend(map(example_pb2.Example.FromString, examples))
    return found


def _tensors(number: int, arrays: Mapping[str, Array]) -> bytes:
    """Return the entries of a map from names to tensors."""
    return b"".join([_entry(number, name, array) for name, array in arrays.items()])


def _entry(number: int, name: str, array: Array) -> bytes:
    if array.dtype == object:
        return field(number, _key(name) + field(_VALUE, to_bytes(array)))
    return _before_numbers(number, name, array.dtype, array.shape) + array.tobytes()


@functools.lru_cache(maxsize=4096)
def _before_numbers(number: int, name: str, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> bytes:
    """Return all of an entry but the numbers, which come last, and whose size follows from the shape."""
    size = dtype.itemsize * math.prod(shape)
    tensor = before_numbers(dtype, shape)
    value = field_head(_VALUE, len(tensor) + size) + tensor
    return field_head(number, len(_key(name)) + len(value) + size) + _key(name) + value


@functools.lru_cache(maxsize=4096)
def _key(name: str) -> bytes:
    return field(_KEY, name.encode())

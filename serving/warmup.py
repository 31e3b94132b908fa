"""Warm-up: the requests that a model brings along, replayed before it answers any other."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    input_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from kubetfx.artifacts import DEFAULT_SIGNATURE, WARMUP_REQUESTS
from kubetfx.serving import inference
from kubetfx.serving.saved_model import SavedModel
from kubetfx.serving.status import Code, ServingError, from_tensorflow, invalid_argument
from kubetfx.serving.tensor_proto import from_array, to_array

_MAX_RECORDS = 1000


def warm_up(model: SavedModel, path: Path) -> int:
    """Replay the warm-up requests of a model.

    Args:
        model: the model.
        path: its folder.

    Returns:
        Number of requests; 0 if it brings none.

    Raises:
        ServingError: a request failed, or the file is broken.
    """
    file = path / WARMUP_REQUESTS
    if not file.is_file():
        return 0
    count = 0
    try:
        for record in tf.compat.v1.io.tf_record_iterator(str(file)):
            if count == _MAX_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {file}")
            _replay(model, _parse(record, file))
            count += 1
    except tf.errors.OpError as error:
        raise from_tensorflow(error) from None
    return count


def predict_request(rows: Sequence[Mapping[str, Any]], dtypes: Mapping[str, Any]) -> predict_pb2.PredictRequest:
    """Make a Predict request of `serving_default`.

    Args:
        rows: a value by column each.
        dtypes: NumPy type of each input; object for text and bytes.

    Returns:
        The request, with a tensor of (rows,) per input.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = DEFAULT_SIGNATURE
    for name, dtype in dtypes.items():
        values = [row[name] for row in rows]
        cells = [_encoded(value) for value in values] if dtype is object else values
        from_array(np.array(cells, dtype), request.inputs[name])
    return request


def _encoded(value: bytes | str | list[str]) -> bytes | list[bytes]:
    if isinstance(value, list):
        return [one.encode() for one in value]
    return value if isinstance(value, bytes) else value.encode()


def write_warmup_requests(path: Path, requests: Iterable[predict_pb2.PredictRequest]) -> None:
    """Write requests into a model's folder, where TensorFlow Serving looks for them.

    Args:
        path: folder of the SavedModel.
        requests: the model's name in them may stay empty: the server replays them on the version that it loads.
    """
    file = path / WARMUP_REQUESTS
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))


def _parse(record: bytes, file: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except Exception as error:  # protobuf's DecodeError derives from nothing narrower
        raise invalid_argument(f"Failed to parse warmup record from {file}: {error}") from None


def _replay(model: SavedModel, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        signature = model.signature(request.model_spec.signature_name or DEFAULT_SIGNATURE).signature
        inputs = {alias: to_array(tensor, alias) for alias, tensor in request.inputs.items()}
        inference.predict_call(signature, inputs, request.output_filter)[0].run(model)
    elif kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        call = inference.classify_call if kind == "classify_log" else inference.regress_call
        signature = inference.example_signature(model, request.model_spec.signature_name)
        call(signature, examples_of(request.input)).run(model)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        inference.multi_inference_call(model, tasks_of(request.tasks), examples_of(request.input)).run(model)
    elif kind is not None:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")


def examples_of(message: input_pb2.Input) -> list[bytes]:
    """Read the tf.Examples of a Classify, Regress or MultiInference request.

    Args:
        message: the request's `input`.

    Returns:
        Serialized tf.Examples, the request's context merged into each.
    """
    kind = message.WhichOneof("kind")
    if kind == "example_list":
        return [example.SerializeToString() for example in message.example_list.examples]
    if kind == "example_list_with_context":
        with_context = message.example_list_with_context
        context = with_context.context.SerializeToString()
        return [context + example.SerializeToString() for example in with_context.examples]
    return []


def tasks_of(tasks: Iterable[Any]) -> list[inference.Task]:
    """Read the tasks of a MultiInference request.

    Args:
        tasks: its InferenceTasks.

    Returns:
        The tasks, in the request's order.
    """
    return [inference.Task(task.model_spec.name, task.model_spec.signature_name, task.method_name) for task in tasks]

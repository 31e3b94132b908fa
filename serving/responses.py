"""Answers of the data plane as the messages of TensorFlow Serving's PredictionService."""

from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from kubetfx.arrays import Array
from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.serving.inference import Classification, Regression, Task
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.tensor_proto import from_array


def model_spec(version: ServedVersion, signature_name: str) -> model_pb2.ModelSpec:
    """Return which version has answered.

    Args:
        version: that has answered.
        signature_name: that was asked for; empty for the default.
    """
    return spec_of(version.model_name, version.version, signature_name)


def spec_of(name: str, version: int, signature_name: str) -> model_pb2.ModelSpec:
    """Return which version has answered, by its number.

    Args:
        name: The name of the model.
        version: its number.
        signature_name: that was asked for; empty for the default.
    """
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name or DEFAULT_SIGNATURE)
    spec.version.value = version
    return spec


def predict_response(
    version: ServedVersion, signature_name: str, outputs: Mapping[str, Array]
) -> predict_pb2.PredictResponse:
    """Make the answer of Predict.

    Args:
        version: that has answered.
        signature_name: that was asked for; empty for the default.
        outputs: an array by output.

    Returns:
        The answer.
    """
    response = predict_pb2.PredictResponse(model_spec=model_spec(version, signature_name))
    for alias, array in outputs.items():
        from_array(array, response.outputs[alias])
    return response


def classification_response(
    version: ServedVersion, signature_name: str, result: Classification
) -> classification_pb2.ClassificationResponse:
    """Make the answer of Classify.

    Args:
        version: that has answered.
        signature_name: that was asked for; empty for the default.
        result: The result of the data plane.

    Returns:
        The answer.
    """
    response = classification_pb2.ClassificationResponse(model_spec=model_spec(version, signature_name))
    _fill_classification(response.result, result)
    return response


def regression_response(
    version: ServedVersion, signature_name: str, result: Regression
) -> regression_pb2.RegressionResponse:
    """Make the answer of Regress.

    Args:
        version: that has answered.
        signature_name: that was asked for; empty for the default.
        result: The result of the data plane.

    Returns:
        The answer.
    """
    response = regression_pb2.RegressionResponse(model_spec=model_spec(version, signature_name))
    _fill_regression(response.result, result)
    return response


def multi_inference_response(
    version: ServedVersion, tasks: Sequence[Task], results: Sequence[Classification | Regression]
) -> inference_pb2.MultiInferenceResponse:
    """Make the answer of MultiInference.

    Args:
        version: that has answered.
        tasks: The tasks of the request.
        results: The results of the data plane, one per task.

    Returns:
        The answer.
    """
    response = inference_pb2.MultiInferenceResponse()
    for task, result in zip(tasks, results, strict=True):
        part = response.results.add(model_spec=model_spec(version, task.signature_name))
        if isinstance(result, Classification):
            _fill_classification(part.classification_result, result)
        else:
            _fill_regression(part.regression_result, result)
    return response


def _fill_classification(message: Any, result: Classification) -> None:
    num_classes = next((array.shape[1] for array in (result.labels, result.scores) if array is not None), 0)
    labels = result.labels.tolist() if result.labels is not None else [[""] * num_classes] * result.num_examples
    scores = result.scores.tolist() if result.scores is not None else [[0.0] * num_classes] * result.num_examples
    for row_labels, row_scores in zip(labels, scores, strict=True):
        part = message.classifications.add()
        for label, score in zip(row_labels, row_scores, strict=True):
            part.classes.add(label=_utf8(label), score=score)


def _utf8(label: bytes | str) -> str:
    """Return a label as protobuf's strings have to be."""
    return label if isinstance(label, str) else label.decode(errors="replace")


def _fill_regression(message: Any, result: Regression) -> None:
    for value in result.values.tolist():
        message.regressions.add(value=value)

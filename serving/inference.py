"""From requests of Predict, Classify, Regress and MultiInference to calls of the graph, and back.

Follows TensorFlow Serving's predict_util.cc, classifier.cc, regressor.cc and multi_inference.cc, errors included.
Nothing here waits: batching.py runs the calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kubetfx.arrays import Array
from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.serving.saved_model import SavedModel, Signature
from kubetfx.serving.status import Code, ServingError, invalid_argument
from kubetfx.serving.tensor_proto import array_dtype_name, dtype_name, shape_string

_CLASSIFY_METHOD = "tensorflow/serving/classify"
_REGRESS_METHOD = "tensorflow/serving/regress"
_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_OUTPUTS = "outputs"


@dataclass(frozen=True)
class GraphCall:
    """One call of a model's graph."""

    feeds: tuple[str, ...]
    """Names of the tensors that are fed."""
    arrays: Sequence[Array]
    """Their values, in the same order."""
    fetches: tuple[str, ...]
    """Names of the tensors that are fetched."""

    def run(self, model: SavedModel) -> list[Array]:
        """Run the call in this thread.

        Args:
            model: whose graph it is of.

        Returns:
            The arrays of `fetches`.

        Raises:
            ServingError: the graph failed.
        """
        return model.run(self.feeds, self.arrays, self.fetches)


@dataclass(frozen=True)
class Classification:
    """Result of Classify, (num_examples, num_classes) each. None where the model has no such output."""

    num_examples: int
    labels: Array | None
    """Object array of bytes."""
    scores: Array | None
    """float32."""


@dataclass(frozen=True)
class Regression:
    """Result of Regress, (num_examples,) float32."""

    values: Array


@dataclass(frozen=True)
class Task:
    """A part of MultiInference."""

    model_name: str
    signature_name: str
    """Empty: the default."""
    method: str
    """TensorFlow Serving's name of Classify or Regress."""


# Predict


def predict_call(
    signature: Signature, inputs: Mapping[str, Array], output_filter: Sequence[str] = ()
) -> tuple[GraphCall, tuple[str, ...]]:
    """Make the call of a Predict request.

    Args:
        signature: that the request asks for.
        inputs: an array by input.
        output_filter: outputs that the request asks for; empty for all.

    Returns:
        The call, and the names of the outputs that it fetches, in their order.

    Raises:
        ServingError: INVALID_ARGUMENT, the inputs or the filter do not fit the signature.
    """
    if inputs.keys() != signature.inputs.keys():
        _check_inputs(signature, inputs)
    specs = [signature.inputs[alias] for alias in inputs]
    for index, (array, spec) in enumerate(zip(inputs.values(), specs, strict=True)):
        if array.dtype != spec.array_dtype:
            raise invalid_argument(
                f"Expects arg[{index}] to be {dtype_name(spec.dtype)} but {array_dtype_name(array)} is provided"
            )
    aliases = _filtered(signature, output_filter) if output_filter else tuple(signature.outputs)
    call = GraphCall(
        tuple(spec.tensor_name for spec in specs),
        list(inputs.values()),
        tuple(signature.outputs[alias].tensor_name for alias in aliases),
    )
    return call, aliases


def _check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> None:
    sent, expected = set(inputs), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.has_defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({{{_join(sent)}}}) != "
            f"len({{{_join(expected)}}}). Sent extra: {{{_join(sent - expected)}}}. Missing but required: "
            f"{{{_join(expected - sent)}}}."
        )
    for alias in inputs:
        if alias not in signature.inputs:
            raise invalid_argument(
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set "
                f"{{{_join(expected)}}}."
            )


def _filtered(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
    seen = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(signature.outputs)}}}."
            )
        if alias in seen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(output_filter)


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


# Classify and Regress


def example_signature(model: SavedModel, name: str) -> Signature:
    """Return the signature that Classify or Regress asks for.

    Args:
        model: the model.
        name: The name of the signature; empty for the default.

    Raises:
        ServingError: INVALID_ARGUMENT, there is none of that name.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return model.signatures[name]


def classify_call(signature: Signature, examples: Sequence[bytes]) -> GraphCall:
    """Make the call of a Classify request.

    Args:
        signature: that the request asks for.
        examples: serialized tf.Examples.

    Returns:
        A call that fetches classes, scores or both, whatever the signature has.

    Raises:
        ServingError: INVALID_ARGUMENT, the signature is not a classifier's, or there are no examples.
    """
    feed, fetches = _classify_tensors(signature)
    return GraphCall((feed,), [_example_tensor(examples)], fetches)


def classification(signature: Signature, tensors: Sequence[Array], num_examples: int) -> Classification:
    """Make the result of a Classify request.

    Args:
        signature: that the request asks for.
        tensors: what `classify_call` fetched.
        num_examples: The number of examples of the request.

    Returns:
        Labels and scores, checked against the number of examples.

    Raises:
        ServingError: INVALID_ARGUMENT, the tensors are not a classifier's.
    """
    _, fetches = _classify_tensors(signature)
    by_name = dict(zip(fetches, tensors, strict=True))
    labels = _class_tensor(signature, _CLASSES, by_name, num_examples, np.dtype(object))
    scores = _class_tensor(signature, _SCORES, by_name, num_examples, np.dtype(np.float32))
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classification(num_examples, labels, scores)


def regress_call(signature: Signature, examples: Sequence[bytes]) -> GraphCall:
    """Make the call of a Regress request.

    Args:
        signature: that the request asks for.
        examples: serialized tf.Examples.

    Returns:
        A call that fetches the one output.

    Raises:
        ServingError: INVALID_ARGUMENT, the signature is not a regressor's, or there are no examples.
    """
    feed, fetches = _regress_tensors(signature)
    return GraphCall((feed,), [_example_tensor(examples)], fetches)


def regression(tensor: Array, num_examples: int) -> Regression:
    """Make the result of a Regress request.

    Args:
        tensor: what `regress_call` fetched: (num_examples,) or (num_examples, 1) float32.
        num_examples: The number of examples of the request.

    Returns:
        A value per example.

    Raises:
        ServingError: INVALID_ARGUMENT, the tensor is of another type or shape.
    """
    if not (tensor.ndim == 1 or (tensor.ndim == 2 and tensor.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{shape_string(tensor.shape)}"
        )
    if len(tensor) != num_examples:
        raise invalid_argument(f"Input batch size did not match output batch size: {num_examples} vs. {len(tensor)}")
    if tensor.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_data_type(tensor)}")
    return Regression(tensor.reshape(-1))


def _classify_tensors(signature: Signature) -> tuple[str, tuple[str, ...]]:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature.proto}")
    present = [alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs]
    if not present:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature '
            f"was: {signature.proto}"
        )
    fetches = tuple(signature.outputs[alias].tensor_name for alias in present)
    return signature.inputs[_INPUTS].tensor_name, fetches


def _regress_tensors(signature: Signature) -> tuple[str, tuple[str, ...]]:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature.proto}")
    if _OUTPUTS not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature.proto}")
    return signature.inputs[_INPUTS].tensor_name, (signature.outputs[_OUTPUTS].tensor_name,)


def _class_tensor(
    signature: Signature, alias: str, tensors: Mapping[str, Array], num_examples: int, dtype: Any
) -> Array | None:
    if alias not in signature.outputs:
        return None
    tensor = tensors[signature.outputs[alias].tensor_name]
    if tensor.ndim != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {shape_string(tensor.shape)}")
    if tensor.dtype != dtype:
        expected = "DT_FLOAT" if dtype == np.float32 else "DT_STRING"
        raise invalid_argument(f"Expected {alias} Tensor of {expected}. Got: {_data_type(tensor)}")
    if len(tensor) != num_examples:
        raise invalid_argument(f"Expected {alias} output batch size of {num_examples}. Got: {len(tensor)}")
    return tensor


def _example_tensor(examples: Sequence[bytes]) -> Array:
    if not examples:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(examples), dtype=object)
    array[:] = examples
    return array


def _data_type(tensor: Array) -> str:
    return f"DT_{array_dtype_name(tensor).upper()}"


# MultiInference


def multi_inference_call(model: SavedModel, tasks: Sequence[Task], examples: Sequence[bytes]) -> GraphCall:
    """Make the one call that answers several Classify and Regress tasks.

    Args:
        model: the model.
        tasks: The tasks of the request.
        examples: serialized tf.Examples, which every task is fed.

    Returns:
        A call that fetches what all tasks need, each tensor once.

    Raises:
        ServingError: a task does not fit the model, or the tasks do not fit each other.
    """
    feeds: set[str] = set()
    fetches: set[str] = set()
    seen: set[str] = set()
    for task in tasks:
        if not task.model_name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_name != tasks[0].model_name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        feed, task_fetches = _task_tensors(model, task)
        feeds.add(feed)
        fetches.update(task_fetches)
    array = _example_tensor(examples)
    return GraphCall(tuple(sorted(feeds)), [array] * len(feeds), tuple(sorted(fetches)))


def multi_inference_result(
    model: SavedModel, task: Task, call: GraphCall, tensors: Sequence[Array], num_examples: int
) -> Classification | Regression:
    """Make the result of one task of MultiInference.

    Args:
        model: the model.
        task: one of those that the call was made for.
        call: of `multi_inference_call`.
        tensors: what the call fetched.
        num_examples: The number of examples of the request.

    Returns:
        The task's own kind of result.

    Raises:
        ServingError: INVALID_ARGUMENT, the tensors do not fit the task.
    """
    signature = model.signatures[task.signature_name or DEFAULT_SIGNATURE]
    by_name = dict(zip(call.fetches, tensors, strict=True))
    _, fetches = _task_tensors(model, task)
    found = [by_name[name] for name in fetches]
    if task.method == _CLASSIFY_METHOD:
        return classification(signature, found, num_examples)
    return regression(found[0], num_examples)


def _task_tensors(model: SavedModel, task: Task) -> tuple[str, tuple[str, ...]]:
    name = task.signature_name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid_argument(f"Requested signature not found in model graph: {name}")
    if task.method == _CLASSIFY_METHOD:
        return _classify_tensors(model.signatures[name])
    if task.method == _REGRESS_METHOD:
        return _regress_tensors(model.signatures[name])
    raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method}")

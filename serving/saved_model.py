"""The one reader of SavedModels: loaded into a session as TensorFlow Serving does it, its signatures called by name.

    with SavedModel(path) as model:
        answers = model.signature("serving_default")({"x": np.array([1.0])})

What the inputs and outputs of a server's request mean is inference.py's to say; when a server loads and drops a model,
versions.py's; which part of a graph a signature needs, graph_parts.py's.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.saved_model import loader_impl

from kubetfx.arrays import Array
from kubetfx.artifacts import DEFAULT_SIGNATURE, SAVED_MODEL
from kubetfx.serving.graph_parts import inlined, keep_signatures
from kubetfx.serving.model_facts import ModelFacts, read_facts
from kubetfx.serving.status import Code, ServingError, from_tensorflow

TAGS = ("serve",)
"""Tags of the graph for serving: tensorflow/python/saved_model/tag_constants.py."""
_MAX_CALLABLES = 64
_CALLER_THREAD = -1


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a signature names."""

    tensor_name: str
    """Name in the graph, for example `serving_default_x:0`."""
    dtype: int
    """Number of TensorFlow's DataType."""
    array_dtype: Any
    """dtype of the arrays that may be fed to it: object for strings."""


@dataclass(frozen=True)
class Signature:
    """A signature of a SavedModel."""

    name: str
    inputs: Mapping[str, TensorSpec]
    """Tensors by input, in the order of the names."""
    outputs: Mapping[str, TensorSpec]
    """Tensors by output, in the order of the names."""
    input_dtypes: Mapping[str, int]
    """DataType by input."""
    has_defaults: bool
    """Whether inputs may be left out."""
    proto: meta_graph_pb2.SignatureDef
    """The signature as the SavedModel has it."""


class SavedModel:
    """A loaded SavedModel. Several threads may call it at once: it computes without the interpreter lock."""

    def __init__(
        self,
        path: Path,
        *,
        only: Sequence[str] | None = None,
        scheduling: Literal["caller", "pool"] = "caller",
        optimize_graph: bool = True,
    ) -> None:
        """Load a model.

        Args:
            path: folder of the SavedModel.
            only: names of the signatures that will be called. The rest of the graph is left out, which loads
                a model of a thousand columns in a tenth of the time. None: the whole, as a server needs it.
            scheduling: `caller`: the operations of a call run one after the other in its own thread, which halves the
                time of a small model. `pool`: independent operations run in parallel, which pays for large ones.
            optimize_graph: whether TensorFlow rewrites the graph when it is first called. For a graph of thousands of
                columns that takes seconds, more than it saves for a few thousand rows.

        Raises:
            ServingError: the folder holds no whole SavedModel, it lacks a signature of `only`, or its initialisation
                failed.
        """
        self.path = path
        self._scheduling = scheduling
        self._lock = threading.Lock()
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., list[Array]]] = {}
        self._gradients: dict[tuple[str, str, str], tuple[str, ...]] = {}
        config = config_pb2.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = not optimize_graph
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            # What tf.compat.v1.saved_model.load calls. A part of the graph is loaded by the same code as the whole.
            loader = loader_impl.SavedModelLoader(str(path))
            self._meta_graph = loader.get_meta_graph_def_from_tags(list(TAGS))
            if only is not None:
                if missing := [name for name in only if name not in self._meta_graph.signature_def]:
                    raise _no_signature(missing[0])
                keep_signatures(self._meta_graph, only)
            loader.load(self._session, list(TAGS))
        except ServingError:
            self.close()
            raise
        except Exception as error:  # a broken folder makes the loader raise anything
            self.close()
            raise _load_error(error, path) from error
        self.signatures: Mapping[str, Signature] = {
            name: _signature(name, proto)
            for name, proto in self._meta_graph.signature_def.items()
            if only is None or name in only
        }
        self.facts: ModelFacts | None = read_facts(path)

    def __enter__(self) -> Self:
        """Return the model itself; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the session."""
        self.close()

    def signature(self, name: str = DEFAULT_SIGNATURE) -> "SignatureCall":
        """Return a signature, to be called with arrays.

        Args:
            name: The name of the signature.

        Raises:
            ServingError: FAILED_PRECONDITION, there is none of that name.
        """
        if name not in self.signatures:
            raise _no_signature(name)
        return SignatureCall(self, self.signatures[name])

    def gradient(self, name: str, arrays: Mapping[str, Any], *, output: str, by: str, weights: Array) -> Array:
        """Compute the gradient of `sum(weights * output)` by an input of a signature.

        The signature's functions are inlined into a copy of the graph, on the same variables: TensorFlow cannot
        differentiate a function that was loaded.

        Args:
            name: The name of the signature.
            arrays: its inputs.
            output: name of the output.
            by: name of the input.
            weights: The weights, in the output's shape.

        Returns:
            The gradient, in the shape of the input `by`.

        Raises:
            ServingError: there is no such signature, or the graph failed.
        """
        signature = self.signature(name).signature
        with self._lock:
            if (name, output, by) not in self._gradients:
                self._gradients[name, output, by] = self._add_gradient(signature, output, by)
            *feeds, weights_feed, fetch = self._gradients[name, output, by]
        inputs = [_as_input(arrays[alias], spec) for alias, spec in signature.inputs.items()]
        (found,) = self.run([*feeds, weights_feed], [*inputs, weights], [fetch])
        return found

    def _add_gradient(self, signature: Signature, output: str, by: str) -> tuple[str, ...]:
        """Add the gradient to the graph; names of the tensors to feed, of the weights, and of the gradient."""
        graph_def = inlined(self._meta_graph, signature.proto)
        names = [spec.tensor_name for spec in signature.inputs.values()]
        with self._session.graph.as_default():
            wanted = [*names, signature.outputs[output].tensor_name]
            *inputs, result = tf.graph_util.import_graph_def(
                graph_def, return_elements=wanted, name=f"differentiable_{signature.name}"
            )
            weights = tf.compat.v1.placeholder(result.dtype, result.shape)
            (gradient,) = tf.gradients(result, inputs[list(signature.inputs).index(by)], weights)
        return tuple(tensor.name for tensor in (*inputs, weights, gradient))

    def run(self, feeds: Sequence[str], arrays: Sequence[Array], fetches: Sequence[str]) -> list[Array]:
        """Run the graph.

        Args:
            feeds: names of tensors.
            arrays: their values, in the same order, of exactly the tensors' types.
            fetches: names of tensors.

        Returns:
            The values of `fetches`.

        Raises:
            ServingError: the graph failed.
        """
        try:
            tensors = self._callable(tuple(feeds), tuple(fetches))(*arrays)
        except tf.errors.OpError as error:
            raise from_tensorflow(error) from None
        except (TypeError, ValueError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None
        return [tensor if type(tensor) is np.ndarray else _scalar_array(tensor) for tensor in tensors]

    def close(self) -> None:
        """Free the session. No call may be running.

        The graph is full of cycles, and holds the model's constants: a process that loads models repeatedly calls
        `gc.collect` afterwards.
        """
        self._callables.clear()
        if self._session is not None:
            self._session.close()
        self._session = None

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., list[Array]]:
        found = self._callables.get((feeds, fetches))
        if found is not None:
            return found
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        if self._scheduling == "caller":
            options.run_options.inter_op_thread_pool = _CALLER_THREAD
        with self._lock:
            if len(self._callables) >= _MAX_CALLABLES:  # clients choose the outputs
                self._callables.clear()
            # Session.make_callable, the public one, sends feeds through Session.run, which takes four times as long.
            made: Callable[..., list[Array]] = self._session._make_callable_from_options(options)
            self._callables[feeds, fetches] = made
        return made


@dataclass(frozen=True)
class SignatureCall:
    """A signature of a loaded model, as a function from arrays to arrays."""

    model: SavedModel
    signature: Signature

    def __call__(self, arrays: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Ask the model.

        Args:
            arrays: by input, each (rows, ...) of the shape that `signature.inputs` has for it, or what NumPy makes
                such an array of. Text is bytes, in arrays of objects.
            outputs: names of those that are wanted. None: all of them.

        Returns:
            Arrays by output.

        Raises:
            ServingError: INVALID_ARGUMENT, the arrays do not fit or the graph refuses them; otherwise as it failed.
        """
        if arrays.keys() != self.signature.inputs.keys():
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"The signature {self.signature.name!r} takes other inputs: {', '.join(self.signature.inputs)}. "
                f"Received: {', '.join(arrays)}.",
            )
        names = list(self.signature.outputs if outputs is None else outputs)
        specs = [self.signature.inputs[alias] for alias in arrays]
        answers = self.model.run(
            [spec.tensor_name for spec in specs],
            [_as_input(array, spec) for array, spec in zip(arrays.values(), specs, strict=True)],
            [self.signature.outputs[name].tensor_name for name in names],
        )
        return dict(zip(names, answers, strict=True))


def _as_input(values: Any, spec: TensorSpec) -> Array:
    """Convert values to the type of a signature's input.

    Args:
        values: an array, or what NumPy makes one of.
        spec: the input.

    Returns:
        The array; the same one if it has the type already.

    Raises:
        ServingError: INVALID_ARGUMENT, the values cannot be converted.
    """
    try:
        return np.asarray(values, spec.array_dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, str(error)) from None


def is_saved_model(path: Path) -> bool:
    """Return whether a folder has the file that makes it a SavedModel.

    Args:
        path: the folder; it need not exist.
    """
    return any((path / name).is_file() for name in (SAVED_MODEL, f"{SAVED_MODEL}txt"))


def read_signatures(path: Path) -> dict[str, Signature]:
    """Read the signatures of a SavedModel without loading it.

    Args:
        path: folder of the SavedModel.

    Returns:
        The signatures by name.

    Raises:
        ServingError: the folder holds no whole SavedModel for serving.
    """
    try:
        meta_graph = loader_impl.SavedModelLoader(str(path)).get_meta_graph_def_from_tags(list(TAGS))
    except Exception as error:  # a broken folder makes the loader raise anything
        raise _load_error(error, path) from error
    return {name: _signature(name, proto) for name, proto in meta_graph.signature_def.items()}


def _no_signature(name: str) -> ServingError:
    return ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')


def _spec(info: meta_graph_pb2.TensorInfo) -> TensorSpec:
    if info.dtype == types_pb2.DT_STRING:
        return TensorSpec(info.name, info.dtype, np.dtype(object))
    try:
        array_dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    except (TypeError, KeyError):  # resource, variant: of no use to a client
        array_dtype = None
    return TensorSpec(info.name, info.dtype, array_dtype)


def _scalar_array(value: Any) -> Array:
    """Return an array of a scalar: a session returns numbers as NumPy scalars, strings as bytes."""
    if not isinstance(value, bytes):
        return np.asarray(value)
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def _signature(name: str, proto: meta_graph_pb2.SignatureDef) -> Signature:
    inputs = {alias: _spec(info) for alias, info in sorted(proto.inputs.items())}
    return Signature(
        name=name,
        inputs=inputs,
        outputs={alias: _spec(info) for alias, info in sorted(proto.outputs.items())},
        input_dtypes={alias: spec.dtype for alias, spec in inputs.items()},
        has_defaults=bool(getattr(proto, "defaults", None)),
        proto=proto,
    )


def _load_error(error: Exception, path: Path) -> ServingError:
    if isinstance(error, tf.errors.OpError):
        return from_tensorflow(error)
    if not is_saved_model(path):
        return ServingError(
            Code.NOT_FOUND, f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"
        )
    return ServingError(Code.FAILED_PRECONDITION, f"The SavedModel at {path} cannot be loaded: {error}")

"""A SavedModel as TensorFlow Serving holds it: loaded into a session, its tables initialised, its signatures at hand.

What a signature's inputs and outputs mean is inference.py's to say; when a model is loaded and dropped, versions.py's.
"""

import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.saved_model import loader_impl

from kubetfx.serving.status import Code, ServingError, from_tensorflow

Array = np.ndarray[Any, Any]

DEFAULT_SIGNATURE = "serving_default"
_MAX_CALLABLES = 64
_CALLER_THREAD = -1


@dataclass(frozen=True)
class SessionOptions:
    """How a model's session runs."""

    intra_op_threads: int = 0
    """Threads that one operation may use. 0: one for each core."""
    inter_op_threads: int = 0
    """Threads that run operations beside each other, with `scheduling: pool`. 0: one for each core."""
    scheduling: Literal["caller", "pool"] = "caller"
    """`caller`: the operations of a call run one after the other in its own thread, which halves the time of a small
    model. `pool`: independent operations run beside each other, which pays for large ones."""
    tags: tuple[str, ...] = ("serve",)
    """Tags of the graph in the SavedModel."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a signature names."""

    tensor_name: str
    dtype: int
    """DataType."""
    array_dtype: Any
    """dtype of the arrays that may be fed to it: object for strings."""


@dataclass(frozen=True)
class Signature:
    """A signature of a SavedModel."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    input_dtypes: Mapping[str, int]
    """DataType by input."""
    has_defaults: bool
    """Whether inputs may be left out."""
    proto: meta_graph_pb2.SignatureDef


class SavedModel:
    """A loaded SavedModel. `run` may be called from several threads at once, and lets go of the interpreter lock."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        """Load a model.

        Raises:
            ServingError: the folder holds no whole SavedModel, or its initialisation failed.
        """
        self._options = options
        self._lock = threading.Lock()
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., list[Array]]] = {}
        graph = tf.Graph()
        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=options.intra_op_threads,
            inter_op_parallelism_threads=options.inter_op_threads,
            use_per_session_threads=options.inter_op_threads > 0,
        )
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, list(options.tags), str(path))
        except Exception as error:  # whatever a broken folder makes of the loader
            self.close()
            raise _load_error(error, path) from error
        self.signatures = {name: _signature(name, proto) for name, proto in meta_graph.signature_def.items()}

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
        """Free the session. No call may be running."""
        self._callables.clear()
        self._session.close()
        self._session = None
        gc.collect()  # a graph is full of cycles, and holds the model's constants

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., list[Array]]:
        found = self._callables.get((feeds, fetches))
        if found is not None:
            return found
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        if self._options.scheduling == "caller":
            options.run_options.inter_op_thread_pool = _CALLER_THREAD
        with self._lock:
            if len(self._callables) >= _MAX_CALLABLES:  # clients choose the outputs
                self._callables.clear()
            # Session.make_callable, the public one, sends feeds through Session.run, which takes four times as long.
            made: Callable[..., list[Array]] = self._session._make_callable_from_options(options)
            self._callables[feeds, fetches] = made
        return made


def is_saved_model(path: Path) -> bool:
    """Whether a folder has the file that makes it a SavedModel."""
    return any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt"))


def read_signatures(path: Path, options: SessionOptions) -> dict[str, Signature]:
    """The signatures of a SavedModel that is not loaded.

    Raises:
        ServingError: the folder holds no whole SavedModel with these tags.
    """
    try:
        meta_graph = loader_impl.SavedModelLoader(str(path)).get_meta_graph_def_from_tags(list(options.tags))
    except Exception as error:  # whatever a broken folder makes of the loader
        raise _load_error(error, path) from error
    return {name: _signature(name, proto) for name, proto in meta_graph.signature_def.items()}


def _spec(info: meta_graph_pb2.TensorInfo) -> TensorSpec:
    if info.dtype == types_pb2.DT_STRING:
        return TensorSpec(info.name, info.dtype, np.dtype(object))
    try:
        array_dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    except (TypeError, KeyError):  # resource, variant: of no use to a client
        array_dtype = None
    return TensorSpec(info.name, info.dtype, array_dtype)


def _scalar_array(value: Any) -> Array:
    """A session hands a scalar over by itself, a string as bytes."""
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

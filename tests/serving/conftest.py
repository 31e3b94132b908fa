"""Small SavedModels of every kind, and a running server over them."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kubetfx.serving.model_config import AllVersions, ModelConfig
from kubetfx.serving.rest import RestOptions
from kubetfx.serving.server import RunningServer, ServerOptions
from kubetfx.serving.versions import VersionOptions
from tests.ports import free_ports

POLL_SECONDS = 0.05
MAX_BODY_BYTES = 2**20


def save_half_plus(path: Path, addend: float) -> Path:
    """y = 0.5 x + addend, for x of any shape."""
    module = tf.Module()
    module.half = tf.Variable(0.5)
    module.addend = tf.Variable(addend)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * module.half + module.addend}

    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    return path


def save_kinds(path: Path) -> Path:  # noqa: C901 a signature each
    """A signature for each thing that a protocol has to get right."""
    module = tf.Module()
    feature_spec = {"x": tf.io.FixedLenFeature([], tf.float32)}

    def identity(dtype: tf.DType, name: str, output: str) -> tf.types.experimental.GenericFunction:
        @tf.function(input_signature=[tf.TensorSpec(None, dtype, name)])
        def call(value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {output: tf.identity(value)}

        return call

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, "number"),
            tf.TensorSpec([None], tf.int64, "count"),
            tf.TensorSpec([None], tf.string, "name"),
        ]
    )
    def mixed(number: tf.Tensor, count: tf.Tensor, name: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "product": number * tf.cast(count, tf.float32),
            "count": count,
            "greeting": tf.strings.join(["hello ", name]),
            "raw_bytes": name,
            "pair": tf.stack([number, -number], axis=1),
            "positive": number > 0,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def total(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def half_precision(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cast(x, tf.float16)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "index")])
    def lookup(index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Fails for an index that is not 0, 1 or 2."""
        return {"value": tf.gather(tf.constant([10.0, 20.0, 30.0]), index)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "steps")])
    def slow(steps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes a millisecond or so a step."""
        matrix = tf.eye(200)
        for _ in tf.range(tf.reduce_max(steps)):
            matrix = tf.matmul(matrix, matrix)
        return {"sum": tf.cast(steps, tf.float32) + tf.reduce_sum(matrix) * 0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.io.parse_example(inputs, feature_spec)["x"]
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1])
        return {"classes": classes, "scores": tf.stack([1 - x, x], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tf.io.parse_example(inputs, feature_spec)["x"] * 0.5 + 2}

    signatures = {
        "serving_default": mixed,
        "strings": identity(tf.string, "text", "text"),
        "bytes": identity(tf.string, "text", "text_bytes"),
        "floats": identity(tf.float32, "x", "y"),
        "doubles": identity(tf.float64, "x", "y"),
        "int8": identity(tf.int8, "x", "y"),
        "uint8": identity(tf.uint8, "x", "y"),
        "int32": identity(tf.int32, "x", "y"),
        "int64": identity(tf.int64, "x", "y"),
        "uint32": identity(tf.uint32, "x", "y"),
        "uint64": identity(tf.uint64, "x", "y"),
        "bools": identity(tf.bool, "x", "y"),
        "total": total,
        "half_precision": half_precision,
        "lookup": lookup,
        "slow": slow,
        "classify": classify,
        "regress": regress,
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
    file = path / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name in ("classify", "regress"):
        saved_model.meta_graphs[0].signature_def[name].method_name = f"tensorflow/serving/{name}"
    file.write_bytes(saved_model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def half_plus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """A saved half-plus-N by N; copy it before changing it."""
    folder = tmp_path_factory.mktemp("half_plus")
    made: dict[float, Path] = {}

    def path_of(addend: float) -> Path:
        if addend not in made:
            made[addend] = save_half_plus(folder / str(addend), addend)
        return made[addend]

    return path_of


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with a signature of each kind."""
    return save_kinds(tmp_path_factory.mktemp("kinds") / "1")


@pytest.fixture(scope="session")
def base_paths(
    tmp_path_factory: pytest.TempPathFactory, half_plus: Callable[[float], Path], kinds: Path
) -> dict[str, Path]:
    """Base paths of the models of `server`."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(half_plus(2.0), folder / "half_plus_two" / "123")
    shutil.copytree(half_plus(3.0), folder / "half_plus_two" / "124")
    shutil.copytree(kinds, folder / "kinds" / "1")
    return {name: folder / name for name in ("half_plus_two", "kinds")}


def options(*models: ModelConfig, **changes: object) -> ServerOptions:
    """Options of a server that looks for versions often, on ports that stay free when it has ended."""
    rest_port, grpc_port = free_ports(2)
    defaults = {
        "models": models,
        "rest_port": rest_port,
        "grpc_port": grpc_port,
        "versions": VersionOptions(
            poll_seconds=POLL_SECONDS, retry_seconds=0.2, allow_labels_for_unavailable_versions=True
        ),
        "rest": RestOptions(max_body_bytes=MAX_BODY_BYTES, body_timeout_seconds=2),
        "drain_seconds": 5,
    }
    return ServerOptions(**{**defaults, **changes})


@pytest.fixture(scope="session")
def server(base_paths: dict[str, Path]) -> Iterator[RunningServer]:
    """half_plus_two (versions 123, labelled stable, and 124) and kinds."""
    two = ModelConfig("half_plus_two", base_paths["half_plus_two"], AllVersions(), {"stable": 123})
    with RunningServer(options(two, ModelConfig("kinds", base_paths["kinds"]))) as running:
        yield running


@pytest.fixture(scope="session")
def rest(server: RunningServer) -> Iterator[httpx.Client]:
    """A client of `server`'s REST API."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.rest_port}", timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A channel to `server`'s gRPC API."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as made:
        yield made


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true after {seconds} s: {condition}")
        time.sleep(0.01)

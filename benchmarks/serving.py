"""The embedded server against two peers and against a bare session call; a table, and whether each figure is reached.

    python -m benchmarks.serving SAVED_MODEL [--row JSON] [--seconds 5] [--soak-requests 200000 --soak-swaps 50]

Load comes from a second process (benchmarks/load.py). The top of each peer's file says what it is.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from kubetfx.serving.saved_model import SavedModel

ROOT = Path(__file__).parents[1]
PENGUIN = {
    "island": "Biscoe",
    "year": 2007,
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "body_mass_g": 3750,
    "flipper_length_mm": 181,
    "sex": "male",
}
_MODEL = "bench"
_PATH = f"/v1/models/{_MODEL}:predict"
_START_SECONDS = 90


@dataclass(frozen=True)
class Figure:
    """Something measured against something asked for."""

    name: str
    value: float
    bound: float
    is_reached: bool

    def __str__(self) -> str:
        verdict = "reached" if self.is_reached else "MISSED"
        return f"| {self.name} | {self.value:.2f} | {self.bound:g} | {verdict} |"


@dataclass(frozen=True)
class Bodies:
    """Files with requests."""

    rest_1: Path
    rest_64: Path
    grpc_1: Path
    grpc_64: Path


def main() -> int:
    """Measure and print.

    Returns:
        0 if every figure is reached, 1 otherwise.
    """
    parsed = _arguments()
    row = json.loads(parsed.row)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        shutil.copytree(parsed.saved_model, base / "1")
        model = SavedModel(base / "1", scheduling="caller")
        pooled = SavedModel(base / "1", scheduling="pool")
        bodies = _write_bodies(model, row, Path(folder))
        print(f"{os.cpu_count()} cores, {platform.machine()}, TensorFlow {tf.__version__}\n")
        bare = {rows: _bare_call(model, row, rows) for rows in (1, 64)}
        print(f"bare session call, 1 row: {bare[1]:.3f} ms, 64 rows: {bare[64]:.3f} ms (p50)")
        print(f"the same over TensorFlow's thread pool: {_bare_call(pooled, row, 1):.3f} ms, ", end="")
        print(f"{_bare_call(pooled, row, 64):.3f} ms\n")
        figures = _compare(base, bodies, bare, parsed.seconds)
        if parsed.soak_requests:
            figures.append(_soak(base, bodies, parsed.soak_requests, parsed.soak_swaps))
    print("\n| figure | measured | asked for | |\n|---|---|---|---|")
    print(*figures, sep="\n")
    return 0 if all(figure.is_reached for figure in figures) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("saved_model", type=Path)
    parser.add_argument("--row", default=json.dumps(PENGUIN), help="a row of the model, as JSON; default: a penguin")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--soak-requests", type=int, default=0, help="requests for the memory figure; 0: leave it out")
    parser.add_argument("--soak-swaps", type=int, default=50)
    return parser.parse_args()


def _compare(base: Path, bodies: Bodies, bare: dict[int, float], seconds: float) -> list[Figure]:
    """Measure one server at a time, so that each has the machine to itself."""
    model = str(base / "1")
    print("| server | rows | connections | requests/s | p50 ms | p99 ms | failures |\n|---|---|---|---|---|---|---|")
    with _peer("keras_predict") as port:
        keras = _measure("keras predict, REST", "rest", port, bodies.rest_1, 32, seconds)
    stripped = {}
    for scheduling in ("loop", "threads"):
        with _peer("stripped", model, scheduling=scheduling) as port:
            name = f"stripped Starlette, call in the {scheduling}"
            stripped[scheduling] = _measure(name, "rest", port, bodies.rest_1, 32, seconds)
    best = max(result["requests_per_second"] for result in stripped.values())
    with _server(base) as (rest, grpc, _):
        plain = _measure("kubetfx, REST", "rest", rest, bodies.rest_1, 32, seconds)
        over_grpc = _measure("kubetfx, gRPC", "grpc", grpc, bodies.grpc_1, 32, seconds)
        single = _measure("kubetfx, REST", "rest", rest, bodies.rest_1, 1, seconds)
        _measure("kubetfx, gRPC", "grpc", grpc, bodies.grpc_1, 1, seconds)
        rows_64 = _measure("kubetfx, REST, 64 rows", "rest", rest, bodies.rest_64, 1, seconds, rows=64)
        _measure("kubetfx, gRPC, 64 rows", "grpc", grpc, bodies.grpc_64, 1, seconds, rows=64)
    with _server(base, "--enable-batching") as (rest, grpc, _):
        batched = _measure("kubetfx, REST, batching", "rest", rest, bodies.rest_1, 32, seconds)
        batched_grpc = _measure("kubetfx, gRPC, batching", "grpc", grpc, bodies.grpc_1, 32, seconds)
    rate = "requests_per_second"
    return [
        _at_least("REST / keras predict", plain[rate] / keras[rate], 80),
        _at_least("gRPC / keras predict", max(over_grpc[rate], batched_grpc[rate]) / keras[rate], 80),
        _at_most("REST p99 / keras p50", plain["p99_ms"] / keras["p50_ms"], 0.5),
        _at_least("REST / stripped", plain[rate] / best, 0.8),
        _at_least("REST with batching / stripped", batched[rate] / best, 1.5),
        _at_most("REST p50 over a bare call, 1 connection, ms", single["p50_ms"] - bare[1], 1.0),
        _at_most("REST p50 / bare call, 64 rows", rows_64["p50_ms"] / bare[64], 1.3),
    ]


def _at_least(name: str, value: float, bound: float) -> Figure:
    return Figure(name, value, bound, value >= bound)


def _at_most(name: str, value: float, bound: float) -> Figure:
    return Figure(name, value, bound, value <= bound)


def _soak(base: Path, bodies: Bodies, requests: int, swaps: int) -> Figure:
    """Growth of the server's memory over requests and swaps, after a first fifth of them."""
    with _server(base, "--file-system-poll-wait-seconds=0.2") as (rest, _, pid):
        resident: list[float] = []
        version = 1
        for part in range(5):
            for _ in range(swaps // 5):
                version = _swap(base, version, rest)
            _load("rest", rest, bodies.rest_1, 32, 3600, max_requests=requests // 5)
            resident.append(psutil.Process(pid).memory_info().rss / 2**20)
            print(f"soak, part {part + 1} of 5: {resident[-1]:.0f} MiB")
    return _at_most(f"MiB more after {requests} requests and {swaps} swaps", resident[-1] - resident[0], 20)


def _swap(base: Path, version: int, port: int) -> int:
    aside = base / ".aside"
    shutil.copytree(base / str(version), aside)
    aside.rename(base / str(version + 1))
    _wait_for(lambda: _state(port, version + 1) == "AVAILABLE")
    shutil.rmtree(base / str(version))
    return version + 1


def _state(port: int, version: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/{_MODEL}/versions/{version}") as response:
            return str(json.load(response)["model_version_status"][0]["state"])
    except urllib.error.HTTPError:
        return ""


def _measure(
    name: str, protocol: str, port: int, body: Path, connections: int, seconds: float, *, rows: int = 1
) -> dict[str, float]:
    _load(protocol, port, body, connections, min(2, seconds))  # warm
    result = _load(protocol, port, body, connections, seconds)
    print(
        f"| {name} | {rows} | {connections} | {result['requests_per_second']:.0f} | {result['p50_ms']:.2f} | "
        f"{result['p99_ms']:.2f} | {result['failures']:.0f} |",
        flush=True,
    )
    return result


def _load(
    protocol: str, port: int, body: Path, connections: int, seconds: float, *, max_requests: int = 10**9
) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.load", protocol, str(port), f"--body={body}", f"--path={_PATH}"]
    command += [f"--connections={connections}", f"--seconds={seconds}", f"--max-requests={max_requests}"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output)
    return result


@contextlib.contextmanager
def _server(base: Path, *arguments: str) -> Iterator[tuple[int, int, int]]:
    rest, grpc = _free_port(), _free_port()
    command = ["kubetfx", "serve", f"--model-name={_MODEL}", f"--model-base-path={base}", f"--rest-port={rest}"]
    with _process([*command, f"--grpc-port={grpc}", *arguments], rest) as pid:
        yield rest, grpc, pid


@contextlib.contextmanager
def _peer(name: str, *arguments: str, scheduling: str = "") -> Iterator[int]:
    port = _free_port()
    command = [f"benchmarks.peers.{name}", *arguments, str(port), *([scheduling] if scheduling else [])]
    with _process(command, port):
        yield port


@contextlib.contextmanager
def _process(command: Sequence[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(lambda: process.poll() is not None or _is_listening(port))
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {_START_SECONDS} s")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _columns(model: SavedModel, row: dict[str, Any], rows: int) -> dict[str, np.ndarray[Any, Any]]:
    columns = {}
    for name, spec in model.signatures["serving_default"].inputs.items():
        value = row[name].encode() if isinstance(row[name], str) else row[name]
        columns[name] = np.array([value] * rows, tf.as_dtype(spec.dtype).as_numpy_dtype)
    return columns


def _write_bodies(model: SavedModel, row: dict[str, Any], folder: Path) -> Bodies:
    paths = []
    for rows in (1, 64):
        rest = folder / f"rest_{rows}"
        rest.write_text(json.dumps({"instances": [row] * rows}))
        request = predict_pb2.PredictRequest()
        request.model_spec.name = _MODEL
        for name, column in _columns(model, row, rows).items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
        grpc = folder / f"grpc_{rows}"
        grpc.write_bytes(request.SerializeToString())
        paths += [rest, grpc]
    return Bodies(rest_1=paths[0], grpc_1=paths[1], rest_64=paths[2], grpc_64=paths[3])


def _bare_call(model: SavedModel, row: dict[str, Any], rows: int) -> float:
    """Return the median in milliseconds."""
    signature = model.signatures["serving_default"]
    feeds = [spec.tensor_name for spec in signature.inputs.values()]
    fetches = [spec.tensor_name for spec in signature.outputs.values()]
    columns = _columns(model, row, rows)
    arrays = [columns[name] for name in signature.inputs]
    times = []
    for _ in range(2000):
        started = time.perf_counter()
        model.run(feeds, arrays, fetches)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2] * 1e3


if __name__ == "__main__":
    sys.exit(main())

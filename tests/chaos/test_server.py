"""The server under what clients and pushes do to it, in a process of its own.

KUBETFX_CONNECTIONS=10000 KUBETFX_SWAPS=500 KUBETFX_REQUESTS=1000000 make chaos-test
"""

import contextlib
import json
import os
import resource
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.chaos.proofs import Proofs, number_of
from tests.chaos.served_process import GOOD, PREDICT, ServedProcess, figures_of
from tests.serving.conftest import save_half_plus, wait_until

pytestmark = pytest.mark.chaos

BAD = {
    "not JSON": (b'{"instances": [', PREDICT),
    "another type": (b'{"instances": ["two"]}', PREDICT),
    "no such model": (GOOD, "/v1/models/other:predict"),
    "no such signature": (b'{"signature_name": "other", "instances": [2.0]}', PREDICT),
    "nested too deep": (b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", PREDICT),
}
ROUNDS = 5
SECONDS = 3
CONNECTIONS_OF_A_LOAD = 8
RESERVED_FILES = 300


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The base path of a model with one version."""
    save_half_plus(tmp_path / "served" / "1", 2.0)
    return tmp_path / "served"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file with a good request."""
    (tmp_path / "good").write_bytes(GOOD)
    return tmp_path / "good"


@contextlib.contextmanager
def many_files() -> Iterator[int]:
    """As many open files as the system permits this process; how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_that_are_idle_dripping_or_do_not_read_hold_nobody_up(
    base: Path, good: Path, tmp_path: Path, proofs: Proofs
) -> None:
    wanted = number_of("KUBETFX_CONNECTIONS", 1000)
    large = json.dumps({"instances": [0.125] * 50_000}).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: ".encode()
    begins = {
        "idle": b"",
        "dripping": head + b"20\r\n\r\n{",
        "not reading": head + b"%d\r\n\r\n%s" % (len(large), large),
    }
    with many_files() as permitted, ServedProcess(base, tmp_path / "log") as server, contextlib.ExitStack() as stack:
        wanted = min(wanted, permitted - RESERVED_FILES)
        alone = figures_of(server.load(good, "--connections", "4", "--seconds", str(SECONDS)))
        before = server.process.num_fds()
        memory = server.memory_mib
        for number in range(wanted):
            # One in a hundred does not read its answer of half a megabyte; the others are idle, or drip.
            kind = "not reading" if number % 100 == 0 else ("idle", "dripping")[number % 2]
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.rest_port), timeout=60))
            client.sendall(begins[kind])
        opened = server.process.num_fds() - before
        beside = figures_of(server.load(good, "--connections", "4", "--seconds", str(SECONDS)))
        per_connection = (server.memory_mib - memory) * 1024 / wanted
        stack.close()
        wait_until(lambda: server.process.num_fds() <= before + 5, seconds=60)
        assert server.is_well()
    assert opened >= 0.95 * wanted  # those whose body is given up after half a minute are closed
    assert beside["failures"] == alone["failures"] == 0
    assert beside["p99_ms"] < 10 * alone["p99_ms"] + 100
    proofs.add(
        "The server",
        done="connections that are idle, drip, or do not read their answers",
        times=wanted,
        result=f"{opened:,} were open at once, {per_connection:.0f} KiB each. {beside['requests']:,} good requests "
        f"beside them were answered and none failed; p99 {beside['p99_ms']:.1f} ms, and {alone['p99_ms']:.1f} ms "
        "without them. All files were closed afterwards.",
    )


def test_connections_beyond_the_limit_of_files_leave_the_server_well(base: Path, tmp_path: Path) -> None:
    with ServedProcess(base, tmp_path / "log", max_files=200) as server, contextlib.ExitStack() as stack:
        for _ in range(400):
            client = stack.enter_context(socket.socket())
            client.settimeout(5)
            client.connect(("127.0.0.1", server.rest_port))
        time.sleep(1)
        busy = server.process.cpu_percent(2)
        stack.close()
        wait_until(server.is_well, seconds=60)
        assert busy < 50, f"{busy} % of a core, to accept what cannot be accepted"
    assert (tmp_path / "log").stat().st_size < 200_000


@pytest.mark.parametrize("kind", BAD)
def test_bad_requests_cost_good_ones_no_more_than_good_ones_would(
    kind: str, base: Path, good: Path, tmp_path: Path, proofs: Proofs
) -> None:
    content, path = BAD[kind]
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    options = ("--connections", str(CONNECTIONS_OF_A_LOAD), "--seconds", str(SECONDS))
    ratios, numbers, failures = [], [], 0
    with ServedProcess(base, tmp_path / "log") as server:
        figures_of(server.load(good, *options))
        for _ in range(ROUNDS):
            loads = [server.load(good, *options), server.load(good, *options)]
            beside_good, _ = [figures_of(load) for load in loads]
            loads = [server.load(good, *options), server.load(bad, *options, path=path)]
            beside_bad, flood = [figures_of(load) for load in loads]
            ratios.append(beside_bad["p99_ms"] / beside_good["p99_ms"])
            failures += beside_bad["failures"] + flood["requests"]
            numbers.append(flood["failures"])
        assert server.is_well()
    assert failures == 0  # each good one was answered, and no bad one as if it were good
    assert min(numbers) > 0
    assert statistics.median(ratios) <= 2, ratios
    proofs.add(
        "The server",
        done=f"a flood of bad requests beside good ones: {kind}",
        times=sum(numbers),
        result=f"No good request failed. Their p99 is {statistics.median(ratios):.2f} times that beside as many good "
        "ones.",
    )


class Clients:
    """Ask over both protocols, without a pause, and remember what failed."""

    def __init__(self, server: ServedProcess) -> None:
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target) for target in (self._over_rest, self._over_grpc)]
        self.failures: list[str] = []
        self.answered = [0, 0]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _over_rest(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._ended.wait(0.005):
                answer = client.post(f"{self._server.url}:predict", content=GOOD)
                self.failures.extend([] if answer.status_code == 200 else [answer.text])
                self.answered[0] += 1

    def _over_grpc(self) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([2], np.float32)))
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._ended.wait(0.005):
                try:
                    stub.Predict(request, timeout=60)
                except grpc.RpcError as error:
                    self.failures.append(str(error))
                self.answered[1] += 1


def swap(server: ServedProcess, base: Path, version: int) -> None:
    """Let a version take over from the one before, which is removed."""
    shutil.copytree(base / str(version - 1), base / ".aside")
    (base / ".aside").rename(base / str(version))
    wait_until(lambda: available(server) == [version], seconds=60)
    shutil.rmtree(base / str(version - 1))


def test_swaps_of_versions_fail_no_request_and_leave_nothing(base: Path, tmp_path: Path, proofs: Proofs) -> None:
    swaps = number_of("KUBETFX_SWAPS", 50)
    warm = swaps // 5
    with ServedProcess(base, tmp_path / "log") as server:
        clients = Clients(server)
        for version in range(2, warm + 2):
            swap(server, base, version)
        memory, files, running = server.memory_mib, server.process.num_fds(), server.process.num_threads()
        for version in range(warm + 2, swaps + 2):
            swap(server, base, version)
        clients.end()
        grown = server.memory_mib - memory
        assert server.process.num_fds() <= files + 5
        assert server.process.num_threads() <= running + 5
    assert clients.failures == []
    assert grown / (swaps - warm) < 0.5
    proofs.add(
        "The server",
        done="new versions, each of which takes over from the one before",
        times=swaps,
        result=f"{clients.answered[0]:,} requests over REST and {clients.answered[1]:,} over gRPC were answered "
        f"meanwhile, and none failed. Memory grew by {grown * 1024 / (swaps - warm):.0f} KiB per version; open files "
        "and threads did not.",
    )


def available(server: ServedProcess) -> list[int]:
    statuses: list[dict[str, Any]] = httpx.get(server.url, timeout=60).json()["model_version_status"]
    return [int(status["version"]) for status in statuses if status["state"] == "AVAILABLE"]


def test_many_requests_leave_nothing(base: Path, good: Path, tmp_path: Path, proofs: Proofs) -> None:
    requests = number_of("KUBETFX_REQUESTS", 20_000)
    with ServedProcess(base, tmp_path / "log") as server:
        options = ("--connections", "16", "--seconds", "36000", "--max-requests")
        figures_of(server.load(good, *options, str(requests // 10)))
        memory, files = server.memory_mib, server.process.num_fds()
        found = figures_of(server.load(good, *options, str(requests - requests // 10)))
        grown = server.memory_mib - memory
        assert server.process.num_fds() <= files + 5
    assert found["failures"] == 0
    assert grown < 20
    proofs.add(
        "The server",
        done="requests over 16 connections",
        times=requests,
        result=f"None failed. {found['requests_per_second']:,.0f} per second, p99 {found['p99_ms']:.1f} ms. Memory "
        f"grew by {grown:.1f} MiB after the first tenth.",
    )


def test_requests_forge_no_line_of_the_log(base: Path, tmp_path: Path, proofs: Proofs) -> None:
    forged = "2026-12-01 00:00:00,000 INFO model bank version 7: available"
    written = [f"x\n{forged}", f"x\r\n{forged}", f"\x1b[2K\r{forged}", f"x\u2028{forged}", f"x\x85{forged}"]
    with ServedProcess(base, tmp_path / "log", "--access-log") as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for name in written:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = name
                with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                    stub.Predict(request, timeout=60)
        for name in written:
            for raw in (
                name.encode(),
                name.encode("latin-1", "replace"),
                httpx.QueryParams({"q": name}).__str__().encode(),
            ):
                with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as client:
                    client.sendall(b"GET /v1/models/" + raw.replace(b" ", b"\t") + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65_536):
                        pass
        assert server.is_well()
    log = (tmp_path / "log").read_text(encoding="utf-8")
    lines = log.split(os.linesep)
    assert sum("GRPC predict" in line or "GRPC Predict" in line for line in lines) >= len(written)
    assert not [line for line in log.splitlines() if line.startswith(forged[:30])]
    assert not [character for character in log if ord(character) < 32 and character != "\n"]
    proofs.add(
        "The server",
        done="names of models and paths with line ends and escape sequences, over gRPC and REST",
        times=4 * len(written),
        result="Each is in one line of the log, escaped.",
    )

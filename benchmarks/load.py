"""Load on a server over REST or gRPC, as lean as Python allows: requests are made once and sent as bytes.

    python -m benchmarks.load rest PORT --path /v1/models/m:predict --body FILE --connections 32 --seconds 5
    python -m benchmarks.load grpc PORT --body FILE --connections 32 --seconds 5

Prints one JSON object: requests, failures, requests_per_second, p50_ms, p99_ms.
"""

import argparse
import asyncio
import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_CONNECTIONS_PER_CHANNEL = 8


@dataclass
class Load:
    """What is sent, for how long, and what came of it."""

    body: bytes
    seconds: float
    max_requests: int
    latencies: list[float] = field(default_factory=list)
    failures: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def is_over(self) -> bool:
        """Whether no more requests are to be sent."""
        if len(self.latencies) + self.failures >= self.max_requests:
            return True
        return time.perf_counter() - self.started >= self.seconds

    def report(self) -> dict[str, float]:
        """Return the figures."""
        elapsed = time.perf_counter() - self.started
        latencies = sorted(self.latencies) or [float("nan")]
        return {
            "requests": len(self.latencies),
            "failures": self.failures,
            "requests_per_second": len(self.latencies) / elapsed,
            "p50_ms": latencies[len(latencies) // 2] * 1e3,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        }


class _Connection(asyncio.Protocol):
    """Sends the request, waits for the answer, and so on."""

    def __init__(self, request: bytes, load: Load, done: Callable[[], None]) -> None:
        self._request = request
        self._load = load
        self._done = done
        self._transport: Any = None
        self._received = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator or len(rest) < _content_length(head):
            return
        if b" 200 " in head[:16]:
            self._load.latencies.append(time.perf_counter() - self._sent)
        else:
            self._load.failures += 1
        self._received = b""
        if self._load.is_over:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if error or self._received:
            self._load.failures += 1
        self._done()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


async def over_rest(port: int, path: str, connections: int, load: Load) -> None:
    """Keep `connections` requests under way over HTTP/1.1."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(load.body)}\r\n\r\n"
    )
    request = head.encode() + load.body
    loop = asyncio.get_running_loop()
    endings = []
    for _ in range(connections):
        ending = loop.create_future()
        endings.append(ending)
        await loop.create_connection(
            functools.partial(_Connection, request, load, functools.partial(ending.set_result, None)),
            "127.0.0.1",
            port,
        )
    await asyncio.gather(*endings)


async def over_grpc(port: int, connections: int, load: Load) -> None:
    """Keep `connections` requests under way over gRPC."""
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(max(1, connections // _CONNECTIONS_PER_CHANNEL))
    ]

    async def ask(channel: Any) -> None:
        call = channel.unary_unary(_PREDICT)
        while not load.is_over:
            sent = time.perf_counter()
            try:
                await call(load.body, timeout=60)
            except grpc.RpcError:
                load.failures += 1
            else:
                load.latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*[ask(channels[index % len(channels)]) for index in range(connections)])
    for channel in channels:
        await channel.close()


def main() -> None:
    """Parse, load, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("protocol", choices=("rest", "grpc"))
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/")
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--max-requests", type=int, default=10**9)
    parsed = parser.parse_args()

    async def run() -> Load:
        load = Load(parsed.body.read_bytes(), parsed.seconds, parsed.max_requests)
        if parsed.protocol == "rest":
            await over_rest(parsed.port, parsed.path, parsed.connections, load)
        else:
            await over_grpc(parsed.port, parsed.connections, load)
        return load

    print(json.dumps(uvloop.run(run()).report()))


if __name__ == "__main__":
    main()

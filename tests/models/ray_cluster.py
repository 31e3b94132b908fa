"""A real Ray cluster on this machine: a head, and a node, as processes of their own."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import free_ports

START_SECONDS = 120


@dataclass
class RayCluster:
    """What runs."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """For a driver on this machine."""
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> None:
        """A process that stays, which is a node."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2", *arguments]
        quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
        with (self.folder / f"node-{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True)
            )


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A head and a node with two cores each."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # the paths of its sockets may not be long
    (port,) = free_ports(1)
    cluster = RayCluster(folder, port)
    try:
        head = ("--head", f"--port={port}", f"--temp-dir={folder}")
        cluster.start(*head, "--include-dashboard=false", "--object-store-memory=80000000")
        _wait(port)
        cluster.start(f"--address={cluster.address}", "--object-store-memory=80000000")
        yield cluster
    finally:
        for process in reversed(cluster.processes):
            process.terminate()
        for process in cluster.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "Ray's head did not start"
            time.sleep(0.2)
        else:
            return

"""`kubetfx serve` in a process of its own, how much it uses, and load on it from other processes."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from tests.e2e.project import REPOSITORY, command, environment
from tests.ports import free_ports

PREDICT = "/v1/models/m:predict"
GOOD = b'{"instances": [2.0]}'


class ServedProcess:
    """A server of the versions in a folder, as the model `m`."""

    def __init__(self, base_path: Path, log: Path, *flags: str, max_files: int | None = None) -> None:
        """Prepare; nothing runs yet.

        Args:
            base_path: folder of versions.
            log: file for what the server says.
            flags: of `kubetfx serve`.
            max_files: limit of the files that it may open. Default: this process'.
        """
        self.rest_port, self.grpc_port = free_ports(2)
        self.log = log
        ports = ["--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port)]
        served = ["--model-name", "m", "--model-base-path", str(base_path)]
        self._command = command("serve", *served, *ports, "--file-system-poll-wait-seconds", "0.05", *flags)
        self._max_files = max_files

    def __enter__(self) -> Self:
        """Start it, and wait until it answers."""
        with self.log.open("w") as output:
            limit = self._limit_files if self._max_files else None
            process = subprocess.Popen(self._command, stderr=output, env=environment(), preexec_fn=limit)  # noqa: PLW1509
        self.process = psutil.Process(process.pid)
        self._popen = process
        try:
            self._wait_until_served()
        except BaseException:  # nobody else would end it
            process.kill()
            process.wait(60)
            raise
        return self

    def _wait_until_served(self) -> None:
        deadline = time.monotonic() + 120
        while "REST at" not in self.log.read_text():
            assert self._popen.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it; it has not ended before."""
        is_up = self._popen.poll() is None
        self._popen.terminate()
        self._popen.wait(60)
        assert is_up, self.log.read_text()

    def _limit_files(self) -> None:
        assert self._max_files
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._max_files, self._max_files))

    @property
    def url(self) -> str:
        """Of the model."""
        return f"http://127.0.0.1:{self.rest_port}/v1/models/m"

    @property
    def memory_mib(self) -> float:
        """Resident memory."""
        return float(self.process.memory_info().rss) / 2**20

    def is_well(self) -> bool:
        """Whether a good request is answered."""
        return httpx.post(f"{self.url}:predict", content=GOOD, timeout=60).status_code == 200

    def load(self, body: Path, *options: str, path: str = PREDICT) -> "subprocess.Popen[str]":
        """Begin to send requests over REST, from a process of its own.

        Args:
            body: file with what is sent.
            options: of benchmarks.load.
            path: where to.
        """
        words = ["rest", str(self.rest_port), "--path", path, "--body", str(body), *options]
        line = [sys.executable, "-m", "benchmarks.load", *words]
        return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment(), cwd=REPOSITORY)


def figures_of(load: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for the end of a load, and return its figures."""
    output, _ = load.communicate(timeout=3600)
    assert load.returncode == 0
    figures: dict[str, Any] = json.loads(output)
    return figures

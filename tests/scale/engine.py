"""A real engine on this machine: Prism, and pools of workers that have the libraries, and no kubetfx."""

import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from kubetfx.engine.jobs import listens
from tests.ports import free_ports

BEAM = importlib.metadata.version("apache-beam")
CACHE = Path.home() / ".cache" / "kubetfx" / f"beam-{BEAM}"
SOURCES = {"prism": "go/cmd/prism", "container": "python/container"}
"""Programs of Beam in Go, and where they are in its module."""
BOOT = Path(__file__).parents[2] / "scripts" / "beam_boot.sh"
LIBRARIES = Path(grpc.__file__).parents[1]
START_SECONDS = 120.0


def program(name: str) -> Path:
    """A program of Beam's, built when it is first asked for, of the version that is installed."""
    path = CACHE / name
    if not path.is_file():
        if shutil.which("go") is None:
            pytest.skip(
                f"needs Go, to build Beam's {name} (https://go.dev/dl). Or put one there that was built elsewhere by "
                f"`go install github.com/apache/beam/sdks/v2/{SOURCES[name]}@v{BEAM}`: {path}"
            )
        module = f"github.com/apache/beam/sdks/v2/{SOURCES[name]}@v{BEAM}"
        subprocess.run(["nice", "go", "install", module], env={**os.environ, "GOBIN": str(CACHE)}, check=True)
    return path


def wait_until_listening(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not listens(f"localhost:{port}"):
        assert time.monotonic() < deadline, f"nobody listens at {port}"
        time.sleep(0.2)


@dataclass
class Process:
    """What was started here, with all that it starts."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def workers(self) -> list[int]:
        """For a pool: the processes of its workers, which run what Beam's boot program starts."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if f"{self.log.parent}/beam-worker-".encode() in command and b"worker.py" in command:
                    found.append(int(folder.name))
        return found

    def kill(self) -> None:
        """At once, as a machine goes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def started(command: Sequence[str | Path], port: int, log: Path, environment: dict[str, str]) -> Iterator[Process]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=output,
            stderr=output,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    running = Process(port, log, process)
    try:
        wait_until_listening(port)
        yield running
    finally:
        running.kill()


def worker_environment(folder: Path) -> Path:
    """An environment with pip and every library of this one, in which there is no kubetfx."""
    base = Path(sys.base_prefix) / "bin" / "python3.11"
    subprocess.run([base, "-m", "venv", folder], check=True)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    (site_packages / "libraries.pth").write_text(f"{LIBRARIES}\n")  # the .pth files in there do not count
    return folder


@contextlib.contextmanager
def prism(folder: Path) -> Iterator[Process]:
    (port,) = free_ports(1)
    command: list[str | Path] = [
        program("prism"),
        "--job_port",
        str(port),
        "--web_port",
        *map(str, free_ports(1)),
        "--log_kind",
        "text",
    ]
    with started(command, port, folder / "prism.log", dict(os.environ)) as running:
        yield running


@contextlib.contextmanager
def pool(
    folder: Path,
    environment: Path,
    *,
    python: Path | None = None,
    boots: bool = True,
    hidden: Path | None = None,
    full: Path | None = None,
    more: dict[str, str] | None = None,
) -> Iterator[Process]:
    """A pool of workers.

    Args:
        folder: of its log and of its workers' code.
        environment: that it and its workers have.
        python: another interpreter, which its workers have.
        boots: whether it unpacks what jobs ship.
        hidden: folder that it does not see.
        full: folder to which it can write but a page, as on a full disk.
        more: variables of its environment.
    """
    folder.mkdir()
    (port,) = free_ports(1)
    command: list[str | Path] = [environment / "bin" / "python", "-m", "apache_beam.runners.worker.worker_pool_main"]
    command.append(f"--service_port={port}")
    if boots:
        command.append(f"--container_executable={BOOT}")
    if hidden:
        command = _behind(f"mount -t tmpfs tmpfs {hidden}", command)
    if full:
        disk = folder / "disk"
        disk.mkdir()
        layers = f"lowerdir={full},upperdir={disk}/upper,workdir={disk}/work"
        mounts = f"mount -t tmpfs -o size=4k tmpfs {disk} && mkdir {disk}/upper {disk}/work"
        command = _behind(f"{mounts} && mount -t overlay -o {layers} overlay {full}", command)
    places = [*([python.parent] if python else []), environment / "bin", "/usr/bin", "/bin"]
    variables = {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PATH": os.pathsep.join(map(str, places)),
        "BEAM_BOOT": str(program("container")),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **(more or {}),
    }
    with started(command, port, folder / "pool.log", variables) as running:
        yield running


def _behind(mounts: str, command: Sequence[str | Path]) -> list[str | Path]:
    """A command that sees other folders than we do."""
    return ["unshare", "-rm", "sh", "-c", f"{mounts} && exec {' '.join(map(str, command))}"]


@dataclass
class Turns:
    """One address for several pools, which are asked in turn: what a Service of Kubernetes is."""

    pools: Sequence[Process]
    asked: list[int] = field(default_factory=list)
    """Connections that each pool got."""

    def __enter__(self) -> "Turns":
        self.asked = [0] * len(self.pools)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        first = client.recv(1 << 16)
        if not first:  # somebody looked whether we listen
            client.close()
            return
        number = sum(self.asked) % len(self.pools)
        self.asked[number] += 1
        pool_of_turn = socket.create_connection(("localhost", self.pools[number].port))
        pool_of_turn.sendall(first)
        threading.Thread(target=_copy, args=(pool_of_turn, client), daemon=True).start()
        _copy(client, pool_of_turn)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def states_of_jobs(engine: Process) -> list[str]:
    """What the engine says of its jobs, in the order of their ids."""
    with grpc.insecure_channel(engine.address) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        found = stub.GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=10).job_info
        return [
            beam_job_api_pb2.JobState.Enum.Name(job.state) for job in sorted(found, key=lambda job: str(job.job_id))
        ]

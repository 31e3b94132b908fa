"""A real S3 store on loopback, and a wire to it that can be cut."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from tests.ports import free_ports

BUCKET = "kubetfx-tests"
START_SECONDS = 60
START_ATTEMPTS = 5

KEY, SECRET = "kubetfx-key", "kubetfx-secret"
READER_KEY, READER_SECRET = "reader-key", "reader-secret"
IDENTITIES = [
    {
        "name": "all",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    },
    {
        "name": "reader",
        "credentials": [{"accessKey": READER_KEY, "secretKey": READER_SECRET}],
        "actions": ["Read", "List"],
    },
]


@dataclass(frozen=True)
class S3Store:
    """SeaweedFS, which refuses whoever is not one of IDENTITIES."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, *, key: str = KEY, secret: str = SECRET, url: str | None = None) -> dict[str, str]:
        """Variables by which a client finds the store, and finds nothing else."""
        nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": url or self.url}
        return {**nowhere, **keys, "AWS_EC2_METADATA_DISABLED": "true"}


class _PortTakenError(Exception):
    """Another process has taken a port since it was found free."""


@contextlib.contextmanager
def running_s3_store(folder: Path) -> Iterator[S3Store]:
    """Start SeaweedFS over a folder, and end it."""
    with contextlib.ExitStack() as stack:
        for attempt in range(START_ATTEMPTS):
            own = folder / str(attempt)
            own.mkdir()
            with contextlib.suppress(_PortTakenError):
                store = stack.enter_context(_started(own))
                break
        else:
            raise RuntimeError(f"SeaweedFS found a port taken {START_ATTEMPTS} times")
        yield store


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[S3Store]:
    ports = dict(zip(["master", "volume", "filer", "s3"], free_ports(8), strict=False))
    grpc_ports = dict(zip(ports, free_ports(4), strict=True))
    (folder / "s3.json").write_text(json.dumps({"identities": IDENTITIES}))
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed is not None  # the development group of the lock
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-{server}.port={port}" for server, port in ports.items()]
    command += [f"-{server}.port.grpc={port}" for server, port in grpc_ports.items()]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.autoCreateBucket=false", "-s3.iam=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.minFreeSpace=0"]
    command += ["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms", "-master.volumeSizeLimitMB=64"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        store = S3Store(ports["s3"])
        _wait(store, process, folder / "log")
        yield store
    finally:
        process.kill()  # asked to end, it takes half a minute
        process.wait()


def _wait(store: S3Store, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    client = fs.S3FileSystem(access_key=KEY, secret_key=SECRET, endpoint_override=store.url, allow_bucket_creation=True)
    while True:
        try:
            client.create_dir(BUCKET)
            with client.open_output_stream(f"{BUCKET}/probe") as file:
                file.write(b"yes")
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                written = log.read_text()
                if "address already in use" in written:
                    raise _PortTakenError from None
                raise RuntimeError(f"SeaweedFS does not start:\n{written[-2_000:]}") from None
            time.sleep(0.1)


class Wire:
    """A TCP proxy before a port. After `cut_after` bytes to the server it breaks connections, and takes no more. Until
    `busy_until`, in seconds of `time.monotonic`, it answers requests with HTTP 503, as stores do that are asked too
    much."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_bytes = 0
        self.cut_after: int | None = None
        self.busy_until = 0.0
        self.num_refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def reset(self, *, cut_after: int | None = None) -> None:
        """Count from 0 again, and cut there."""
        self.num_bytes, self.cut_after = 0, cut_after

    @property
    def is_cut(self) -> bool:
        return self.cut_after is not None and self.num_bytes >= self.cut_after

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            for source, target in ((client, server), (server, client)):
                is_upload = source is client
                threading.Thread(target=self._pump, args=(source, target, is_upload), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_upload: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if is_upload:
                    self.num_bytes += len(data)
                if self.is_cut:
                    break
                if is_upload and time.monotonic() < self.busy_until:
                    self.num_refused += 1
                    source.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

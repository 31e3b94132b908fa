"""A push directory under observation: a server polls it, a client asks all the while, and every version is looked at
as soon as it can be seen."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from kubetfx.serving.version_state import State
from kubetfx.serving.versions import VersionOptions
from tests.serving.conftest import options

_LOOK_SECONDS = 0.005
_ASK_SECONDS = 0.02


class ServedPushDirectory:
    """A push directory whose versions are served and compared with how they were first seen."""

    def __init__(self, folder: Path, instance: Any) -> None:
        """Prepare; nothing runs yet.

        Args:
            folder: the push directory; it has a version.
            instance: a row that the model takes.
        """
        self._folder = folder
        versions = VersionOptions(poll_seconds=0.05)
        self._server = RunningServer(options(ModelConfig("model", folder), versions=versions))
        self._instance = instance
        self._first_seen: dict[str, dict[str, tuple[int, int]]] = {}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._look, self._ask)]
        self.answered = 0
        self.failures: list[str] = []
        """Requests that failed, and versions that changed after they could be seen."""

    @property
    def num_versions(self) -> int:
        """How many versions were seen."""
        return len(self._first_seen)

    def __enter__(self) -> Self:
        """Serve, ask and look."""
        self._server.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all of it."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._server.ask_to_stop()
        self._server.wait()

    def wait_for(self, version: int) -> None:
        """Wait until a version is what the server answers with."""
        deadline = time.monotonic() + 60
        while True:
            statuses = {each.version: each.state for each in self._server.manager.statuses("model")}
            if statuses.get(version) is State.AVAILABLE:
                return
            assert time.monotonic() < deadline, statuses
            time.sleep(0.05)

    def _ask(self) -> None:
        url = f"http://127.0.0.1:{self._server.rest_port}/v1/models/model:predict"
        with httpx.Client(timeout=60) as client:
            while not self._ended.wait(_ASK_SECONDS):
                try:
                    answer = client.post(url, json={"instances": [self._instance]})
                    if answer.status_code != 200 or len(answer.json()["predictions"]) != 1:
                        self.failures.append(answer.text)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.answered += 1

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            for path in self._folder.glob("[0-9]*"):
                files = dict(_files_of(path))
                if not path.is_dir():  # it was removed meanwhile
                    continue
                first = self._first_seen.setdefault(path.name, files)
                if files != first or "saved_model.pb" not in files:
                    self.failures.append(f"version {path.name} changed: {first} became {files}")


def _files_of(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Size and time of each file."""
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path.is_file():
                yield str(path.relative_to(folder)), (status.st_size, status.st_mtime_ns)

"""Finished files of the request log on their way to a bucket, where each appears whole."""

import logging
import threading
from collections import deque
from pathlib import Path

from kubetfx.errors import StorageError
from kubetfx.storage import ObjectPath

_LOG = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0
_MAX_WAITING_BYTES = 2**30
"""Files that wait on this machine for a store that does not answer; above it the oldest are deleted."""


class Uploads:
    """Takes files to buckets, in a thread that the first file starts, so that no store holds up the log."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Path, ObjectPath]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._upload_forever, name="request-log-uploads", daemon=True)

    def add(self, path: Path, target: ObjectPath) -> None:
        """Take a file over.

        Args:
            path: The path of the file; it is deleted when it has arrived.
            target: the object that it becomes.
        """
        with self._changed:
            self._waiting.append((path, target))
            while len(self._waiting) > 1 and self._waiting_bytes() > _MAX_WAITING_BYTES:
                oldest, _ = self._waiting.popleft()
                _LOG.warning("the request log %s is deleted: its store has not answered for too long", oldest.name)
                oldest.unlink(missing_ok=True)
            self._changed.notify()
        if not self._thread.is_alive():
            self._thread.start()

    def close(self) -> None:
        """Upload what waits, each file once more at most, and end."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        for path, target in self._waiting:
            _LOG.error("the request log could not be put at %s. It is at %s", target, path)

    def _upload_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_closing or bool(self._waiting and not self._is_failing),
                    timeout=_RETRY_SECONDS,
                )
                is_closing = self._is_closing
                has_work = bool(self._waiting)
            if has_work:
                self._is_failing = not self._upload_waiting()
            if is_closing:
                return

    def _upload_waiting(self) -> bool:
        while self._waiting:
            path, target = self._waiting[0]
            try:
                target.upload(path)
            except (StorageError, OSError) as error:
                if not self._is_failing:
                    _LOG.warning("the request log cannot be put at %s: %s. It is tried again.", target, error)
                return False
            with self._changed:
                if self._waiting and self._waiting[0][0] == path:
                    self._waiting.popleft()
            path.unlink(missing_ok=True)
        return True

    def _waiting_bytes(self) -> int:
        return sum(path.stat().st_size for path, _ in self._waiting if path.exists())

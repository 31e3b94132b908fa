"""The labels of versions: labels.json in the push directory.

Servers keep labels in memory or in their own file; this file is the source. The records of versions contain their
events (push_directory.py's Event).
"""

import contextlib
import fcntl
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from kubetfx import run_record
from kubetfx.components.push import push_directory
from kubetfx.config.serving_section import STABLE
from kubetfx.errors import UsageError
from kubetfx.storage import Location, write_text

_FILE = "labels.json"
_MOVING = "labels.moving.json"
"""The labels before a move that is in progress."""
_LOCK = ".labels.lock"
_POLL_SECONDS = 0.1
_LEFT_SECONDS = 900
"""Age from which a lock in a bucket counts as left by a killed process."""


class Label(BaseModel):
    """A label of a version."""

    model_config = ConfigDict(frozen=True)

    version: int
    since: str
    """UTC, ISO 8601."""

    @property
    def minutes(self) -> float:
        """Minutes since the version got it."""
        return minutes_between(self.since, run_record.now())


Labels = dict[str, Label]
_LABELS = TypeAdapter(Labels)


def minutes_between(first: str, second: str) -> float:
    """Return the minutes between two times.

    Args:
        first: UTC, ISO 8601.
        second: The same.
    """
    times = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, second)]
    return (times[1] - times[0]).total_seconds() / 60


def read_labels(directory: Location) -> Labels:
    """Return the labels whose versions are visible to servers.

    Args:
        directory: where versions are pushed.
    """
    there = push_directory.versions(directory)
    found = _read(directory, _FILE) or {}
    return {name: label for name, label in found.items() if label.version in there}


def numbers(labels: Labels) -> dict[str, int]:
    """Return versions by label.

    Args:
        labels: The labels.
    """
    return {name: label.version for name, label in labels.items()}


def labels_of(directory: Location, version: int) -> list[str]:
    """Return the labels of a version.

    Args:
        directory: where versions are pushed.
        version: The number of the version.
    """
    return sorted(name for name, label in read_labels(directory).items() if label.version == version)


def served_version(directory: Location) -> int | None:
    """Return the version that clients should use: the stable one or, without labels, the newest; None if there is none.

    Args:
        directory: where versions are pushed.
    """
    stable = read_labels(directory).get(STABLE)
    return stable.version if stable else max(push_directory.versions(directory), default=None)


def protected_versions(directory: Location) -> set[int]:
    """Return the versions that have a label, which are never removed.

    Args:
        directory: where versions are pushed.
    """
    return {label.version for label in read_labels(directory).values()}


def begin_move(directory: Location, before: Labels) -> None:
    """Record the start of a move of labels, so that an interrupted move can be undone.

    Args:
        directory: where versions are pushed.
        before: The current labels.
    """
    _write(directory, _MOVING, before)


def end_move(directory: Location, after: Labels | None) -> None:
    """Record the end of a move.

    Args:
        directory: where versions are pushed.
        after: The new labels; None: they are unchanged.
    """
    if after is not None:
        _write(directory, _FILE, after)
    moving = directory / _MOVING
    if isinstance(moving, Path):
        moving.unlink(missing_ok=True)
    elif moving.is_file():
        moving.unlink()


def broken_off(directory: Location) -> bool:
    """Return whether a move was interrupted; the caller holds the lock.

    Args:
        directory: where versions are pushed.
    """
    return (directory / _MOVING).is_file()


@contextlib.contextmanager
def locked(directory: Location, *, wait_seconds: float = 0) -> Iterator[None]:
    """Prevent others from moving labels and approving. In a bucket, which has no locks, an object marks the lock.

    Args:
        directory: where versions are pushed.
        wait_seconds: The time to wait for the lock.

    Raises:
        UsageError: another process holds the lock.
        OSError: the directory cannot be written.
        StorageError: the object store cannot be reached, or refuses.
    """
    end = time.monotonic() + wait_seconds
    with contextlib.ExitStack() as stack:
        while not _try(directory, stack):
            if time.monotonic() > end:
                raise UsageError(
                    f"Another approval, promotion or push is changing what is served. Received: {directory}. Wait for "
                    "it, and try again."
                )
            time.sleep(_POLL_SECONDS)
        yield


def _try(directory: Location, stack: contextlib.ExitStack) -> bool:
    if isinstance(directory, Path):
        directory.mkdir(parents=True, exist_ok=True)
        lock = stack.enter_context((directory / _LOCK).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    place, token = directory / _LOCK, uuid.uuid4().hex
    if place.is_file() and time.time_ns() - place.info().modified_ns < _LEFT_SECONDS * 10**9:
        return False
    place.write_text(token)
    time.sleep(_POLL_SECONDS)  # a concurrent writer has finished by now
    if place.read_text() != token:
        return False
    stack.callback(place.unlink)
    return True


def _read(directory: Location, name: str) -> Labels | None:
    path = directory / name
    return _LABELS.validate_json(path.read_text()) if path.is_file() else None


def _write(directory: Location, name: str, labels: Mapping[str, Label]) -> None:
    text = _LABELS.dump_json(dict(labels), indent=1).decode()
    write_text(directory / name, text)

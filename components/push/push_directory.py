"""The push directory: TensorFlow Serving's model base path, a numbered folder for each pushed version.

A version appears whole: version_store.py says how, on a disk and in a bucket. Its assets.extra/push.json says which
model it is: a place that SavedModel reserves for others and TensorFlow Serving leaves alone. A server serves the
newest version, so rolling back means hiding the newer versions from it: they are renamed, and can be restored.
A version that waits for approval has such a name from the beginning.
"""

import hashlib
import re
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict

from kubetfx.artifacts import PROVENANCE, PUSH_RECORD, PUSHED_GOLDEN_ROWS, REQUEST
from kubetfx.components.push.version_store import version_store
from kubetfx.errors import PushError, StorageError
from kubetfx.run_record import now
from kubetfx.storage import Location, copy_folder

_ROLLED_BACK = ".rolled-back-"
_WAITING = ".waiting-"
_ADDED = (PUSH_RECORD, PROVENANCE, PUSHED_GOLDEN_ROWS)
"""Files that a push adds to a SavedModel."""


class Event(BaseModel):
    """An event of a version."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["approved", "canary", "stable", "replaced", "withdrawn"]
    """`canary` and `stable`: it got the label. `replaced`: another version got it. `withdrawn`: it was removed from
    servers.
    """
    at: str
    """UTC, ISO 8601."""
    by: str
    """The actor: a person, or the run that pushed."""
    reason: str = ""
    label: str | None = None
    """The label that it got or lost."""
    forced: bool = False
    """Whether an unmet rule was overridden."""
    comparison: str = ""
    """How its answers compared with those of the stable version, in words."""


class PushRecord(BaseModel):
    """Where a pushed version comes from."""

    model_config = ConfigDict(frozen=True)

    version: int
    model_digest: str
    """Digest of the SavedModel without this record."""
    replaced_version: int | None
    """The version that was served when this one was evaluated and pushed."""
    pushed_at: str
    """UTC, ISO 8601."""
    metrics: dict[str, float] = {}
    """Metrics on the evaluation split."""
    to_be_verified: bool = False
    """Whether the push is valid only once `verified_at` is set."""
    verified_at: str | None = None
    """UTC, ISO 8601: when a server's answers with it were verified."""
    needs_approval: bool = False
    """Whether a person had to approve it before it was served."""
    events: list[Event] = []
    """Events in chronological order."""

    @property
    def approval(self) -> Event | None:
        """Who approved it, when and why; None if it is not approved."""
        return next((event for event in reversed(self.events) if event.kind == "approved"), None)

    @property
    def is_pending(self) -> bool:
        """Whether the push was interrupted before it was verified."""
        return self.to_be_verified and self.verified_at is None


def model_digest(saved_model: Path) -> str:
    """Return the SHA-256 over names and contents of a SavedModel's files.

    Args:
        saved_model: The folder.
    """
    digest = hashlib.sha256()
    for path in sorted(saved_model.rglob("*")):
        if path.is_file() and path.relative_to(saved_model) not in _ADDED:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(saved_model)}\0{content}\0".encode())
    return digest.hexdigest()


def versions(push_directory: Location) -> list[int]:
    """Return the versions that are visible to TensorFlow Serving, oldest first.

    Args:
        push_directory: where versions are pushed.
    """
    return _numbers(version_store(push_directory).names(), "")


def rolled_back_versions(push_directory: Location) -> list[int]:
    """Return the versions that were rolled back and are hidden from servers, oldest first.

    Args:
        push_directory: where versions are pushed.
    """
    names = version_store(push_directory).names()
    return [version for version in _numbers(names, _ROLLED_BACK) if str(version) not in names]


def waiting_versions(push_directory: Location) -> list[int]:
    """Return the versions that wait for approval, which are hidden from servers, oldest first.

    Args:
        push_directory: where versions are pushed.
    """
    names = version_store(push_directory).names()
    return [version for version in _numbers(names, _WAITING) if str(version) not in names]


def all_versions(push_directory: Location) -> list[int]:
    """Return all versions, including hidden ones, oldest first.

    Args:
        push_directory: where versions are pushed.
    """
    names = version_store(push_directory).names()
    return sorted({number for prefix in ("", _ROLLED_BACK, _WAITING) for number in _numbers(names, prefix)})


def _numbers(names: Collection[str], prefix: str) -> list[int]:
    numbers = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return sorted(int(number) for number in numbers if re.fullmatch(r"[1-9][0-9]*", number))


def version_path(push_directory: Location, version: int) -> Location:
    """Return the folder of a version.

    Args:
        push_directory: where versions are pushed.
        version: its number.
    """
    return push_directory / str(version)


def read_record(push_directory: Location, version: int) -> PushRecord | None:
    """Return the record of a version, hidden or not; None if kubetfx did not push it.

    Args:
        push_directory: where versions are pushed.
        version: its number.
    """
    text = read_added(push_directory, version, PUSH_RECORD)
    return PushRecord.model_validate_json(text) if text is not None else None


def read_added(push_directory: Location, version: int, path: PurePath) -> str | None:
    """Return a file that a push has added to a version, hidden or not; None if it is missing.

    Args:
        push_directory: where versions are pushed.
        version: its number.
        path: The path of the file in the version.
    """
    for name in _names_of(version):
        file = push_directory / name / path
        if file.is_file():
            return str(file.read_text())
    return None


def _names_of(version: int) -> tuple[str, ...]:
    return str(version), f"{_ROLLED_BACK}{version}", f"{_WAITING}{version}"


def note(push_directory: Location, version: int, event: Event) -> None:
    """Add an event to the record of a version.

    Args:
        push_directory: where versions are pushed.
        version: its number.
        event: The event.
    """
    record = read_record(push_directory, version)
    if record is not None:
        _rewrite(push_directory, record.model_copy(update={"events": [*record.events, event]}))


def _rewrite(push_directory: Location, record: PushRecord) -> None:
    store = version_store(push_directory)
    name = next(name for name in _names_of(record.version) if store.has(name))
    store.rewrite(name, PUSH_RECORD, record.model_dump_json(indent=1))


def copy_version(push_directory: Location, version: int, target: Path) -> None:
    """Copy a version to a folder of this machine.

    Args:
        push_directory: where versions are pushed.
        version: its number.
        target: The folder, which is created.

    Raises:
        OSError: the version does not exist or cannot be read, or the disk cannot be written.
        StorageError: the object store cannot be read.
    """
    copy_folder(version_path(push_directory, version), target)


@contextmanager
def version_here(push_directory: Location, version: int) -> Iterator[Path]:
    """Yield the folder of a version on this machine.

    A version in a bucket is copied, and the copy is removed at the end.

    Args:
        push_directory: where versions are pushed.
        version: its number.

    Raises:
        OSError: the version does not exist, or the disk cannot be written.
        StorageError: the object store cannot be read.
    """
    saved_model = version_path(push_directory, version)
    if isinstance(saved_model, Path):
        yield saved_model
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / str(version)
        copy_version(push_directory, version, copy)
        yield copy


def request_path(push_directory: Location) -> Location | None:
    """Return the example of a REST request in the newest version, or None.

    Args:
        push_directory: where versions are pushed.
    """
    newest = max(versions(push_directory), default=0)
    path = version_path(push_directory, newest) / REQUEST
    return path if path.is_file() else None


def next_version(push_directory: Location) -> int:
    """Return a number greater than all versions: the time in seconds, as in TFX's Pusher, or one more than the newest.

    Args:
        push_directory: where versions are pushed.
    """
    return max(int(time.time()), max(all_versions(push_directory), default=0) + 1)


def push(
    saved_model: Path,
    push_directory: Location,
    *,
    version: int,
    replaced_version: int | None,
    metrics: Mapping[str, float] | None = None,
    to_be_verified: bool = False,
    needs_approval: bool = False,
    added: Mapping[PurePath, str] | None = None,
) -> PushRecord:
    """Copy a SavedModel, with a record of its origin, to its version.

    Args:
        saved_model: The folder.
        push_directory: where versions are pushed.
        version: The number of the new version.
        replaced_version: The newest version until now, or None.
        metrics: The metrics of the evaluation, by name.
        to_be_verified: Whether a server will verify it.
        needs_approval: Whether it waits, hidden from servers, until `release`.
        added: Files to add to the version, by their paths in it.

    Returns:
        The record.

    Raises:
        PushError: the version exists, the disk is full, or the directory cannot be written. Servers see nothing of it.
    """
    target = version_path(push_directory, version)
    record = PushRecord(
        version=version,
        model_digest=model_digest(saved_model),
        replaced_version=replaced_version,
        pushed_at=now(),
        metrics=dict(metrics or {}),
        to_be_verified=to_be_verified,
        needs_approval=needs_approval,
    )
    name = f"{_WAITING}{version}" if needs_approval else str(version)
    store = version_store(push_directory)
    try:
        if store.has(str(version)) or store.has(name):
            raise PushError(f"Version {version} exists and is never overwritten. Received: {target}.")
        store.add(saved_model, name, texts={**(added or {}), PUSH_RECORD: record.model_dump_json(indent=1)})
    except StorageError as error:
        raise PushError(f"The model could not be copied to {target}. {error} What is served is unchanged.") from error
    except OSError as error:
        raise PushError(
            f"The model could not be copied to {target}: {error}. What is served is unchanged. "
            "Free the disk or grant write permission, and run again."
        ) from error
    return record


def mark_verified(push_directory: Location, version: int) -> None:
    """Record that a server's answers with a version were verified.

    Args:
        push_directory: where versions are pushed.
        version: its number.
    """
    record = read_record(push_directory, version)
    if record is not None:  # otherwise somebody else pushed it
        _rewrite(push_directory, record.model_copy(update={"verified_at": now()}))


def release(push_directory: Location, version: int) -> None:
    """Make a version that waited for approval visible to servers.

    Args:
        push_directory: where versions are pushed.
        version: The number of the version; nothing happens if it is already visible.
    """
    _move(push_directory, f"{_WAITING}{version}", str(version))


def hold_back(push_directory: Location, version: int) -> None:
    """Hide an approved version from servers again, where it waits as before.

    Args:
        push_directory: where versions are pushed.
        version: its number.
    """
    _move(push_directory, str(version), f"{_WAITING}{version}")


def _move(push_directory: Location, name: str, to: str) -> None:
    store = version_store(push_directory)
    with store.locked():
        if store.has(name) and not store.has(to):
            store.move(name, to)


def remove(push_directory: Location, version: int) -> None:
    """Remove a version atomically for servers.

    Args:
        push_directory: where versions are pushed.
        version: its number.
    """
    version_store(push_directory).remove(str(version))


def prune(push_directory: Location, *, keep: int, protected: Collection[int] = ()) -> list[int]:
    """Remove all versions except the newest, and older ones that were rolled back or wait for approval.

    Args:
        push_directory: The directory.
        keep: The number of versions to keep, at least 1, since servers serve the newest.
        protected: Versions that are never removed, since a server serves them.

    Returns:
        The versions that were removed.
    """
    store = version_store(push_directory)
    with store.locked():
        there = versions(push_directory)
        old = [version for version in there[:-keep] if version not in protected]
        for version in old:
            store.remove(str(version))
        oldest_kept = min(set(there) - set(old), default=0)
        forgotten = []
        for prefix, unseen in ((_ROLLED_BACK, rolled_back_versions), (_WAITING, waiting_versions)):
            forgotten += [(prefix, version) for version in unseen(push_directory) if version < oldest_kept]
        for prefix, version in forgotten:
            store.remove(f"{prefix}{version}")
    return old + [version for _, version in forgotten]


def roll_back(push_directory: Location, *, to: int) -> None:
    """Make a version the newest visible one: newer versions are hidden from servers.

    Args:
        push_directory: The directory.
        to: The version; a hidden one becomes visible again.

    Raises:
        PushError: the directory cannot be written.
    """
    store = version_store(push_directory)
    try:
        with store.locked():
            if to in rolled_back_versions(push_directory):
                store.move(f"{_ROLLED_BACK}{to}", str(to))
            newer = [version for version in versions(push_directory) if version > to]
            for version in newer:  # the newest last, so that no version in between is served meanwhile
                store.move(str(version), f"{_ROLLED_BACK}{version}")
    except StorageError as error:
        raise PushError(f"Version {to} could not be brought back. {error} Then give the same command again.") from error
    except OSError as error:
        raise PushError(
            f"Version {to} could not be brought back in {push_directory}: {error}. Grant write permission, and give "
            "the same command again."
        ) from error

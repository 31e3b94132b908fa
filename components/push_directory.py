"""The push directory: TensorFlow Serving's model base path, a numbered folder for each pushed version.

A version appears whole: it is copied aside and renamed. Which model it is stands in its assets.extra/push.json, a
place that SavedModel reserves for others and TensorFlow Serving leaves alone. A server serves the newest version, so
going back to an older one means taking the newer ones out of its sight: they are renamed, and can be restored.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.errors import PushError

RECORD = Path("assets.extra") / "push.json"
REQUEST = Path("assets.extra") / "request.json"
"""A body for the REST API's `:predict`, of one real row; models/export.py writes it."""
_ASIDE = ".pushing-"
_ROLLED_BACK = ".rolled-back-"
_REMOVING = ".removing-"


class PushRecord(BaseModel):
    """Where a pushed version comes from."""

    model_config = ConfigDict(frozen=True)

    version: int
    model_digest: str
    """Of the SavedModel, without this record."""
    replaced_version: int | None
    """The version that was served when this one was evaluated and pushed."""
    pushed_at: str
    """UTC, ISO 8601."""
    metrics: dict[str, float] = {}
    """On the evaluation split."""
    to_be_verified: bool = False
    """Whether the push is good only once `verified_at` is there."""
    verified_at: str | None = None
    """UTC, ISO 8601: when a server was seen to answer with it as it should."""

    @property
    def is_pending(self) -> bool:
        """Whether the push was broken off before it was verified."""
        return self.to_be_verified and self.verified_at is None


def model_digest(saved_model: Path) -> str:
    """SHA-256 over names and contents of a SavedModel's files."""
    digest = hashlib.sha256()
    for path in sorted(saved_model.rglob("*")):
        if path.is_file() and path.relative_to(saved_model) != RECORD:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(saved_model)}\0{content}\0".encode())
    return digest.hexdigest()


def versions(push_directory: Path) -> list[int]:
    """Versions that TensorFlow Serving would see, oldest first."""
    if not push_directory.is_dir():
        return []
    return _numbered(push_directory, "")


def rolled_back_versions(push_directory: Path) -> list[int]:
    """Versions that were taken out of the servers' sight, oldest first."""
    return _numbered(push_directory, _ROLLED_BACK) if push_directory.is_dir() else []


def _numbered(push_directory: Path, prefix: str) -> list[int]:
    names = (entry.name for entry in push_directory.iterdir() if entry.is_dir() and entry.name.startswith(prefix))
    numbers = (name.removeprefix(prefix) for name in names)
    return sorted(int(number) for number in numbers if re.fullmatch(r"[1-9][0-9]*", number))


def version_path(push_directory: Path, version: int) -> Path:
    """Folder of a version."""
    return push_directory / str(version)


def read_record(push_directory: Path, version: int) -> PushRecord | None:
    """The record of a version, rolled back or not; None for one that kubetfx did not push."""
    folder = version_path(push_directory, version)
    if not folder.is_dir():
        folder = _rolled_back_path(push_directory, version)
    path = folder / RECORD
    return PushRecord.model_validate_json(path.read_text()) if path.is_file() else None


def request_path(push_directory: Path) -> Path | None:
    """The example of a REST request that the newest version brings along; None if it brings none."""
    newest = max(versions(push_directory), default=0)
    path = version_path(push_directory, newest) / REQUEST
    return path if path.is_file() else None


def next_version(push_directory: Path) -> int:
    """A number greater than every version's: the time in seconds, as TFX's Pusher has it, or one more than the
    newest."""
    newest = max([*versions(push_directory), *rolled_back_versions(push_directory)], default=0)
    return max(int(time.time()), newest + 1)


def push(
    saved_model: Path,
    push_directory: Path,
    *,
    version: int,
    replaced_version: int | None,
    metrics: Mapping[str, float] | None = None,
    to_be_verified: bool = False,
) -> PushRecord:
    """Copy a SavedModel aside, record what it is, and rename it to its version.

    Raises:
        PushError: the version exists, the disk is full, or the directory cannot be written. Nothing is left behind.
    """
    target = version_path(push_directory, version)
    aside = push_directory / f"{_ASIDE}{version}"
    if target.exists():
        raise PushError(f"Version {version} exists and is never overwritten. Received: {target}.")
    record = PushRecord(
        version=version,
        model_digest=model_digest(saved_model),
        replaced_version=replaced_version,
        pushed_at=_now(),
        metrics=dict(metrics or {}),
        to_be_verified=to_be_verified,
    )
    try:
        push_directory.mkdir(parents=True, exist_ok=True)
        with _locked(push_directory):
            for left_over in [*push_directory.glob(f"{_ASIDE}*"), *push_directory.glob(f"{_REMOVING}*")]:
                shutil.rmtree(left_over)
            shutil.copytree(saved_model, aside)
            (aside / RECORD).parent.mkdir(exist_ok=True)
            (aside / RECORD).write_text(record.model_dump_json(indent=1))
            _sync(aside)
            aside.rename(target)
            _sync_folder(push_directory)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise PushError(
            f"The model could not be copied to {target}: {error}. What is served is unchanged. "
            "Free the disk or grant write permission, and run again."
        ) from error
    return record


def mark_verified(push_directory: Path, version: int) -> None:
    """Write into a version's record that a server answered with it as it should."""
    record = read_record(push_directory, version)
    if record is None:  # pushed by somebody else
        return
    path = version_path(push_directory, version) / RECORD
    aside = path.with_suffix(".aside")
    aside.write_text(record.model_copy(update={"verified_at": _now()}).model_dump_json(indent=1))
    aside.replace(path)


def remove(push_directory: Path, version: int) -> None:
    """Remove a version whole: servers don't see it in part."""
    _remove(version_path(push_directory, version), push_directory / f"{_REMOVING}{version}")


def prune(push_directory: Path, *, keep: int, protected: Collection[int] = ()) -> list[int]:
    """Remove all but the newest versions, and what was rolled back before them.

    Args:
        push_directory: the directory.
        keep: number of versions, at least 1: the newest is what servers serve.
        protected: versions that are not removed whatever their number, since a server serves them.

    Returns:
        The versions that were removed.
    """
    with _locked(push_directory):
        there = versions(push_directory)
        old = [version for version in there[:-keep] if version not in protected]
        for version in old:
            remove(push_directory, version)
        oldest_kept = min(set(there) - set(old), default=0)
        forgotten = [version for version in rolled_back_versions(push_directory) if version < oldest_kept]
        for version in forgotten:
            _remove(_rolled_back_path(push_directory, version), push_directory / f"{_REMOVING}{version}")
    return old + forgotten


def roll_back(push_directory: Path, *, to: int) -> None:
    """Make a version the newest that servers see: those above it are put out of their sight.

    Args:
        push_directory: the directory.
        to: the version; one that was rolled back itself comes back.

    Raises:
        PushError: the directory cannot be written.
    """
    try:
        with _locked(push_directory):
            if to in rolled_back_versions(push_directory):
                _rolled_back_path(push_directory, to).rename(version_path(push_directory, to))
            newer = [version for version in versions(push_directory) if version > to]
            for version in newer:  # the newest last, so that no version between is served in the meantime
                version_path(push_directory, version).rename(_rolled_back_path(push_directory, version))
            _sync_folder(push_directory)
    except OSError as error:
        raise PushError(
            f"Version {to} could not be brought back in {push_directory}: {error}. Grant write permission, and give "
            "the same command again."
        ) from error


def _rolled_back_path(push_directory: Path, version: int) -> Path:
    return push_directory / f"{_ROLLED_BACK}{version}"


def _remove(folder: Path, aside: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody else removed it
        folder.rename(aside)
        shutil.rmtree(aside)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other push is at its copy."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Bring what was written to the disk, so that the rename doesn't outlive it in a crash."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

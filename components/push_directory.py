"""The push directory: TensorFlow Serving's model base path, a numbered folder for each pushed version.

A version appears whole: it is copied aside and renamed. Which model it is stands in its assets.extra/push.json, a
place that SavedModel reserves for others and TensorFlow Serving leaves alone.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.errors import PushError

RECORD = Path("assets.extra") / "push.json"
_ASIDE = ".pushing-"


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
    names = (entry.name for entry in push_directory.iterdir() if entry.is_dir())
    return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]*", name))


def version_path(push_directory: Path, version: int) -> Path:
    """Folder of a version."""
    return push_directory / str(version)


def read_record(push_directory: Path, version: int) -> PushRecord | None:
    """The record of a version; None for one that kubetfx did not push."""
    path = version_path(push_directory, version) / RECORD
    return PushRecord.model_validate_json(path.read_text()) if path.is_file() else None


def next_version(push_directory: Path) -> int:
    """A number greater than every version's: the time in seconds, as TFX's Pusher has it, or one more than the
    newest."""
    newest = max(versions(push_directory), default=0)
    return max(int(time.time()), newest + 1)


def push(saved_model: Path, push_directory: Path, *, version: int, replaced_version: int | None) -> PushRecord:
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
        pushed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    try:
        push_directory.mkdir(parents=True, exist_ok=True)
        with _locked(push_directory):
            for left_over in push_directory.glob(f"{_ASIDE}*"):
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

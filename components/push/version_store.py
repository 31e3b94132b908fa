"""Adds, moves and removes versions atomically: on a disk by renames, in a bucket by saved_model.pb.

A bucket has no rename. There a version exists as long as its saved_model.pb exists, which is written last and deleted
first. components/push/push_directory.py decides which versions exist.
"""

import contextlib
import errno
import fcntl
import functools
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Protocol

from kubetfx.artifacts import SAVED_MODEL
from kubetfx.errors import StorageError
from kubetfx.storage import Location, ObjectInfo, ObjectPath

STALE_SECONDS = 3_600
"""Age from which a push counts as interrupted rather than in progress."""

_ASIDE = ".pushing-"
_REMOVING = ".removing-"
_UNFINISHED = ".unfinished-"


class VersionStore(Protocol):
    """Folders of SavedModels, each complete or absent."""

    def names(self) -> list[str]:
        """Return the names of the folders."""

    def has(self, name: str) -> bool:
        """Return whether the name is taken.

        Args:
            name: The name of the folder.
        """

    def add(self, saved_model: Path, name: str, *, texts: Mapping[PurePath, str]) -> None:
        """Copy a SavedModel, and add files to the copy; nothing remains after a failure.

        Args:
            saved_model: The folder of the SavedModel.
            name: The name of the new folder.
            texts: The content of the added files, by their path in the copy.

        Raises:
            OSError: a disk is full, or cannot be read or written.
            StorageError: the object store cannot be reached, or refuses.
        """

    def move(self, name: str, to: str) -> None:
        """Rename a folder to an unused name.

        Args:
            name: The name of the folder.
            to: The new name.
        """

    def remove(self, name: str) -> None:
        """Remove a folder; nothing happens if it is gone.

        Args:
            name: The name of the folder.
        """

    def rewrite(self, name: str, path: PurePath, text: str) -> None:
        """Replace a file of a folder atomically.

        Args:
            name: The name of the folder.
            path: The path of the file in it.
            text: the new content.
        """

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Prevent others from adding and removing, as far as the store can."""


def version_store(place: Location) -> VersionStore:
    """Return the store in a folder or in a bucket.

    Args:
        place: the push directory.
    """
    return _Disk(place) if isinstance(place, Path) else _Bucket(place)


class _Disk:
    """A folder of this machine, or a mounted volume."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return [entry.name for entry in self._folder.iterdir() if entry.is_dir()]

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def add(self, saved_model: Path, name: str, *, texts: Mapping[PurePath, str]) -> None:
        aside = self._folder / f"{_ASIDE}{name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self.locked():
                for left_over in [*self._folder.glob(f"{_ASIDE}*"), *self._folder.glob(f"{_REMOVING}*")]:
                    shutil.rmtree(left_over)
                shutil.copytree(saved_model, aside)
                for path, text in texts.items():
                    (aside / path).parent.mkdir(exist_ok=True)
                    (aside / path).write_text(text, encoding="utf-8")
                _sync(aside)
                aside.rename(self._folder / name)
                _sync_folder(self._folder)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def move(self, name: str, to: str) -> None:
        (self._folder / name).rename(self._folder / to)
        _sync_folder(self._folder)

    def remove(self, name: str) -> None:
        aside = self._folder / f"{_REMOVING}{name.lstrip('.')}"
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            (self._folder / name).rename(aside)
            shutil.rmtree(aside)

    def rewrite(self, name: str, path: PurePath, text: str) -> None:
        target = self._folder / name / path
        aside = target.with_suffix(".aside")
        aside.write_text(text)
        aside.replace(target)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _Bucket:
    """A folder in a bucket, without locks.

    While objects of a folder are added or removed, a marker object beside it says so. The marker distinguishes
    interrupted work, which a later `add` removes, from other objects that are kept here.
    """

    def __init__(self, folder: ObjectPath) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return self._whole(self._by_folder())

    def has(self, name: str) -> bool:
        return name in self.names()

    def add(self, saved_model: Path, name: str, *, texts: Mapping[PurePath, str]) -> None:
        self._finish_what_was_broken_off(name)
        target = self._folder / name
        with self._unfinished(name) as is_still_ours:
            try:
                for write in _writes(saved_model, target, texts):
                    if not is_still_ours():
                        raise FileExistsError(errno.EEXIST, "another push took its place", str(target))
                    write()
            except (OSError, StorageError):
                with contextlib.suppress(OSError, StorageError):  # if the store cannot be reached, a later push does it
                    if is_still_ours():
                        self.remove(name)
                raise

    def move(self, name: str, to: str) -> None:
        source, target = self._folder / name, self._folder / to
        objects = [info.path.relative_to(source) for info in source.files()]
        with self._unfinished(to):
            for relative in sorted(objects, key=lambda path: path == SAVED_MODEL):
                (source / relative).copy_to(target / relative)
        self.remove(name)

    def remove(self, name: str) -> None:
        with self._unfinished(name):
            (self._folder / name / SAVED_MODEL).unlink()
            (self._folder / name).remove_tree()

    def rewrite(self, name: str, path: PurePath, text: str) -> None:
        (self._folder / name / path).write_text(text)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def _unfinished(self, name: str) -> Iterator[Callable[[], bool]]:
        """Keep a marker while objects of a folder are added or removed, and after a failure.

        Yield whether it still exists.
        """
        note, token = self._folder / f"{_UNFINISHED}{name}", uuid.uuid4().bytes

        def is_still_ours() -> bool:
            try:
                return note.read_bytes() == token
            except FileNotFoundError:
                return False

        note.write_bytes(token)
        yield is_still_ours
        note.unlink()

    def _finish_what_was_broken_off(self, name: str) -> None:
        """Remove the remains of this name, and of others if they are old: recent ones may be in progress."""
        by_folder = self._by_folder()
        whole = self._whole(by_folder)
        old_ns = time.time_ns() - STALE_SECONDS * 10**9
        for info in by_folder.get("", []):
            other = info.path.name.removeprefix(_UNFINISHED)
            if other == info.path.name or (other != name and info.modified_ns > old_ns):
                continue
            if other in whole:  # everything else was done
                info.path.unlink()
            else:
                self.remove(other)
        if name in by_folder and (self._folder / name).files():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._folder / name))

    def _whole(self, by_folder: Mapping[str, Sequence[ObjectInfo]]) -> list[str]:
        places = {name: self._folder / name / SAVED_MODEL for name in by_folder if name}
        return [name for name, place in places.items() if any(info.path == place for info in by_folder[name])]

    def _by_folder(self) -> dict[str, list[ObjectInfo]]:
        """Return objects by their top folder; those outside folders have an empty name."""
        folders: dict[str, list[ObjectInfo]] = {}
        for info in self._folder.files():
            name, separator, _ = info.path.relative_to(self._folder).partition("/")
            folders.setdefault(name if separator else "", []).append(info)
        return folders


def _writes(saved_model: Path, target: ObjectPath, texts: Mapping[PurePath, str]) -> Iterator[Callable[[], None]]:
    """Yield the files of a version, with saved_model.pb last."""
    for path in sorted(path for path in saved_model.rglob("*") if path.is_file()):
        relative = path.relative_to(saved_model)
        if relative != Path(SAVED_MODEL) and relative not in texts:
            yield functools.partial((target / relative).upload, path)
    for added, text in texts.items():
        yield functools.partial((target / added).write_text, text)
    marker = (saved_model / SAVED_MODEL).read_bytes()  # read completely before any of it is written
    yield functools.partial((target / SAVED_MODEL).write_bytes, marker)


def _sync(folder: Path) -> None:
    """Flush written files to the disk, so that a rename does not survive a crash without them."""
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

"""Object stores for TFX's own code: its drivers list and stat files through kubetfx/storage.py.

Otherwise TFX would use TensorFlow's file system for s3:// and gs://, which no longer supports S3 and needs other
credentials.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tfx.dsl.io import filesystem, filesystem_registry
from tfx.dsl.io.filesystem import PathType

from kubetfx.storage import ObjectPath, locate

PRIORITY = 5
"""Lower is preferred, and TensorFlow's has 10."""


@dataclass(frozen=True)
class Stat:
    """An object's size and time, under TensorFlow's names."""

    length: int
    mtime_nsec: int
    is_directory: bool = False


class ObjectFilesystem(filesystem.Filesystem):
    """s3:// and gs:// for TFX's fileio."""

    SUPPORTED_SCHEMES = ["s3://", "gs://"]

    @staticmethod
    def open(name: PathType, mode: str = "r") -> Any:
        """Open an object."""
        path = _path(name)
        file = path.open_output() if "w" in mode else path.open_stream()
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    @staticmethod
    def copy(src: PathType, dst: PathType, overwrite: bool = False) -> None:
        """Copy an object."""
        _check_overwrite(dst, overwrite)
        _path(src).copy_to(_path(dst))

    @staticmethod
    def exists(path: PathType) -> bool:
        """Return whether it is an object, or a folder of some."""
        return _path(path).is_file() or _path(path).is_dir()

    @staticmethod
    def glob(pattern: PathType) -> list[PathType]:
        """Return objects that match."""
        path = _path(pattern)
        bucket = ObjectPath(path.scheme, path.bucket)
        return [str(found) for found in bucket.glob(path.relative_to(bucket))]

    @staticmethod
    def isdir(path: PathType) -> bool:
        """Return whether it is a folder of objects."""
        return _path(path).is_dir()

    @staticmethod
    def listdir(path: PathType) -> list[PathType]:
        """Return names directly under a folder."""
        folder = _path(path)
        names = {info.path.relative_to(folder).partition("/")[0] for info in folder.files()}
        if not names:
            raise filesystem.NotFoundError(str(folder))
        return sorted(names)

    @staticmethod
    def makedirs(path: PathType) -> None:
        """Do nothing: a folder exists with its first object."""

    @staticmethod
    def mkdir(path: PathType) -> None:
        """Do nothing: a folder exists with its first object."""

    @staticmethod
    def remove(path: PathType) -> None:
        """Delete an object."""
        _path(path).unlink()

    @staticmethod
    def rename(src: PathType, dst: PathType, overwrite: bool = False) -> None:
        """Copy an object, or a folder of them, and delete the source."""
        _check_overwrite(dst, overwrite)
        source, target = _path(src), _path(dst)
        if source.is_file():
            source.copy_to(target)
            source.unlink()
            return
        for info in source.files():
            info.path.copy_to(target / info.path.relative_to(source))
        source.remove_tree()

    @staticmethod
    def rmtree(path: PathType) -> None:
        """Delete a folder."""
        _path(path).remove_tree()

    @staticmethod
    def stat(path: PathType) -> Stat:
        """Return the size and time of an object."""
        try:
            info = _path(path).info()
        except FileNotFoundError as error:
            raise filesystem.NotFoundError(str(error)) from error
        return Stat(info.num_bytes, info.modified_ns)

    @staticmethod
    def walk(
        top: PathType, topdown: bool = True, onerror: Callable[..., None] | None = None
    ) -> Iterator[tuple[PathType, list[PathType], list[PathType]]]:
        """Yield folders with the names of what is in them."""
        root = _path(top)
        folders: dict[ObjectPath, tuple[set[str], set[str]]] = {}
        for info in root.files():
            path, is_folder = info.path, False
            while path != root:
                subfolders, files = folders.setdefault(path.parent, (set(), set()))
                (subfolders if is_folder else files).add(path.name)
                path, is_folder = path.parent, True
        for folder in sorted(folders, reverse=not topdown):
            subfolders, files = folders[folder]
            yield str(folder), sorted(subfolders), sorted(files)


def register() -> None:
    """Register the file system with TFX's fileio. A second call has no effect."""
    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(ObjectFilesystem, priority=PRIORITY)


def _path(path: PathType) -> ObjectPath:
    place = locate(path.decode() if isinstance(path, bytes) else path)
    assert isinstance(place, ObjectPath)  # the registry passes its own schemes only
    return place


def _check_overwrite(path: PathType, overwrite: bool) -> None:
    if not overwrite and ObjectFilesystem.exists(path):
        raise OSError(f"{path!r} exists already, and `overwrite` is false.")

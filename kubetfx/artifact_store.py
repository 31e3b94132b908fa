"""Where the artifacts of a workspace are: in its folder on this machine, or in a bucket.

An executor works on files of this machine. Where artifacts are in a bucket, the folder of the workspace has copies
under the same names: inputs are fetched before an executor begins, and outputs are uploaded before their execution is
published. An artifact does not change once it is published, so a copy is never compared with its original.
"""

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from kubetfx.errors import StorageError, UsageError
from kubetfx.storage import ObjectInfo, ObjectPath, is_url, locate

ARTIFACTS = "artifacts"
"""Folder of a workspace: NODE/KEY/EXECUTION in it is an artifact."""

ROWS = "Split-*"
"""Folders of an examples artifact: what is large of it."""

_PLACE = "artifacts.place"
"""File of the workspace: the folder in the bucket that has the artifacts of this workspace's ML Metadata."""
_EMPTY = ".kubetfx-empty"
"""Object that keeps an artifact without files."""
_INCOMPLETE = ".incomplete"
"""End of the name of the file beside an artifact that is not all on this machine."""
_THREADS = 8
"""Files that are copied at the same time."""
_DEPTH = 3


class FolderInfo(NamedTuple):
    """An artifact, here and in the bucket together."""

    num_bytes: int
    modified_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class ArtifactStore:
    """The artifacts of a workspace. A method that accesses the bucket can raise StorageError."""

    workspace: Path
    """Folder of the workspace on this machine."""
    bucket: ObjectPath | None = None
    """Place of the workspace in a bucket; None: artifacts are in its folder alone."""

    @classmethod
    def of(cls, path: str, local: str | None) -> "ArtifactStore":
        """Return the store of a workspace.

        Args:
            path: `workspace.path`.
            local: `workspace.local`.
        """
        place = locate(path) if is_url(path) else None
        return cls(Path(local or path), place if isinstance(place, ObjectPath) else None)

    @property
    def folder(self) -> Path:
        """Folder of artifacts on this machine."""
        return self.workspace / ARTIFACTS

    @property
    def place(self) -> ObjectPath | None:
        """Folder of artifacts in the bucket; None if there is none.

        ML Metadata numbers executions from 1 in each workspace, and several may name one bucket: each has a folder of
        its own.
        """
        if self.bucket is None:
            return None
        begun = self._begun()
        return (self.bucket / "new" if begun is None else ObjectPath(self.bucket.scheme, begun.key)) / ARTIFACTS

    @property
    def root(self) -> str:
        """Path or URI of the folder of artifacts."""
        return str(self.place or self.folder)

    def begin(self, metadata: Path) -> None:
        """Choose a folder of the bucket, before the first run of a workspace.

        Args:
            metadata: file of ML Metadata.

        Raises:
            UsageError: see `check`.
        """
        self.check(metadata)
        if self.bucket is not None and not metadata.exists():
            own = self.bucket / f"{time.strftime('%Y%m%d')}-{uuid.uuid4().hex[:8]}"
            (self.workspace / _PLACE).write_text(str(own))
            metadata.touch()  # SQLite takes it for an empty database

    def check(self, metadata: Path) -> None:
        """Refuse a workspace whose metadata has the names of artifacts elsewhere.

        Args:
            metadata: file of ML Metadata.

        Raises:
            UsageError: the workspace began in another bucket, or in its folder.
        """
        if not metadata.exists():
            return
        begun = self._begun()
        before = begun.parent if begun else None
        if before != self.bucket:
            raise UsageError(
                f"The runs that {self.workspace} knows have their artifacts in {before or 'this folder'}. Received: "
                f"workspace: {self.bucket or self.workspace}. Give another folder of this machine, workspace.local "
                "beside a workspace.path in a bucket; or leave the workspace where it was."
            )

    def _begun(self) -> ObjectPath | None:
        """Return the folder in a bucket in which this workspace's artifacts are."""
        with contextlib.suppress(FileNotFoundError):
            place = locate((self.workspace / _PLACE).read_text())
            return place if isinstance(place, ObjectPath) else None
        return None

    def uri_of(self, text: str) -> str:
        """Return the URI of a path.

        Args:
            text: a text; one that is not the path of an artifact is returned as it is.
        """
        place = self.place
        return f"{place}{text.removeprefix(str(self.folder))}" if place and _is_in(text, str(self.folder)) else text

    def path_of(self, uri: str) -> str:
        """Return the path on this machine of a URI, whether anything is there or not.

        Args:
            uri: a text; one that is not the URI of an artifact in the bucket is returned as it is.
        """
        place = self.place
        return f"{self.folder}{uri.removeprefix(str(place))}" if place and _is_in(uri, str(place)) else uri

    def find(self, uri: str, *, with_rows: bool = True) -> Path | None:
        """Return the folder of an artifact on this machine, fetched if need be.

        Args:
            uri: The URI of the artifact.
            with_rows: whether the rows of examples are needed.

        Returns:
            The folder; None if the artifact is gone.
        """
        path = self.path_of(uri)
        if is_url(path):  # of another workspace
            return None
        if path != uri:
            with contextlib.suppress(FileNotFoundError):
                self.fetch(path, with_rows=with_rows)
        return Path(path) if Path(path).exists() else None

    def fetch(self, text: str, *, with_rows: bool = True) -> None:
        """Copy an artifact from the bucket to this machine, unless it is here.

        Args:
            text: path of the artifact, or of a file of it. Nothing is done for other paths.
            with_rows: whether the rows of examples are needed.

        Raises:
            FileNotFoundError: the artifact is not in the bucket.
        """
        found = self._artifact_at(text)
        if found is None or is_whole(found):
            return
        place = self._in_bucket(found)
        infos = place.files()
        if not infos:
            raise FileNotFoundError(
                f"An artifact is not in the bucket any more. Received: {place}. Run the pipeline again, which makes it "
                "again."
            )
        begin(found)
        found.mkdir(parents=True, exist_ok=True)
        download(place, found, [info for info in infos if with_rows or not _is_of_rows(info, place)])
        if with_rows:
            end(found)

    def open(self, text: str) -> None:
        """Prepare for an artifact that will be written: the remains of an earlier try are removed.

        Args:
            text: path of the artifact, or of a file of it. Nothing is done for other paths.
        """
        if (found := self._artifact_at(text)) is not None:
            begin(found)
            remove_here(found)
            place = self._in_bucket(found)
            if place.is_dir():
                place.remove_tree()

    def publish(self, text: str) -> None:
        """Upload an artifact that was written.

        Args:
            text: path of the artifact, or of a file of it. Nothing is done for other paths.

        Raises:
            StorageError: the bucket cannot be written, or does not keep what is uploaded.
        """
        if (found := self._artifact_at(text)) is None:
            return
        place = self._in_bucket(found)
        here = upload(found, place)
        there = {info.path.relative_to(place) for info in place.files()}
        if missing := here - there:
            raise StorageError(
                f"The bucket does not have what was uploaded a moment ago. Received: {place / min(missing)}. Does "
                "something else remove objects there?"
            )
        if not there:
            (place / _EMPTY).write_bytes(b"")
        if there <= {*here, _EMPTY}:  # workers may have written to the bucket alone
            end(found)

    def discard(self, text: str) -> None:
        """Remove the copy of an artifact on this machine.

        Args:
            text: path of the artifact, or of a file of it. Nothing is done for other paths.
        """
        if (found := self._artifact_at(text)) is not None:
            remove_here(found)
            end(found)

    def of_execution(self, execution_id: int) -> list[Path]:
        """Return the folders of an execution: its artifacts, and what TFX has for it.

        Args:
            execution_id: in ML Metadata.
        """
        return [path for path in self._folders(self._listed()) if path.name == str(execution_id)]

    def folders(self) -> dict[Path, FolderInfo]:
        """Describe all artifacts, and what TFX keeps beside them for each execution.

        Returns:
            By path on this machine, in order; some may only be in the bucket, and some only here.
        """
        listed = self._listed()
        found = {}
        for path in self._folders(listed):
            infos = listed.get(path, [])
            files = [one.lstat() for one in path.rglob("*") if one.is_file()] if path.is_dir() else []
            times = [info.modified_ns / 1e9 for info in infos] or [path.lstat().st_mtime]
            size = sum(info.num_bytes for info in infos) + sum(one.st_size for one in files)
            found[path] = FolderInfo(size, max(times))
        return found

    def _folders(self, listed: Iterable[Path]) -> list[Path]:
        here = {path for pattern in ("*/[!.]*/*", "*/.system/*/*") for path in self.folder.glob(pattern)}
        return sorted({path for path in here if path.suffix != _INCOMPLETE}.union(listed))

    def remove(self, path: Path) -> None:
        """Remove one of `folders`, here and in the bucket.

        Args:
            path: on this machine.
        """
        if self.bucket is not None:
            self._in_bucket(path).remove_tree()
        remove_here(path)
        end(path)

    def _listed(self) -> dict[Path, list[ObjectInfo]]:
        """Return the objects in the bucket by the path of their folder on this machine."""
        found: dict[Path, list[ObjectInfo]] = {}
        if (place := self.place) is None:
            return found
        for info in place.files():
            parts = PurePosixPath(info.path.relative_to(place)).parts
            depth = _DEPTH + 1 if len(parts) > 1 and parts[1] == ".system" else _DEPTH
            if len(parts) > depth:
                found.setdefault(self.folder.joinpath(*parts[:depth]), []).append(info)
        return found

    def _artifact_at(self, text: str) -> Path | None:
        """Return the folder of the artifact that a path is in; None for others, and where there is no bucket."""
        if self.bucket is None or not _is_in(text, str(self.folder)):
            return None
        parts = Path(text).relative_to(self.folder).parts
        return self.folder.joinpath(*parts[:_DEPTH]) if len(parts) >= _DEPTH else None

    def _in_bucket(self, path: Path) -> ObjectPath:
        place = self.place
        assert place is not None
        return place / path.relative_to(self.folder)


def download(place: ObjectPath, folder: Path, infos: Iterable[ObjectInfo] | None = None) -> None:
    """Copy a folder from a bucket; what is here already is not copied again.

    Args:
        place: in the bucket.
        folder: on this machine.
        infos: objects in it to copy. Default: all.
    """
    wanted = [info for info in (place.files() if infos is None else infos) if info.path.name != _EMPTY]
    _at_once(lambda info: _download(info, folder / info.path.relative_to(place)), wanted)


def upload(folder: Path, place: ObjectPath) -> set[str]:
    """Copy a folder into a bucket.

    Args:
        folder: on this machine.
        place: in the bucket.

    Returns:
        The names of the files, relative to the folder.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    _at_once(lambda path: (place / path.relative_to(folder)).upload(path), files)
    return {path.relative_to(folder).as_posix() for path in files}


def is_whole(artifact: Path) -> bool:
    """Return whether all of an artifact is on this machine.

    Args:
        artifact: its path there.
    """
    return artifact.exists() and not _marker(artifact).exists()


def begin(artifact: Path) -> None:
    """Note that an artifact is not all here.

    Args:
        artifact: its path.
    """
    artifact.parent.mkdir(parents=True, exist_ok=True)
    _marker(artifact).touch()


def end(artifact: Path) -> None:
    """Note that an artifact is all here, or not at all.

    Args:
        artifact: its path.
    """
    _marker(artifact).unlink(missing_ok=True)


def _marker(artifact: Path) -> Path:
    return artifact.with_name(f".{artifact.name}{_INCOMPLETE}")


def _is_in(text: str, folder: str) -> bool:
    return text.startswith(f"{folder}/")


def _is_of_rows(info: ObjectInfo, artifact: ObjectPath) -> bool:
    return PurePosixPath(info.path.relative_to(artifact)).parts[0].startswith(ROWS.rstrip("*"))


def _download(info: ObjectInfo, path: Path) -> None:
    """Copy an object, whole or not at all, unless it is here: several processes may fetch one artifact."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        info.path.download(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _at_once(copy: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Copy several files at the same time; the first failure is raised."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for future in [pool.submit(copy, item) for item in items]:
            future.result()


def remove_here(path: Path) -> None:
    """Remove a folder or file of this machine, if it is there.

    A folder is renamed before, so that none remains of which half is removed.

    Args:
        path: of the folder or file.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            aside = path.with_name(f".{path.name}.pruned")
            path.rename(aside)
            shutil.rmtree(aside)
        else:
            path.unlink()


@contextlib.contextmanager
def removed_after(path: str | None) -> Iterator[None]:
    """Remove a folder at the end of the context.

    Args:
        path: of the folder, which need not exist.
    """
    try:
        yield
    finally:
        if path:
            shutil.rmtree(path, ignore_errors=True)

"""Places of data and models: folders of this machine, including mounted volumes, and buckets of object stores.

It is the only module that accesses object stores. Credentials, region and endpoint come from the environment and its
files, as the SDKs of the clouds read them. Nothing is imported for a place on this machine.
"""

import contextlib
import errno
import fnmatch
import functools
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kubetfx.errors import StorageError
from kubetfx.storage_errors import explain
from kubetfx.temporary_files import of_this_process

_SCHEMES = ("s3", "gs")

_CONNECT_SECONDS = 5.0
_ATTEMPTS = 3
"""Tries of each request to S3; a refused connection is reported after about a second."""
_READ_ATTEMPTS = 7
"""Tries of a request that reads an object, for half a minute: stores refuse readers temporarily where many read.

So often every request is tried within `patiently`."""
GCS_RETRY_SECONDS = 10
"""Time for which Google's client tries again."""
GCS_READ_RETRY_SECONDS = 60
"""Time for which it does so where it reads an object."""
_BUFFER_BYTES = 2**20
"""Size of the pieces that `open_stream` fetches."""
_COPY_BYTES = 8 * 2**20

_ENVIRONMENT = ("AWS_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST")
"""Beginnings of the variables that say how a store is reached."""


_COPIES_LOCK = threading.Lock()
_PATIENCE_LOCK = threading.Lock()
_num_patient = 0
"""Contexts of `patiently` that are open in this process, whichever threads they are of."""


class ObjectInfo(NamedTuple):
    """An object, as listings describe it."""

    path: "ObjectPath"
    num_bytes: int
    modified_ns: int
    """Time since the epoch. Stores keep it to the second or finer."""


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or a folder of objects, in a bucket. All of its methods can raise StorageError.

    A folder is there as long as an object is in it. An object appears whole, when the last byte of it was taken.
    """

    scheme: str
    """`s3` or `gs`."""
    key: str
    """Bucket and name, without slashes around."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}"

    def __truediv__(self, name: str | PurePath) -> "ObjectPath":
        return ObjectPath(self.scheme, f"{self.key}/{PurePath(name).as_posix()}")

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """The folder that it is in; a bucket is its own parent."""
        return ObjectPath(self.scheme, self.key.rpartition("/")[0] or self.key)

    def is_file(self) -> bool:
        """Return whether it is an object."""
        return bool(self._info().is_file)

    def is_dir(self) -> bool:
        """Return whether an object is in it. Some stores remember an emptied folder temporarily."""
        return bool(self._info().type.name == "Directory")

    def info(self) -> ObjectInfo:
        """Return the size and time of an object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return ObjectInfo(self, info.size, info.mtime_ns)

    def files(self) -> list[ObjectInfo]:
        """Return all objects under the folder, in order; none if there is no such folder."""
        infos = self._select(recursive=True)
        return sorted(
            ObjectInfo(ObjectPath(self.scheme, info.path), info.size, info.mtime_ns) for info in infos if info.is_file
        )

    def glob(self, pattern: str) -> list["ObjectPath"]:
        """Find objects by a pattern.

        Args:
            pattern: relative to this folder. `*`, `?` and `[...]` stay within a folder, `**` is any number of folders.

        Returns:
            The objects that match, in order.
        """
        parts = pattern.split("/")
        plain = next((i for i, part in enumerate(parts[:-1]) if re.search(r"[*?\[]", part)), len(parts) - 1)
        start = self / "/".join(parts[:plain]) if plain else self
        infos = start._select(recursive=plain < len(parts) - 1)
        found = (ObjectPath(self.scheme, info.path) for info in infos if info.is_file)
        return sorted(path for path in found if _matches(path.relative_to(self).split("/"), parts))

    def relative_to(self, folder: "ObjectPath") -> str:
        """Return the part of the path below a folder.

        Args:
            folder: that this object is in.
        """
        return self.key.removeprefix(f"{folder.key}/")

    def open_file(self) -> Any:
        """Arrow's file for reading from any position."""
        with self._explained(is_reading=True) as filesystem:
            return filesystem.open_input_file(self.key)

    def open_stream(self) -> Any:
        """Arrow's file for reading from start to end, in pieces of any size."""
        with self._explained(is_reading=True) as filesystem:
            return filesystem.open_input_stream(self.key, compression=None, buffer_size=_BUFFER_BYTES)

    def open_output(self) -> Any:
        """Arrow's file for writing. It appears when it is closed, also after a failure: write what is small at once."""
        with self._explained() as filesystem:
            return filesystem.open_output_stream(self.key, compression=None)

    def read_bytes(self) -> bytes:
        """Return the object's content.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._explained(), self.open_file() as file:
            return bytes(file.read())

    def read_text(self) -> str:
        """Return the object's content, in UTF-8."""
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Write the object, or replace it, at once or not at all.

        Args:
            content: The content of the whole object.
        """
        with self._explained(), self.open_output() as file:
            file.write(content)

    def write_text(self, text: str) -> None:
        """Write the object in UTF-8, or replace it, at once or not at all.

        Args:
            text: The text of the whole object.
        """
        self.write_bytes(text.encode())

    def upload(self, path: Path) -> None:
        """Write the object from a file. If the file cannot be read to its end, the object has a part of it.

        Args:
            path: The path of the file.
        """
        with self._explained(), path.open("rb") as source, self.open_output() as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)

    def download(self, path: Path) -> None:
        """Write the object into a file.

        Args:
            path: The path of the file, which is replaced.
        """
        with self._explained(), self.open_file() as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)

    def copy_to(self, target: "ObjectPath") -> None:
        """Copy the object within the store.

        Args:
            target: in a bucket of the same store.
        """
        with self._explained() as filesystem:
            filesystem.copy_file(self.key, target.key)

    def unlink(self) -> None:
        """Delete the object; nothing happens if it is gone."""
        with contextlib.suppress(FileNotFoundError), self._explained() as filesystem:
            filesystem.delete_file(self.key)

    def remove_tree(self) -> None:
        """Delete the folder; nothing happens if it is gone."""
        with contextlib.suppress(FileNotFoundError), self._explained() as filesystem:
            filesystem.delete_dir(self.key)

    def _info(self) -> Any:
        with self._explained() as filesystem:
            try:
                return filesystem.get_file_info(self.key)
            except OSError:
                if self.scheme == "s3":
                    self._select(recursive=False)  # S3's answer to a HEAD says no reason, and this one's may
                raise

    def _select(self, *, recursive: bool) -> list[Any]:
        from pyarrow.fs import FileSelector

        try:  # allow_not_found would also take a missing bucket for an empty folder
            with self._explained() as filesystem:
                return list(filesystem.get_file_info(FileSelector(self.key, recursive=recursive)))
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _explained(self, *, is_reading: bool = False) -> Iterator[Any]:
        """Arrow's file system, whose errors become ours."""
        from pyarrow.lib import ArrowException

        try:
            is_patient = is_reading or _num_patient > 0
            yield _connect(self.scheme, self.bucket, tuple(environment().items()), is_patient=is_patient)
        except (OSError, ArrowException) as error:
            is_local = isinstance(error, OSError) and error.filename is not None
            store = _store(self.scheme)
            explained = None if is_local else explain(str(error), url=str(self), bucket=self.bucket, store=store)
            if explained is None:
                raise
            raise explained from error


Location = Path | ObjectPath


def is_url(text: str) -> bool:
    """Return whether a place is not on this machine.

    Args:
        text: a path or URL.
    """
    return "://" in text


def is_web(text: str) -> bool:
    """Return whether a place is behind http:// or https://.

    Args:
        text: a path or URL.
    """
    return text.startswith(("http://", "https://"))


def locate(text: str) -> Location:
    """Read a place from its path or URL.

    Args:
        text: a path, `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`.

    Returns:
        The place; nothing is looked up.

    Raises:
        ValueError: the URL has another scheme, or no bucket.
    """
    if not is_url(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme not in _SCHEMES or not re.match(r"[A-Za-z0-9._-]+(/|$)", rest):
        raise ValueError(
            f"a folder of this machine is needed, or s3://BUCKET/FOLDER, or gs://BUCKET/FOLDER. Received: {text}"
        )
    return ObjectPath(scheme, "/".join(part for part in rest.split("/") if part))


def nearest_existing(path: Path) -> Path:
    """Return a place of this machine, or the nearest folder above it that exists: that of its disk.

    Args:
        path: which need not exist.
    """
    return next(place for place in (path, *path.parents) if place.exists())


def list_files(folder: Location, pattern: str | None = None) -> Sequence[Location]:
    """List files directly in a folder, or those that a glob in it matches.

    Args:
        folder: where to look.
        pattern: relative to the folder. None: all files.

    Returns:
        The files in order, without folders.

    Raises:
        OSError: the folder cannot be read.
        StorageError: the object store cannot be read.
    """
    if not isinstance(folder, Path):
        return folder.glob(pattern or "*")  # a listing tells objects from folders
    found = folder.iterdir() if pattern is None else folder.glob(pattern)
    return [path for path in sorted(found) if path.is_file()]


@contextlib.contextmanager
def patiently() -> Iterator[None]:
    """Ask a store that refuses or cannot be reached again for half a minute, within the context.

    Hours of work depend on it meanwhile. Otherwise only readers wait, and the others learn of a wrong address within a
    second.
    """
    global _num_patient  # noqa: PLW0603
    with _PATIENCE_LOCK:
        _num_patient += 1
    try:
        yield
    finally:
        with _PATIENCE_LOCK:
            _num_patient -= 1


def check_writable(folder: ObjectPath) -> None:
    """Write an object into a folder, and delete it again.

    Args:
        folder: in a bucket.

    Raises:
        StorageError: the folder cannot be written.
    """
    probe = folder / ".kubetfx-can-write"
    probe.write_bytes(b"")
    probe.unlink()


def write_text(place: Location, text: str) -> None:
    """Write a file whole or not at all: on this machine aside first, and then renamed.

    Args:
        place: of the file; folders on the way to it are made.
        text: its content.
    """
    if not isinstance(place, Path):
        place.write_text(text)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.rename(place)
    finally:
        aside.unlink(missing_ok=True)


def copy_folder(source: Location, target: Path) -> None:
    """Copy a folder to this machine.

    Args:
        source: the folder.
        target: is made; files in it are replaced.

    Raises:
        OSError: the source cannot be read, or the disk cannot be written.
        StorageError: the object store cannot be read.
    """
    if isinstance(source, Path):
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    for info in source.files():
        path = target / info.path.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        info.path.download(path)


@contextlib.contextmanager
def opened(text: str) -> Iterator[Any]:
    """Open a file for a reader that takes paths as well as files, and reads parts of it, such as Parquet's.

    Args:
        text: path or URL of the file.

    Yields:
        The path; or Arrow's file of an object.

    Raises:
        FileNotFoundError: there is no such object.
        StorageError: the object store cannot be read.
    """
    place = locate(text)
    if isinstance(place, Path):
        yield text
        return
    with place._explained(is_reading=True), place.open_file() as file:
        yield file


def folder_here(text: str) -> Path:
    """Return a folder on this machine with the content of another.

    Args:
        text: path or URL of the folder.

    Returns:
        The folder itself; or a copy of one in a bucket, which lives as long as this process.

    Raises:
        StorageError: the object store cannot be read.
    """
    place = locate(text)
    if isinstance(place, Path):
        return place
    with _COPIES_LOCK:
        return _copied(place)


@functools.cache
def _copied(place: ObjectPath) -> Path:
    copy = Path(tempfile.mkdtemp(dir=of_this_process()))
    copy_folder(place, copy)
    return copy


def s3_endpoint() -> str | None:
    """Return where S3 is: what AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile say, in this order.

    None: Amazon's own.
    """
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or _profile_endpoint()


def _profile_endpoint() -> str | None:
    import configparser

    path = os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    profile = os.environ.get("AWS_PROFILE") or "default"
    parser = configparser.RawConfigParser()
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):  # the SDK will say so, or need nothing of it
        parser.read(path)
    section = "default" if profile == "default" else f"profile {profile}"
    services = parser.get(section, "services", fallback=None)
    nested = parser.get(f"services {services}", "s3", fallback="")
    if of_service := re.search(r"^\s*endpoint_url\s*=\s*(\S+)", nested, re.MULTILINE):
        return of_service[1]
    return parser.get(section, "endpoint_url", fallback=None)


def environment() -> dict[str, str]:
    """Return the variables that say how a store is reached."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_ENVIRONMENT)}


def _store(scheme: str) -> str:
    """Return a store's name, for errors."""
    if scheme == "s3":
        return s3_endpoint() or "Amazon S3"
    return os.environ.get("STORAGE_EMULATOR_HOST") or "Google Cloud Storage"


@functools.lru_cache(maxsize=16)
def _connect(scheme: str, bucket: str, variables: tuple[tuple[str, str], ...], *, is_patient: bool) -> Any:
    """Arrow's file system for a bucket. The variables are those of `environment`: after a change it connects again."""
    if scheme == "s3":
        return _connect_to_s3(bucket, attempts=_READ_ATTEMPTS if is_patient else _ATTEMPTS)
    return _connect_to_gcs(GCS_READ_RETRY_SECONDS if is_patient else GCS_RETRY_SECONDS)


def _connect_to_s3(bucket: str, *, attempts: int) -> Any:
    from pyarrow import fs

    endpoint = s3_endpoint()
    if endpoint is not None and urlsplit(endpoint).scheme not in ("http", "https"):
        raise StorageError(
            f"AWS_ENDPOINT_URL needs a scheme. Received: {endpoint}. Put http:// or https:// in front of it."
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint is None and region is None:  # the SDK would take its default, and S3 then refuse
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=_CONNECT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
    )


def _connect_to_gcs(seconds: int) -> Any:
    import datetime

    from pyarrow import fs

    patience = datetime.timedelta(seconds=seconds)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        return fs.GcsFileSystem(retry_time_limit=patience)
    url = urlsplit(emulator if is_url(emulator) else f"http://{emulator}")
    return fs.GcsFileSystem(anonymous=True, scheme=url.scheme, endpoint_override=url.netloc, retry_time_limit=patience)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    first, *rest = pattern
    if first == "**":
        return any(_matches(parts[depth:], rest) for depth in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], first) and _matches(parts[1:], rest)

"""What a machine does to a run, in words.

A disk is full or cannot be written any more, memory is used up, or the file of ML Metadata is damaged or locked.
Libraries say it in many ways: by an OSError, a statement of SQL that failed, an allocation of TensorFlow or Arrow.
"""

import contextlib
import errno
import os
import re
import resource
import tempfile
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from kubetfx.byte_counts import readable
from kubetfx.cores import memory_bytes
from kubetfx.errors import KubetfxError, MachineError, WorkerError
from kubetfx.storage import nearest_existing
from kubetfx.workspace import METADATA

MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Bytes that a container may use, of cgroup v2 and v1."""


class _Kind(Enum):
    NO_MEMORY = (
        r"bad_alloc|OOM when allocating|Cannot allocate memory|[mr]e?alloc of size \d+ failed|can't start new thread|"
        r"Unable to allocate|[Oo]ut of memory"
    )
    FULL = r"No space left on device|disk is full|Disk quota exceeded"
    READ_ONLY = r"Read-only file system|readonly database"
    NOT_OPENED = r"unable to open database file"
    LOCKED = r"database (table )?is locked|Concurrent writes aborted"
    DAMAGED = r"not a database|disk image is malformed|malformed database schema|disk I/O error"


_OF_NUMBERS = {
    errno.ENOSPC: _Kind.FULL,
    errno.EDQUOT: _Kind.FULL,
    errno.EROFS: _Kind.READ_ONLY,
    errno.ENOMEM: _Kind.NO_MEMORY,
}
_LESS_MEMORY = {
    "ImageExampleGen": "the size of the images",
    "Trainer": "training.batch_size, or the size of the network in `model`",
    "Tuner": "training.batch_size, or tuning.parallel",
}
_GOES_ON = "Nothing that is half written is used, and the next run takes finished nodes from the cache."


@contextlib.contextmanager
def in_words(*places: object) -> Iterator[None]:
    """Say in words what the machine does within the context.

    Args:
        places: The workspace, and where else files are written; those that are not on this machine are left out.

    Raises:
        MachineError: a disk is full or read-only, memory is used up, or ML Metadata cannot be read.
    """
    try:
        yield
    except KubetfxError:
        raise
    except Exception as error:
        if (words := explained(error, *places)) is None:
            raise
        raise MachineError(words) from error


def explained(error: BaseException, *places: object, node: str = "") -> str | None:
    """Say in words what the machine did.

    Args:
        error: that was caught, with its causes.
        places: The workspace, and where else files are written; those that are not on this machine are left out.
        node: id of the node that failed; empty: none did.

    Returns:
        What is wrong, and what to do; None if the error is about something else, or of another machine.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, WorkerError) for cause in causes):
        return None
    kinds = {kind for cause in causes if (kind := _kind_of(cause)) is not None}
    folders = [*dict.fromkeys(nearest_existing(place) for place in places if isinstance(place, Path))]
    folders.append(Path(tempfile.gettempdir()))
    if _Kind.NO_MEMORY in kinds:
        return f"There is not enough memory. {memory_advice(node)}"
    if _Kind.FULL in kinds or (_Kind.NOT_OPENED in kinds and not all(map(_has_room, folders))):
        return _full(folders)
    if _Kind.READ_ONLY in kinds:
        return _read_only(folders)
    metadata = next((place / METADATA for place in places if isinstance(place, Path)), METADATA)
    if _Kind.LOCKED in kinds:
        return (
            f"Another program has locked ML Metadata. Received: {metadata}. End it (`fuser` names it), and run again. "
            f"{_GOES_ON}"
        )
    if _Kind.DAMAGED in kinds or _Kind.NOT_OPENED in kinds:
        return (
            f"ML Metadata cannot be read: its file is damaged. Received: {metadata}. Put a copy of the file back, or "
            "move the workspace away: the next run then makes everything again. Pushed models need neither."
        )
    return None


def memory_advice(node: str) -> str:
    """Say how much memory there is for this process, and what needs less of it.

    Args:
        node: id of the node that needed more.

    Returns:
        The limit, and what to lower.
    """
    less = _LESS_MEMORY.get(node, "the number of rows and columns in `data`")
    return f"Received: a limit of {_memory_limit()}. Raise it, or lower what {node or 'the run'} needs: {less}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _kind_of(error: BaseException) -> _Kind | None:
    if isinstance(error, MemoryError):
        return _Kind.NO_MEMORY
    if isinstance(error, OSError) and error.errno in _OF_NUMBERS:
        return _OF_NUMBERS[error.errno]
    text = str(error)
    return next((kind for kind in _Kind if re.search(kind.value, text)), None)


def _has_room(folder: Path) -> bool:
    status = os.statvfs(folder)
    return status.f_bavail > 0 and (status.f_favail > 0 or not status.f_files)


def _full(folders: Sequence[Path]) -> str:
    """Name the place with the least room: what failed may have been removed already."""
    folder = min(folders, key=lambda folder: (_has_room(folder), _free_bytes(folder)))
    status = os.statvfs(folder)
    if status.f_files and not status.f_favail:
        problem, room = "The disk can have no more files", f"{status.f_files:,} files"
    else:
        problem = "The disk is full"
        room = f"{readable(_free_bytes(folder))} free of {readable(status.f_blocks * status.f_frsize)}"
    return (
        f"{problem}. Received: {folder}, {room}. Make room there, for example by workspace.keep, which removes old "
        f"runs; or use another disk. {_GOES_ON}"
    )


def _free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _read_only(folders: Sequence[Path]) -> str:
    folder = next((folder for folder in folders if os.statvfs(folder).f_flag & os.ST_RDONLY), folders[0])
    return (
        f"The disk cannot be written: it is mounted read-only. Received: {folder}. Linux mounts a disk so after "
        f"errors, which `dmesg` shows. Mount it for writing, or use another disk. {_GOES_ON}"
    )


def _memory_limit() -> str:
    """Return how much memory this process may use, and who says so."""
    limits = {"the memory of this machine": memory_bytes()}
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits["what a process may address, `ulimit -v`"] = soft
    for path in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such cgroup, or no limit: `max`
            limits["the limit of the container"] = int(path.read_text(encoding="ascii"))
    words, num_bytes = min(limits.items(), key=lambda limit: limit[1])
    return f"{readable(num_bytes)}, {words}"

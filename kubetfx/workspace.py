"""The workspace of a pipeline: one run at a time, in one process or in a process per node.

All locks are the kernel's, which releases them however a process ends.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from kubetfx.errors import UsageError

METADATA = "metadata.sqlite"
"""File of a workspace with ML Metadata's store."""

_LOCK = ".lock"
"""Lock of the run. A run in one process holds it exclusively; nodes that are processes share it, and it contains their
run's id.
"""
_DOOR = ".lock.door"
"""Held for the moment in which a node looks who has the lock of the run."""
_TURN = ".lock.turn"
_NODE = ".lock.node."
_WATCH = ".lock.watch"


@contextlib.contextmanager
def locked(workspace: Path) -> Iterator[None]:
    """Keep a second run out of a workspace.

    Args:
        workspace: is made if it does not exist.

    Raises:
        UsageError: another run is using it.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    with _opened(workspace / _LOCK) as lock:
        if not _is_taken(lock, fcntl.LOCK_EX):
            raise _in_use(workspace)
        yield


@contextlib.contextmanager
def shared(workspace: Path, *, run_id: str) -> Iterator[None]:
    """Keep other runs out of a workspace, and let the nodes of one run in.

    Args:
        workspace: is made if it does not exist.
        run_id: The id of the run.

    Raises:
        UsageError: another run is using it.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    with _opened(workspace / _LOCK) as lock:
        with _opened(workspace / _DOOR) as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            if _is_taken(lock, fcntl.LOCK_EX):  # nobody else has it
                lock.truncate(0)
                lock.write(run_id)
                lock.flush()
            if not _is_taken(lock, fcntl.LOCK_SH):
                raise _in_use(workspace)
            lock.seek(0)
            if (other := lock.read()) != run_id:
                raise _in_use(workspace, by=other)
        yield


@contextlib.contextmanager
def node_locked(workspace: Path, node_id: str, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Let no two processes run one node; the second waits for the first.

    Args:
        workspace: The workspace of the pipeline, which this process shares.
        node_id: The id of the node.
        waiting: is called if there is a first.
    """
    with _opened(workspace / f"{_NODE}{node_id}") as lock:
        if not _is_taken(lock, fcntl.LOCK_EX):
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Turn:
    """Processes of one run work in turn on what they share: ML Metadata, and the record of the run."""

    def __init__(self, workspace: Path) -> None:
        """Begin with nobody's turn.

        Args:
            workspace: which this process shares.
        """
        self._path = workspace / _TURN
        self._lock: IO[str] | None = None

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn within the context."""
        with _opened(self._path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Give the turn to others within the context."""
        assert self._lock is not None, "it is not this process' turn"
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_EX)


@contextlib.contextmanager
def watched(workspace: Path) -> Iterator[None]:
    """Keep a second process from deciding when to run.

    Args:
        workspace: is made if it does not exist.

    Raises:
        UsageError: there is one.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    with _opened(workspace / _WATCH) as lock:
        if not _is_taken(lock, fcntl.LOCK_EX):
            raise UsageError(
                f"Another process watches this pipeline. Received: {workspace}. End it, or set another workspace."
            )
        yield


def _opened(path: Path) -> IO[str]:
    """Open a file that is only locked: for reading and writing, as network file systems want it."""
    return path.open("a+", encoding="utf-8")


def _is_taken(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(workspace: Path, *, by: str = "") -> UsageError:
    run = f", which run {by} uses" if by else ""
    return UsageError(
        f"Another run is using the workspace. Received: {workspace}{run}. Wait for it, or set another workspace."
    )

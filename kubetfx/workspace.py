"""The workspace of a pipeline: one run at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from kubetfx.errors import UsageError

METADATA = "metadata.sqlite"
"""File of a workspace with ML Metadata's store."""


@contextlib.contextmanager
def locked(workspace: Path) -> Iterator[None]:
    """Keep a second run out of a workspace. The kernel releases the lock however the process ends.

    Args:
        workspace: is made if it does not exist.

    Raises:
        UsageError: another run is using it.
    """
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another run is using the workspace. Received: {workspace}. Wait for it, or set another workspace."
            ) from None
        yield

"""Temporary files of a run: in a folder of their own, which is removed however the run ends.

A killed process removes nothing, and TensorFlow, Beam and Python's own libraries leave files where it was killed. The
next run, of whichever pipeline, removes the folders of runs that are no more. The kernel knows which these are: it
releases the lock of a process that ends.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_PREFIX = "kubetfx-run-"
_LOCK = ".lock"
_STALE_SECONDS = 3_600
"""Age of a folder without a lock from which its process is not about to lock it."""


@contextlib.contextmanager
def of_a_run() -> Iterator[Path]:
    """Have a folder for temporary files, of this process and of those that it starts.

    Yields:
        The folder, which is removed at the end.
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    shared = shared_folder()
    _remove_abandoned(shared)
    folder, lock = _new(shared)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        os.environ.pop("TMPDIR")
        if variable is not None:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


@functools.cache
def of_this_process() -> Path:
    """Return a folder for temporary files that are there as long as this process."""
    folder, lock = _new(shared_folder())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(lock.close)
    return folder


def shared_folder() -> Path:
    """Return the folder for temporary files that later runs are to find too."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if folder.name.startswith(_PREFIX) else folder


def _new(shared: Path) -> tuple[Path, IO[str]]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=shared))
        lock = (folder / _LOCK).open("w", encoding="utf-8")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        lock.close()  # another process saw it before it was locked


def _remove_abandoned(shared: Path) -> None:
    for folder in shared.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, of a process that runs, or gone
            if not (folder / _LOCK).exists():
                if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(folder)
                continue
            with (folder / _LOCK).open("r+", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)

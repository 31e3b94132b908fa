"""Child processes: they end with the process that started them, and pass their errors to it.

A caller that starts several at once gives each its share of the cores.
"""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kubetfx.errors import ConfigError, DataError, KubetfxError, StorageError, TrainingError

FAILED = 1
"""Exit code of an error that a restart cannot fix."""
ERROR = "error.json"
"""File with an error that ends the work of all processes."""
_LEAVE_SECONDS = 5.0
_KINDS: Mapping[str, type[KubetfxError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, StorageError, TrainingError)
}


@contextlib.contextmanager
def started(
    module: str, *arguments: str, environment: Mapping[str, str], log_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a module as a process that ends with the context.

    Args:
        module: The name of the module, which calls `leave_with_parent`.
        arguments: The arguments of its command line.
        environment: Variables in addition to those of this process.
        log_path: The file to which its output is appended.

    Yields:
        The process.
    """
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=variables, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()  # this is how the child learns that it must exit
        try:
            process.wait(0 if process.poll() is not None else _LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def leave_with_parent() -> None:
    """End this process when its parent ends, for whatever reason: the pipe is closed then."""

    def wait() -> None:
        while os.read(0, 1):  # Python takes the lock of sys.stdin when it exits
            pass
        os._exit(FAILED)

    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=wait, daemon=True).start()


def write_error(folder: Path, error: KubetfxError) -> None:
    """Write an error where the parent process finds it.

    Args:
        folder: A folder that both processes know.
        error: The error that ends the work.
    """
    write_whole(folder / ERROR, {"kind": type(error).__name__, "message": str(error)})


def raise_error(folder: Path) -> None:
    """Raise the error that a child process has written, if there is one.

    Args:
        folder: that both know.

    Raises:
        ConfigError: as it was raised there; DataError, StorageError and TrainingError too.
    """
    path = folder / ERROR
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        raise _KINDS.get(document["kind"], TrainingError)(document["message"])


def write_whole(path: Path, document: dict[str, Any]) -> None:
    """Write a file atomically, since others wait for it.

    Args:
        path: The path of the file.
        document: for JSON.
    """
    unfinished = path.with_name(f".{path.name}-{socket.gethostname()}-{os.getpid()}")
    unfinished.write_text(json.dumps(document), encoding="utf-8")
    unfinished.replace(path)


def last_lines(log_path: Path, *, lines: int = 20) -> str:
    """Return the end of a log.

    Args:
        log_path: The path of the log.
        lines: at most.
    """
    found = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(found[-lines:])


def how_it_ended(code: int) -> str:
    """Return the exit code of a process in words.

    Args:
        code: The exit code, as subprocess reports it.
    """
    return f"signal {-code}" if code < 0 else f"exit code {code}"

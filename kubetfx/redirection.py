"""Sends what a process writes to its standard output and error to a file."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kubetfx.config.references import redact_file


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a file, and with them all that TensorFlow's C++ and Beam's workers write.

    In a notebook `sys.stdout`, `sys.stderr` and handlers of logs do not write to these descriptors; they are sent to
    the file too. Secrets that were looked up are taken out of the file at the end.

    Args:
        path: The path of the file, to which the output is added.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        with _streams_are_descriptors():
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the disk may be full, and the descriptors are to come back anyway
                stream.flush()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        redact_file(path)


@contextlib.contextmanager
def _streams_are_descriptors() -> Iterator[None]:
    if is_descriptor(sys.stdout, 1) and is_descriptor(sys.stderr, 2):
        yield
        return
    before = (sys.stdout, sys.stderr)
    with (
        contextlib.redirect_stdout(_stream(1)),
        contextlib.redirect_stderr(_stream(2)),
        _handlers_write_to(_stream(2), instead_of=before),
    ):
        yield


def is_descriptor(stream: TextIO, number: int) -> bool:
    """Return whether a stream writes to a file descriptor.

    Args:
        stream: `sys.stdout` or `sys.stderr`, which in a notebook writes to its cell, and may be None.
        number: The number of the descriptor.
    """
    try:
        return stream.fileno() == number
    except (OSError, AttributeError):
        return False


@functools.cache
def _stream(descriptor: int) -> TextIO:
    """Return a stream that is never closed: handlers that libraries make meanwhile keep it."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)


@contextlib.contextmanager
def _handlers_write_to(stream: TextIO, *, instead_of: tuple[TextIO, ...]) -> Iterator[None]:
    """Let handlers of logs write to another stream than the one that they were made with."""
    absl = sys.modules.get("absl.logging")
    handlers: list[Any] = [*logging.root.handlers, *([absl.get_absl_handler().python_handler] if absl else [])]
    changed = [(handler, handler.stream) for handler in handlers if getattr(handler, "stream", None) in instead_of]
    for handler, _ in changed:
        handler.setStream(stream)
    try:
        yield
    finally:
        for handler, before in changed:
            handler.setStream(before)

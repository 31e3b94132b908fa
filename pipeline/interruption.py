"""Handles Ctrl-C and requests to terminate, for a command that cleans up before it ends."""

import signal
import sys
from typing import Any

_RETRY_SECONDS = 0.01


def interrupt_once() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, once: a second signal ends the process.

    Python prints and ignores exceptions in destructors (`sys.unraisablehook`), and TensorFlow's objects have many
    destructors: a KeyboardInterrupt in one of them is raised again after it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = _raise_again


def _interrupt(number: int, frame: object) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_DFL)
    raise KeyboardInterrupt


def _raise_again(unraisable: Any) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
    else:
        sys.__unraisablehook__(unraisable)

"""Ctrl-C and requests to terminate, for a command that cleans up before it ends."""

import signal
import sys
from typing import Any

RETRY_SECONDS = 0.01


def interrupt_once() -> None:
    """From now on SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, once: a second one ends the process.

    What a destructor raises, Python prints and forgets (`sys.unraisablehook`), and TensorFlow's objects have many:
    a Ctrl-C that falls into one is raised again after it.
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
        signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
    else:
        sys.__unraisablehook__(unraisable)

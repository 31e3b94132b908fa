"""Runs forked from a process that has done the slow imports, and computes nothing itself."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.progress import Begin, End, Progress
from kubetfx.redirection import logged_to

POLL_SECONDS = 0.5
"""Interval between checks for an interrupt."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def import_for_runs(config: PipelineConfig | None, progress: Progress) -> None:
    """Do the imports of runs in advance, for processes that are forked from this one.

    Args:
        config: The config of the first run; None: it has an error, and its next version may ask for anything.
        progress: is given the events of it.
    """
    progress(Begin("Loading TFX"))
    with logged_to(Path(os.devnull)):
        from kubetfx.pipeline import local_runner

        local_runner.import_for_runs(config)
    progress(End())
    gc.collect()
    gc.freeze()  # so that the runs share the memory of what is imported


class Interrupts:
    """Ctrl-C and requests to terminate, which are passed on to the run, if there is one."""

    def __init__(self) -> None:
        """Handle the signals from now on."""
        self.came = False
        """Whether there was one."""
        self._pid: int | None = None
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def run(self, function: Callable[[], int]) -> int:
        """Call a function in a separate process, which an interrupt ends.

        Args:
            function: returns an exit code.

        Returns:
            The exit code of the process.
        """
        process = multiprocessing.get_context("fork").Process(target=_call, args=(function,))
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the process that receives them is known
        process.start()
        self._pid = process.pid
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        process.join()
        self._pid = None
        assert process.exitcode is not None
        return process.exitcode if process.exitcode >= 0 else 128 - process.exitcode

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self._pid, signal.SIGTERM if number == signal.SIGHUP else number)


def _call(function: Callable[[], int]) -> None:
    os.setpgid(0, 0)  # so that Ctrl-C reaches the watching process alone, which passes it on once
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    sys.exit(function())


def sleep(seconds: float, interrupts: Interrupts) -> None:
    """Sleep until an interrupt: `time.sleep` goes on after a signal whose handler returns.

    Args:
        seconds: at most.
        interrupts: of this process.
    """
    end = time.monotonic() + seconds
    while not interrupts.came and (rest := end - time.monotonic()) > 0:
        time.sleep(min(rest, POLL_SECONDS))

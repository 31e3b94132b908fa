"""A process from start to end: its time, and its memory with that of its children."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class FinishedProcess:
    """What a process took, and what it printed."""

    wall_seconds: float
    cpu_seconds: float
    """User and system, of the process and all children that it waited for."""
    peak_bytes: int
    """Largest sum of the resident memory of the process and its children."""
    stdout: str


def run_process(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> FinishedProcess:
    """Run a process to its end.

    Args:
        command: to run.
        environment: of it; None: of this process.
        folder: that it runs in.

    Returns:
        What it took, and what it printed.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=stderr, env=environment)
        peak = _PeakMemory(psutil.Process(process.pid))
        peak.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        peak.stop()
        stdout.seek(0)
        stderr.seek(0)
        printed = stdout.read()
        if process.returncode:
            said = f"{printed[-2_000:]}{stderr.read()[-5_000:]}"
            raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{said}")
        # And not ru_maxrss, which starts with what the parent had when it forked.
        return FinishedProcess(wall_seconds, usage.ru_utime + usage.ru_stime, peak.num_bytes, printed)


class _PeakMemory(threading.Thread):
    """Samples the memory of a process and its children until it is stopped."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.num_bytes = 0
        self._process = process
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            self.num_bytes = max(self.num_bytes, sum(_resident_bytes(process) for process in tree))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0

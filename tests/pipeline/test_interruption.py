"""Signals that come at a bad moment, in processes of their own."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from kubetfx.pipeline.interruption import interrupt_once

class Hurt:
    def __del__(self):
        os.kill(os.getpid(), {number})
        for _ in range(1000):  # the handler runs between two of these, in here
            pass

interrupt_once()
try:
    hurt = Hurt()
    del hurt
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
    {then}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_within_a_destructor_is_not_lost(number: signal.Signals) -> None:
    done = _run(number, then="")
    assert (done.returncode, done.stdout) == (0, "interrupted\n")


def test_second_interruption_ends_the_process_at_once() -> None:
    done = _run(signal.SIGINT, then="os.kill(os.getpid(), signal.SIGINT)")
    assert done.returncode == -signal.SIGINT


def _run(number: signal.Signals, *, then: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(number=int(number), then=then)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)

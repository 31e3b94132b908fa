"""How many processor cores there are for this process."""

import contextlib
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time per period, of cgroup v2."""


def num_cores() -> int:
    """Return the cores that this process may use; a container's quota is no affinity."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no quota: `max`
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores

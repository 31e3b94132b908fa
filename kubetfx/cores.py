"""How many processor cores there are for this process, and how much memory on this machine."""

import contextlib
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time per period, of cgroup v2."""


def shares_of_cores(number: int) -> list[set[int]]:
    """Divide the cores of this process between several.

    Args:
        number: The number of processes; if there are more of them than cores, some share one.

    Returns:
        The cores of each, for `os.sched_setaffinity`.
    """
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[index::number]) or {cores[index % len(cores)]} for index in range(number)]


def num_cores() -> int:
    """Return the cores that this process may use; a container's quota is not an affinity."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no quota: `max`
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores


def memory_bytes() -> int:
    """Return the memory of this machine; a process may be allowed less."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

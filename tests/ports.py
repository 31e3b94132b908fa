"""Ports on loopback that no other process of the tests is given.

A port that the kernel chooses (port 0) may be given to somebody else as soon as it is closed: a test whose server is
gone has met another test's server there. These ports are below the kernel's range, and each worker of pytest-xdist
has a part of them to itself.
"""

import itertools
import os
import socket

_FIRST, _LAST = 12_000, 32_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PER_WORKER = 1_000
_START = _FIRST + _WORKER * _PER_WORKER % (_LAST - _FIRST)
_PORTS = itertools.cycle(range(_START, _START + _PER_WORKER))


def free_ports(number: int) -> list[int]:
    """Ports that differ, and that nobody listens on.

    Args:
        number: How many.

    Returns:
        The ports. They are given to nobody else until the worker has gone through all of its own.
    """
    return list(itertools.islice(filter(_is_free, _PORTS), number))


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # those that closed connections still hold, too
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

"""What is to be done when a task is ended by SIGTERM. kubeflow/entrypoint.py does it, in the seconds that are left."""

import contextlib
from collections.abc import Callable, Iterator

_deeds: list[Callable[[], None]] = []


@contextlib.contextmanager
def on_termination(deed: Callable[[], None]) -> Iterator[None]:
    """Have something done if SIGTERM comes in the meantime.

    Args:
        deed: is called from another thread, while this one goes on.
    """
    _deeds.append(deed)
    try:
        yield
    finally:
        _deeds.remove(deed)


def terminate() -> None:
    """Do it all. No failure keeps the rest from being done."""
    for deed in reversed(_deeds):
        with contextlib.suppress(Exception):
            deed()

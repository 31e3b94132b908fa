"""Shows what goes to the logs of a node while they grow, for an orchestrator that keeps what a task prints."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kubetfx.config.references import redacted

_PAUSE_SECONDS = 0.2


@contextlib.contextmanager
def echoed(folder: Path, node_id: str, *, to: TextIO) -> Iterator[None]:
    """Write what is added to the log of a node, and of what runs once per artifact, without secrets.

    Args:
        folder: The folder of the logs of the run.
        node_id: The id of the node.
        to: a stream whose descriptor nobody redirects.
    """
    is_over = threading.Event()
    seen = {path: path.stat().st_size for path in _logs(folder, node_id)}
    thread = threading.Thread(target=_echo, args=(folder, node_id, seen, to, is_over), name="log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _logs(folder: Path, node_id: str) -> list[Path]:
    own = folder / f"{node_id}.log"
    return [*([own] if own.exists() else []), *sorted(folder.glob(f"{node_id}.[0-9]*.log"))]


def _echo(folder: Path, node_id: str, seen: dict[Path, int], to: TextIO, is_over: threading.Event) -> None:
    """Write whole lines as they come, and what is left at the end."""
    last = False
    while not last:
        last = is_over.wait(_PAUSE_SECONDS)
        for path in _logs(folder, node_id):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(seen.get(path, 0))
                added = file.read()
                whole = added if last else added[: added.rfind(b"\n") + 1]
                seen[path] = seen.get(path, 0) + len(whole)
                to.write(redacted(whole.decode(errors="replace")))
                to.flush()

"""Places that this process and the workers of an engine both see.

They see one file system, and a path means the same to all; or artifacts are in a bucket, and an executor, which works
on copies, hands URIs to the workers (decision 37): in a workspace, or in a pod of Kubeflow Pipelines. Everything is
returned as it is where there is no bucket.
"""

import contextlib
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubetfx.artifact_store import upload
from kubetfx.errors import UsageError
from kubetfx.storage import ObjectPath

if TYPE_CHECKING:
    from kubetfx.engine.arguments import Engine


@dataclass(frozen=True)
class SharedPlaces:
    """What is shared while an executor works."""

    uri_of: Callable[[str], str]
    """From the path of an artifact, or of what is in one, to its URI; other paths stay as they are."""
    described: str
    """What is in a bucket, and in which one: for errors."""
    inputs: Collection[str]
    """Paths of the artifacts that the executor reads."""
    scratch: ObjectPath
    """Folder for what is of use during this execution alone."""

    def is_input(self, path: str) -> bool:
        """Return whether a path is in an artifact that the executor reads.

        Args:
            path: on this machine.
        """
        return any(path == own or path.startswith(f"{own}/") for own in self.inputs)


_shared: SharedPlaces | None = None


@contextlib.contextmanager
def sharing(places: SharedPlaces | None) -> Iterator[None]:
    """Share places within the context, in all threads.

    Args:
        places: None: nothing but what everybody sees anyway.
    """
    global _shared  # noqa: PLW0603
    before, _shared = _shared, places
    try:
        yield
    finally:
        _shared = before


def place_of(path: str | Path) -> str:
    """Return what workers have to open instead of a file or folder of an artifact.

    Args:
        path: on this machine.
    """
    return str(path) if _shared is None else _shared.uri_of(str(path))


def folder_of(path: str | Path) -> str:
    """Return where workers find a folder of this machine; it is uploaded unless it is in an input.

    Args:
        path: of the folder.
    """
    if _shared is None:
        return str(path)
    if _shared.is_input(str(path)):
        return place_of(path)
    place = _shared.scratch / uuid.uuid4().hex[:12]
    upload(Path(path), place)
    return str(place)


def scratch_in(folder: Path) -> str:
    """Return a folder in which workers leave small files for this process.

    Args:
        folder: on this machine; the one where everybody sees it.
    """
    return str(folder if _shared is None else _shared.scratch)


def why_refused(node_id: str, executor: str, engine: "Engine", *, unseen: str) -> str | None:
    """Say why the executor of a node cannot work on an engine whose workers do not see its files.

    Args:
        node_id: id of the node.
        executor: import path of its class, which uses Beam.
        engine: The engine.
        unseen: whose files the workers do not see.

    Returns:
        What is wrong, and what was received; None for kubetfx's own executors, which hand over places that are seen.
    """
    if executor.startswith("kubetfx."):
        return None
    return (
        f"{node_id} is not a component of kubetfx: it reads and writes files in its Beam pipelines, and the workers of "
        f"{engine} do not see {unseen}. Received: {executor}"
    )


def refuse(what: str) -> None:
    """Refuse what needs a file system that the workers see.

    Args:
        what: it is, and that it needs one.

    Raises:
        UsageError: the workers do not see this machine's files.
    """
    if _shared is not None:
        raise UsageError(
            f"{what}, and the workers of the engine do not see this machine's files. Received: {_shared.described}. "
            "Set the workspace to a folder that the workers mount, or leave `beam` out."
        )

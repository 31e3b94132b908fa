"""What the launcher copies between an object store and the disk of a pod.

In `component/launcher_v2.go`, these are downloadArtifacts and uploadOutputArtifacts.
"""

from collections.abc import Iterable
from pathlib import Path

from kubetfx import artifact_store
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.storage import ObjectPath, locate


def download(uris: Iterable[str], root: Path) -> None:
    """Copy artifacts to where a container finds them; nothing is done for those of which there is no object.

    Args:
        uris: of the artifacts.
        root: folder instead of `/` in the launcher's paths.

    Raises:
        StorageError: the store cannot be read.
    """
    for uri in uris:
        place, path = _place(uri), local_path(uri, root)
        if place.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            place.download(path)
        else:
            artifact_store.download(place, path)


def upload(uris: Iterable[str], root: Path) -> None:
    """Copy what a container wrote into the store. Objects that are there already stay.

    Args:
        uris: of the artifacts.
        root: folder instead of `/` in the launcher's paths.

    Raises:
        StorageError: the store cannot be written.
    """
    for uri in uris:
        path = local_path(uri, root)
        if path.is_file():
            _place(uri).upload(path)
        elif path.is_dir():
            artifact_store.upload(path, _place(uri))


def _place(uri: str) -> ObjectPath:
    place = locate(uri)
    assert isinstance(place, ObjectPath)
    return place

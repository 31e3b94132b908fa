"""A copy of a bucket's versions on this machine, for servers, which read folders.

In a cluster the sidecar of kubeflow/manifests/serving/overlays/s3 does the same.
"""

import contextlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from kubetfx.components.push import push_directory
from kubetfx.components.push.version_store import MARKER
from kubetfx.errors import StorageError
from kubetfx.storage import ObjectPath

POLL_SECONDS = 5.0

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def mirrored(source: ObjectPath, *, poll_seconds: float = POLL_SECONDS) -> Iterator[Path]:
    """A folder that is kept like a push directory while the context lasts.

    Args:
        source: the push directory.
        poll_seconds: between two looks at the bucket.

    Raises:
        StorageError: the bucket cannot be read at the beginning. Later that is logged, and what is there stays.
    """
    with tempfile.TemporaryDirectory(prefix="kubetfx-models-", ignore_cleanup_errors=True) as folder:
        target = Path(folder)
        mirror(source, target)
        end = threading.Event()
        thread = threading.Thread(target=_keep, args=(source, target, end, poll_seconds), daemon=True)
        thread.start()
        try:
            yield target
        finally:
            end.set()
            thread.join(timeout=poll_seconds)


def mirror(source: ObjectPath, target: Path) -> None:
    """Copy the versions that the folder lacks, each at once, and remove those that are gone from the bucket.

    An empty bucket is a fault or a mistake, and no reason to stop serving.

    Raises:
        OSError: a version was removed meanwhile, or the disk is full.
        StorageError: the bucket cannot be read.
    """
    there, here = push_directory.versions(source), push_directory.versions(target)
    for version in there:
        if version not in here:
            with tempfile.TemporaryDirectory(prefix=".mirroring-", dir=target) as aside:
                copy = Path(aside) / str(version)
                push_directory.copy_version(source, version, copy)
                if (copy / MARKER).is_file():  # else it was removed meanwhile
                    copy.rename(target / str(version))
    for version in here:
        if there and version not in there:
            push_directory.remove(target, version)


def _keep(source: ObjectPath, target: Path, end: threading.Event, poll_seconds: float) -> None:
    while not end.wait(poll_seconds):
        try:
            mirror(source, target)
        except (OSError, StorageError) as error:
            _LOG.warning("What is served is unchanged. %s", error)

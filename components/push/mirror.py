"""Copies a bucket's versions to this machine, for servers that read folders.

`kubetfx serve` keeps one while it runs, and `kubetfx mirror` is the sidecar of kubeflow/manifests/serving/overlays/s3.
Nothing here imports TensorFlow, which would take most of the sidecar's memory.
"""

import contextlib
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from kubetfx.artifacts import SAVED_MODEL
from kubetfx.components.push import push_directory
from kubetfx.errors import StorageError
from kubetfx.storage import ObjectPath

POLL_SECONDS = 5.0
MIRRORED = ".mirrored"
"""Name of the file that exists once every model was mirrored, for a start-up probe."""

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def mirrored(source: ObjectPath, *, poll_seconds: float = POLL_SECONDS) -> Iterator[Path]:
    """Yield a folder that mirrors a push directory within the context.

    Args:
        source: The push directory.
        poll_seconds: The interval between checks of the bucket.

    Raises:
        StorageError: the bucket cannot be read at the beginning. Later failures are logged, and the mirrored versions
            stay.
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


def keep_models(source: ObjectPath, folder: Path, names: Sequence[str], *, interval_seconds: float) -> NoReturn:
    """Mirror several models repeatedly; the file MIRRORED marks that all of them were read once.

    Args:
        source: The folder of push directories.
        folder: The folder of the copies, in the same layout: NAME/VERSION.
        names: The models.
        interval_seconds: The interval between checks of the bucket.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        if not mirror_models(source, folder, names):
            (folder / MIRRORED).touch()
        time.sleep(interval_seconds)


def mirror_models(source: ObjectPath, folder: Path, names: Sequence[str]) -> list[str]:
    """Mirror several models as far as possible; failures are logged.

    Args:
        source: The folder of push directories.
        folder: The folder of the copies, in the same layout: NAME/VERSION.
        names: The models.

    Returns:
        The models that could not be mirrored.
    """
    return [name for name in names if not _is_mirrored(source / name, folder / name)]


def mirror(source: ObjectPath, target: Path) -> None:
    """Copy missing versions atomically, and remove those that are gone from the bucket.

    The last version is never removed, since an empty bucket is probably a mistake, and not a reason to stop serving.

    Args:
        source: The push directory.
        target: The folder, to which nothing else writes.

    Raises:
        OSError: a version was removed meanwhile, or the disk is full. Other versions are mirrored nevertheless.
        StorageError: the bucket cannot be read.
    """
    wanted, present = push_directory.versions(source), push_directory.versions(target)
    if not wanted:
        _LOG.info("%s: no version is there. What was mirrored stays.", source)
        return
    failures = _copy(source, [version for version in wanted if version not in present], target)
    if set(wanted) & set(push_directory.versions(target)):
        _remove(source, [version for version in present if version not in wanted], target)
    if failures:
        raise failures[0]


def _copy(source: ObjectPath, versions: Sequence[int], target: Path) -> list[OSError | StorageError]:
    """Copy each version that can be copied, and return why the others could not be copied."""
    failures: list[OSError | StorageError] = []
    for version in versions:
        try:
            target.mkdir(parents=True, exist_ok=True)
            with _out_of_sight(target) as aside:
                push_directory.copy_version(source, version, aside)
                if (aside / SAVED_MODEL).is_file():  # otherwise it was removed in the meantime
                    aside.rename(target / str(version))
                    _LOG.info("%s version %d: mirrored.", source.name, version)
        except (OSError, StorageError) as error:
            failures.append(error)
    return failures


def _remove(source: ObjectPath, versions: Sequence[int], target: Path) -> None:
    """Remove versions that are gone from the bucket."""
    for version in versions:
        with _out_of_sight(target) as aside:
            (target / str(version)).rename(aside)
        _LOG.info("%s version %d: gone from the bucket, and removed here.", source.name, version)


@contextlib.contextmanager
def _out_of_sight(target: Path) -> Iterator[Path]:
    """Provide a temporary folder for versions that are added or removed.

    Servers ignore it, since its name is not a number.
    """
    aside = target / ".mirroring"
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed mirror
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_mirrored(source: ObjectPath, target: Path) -> bool:
    try:
        mirror(source, target)
    except (OSError, StorageError) as error:
        _LOG.warning("%s: not mirrored, to be tried again. %s", source, error)
        return False
    return True


def _keep(source: ObjectPath, target: Path, end: threading.Event, poll_seconds: float) -> None:
    while not end.wait(poll_seconds):
        _is_mirrored(source, target)

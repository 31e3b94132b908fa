"""The pictures in a folder, as a run, `kubetfx predict` and `kubetfx batch-predict` find them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kubetfx.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
"""Ends of the names of pictures. The format goes by the bytes of a file, not by its name."""


def is_picture(name: str) -> bool:
    """Return whether a file's name is that of a picture.

    Args:
        name: with its suffix, in any case.
    """
    return name.lower().endswith(SUFFIXES)


def pictures_below(folder: str | Path, *, on_circle: Callable[[str], None] = lambda folder: None) -> Iterator[str]:
    """Find the pictures in a folder and below it, sorted by name; hidden files and folders are left alone.

    Links are followed, but not in circles. One folder's list is in memory at a time.

    Args:
        folder: where to look.
        on_circle: called with the path of each link to a folder that the link is in.

    Yields:
        Paths, each beginning with `folder`.

    Raises:
        OSError: a folder cannot be read.
    """
    yield from _below(os.fspath(folder), on_circle, frozenset())


def find_pictures(folder: Path) -> Iterator[str]:
    """Find pictures as `pictures_below` does, where there must be some.

    Args:
        folder: where to look.

    Yields:
        Paths, each beginning with `folder`.

    Raises:
        DataError: there is no picture, or a folder may not be read.
    """
    is_empty = True
    try:
        for picture in pictures_below(folder):
            is_empty = False
            yield picture
    except OSError as error:
        raise DataError(f"{error.filename} may not be read: {error.strerror}. Grant read permission.") from None
    if is_empty:
        raise DataError(f"There is no image ({', '.join(SUFFIXES)}) in {folder}, nor in a folder below it.")


def _below(folder: str, on_circle: Callable[[str], None], ancestors: frozenset[tuple[int, int]]) -> Iterator[str]:
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        on_circle(folder)
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _below(entry.path, on_circle, ancestors | {identity})
        elif is_picture(entry.name):
            yield entry.path


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will report that
        return False

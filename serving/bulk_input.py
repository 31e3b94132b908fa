"""The input of a bulk prediction: which files or pictures it is, and whether they changed.

How tables are read and cut is kubetfx/tables' to say; what a model needs of them, row_source.py's.
"""

import hashlib
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kubetfx.artifacts import IMAGE_PATH
from kubetfx.errors import DataError
from kubetfx.serving.image_folders import find_pictures
from kubetfx.storage import is_web
from kubetfx.tables.downloads import fetch
from kubetfx.tables.files import TableFiles, find_table

_LISTING_ROWS = 65_536


def find_input(location: str, *, images: bool) -> TableFiles | Path:
    """Find the files that an input names.

    Args:
        location: a file of a table, or a folder; or the URL of a file.
        images: whether the model takes pictures: a folder is then searched for them, and every folder below it.

    Returns:
        The files of a table, or the folder whose pictures are still to be listed. Paths are absolute.

    Raises:
        DataError: there is no such file or folder, or nothing in it to predict.
    """
    if is_web(location):
        return find_table(fetch(location))
    check_local(location, what="`input`")
    path = Path(location).absolute()  # workers may have another working directory
    if path.is_dir() and images:
        return path
    if not path.exists():
        raise DataError(f"There is no such input. Received: {location}. Give a file, or a folder of them.")
    return find_table(path)


def check_local(location: str, *, what: str) -> None:
    """Refuse an object store.

    Args:
        location: a path, or what may be a URL.
        what: it is for, for the error.

    Raises:
        DataError: the location is a URL.
    """
    if re.match(r"[a-z0-9]+:/", location):  # pathlib makes one slash of two
        raise DataError(
            f"{what} is a path of this machine's file system, or of one that all Beam workers have mounted. "
            f"Received: {location}. Mount the bucket (gcsfuse, mountpoint-s3) or copy it here, and give that path."
        )


def list_images(root: Path, listing: Path) -> str:
    """Write the paths of the pictures below a folder as a Parquet file, sorted by name, without hidden ones.

    The list of a million pictures is a table like any other; in memory there is one folder's at a time.

    Args:
        root: the folder.
        listing: the file to write; it gets one column, `path`, relative to `root`.

    Returns:
        A digest of paths, sizes and modification times.

    Raises:
        DataError: there is no picture, or a folder may not be read.
    """
    schema = pa.schema([(IMAGE_PATH, pa.string())])
    digest = hashlib.sha256()
    paths: list[str] = []
    with pq.ParquetWriter(listing, schema) as writer:
        for picture in find_pictures(root):
            name = os.fsencode(os.path.relpath(picture, root)).decode("utf-8", "replace")
            digest.update(f"{name}\0{stamp(Path(picture))}\0".encode())
            paths.append(name)
            if len(paths) == _LISTING_ROWS:
                writer.write_table(pa.table([paths], schema=schema))
                paths = []
        if paths:
            writer.write_table(pa.table([paths], schema=schema))
    return digest.hexdigest()


def stamp(path: Path) -> str:
    """Return what changes when a file's content does: its size in bytes and modification time in nanoseconds.

    Args:
        path: the file. If it cannot be looked at, the reason is returned; reading it will report the error.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # a broken link, a zero in the name: reading it will report that
        return str(error)
    return f"{status.st_size} {status.st_mtime_ns}"

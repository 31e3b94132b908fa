"""The column of a table with the paths of pictures, which are relative to the folder of the file that lists them.

The pictures are read by components/data/image_reading.py.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kubetfx.components.data import tables
from kubetfx.components.data.image_files import file_state
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.config.data_section import DataConfig
from kubetfx.config.section import nearest
from kubetfx.errors import ConfigError, DataError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.serving.image_folders import is_picture
from kubetfx.storage import is_url
from kubetfx.tables.files import TableFiles

FOUND = "every value is the path of a picture"


def with_pictures(profile: TableProfile, files: TableFiles, data: DataConfig, *, named: Sequence[str]) -> TableProfile:
    """Return the profile of a table in which the column of pictures is marked.

    Args:
        profile: what the scan found.
        files: the table.
        data: the section.
        named: `features.image`. Empty: the column is detected among the columns of text; a table in a bucket has none.

    Raises:
        ConfigError: the column does not exist, does not hold text, or several columns hold pictures.
        DataError: the table is in a bucket, and a column of pictures is named.
    """
    if named and any(is_url(path) for path in files.paths):
        raise DataError(
            f"Pictures are read from the file system. Received: features.image: {named[0]}, of a table in a bucket, "
            f"{data.path}. Mount the bucket (gcsfuse, mountpoint-s3) or copy it here, and give that path."
        )
    if named:
        return _marked(profile, _named(profile, named[0]), "as configured")
    candidates = [c for c in profile.columns if c.type == "string" and c.num_values and c.name != data.label]
    found = [column for column in candidates if _is_of_pictures(column, files, data)]
    if len(found) > 1:
        names = [column.name for column in found]
        raise ConfigError(
            f"A table can have at most one column of images. Received: {', '.join(names)}. Name it, features.image: "
            f"[{names[0]}]; and leave the others out, data.drop: [{', '.join(names[1:])}]."
        )
    return _marked(profile, found[0], FOUND) if found else profile


def picture_column(profile: TableProfile) -> ColumnProfile | None:
    """Return the column of pictures; None if there is none.

    Args:
        profile: The profile of the table.
    """
    return next((column for column in profile.columns if column.picture_reason), None)


def _named(profile: TableProfile, name: str) -> ColumnProfile:
    if name not in profile.names:
        raise ConfigError(
            f"features.image: the data has no column {name!r}.{nearest(name, profile.names)} "
            f"Known: {', '.join(profile.names)}."
        )
    column = profile.column(name)
    if column.type != "string":
        raise ConfigError(f"features.image: a column of paths is needed here. Received: {name!r}, which holds numbers.")
    return column


def _marked(profile: TableProfile, column: ColumnProfile, reason: str) -> TableProfile:
    columns = [replace(c, picture_reason=reason) if c.name == column.name else c for c in profile.columns]
    return replace(profile, columns=tuple(columns))


def _is_of_pictures(column: ColumnProfile, files: TableFiles, data: DataConfig) -> bool:
    """Return whether every value is the path of a picture; most columns are ruled out by their first value."""
    if any(is_url(path) for path in files.paths):
        return False
    if column.values and not all(is_picture(str(value)) for value in column.values):
        return False
    return all(is_picture(name) and os.path.isfile(path) for name, path in values_of(column, files, data))


def values_of(column: ColumnProfile, files: TableFiles, data: DataConfig) -> Iterator[tuple[str, str]]:
    """Yield each value of a column of paths, and where the file is; missing cells left out.

    Args:
        column: The column of pictures.
        files: the table.
        data: the section.
    """
    for file in files.paths:
        for block in tables.read_blocks(file, [column], file_format=files.format, data=data):
            for name in block.column(column.name).drop_null().to_pylist():
                yield name, place_of(name, table=file)


def place_of(name: str, *, table: str) -> str:
    """Return where a picture is.

    Args:
        name: the cell.
        table: path of the file that the cell is in.
    """
    return os.path.join(os.path.dirname(table), name)


def fingerprint(column: ColumnProfile, files: TableFiles, data: DataConfig) -> str:
    """Return the fingerprint of the pictures of a table for the cache, from their names, sizes and times.

    Args:
        column: The column of pictures.
        files: the table.
        data: the section.
    """
    digest = hashlib.sha256()
    for name, path in values_of(column, files, data):
        digest.update(repr((name, file_state(path))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

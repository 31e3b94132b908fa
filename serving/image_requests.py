"""Pictures as rows for a model that takes their encoded bytes: from a file, a folder, or a list of paths.

In JSON they are base64, as TensorFlow Serving has it for names that end in _bytes.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kubetfx.errors import DataError
from kubetfx.serving.image_folders import SUFFIXES, is_picture, pictures_below

IMAGE_BYTES = "image_bytes"
PATH = "path"


def takes_images(dtypes: Mapping[str, Any]) -> bool:
    """Whether a model's inputs are encoded pictures and nothing else."""
    return list(dtypes) == [IMAGE_BYTES]


def image_paths(path: Path) -> list[Path] | None:
    """The picture files of a file or folder, hidden ones left alone, in order; None if it is something else.

    Raises:
        DataError: the folder has none, or cannot be read.
    """
    if path.is_dir():
        try:
            found = [Path(picture) for picture in pictures_below(path)]
        except OSError as error:
            raise DataError(
                f"The folder of images cannot be read. Received: {error.filename}: {error.strerror}."
            ) from None
        if not found:
            raise DataError(f"There are no images in the folder. Received: {path}. Known: {', '.join(SUFFIXES)}.")
        return found
    return [path] if is_picture(path.name) else None


def names_of(path: Path) -> list[str] | None:
    """The pictures of a file or folder by their names below it, in the order of `image_paths`; None for anything else.

    Raises:
        DataError: as for `image_paths`.
    """
    paths = image_paths(path) if path.exists() else None
    if not paths:
        return None
    return [os.path.relpath(found, path if path.is_dir() else path.parent) for found in paths]


def from_paths(paths: list[Path]) -> np.ndarray:
    """The bytes of files, (files,) object.

    Raises:
        DataError: one cannot be read.
    """
    array = np.empty(len(paths), dtype=object)
    for index, path in enumerate(paths):
        try:
            array[index] = path.read_bytes()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise DataError(f"An image cannot be read. Received: {path} ({reason}).") from None
    return array


def from_table(table: Mapping[str, list[Any]], folder: Path) -> np.ndarray:
    """The pictures of rows that have their bytes (`image_bytes`: {"b64": ...}) or say where they are (`path`).

    Raises:
        DataError: they have neither, or what they have is none.
    """
    if IMAGE_BYTES in table:
        array = np.empty(len(table[IMAGE_BYTES]), dtype=object)
        for index, value in enumerate(table[IMAGE_BYTES]):
            array[index] = from_json(value)
        return array
    if PATH in table:
        return from_paths([folder / str(value) for value in table[PATH]])
    raise DataError(
        f"The rows are to be images. Received: {', '.join(table)}. Give a folder or file of images, a CSV with the "
        f'column {PATH}, or JSON with {IMAGE_BYTES}: {{"b64": ...}}.'
    )


def to_json(content: bytes) -> dict[str, str]:
    """Bytes as TensorFlow Serving's REST API takes them."""
    return {"b64": base64.b64encode(content).decode()}


def num_encoded_bytes(row: Mapping[str, Any]) -> int:
    """Of the pictures in a row, as `to_json` makes them."""
    return sum(len(value["b64"]) for value in row.values() if isinstance(value, dict) and "b64" in value)


def from_json(value: Any) -> bytes:
    """What `to_json` made.

    Raises:
        DataError: it is something else.
    """
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error, ValueError):
        shown = str(value)[:60]
        raise DataError(f'Bytes are {{"b64": BASE64}} in JSON. Received: {shown}.') from None

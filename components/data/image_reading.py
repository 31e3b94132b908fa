"""Reading image files: several at a time, with a reason for each that cannot be used.

What is in one is components/data/image_inspection.py's to say.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
from absl import logging

from kubetfx.components.data import picture_columns, tables
from kubetfx.components.data.image_files import BrokenFile
from kubetfx.components.data.image_inspection import ImageFacts, inspect_all
from kubetfx.components.data.table_profile import Column
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import AnomaliesError, DataError

FILES_A_THREAD = 128
BYTES_A_THREAD = 16 * 2**20
"""Files that a thread is handed, and about what it has in memory of them, at a time."""
BROKEN_SHOWN = 10


def look_into(paths: Sequence[str], *, max_pixels: int) -> list[ImageFacts | str]:
    """What is in each of some files, or the reason why it cannot be used; several are looked into at a time."""
    parts = [paths[start : start + FILES_A_THREAD] for start in range(0, len(paths), FILES_A_THREAD)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets go of the interpreter's lock
        found = pool.map(lambda part: _look_into(part, max_pixels=max_pixels), parts)
        return [entry for part in found for entry in part]


def _look_into(paths: Sequence[str], *, max_pixels: int) -> list[ImageFacts | str]:
    found: dict[int, ImageFacts | str] = {}
    contents: dict[int, bytes] = {}
    num_bytes = 0
    for number, path in enumerate(paths):
        try:
            contents[number] = read_file(path)
            num_bytes += len(contents[number])
        except OSError as error:
            found[number] = f"it cannot be read: {os.strerror(error.errno) if error.errno else error}"
        if num_bytes > BYTES_A_THREAD or number == len(paths) - 1:
            found |= zip(contents, inspect_all(list(contents.values()), max_pixels=max_pixels), strict=True)
            contents, num_bytes = {}, 0
    return [found[number] for number in range(len(paths))]


def read_file(path: str) -> bytes:
    """All of a file, with one copy less than Python's buffers make."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def check_broken(broken: Sequence[BrokenFile], *, num_files: int, data: DataConfig) -> None:
    """Whether few enough of the files are broken.

    Raises:
        AnomaliesError: too many are; its message lists some.
    """
    if len(broken) <= data.max_broken_fraction * num_files:
        return
    shown = "\n".join(f"  {file.name}: {file.reason}" for file in broken[:BROKEN_SHOWN])
    more = f"\n  and {len(broken) - BROKEN_SHOWN:,} more" if len(broken) > BROKEN_SHOWN else ""
    raise AnomaliesError(
        f"{len(broken):,} of {num_files:,} files are broken, and data.max_broken_fraction allows "
        f"{data.max_broken_fraction:.3g} of them:\n{shown}{more}\nMend them or take them away; or leave them out: "
        f"data.max_broken_fraction: {min(len(broken) / num_files + 0.005, 0.99):.2g}"
    )


@dataclass(frozen=True)
class Pictures:
    """The pictures of a table, looked into."""

    facts: Mapping[str, ImageFacts]
    """Those that can be used, by path."""

    def read(self, names: pa.Array, *, table: str) -> pa.Array:
        """The bytes of pictures, null where one cannot be used or none is named.

        Args:
            names: cells of the column.
            table: path of the file that they are in.

        Raises:
            DataError: a picture was changed since it was looked into.
        """
        places = [picture_columns.place_of(name or "", table=table) for name in names.to_pylist()]
        return pa.array([self._content(place) if place in self.facts else None for place in places], pa.binary())

    def _content(self, place: str) -> bytes:
        content = read_file(place)
        if hashlib.sha256(content).hexdigest() != self.facts[place].content_hash:
            raise DataError(f"{place} was changed while it was read. Run again when nothing writes there.")
        return content


def pictures_of(column: Column, files: tables.TableFiles, data: DataConfig, *, num_rows: int) -> Pictures:
    """Look into each picture of a table once.

    Args:
        column: of the pictures.
        files: the table.
        data: says how many pixels one may have, and how many of the pictures may be broken.
        num_rows: of the table.

    Raises:
        AnomaliesError: more of the pictures are broken or missing than `data.max_broken_fraction` allows.
    """
    names = {path: name for name, path in picture_columns.values_of(column, files, data)}
    facts: dict[str, ImageFacts] = {}
    broken = [BrokenFile("a row", f"its {column.name} is missing")] * (num_rows - column.num_values)
    for path, entry in zip(names, look_into(list(names), max_pixels=data.max_pixels), strict=True):
        if isinstance(entry, str):
            broken.append(BrokenFile(names[path], entry))
        else:
            facts[path] = entry
    check_broken(broken, num_files=len(facts) + len(broken), data=data)
    for file in broken:
        logging.warning("Left out: %s: %s", file.name, file.reason)
    return Pictures(facts)

"""Reading image files: several at a time, with a reason for each that cannot be used.

components/data/image_inspection.py looks into one.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from absl import logging

from kubetfx.components.data import picture_columns
from kubetfx.components.data.block_work import Each, Run
from kubetfx.components.data.image_files import BrokenFile, read_file, read_unchanged
from kubetfx.components.data.image_inspection import ImageFacts, inspect_all
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import AnomaliesError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.tables.files import TableFiles

FILES_AT_A_TIME = 128
BYTES_AT_A_TIME = 16 * 2**20
"""Number of files per thread or Beam worker at a time, and about the bytes of them in memory."""
BROKEN_SHOWN = 10


def look_into(paths: Sequence[str], run: Run, *, max_pixels: int) -> list[ImageFacts | str]:
    """Inspect files, several at a time.

    Args:
        paths: The paths of the files.
        run: Executes the work.
        max_pixels: Maximum number of pixels of a picture.

    Returns:
        The facts about each, or the reason why it cannot be used.
    """
    parts = [paths[start : start + FILES_AT_A_TIME] for start in range(0, len(paths), FILES_AT_A_TIME)]
    look = functools.partial(_look_into_part, max_pixels=max_pixels)
    return [entry for part in run(Each(look), list(enumerate(parts))) for entry in part]


def _look_into_part(paths: Sequence[str], *, max_pixels: int) -> list[ImageFacts | str]:
    """Inspect some of the files in a thread: decoding releases the interpreter's lock."""
    found: dict[int, ImageFacts | str] = {}
    contents: dict[int, bytes] = {}
    num_bytes = 0
    for number, path in enumerate(paths):
        try:
            contents[number] = read_file(path)
            num_bytes += len(contents[number])
        except OSError as error:
            found[number] = f"it cannot be read: {os.strerror(error.errno) if error.errno else error}"
        if num_bytes > BYTES_AT_A_TIME or number == len(paths) - 1:
            found |= zip(contents, inspect_all(list(contents.values()), max_pixels=max_pixels), strict=True)
            contents, num_bytes = {}, 0
    return [found[number] for number in range(len(paths))]


def check_broken(broken: Sequence[BrokenFile], *, num_files: int, data: DataConfig) -> None:
    """Check that not too many files are broken.

    Args:
        broken: The files that cannot be used.
        num_files: The number of all files.
        data: The section with the allowed share.

    Raises:
        AnomaliesError: too many are broken; the message lists some.
    """
    if len(broken) <= data.max_broken_fraction * num_files:
        return
    shown = "\n".join(f"  {file.name}: {file.reason}" for file in broken[:BROKEN_SHOWN])
    more = f"\n  and {len(broken) - BROKEN_SHOWN:,} more" if len(broken) > BROKEN_SHOWN else ""
    raise AnomaliesError(
        f"{len(broken):,} of {num_files:,} files are broken, and data.max_broken_fraction allows "
        f"{data.max_broken_fraction:.3g} of them:\n{shown}{more}\nFix them or remove them; or skip them: "
        f"data.max_broken_fraction: {min(len(broken) / num_files + 0.005, 0.99):.2g}"
    )


@dataclass(frozen=True)
class Pictures:
    """The inspected pictures of a table."""

    facts: Mapping[str, ImageFacts]
    """The usable pictures, by path."""

    def read(self, names: pa.Array, *, table: str) -> pa.Array:
        """Read pictures.

        Args:
            names: The cells of the column.
            table: The path of the file that contains them.

        Returns:
            (rows,) binary, null if a picture cannot be used or the cell is missing.

        Raises:
            DataError: a picture was changed since it was inspected.
        """
        found = self._facts_of(names, table=table)
        contents = [read_unchanged(place, facts.content_hash, place) if facts else None for place, facts in found]
        return pa.array(contents, pa.binary())

    def hashes(self, names: pa.Array, *, table: str) -> pa.Array:
        """Return the hashes of pictures, which do not depend on the names of their files.

        Args:
            names: The cells of the column.
            table: The path of the file that contains them.

        Returns:
            (rows,) string, null if a picture cannot be used or the cell is missing.
        """
        found = self._facts_of(names, table=table)
        return pa.array([facts.content_hash if facts else None for _, facts in found], pa.string())

    def _facts_of(self, names: pa.Array, *, table: str) -> list[tuple[str, ImageFacts | None]]:
        places = [picture_columns.place_of(name or "", table=table) for name in names.to_pylist()]
        return [(place, self.facts.get(place)) for place in places]


def pictures_of(column: ColumnProfile, files: TableFiles, data: DataConfig, *, num_rows: int, run: Run) -> Pictures:
    """Inspect each picture of a table once.

    Args:
        column: The column of the pictures.
        files: the table.
        data: The section with the maximum number of pixels and the allowed share of broken pictures.
        num_rows: The number of rows of the table.
        run: Executes the work.

    Returns:
        The usable pictures; the others are logged.

    Raises:
        AnomaliesError: more of the pictures are broken or missing than `data.max_broken_fraction` allows.
    """
    names = {path: name for name, path in picture_columns.values_of(column, files, data)}
    facts: dict[str, ImageFacts] = {}
    broken = [BrokenFile("a row", f"its {column.name} is missing")] * (num_rows - column.num_values)
    for path, entry in zip(names, look_into(list(names), run, max_pixels=data.max_pixels), strict=True):
        if isinstance(entry, str):
            broken.append(BrokenFile(names[path], entry))
        else:
            facts[path] = entry
    check_broken(broken, num_files=len(facts) + len(broken), data=data)
    for file in broken:
        logging.warning("Left out: %s: %s", file.name, file.reason)
    return Pictures(facts)

"""A folder of images, or a list of them, as a table.

It has a row per image, with its encoded bytes, its class, and facts about it. The files are read twice. First each is
inspected, and broken ones are left out. Then the splits are chosen from the hashes of all images, and the rows are read
in the order of those hashes, so that the classes are mixed within a file of examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from absl import logging

from kubetfx.arrays import Array
from kubetfx.artifacts import CONTENT_HASH
from kubetfx.components.data import image_files, image_notes
from kubetfx.components.data.block_work import Run
from kubetfx.components.data.column_scan import ARROW_TYPES
from kubetfx.components.data.example_reader import ExampleReader, Source
from kubetfx.components.data.image_files import BrokenFile, ImageFile, ImageFiles
from kubetfx.components.data.image_splits import assign_splits, find_copies
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.models.columns.column_profile import CellType, ColumnProfile

if TYPE_CHECKING:
    from kubetfx.components.data.image_inspection import ImageFacts

BYTES_PER_SHARD = 128 * 2**20
"""Approximate bytes of encoded images in a file of examples, over all splits."""
IMAGES_PER_SHARD = 10_000
ROWS_PER_BLOCK = 256
BYTES_PER_BLOCK = 2**24
"""Bytes that are gathered before they are passed to the writer."""

_REASON = "the encoded picture; no statistics are computed for it"
_FACTS: Mapping[str, CellType] = {
    "brightness": "float",
    "channels": "int64",
    CONTENT_HASH: "string",
    "format": "string",
    "height": "int64",
    "image_size": "string",
    "num_bytes": "int64",
    "width": "int64",
}


@dataclass(frozen=True)
class Image:
    """A usable file."""

    file: ImageFile
    facts: "ImageFacts"


class ImageFolderReader(ExampleReader):
    """Reads the images at `data.path`, and assigns each to a split by its content."""

    unit = "image"
    compression = "none"  # encoded images are hardly compressible

    def __init__(self, data: DataConfig) -> None:
        """Set up the reader; nothing is read yet.

        Args:
            data: the section of the config.
        """
        self._data = data

    def files(self) -> None:
        """Return None: folders of classes are not a glob, so only the reader's own fingerprint counts."""

    def fingerprint(self) -> str:
        """Return a fingerprint of names, sizes, times and classes."""
        return image_files.fingerprint(self._data)

    def open(self, splits: Mapping[str, int], run: Run) -> Source:
        """Inspect each file, and choose the splits."""
        label = self._data.label
        found = image_files.find_images(self._data)
        images, broken = _look_into(found, self._data, run)
        by_class: dict[str, list[str]] = {}
        for image in images:
            by_class.setdefault(image.file.label, []).append(image.facts.content_hash)
        if len(by_class) < 2:
            raise DataError(
                "Without the broken files there are fewer than two classes. Received: "
                f"{', '.join(by_class) or 'none'}. Fix the files: {broken[0].name}, {broken[0].reason}."
            )
        chosen = assign_splits(by_class, {name: number / sum(splits.values()) for name, number in splits.items()})
        report = _report(images, broken, chosen, found)
        _log(report)
        images.sort(key=lambda image: (image.facts.content_hash, image.file.name))
        rows = rows_of(images, found.metadata_types, label=label)
        indices = {name: index for index, name in enumerate(splits)}
        numbers = np.array([indices[chosen[image.facts.content_hash]] for image in images])
        shards = [
            _Shard(rows[part], [image.file.path for image in images[part]], numbers[part])
            for part in _parts(rows, most=IMAGES_PER_SHARD, most_bytes=BYTES_PER_SHARD)
        ]
        profile = profile_of(rows, found.metadata_types, label=label)
        schema = rows.schema.append(pa.field(image_files.IMAGE, pa.binary()))
        return Source(profile, schema, shards, _read, report=report)


def _look_into(found: ImageFiles, data: DataConfig, run: Run) -> tuple[list[Image], list[BrokenFile]]:
    from kubetfx.components.data import image_reading  # it imports TensorFlow

    images, broken = [], list(found.broken)
    entries = image_reading.look_into([file.path for file in found.files], run, max_pixels=data.max_pixels)
    for file, entry in zip(found.files, entries, strict=True):
        if isinstance(entry, str):
            broken.append(BrokenFile(file.name, entry))
        else:
            images.append(Image(file, entry))
    image_reading.check_broken(broken, num_files=len(images) + len(broken), data=data)
    return images, broken


@dataclass(frozen=True)
class _Shard:
    """The images of one file of examples per split."""

    rows: pa.RecordBatch
    """All columns of each image except the bytes."""
    paths: Sequence[str]
    splits: Array
    """(rows,) int64."""


def _read(shard: _Shard) -> Iterator[tuple[pa.RecordBatch, Array]]:
    for part in _parts(shard.rows, most=ROWS_PER_BLOCK, most_bytes=BYTES_PER_BLOCK):
        rows = shard.rows[part]
        hashes, names = (rows.column(name).to_pylist() for name in (CONTENT_HASH, image_files.PATH))
        contents = map(image_files.read_unchanged, shard.paths[part], hashes, names)
        yield rows.append_column(image_files.IMAGE, pa.array(contents, pa.binary())), shard.splits[part]


def _parts(rows: pa.RecordBatch, *, most: int, most_bytes: int) -> Iterator[slice]:
    """Yield consecutive images, up to a number of images and about a number of encoded bytes."""
    start = num_bytes = 0
    for number, size in enumerate(rows.column("num_bytes").to_pylist()):
        if num_bytes > most_bytes or number - start == most:
            yield slice(start, number)
            start, num_bytes = number, 0
        num_bytes += size
    yield slice(start, rows.num_rows)


def rows_of(images: Sequence[Image], metadata_types: Mapping[str, CellType], *, label: str) -> pa.RecordBatch:
    """Make a table of facts about images.

    Args:
        images: The images in the order of the rows.
        metadata_types: The types of a list's columns other than path and label, by name.
        label: The name of the label's column.

    Returns:
        A row for each image, with all columns of the examples except the bytes.
    """
    types = {**_FACTS, image_files.PATH: "string", label: "string", **metadata_types}
    values: dict[str, list[Any]] = {name: [getattr(image.facts, name) for image in images] for name in _FACTS}
    values |= {name: [image.file.metadata.get(name) for image in images] for name in metadata_types}
    values |= {image_files.PATH: [image.file.name for image in images], label: [image.file.label for image in images]}
    schema = pa.schema([(name, ARROW_TYPES[types[name]]) for name in sorted(types)])
    return pa.RecordBatch.from_pydict(values, schema)


def profile_of(rows: pa.RecordBatch, metadata_types: Mapping[str, CellType], *, label: str) -> TableProfile:
    """Describe the columns of the examples as a scan of a table would.

    Args:
        rows: The rows of `rows_of`.
        metadata_types: The types of a list's columns other than path and label, by name.
        label: The name of the label's column.

    Returns:
        The columns in the order of `rows`, and then the column of the encoded pictures.
    """
    columns = []
    for field in rows.schema:
        values = rows.column(field.name).drop_null()
        number, distinct = len(values), len(values.unique())
        if field.name in metadata_types:
            columns.append(ColumnProfile(field.name, metadata_types[field.name], number, distinct))
        elif pa.types.is_string(field.type):
            classes = tuple(sorted(values.unique().to_pylist())) if field.name == label else ()
            columns.append(ColumnProfile(field.name, "string", number, distinct, distinct < number, values=classes))
        else:
            lowest, highest = pc.min_max(values).as_py().values()
            columns.append(ColumnProfile(field.name, _FACTS[field.name], number, minimum=lowest, maximum=highest))
    columns.append(ColumnProfile(image_files.IMAGE, "string", rows.num_rows, picture_reason=_REASON))
    return TableProfile(tuple(columns), rows.num_rows)


def _report(
    images: Sequence[Image], broken: Sequence[BrokenFile], splits: Mapping[str, str], found: ImageFiles
) -> dict[str, Any]:
    classes: dict[str, dict[str, int]] = {}
    for image in images:
        by_split = classes.setdefault(image.file.label, {})
        split = splits[image.facts.content_hash]
        by_split[split] = by_split.get(split, 0) + 1
    labels = {image.file.name: image.file.label for image in images}
    copies = find_copies({image.file.name: image.facts.content_hash for image in images})
    return {
        "num_images": len(images),
        "classes": dict(sorted(classes.items())),
        "broken": [asdict(file) for file in broken],
        "copies": copies,
        "conflicts": [names for names in copies if len({labels[name] for name in names}) > 1],
        "warnings": list(found.warnings),
    }


def _log(report: Mapping[str, Any]) -> None:
    logging.info("%d images of %d classes.", report["num_images"], len(report["classes"]))
    for line in image_notes.report_warnings(report):
        logging.warning("%s", line)
    for file in report["broken"]:
        logging.warning("Left out: %s: %s", file["name"], file["reason"])

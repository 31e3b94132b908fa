"""Finds image files and the class of each.

They are in a folder with one subfolder per class, or in a list in a CSV or Parquet file.
components/data/image_inspection.py looks into the files.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.artifacts import CONTENT_HASH, IMAGE_PATH
from kubetfx.config.data_section import MODEL_OUTPUTS, DataConfig
from kubetfx.config.section import nearest
from kubetfx.errors import DataError
from kubetfx.models.columns.column_profile import CellType
from kubetfx.serving.image_folders import SUFFIXES, pictures_below
from kubetfx.storage import is_url
from kubetfx.tables import csv_file
from kubetfx.tables.blocks import open_table
from kubetfx.tables.csv_detection import detect
from kubetfx.tables.files import format_of

IMAGE = "image"
"""Column of the encoded bytes."""

PATH = IMAGE_PATH
"""Column of a list with the path of each file."""

OWN_COLUMNS = (
    IMAGE,
    PATH,
    "brightness",
    "channels",
    CONTENT_HASH,
    "format",
    "height",
    "image_size",
    "num_bytes",
    "width",
)
"""Columns that are written about each image; a list must not have columns of these names, except `path`."""

_SPAN = "{SPAN}"

Value = int | float | str


@dataclass(frozen=True)
class ImageFile:
    """One file."""

    path: str
    """Path of the file."""
    name: str
    """Its path relative to the data's folder, or as in the list; valid Unicode."""
    label: str
    metadata: Mapping[str, Value] = field(default_factory=dict)
    """Other columns of the list, without missing cells."""


@dataclass(frozen=True)
class BrokenFile:
    """A file that cannot be used."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageFiles:
    """The images at `data.path`."""

    files: tuple[ImageFile, ...]
    """The files in the order of their names."""
    broken: tuple[BrokenFile, ...]
    """Files that are known to be broken without looking into them."""
    warnings: tuple[str, ...]
    metadata_types: Mapping[str, CellType]
    """Types of the other columns of the list, by name."""

    @property
    def classes(self) -> dict[str, int]:
        """Number of files by class, in the order of the names."""
        counts: dict[str, int] = {}
        for file in self.files:
            counts[file.label] = counts.get(file.label, 0) + 1
        return dict(sorted(counts.items()))


def find_images(data: DataConfig) -> ImageFiles:
    """Find the images at `data.path`.

    Args:
        data: the section of the config.

    Returns:
        The files, with the class of each.

    Raises:
        DataError: the folder or list does not exist, is in a bucket, or has fewer than two classes; its classes are
            nested; or the list lacks a column.
    """
    if is_url(data.path):
        raise DataError(
            f"Images are read from the file system. Received: data.path: {data.path}. Mount the bucket (gcsfuse, "
            "mountpoint-s3) or copy it here, and give that path."
        )
    path = _newest_span(Path(data.path))
    try:
        if path.is_dir():
            found = _in_folder(path)
        elif path.is_file() and format_of(path.name):
            found = _in_list(path, data)
        else:
            problem = "is neither a folder nor a file of a table" if path.exists() else "does not exist"
            raise DataError(
                f"data.path {problem}. Received: {path}. Give a folder with one subfolder of images per class, "
                f"or a table, such as a CSV file, with the columns path and {data.label}."
            )
    except PermissionError as error:
        raise DataError(f"data.path is not readable: {error}. Grant read permission, or run as its owner.") from None
    if len(found.classes) < 2:
        classes = ", ".join(f"{name} ({number} images)" for name, number in found.classes.items()) or "no image"
        raise DataError(
            f"Images of at least two classes are needed. Received: {classes} in {path}. Give a folder with "
            f"one subfolder of images ({', '.join(SUFFIXES)}) per class."
        )
    return found


def fingerprint(data: DataConfig) -> str:
    """Return the key for the cache, which changes with the names, sizes, times and labels of the files.

    Args:
        data: the section of the config.

    Raises:
        DataError: see `find_images`.
    """
    found = find_images(data)
    digest = hashlib.sha256(repr([(broken.name, broken.reason) for broken in found.broken]).encode())
    for file in found.files:
        row = (file.name, file.label, sorted(file.metadata.items()), file_state(file.path))
        digest.update(repr(row).encode("utf-8", "surrogateescape"))
    return f"images:{len(found.files)},sha256:{digest.hexdigest()}"


def file_state(path: str) -> tuple[int, int] | None:
    """Return size in bytes and time in nanoseconds, which change with a file's content.

    Args:
        path: The path of the file. None is returned if it does not exist.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read_file(path: str) -> bytes:
    """Return the content of a file, with one copy less than Python's buffers.

    Args:
        path: The path of the file.
    """
    with open(path, "rb", buffering=0) as file:
        return file.read()


def read_unchanged(path: str, content_hash: str, name: str) -> bytes:
    """Return the content of a file that was examined before.

    Args:
        path: The path of the file.
        content_hash: Its SHA-256 at that time, in hexadecimal.
        name: The name of the file, for people.

    Raises:
        DataError: the file was changed.
    """
    content = read_file(path)
    if hashlib.sha256(content).hexdigest() != content_hash:
        raise DataError(f"{name} was changed while it was read. Run again when nothing writes to it.")
    return content


def readable(name: str) -> str:
    """Return a file's name as valid Unicode.

    Args:
        name: The name of a file, which may be any bytes on Linux.
    """
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")


def _newest_span(path: Path) -> Path:
    """Return a path with {SPAN} replaced by the highest existing number."""
    part = next((part for part in path.parts if "{" in part), None)
    if part is None or path.exists():
        return path
    if _SPAN not in part or path.parts.count(part) > 1 or "{" in part.replace(_SPAN, ""):
        raise DataError(
            f"data.path of images can have {_SPAN} in it once, and nothing else in braces. Received: {path}."
        )
    base = Path(*path.parts[: path.parts.index(part)])
    pattern = re.compile(re.escape(part).replace(re.escape(_SPAN), "([0-9]+)"))
    spans = {int(match[1]): name for name in _names(base) if (match := pattern.fullmatch(name))}
    if not spans:
        raise DataError(f"data.path matches no span. Received: {path}.")
    return Path(*(spans[max(spans)] if p == part else p for p in path.parts))


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []


# A folder


def _in_folder(root: Path) -> ImageFiles:
    warnings: list[str] = []
    files: list[ImageFile] = []
    broken: list[BrokenFile] = []
    classes: dict[str, list[str]] = {}

    def warn(circle: str) -> None:
        warnings.append(f"{readable(circle)} is a link to a folder that contains it, and is ignored.")

    above = os.path.join(root, "")
    for path in pictures_below(root, on_circle=warn):
        name = readable(path.removeprefix(above))
        folder, _, rest = name.partition(os.sep)
        if not rest:
            broken.append(BrokenFile(name, "it has no class: it is next to the subfolders of the classes"))
            continue
        label = unicodedata.normalize("NFC", folder)  # macOS stores é as two characters
        files.append(ImageFile(path, name, label))
        classes.setdefault(label, []).append(rest)
    _check_not_nested(root, classes)
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        label = unicodedata.normalize("NFC", readable(entry.name))
        if entry.is_dir() and not entry.name.startswith(".") and label not in classes:
            warnings.append(f"The class {label!r} has no image, and is left out.")
    files.sort(key=lambda file: file.name)
    return ImageFiles(tuple(files), tuple(broken), (*warnings, *_warn_of_single(classes)), {})


def _warn_of_single(classes: Mapping[str, list[str]]) -> Iterator[str]:
    for label, names in classes.items():
        if len(names) == 1:
            yield f"The class {label!r} has one image: it is used for training, and no score covers the class."


def _check_not_nested(root: Path, classes: Mapping[str, list[str]]) -> None:
    """Refuse a folder of splits (train, test) with classes in them, which is easily taken for a folder of classes."""
    below = {label: {name.split(os.sep)[0] for name in names if os.sep in name} for label, names in classes.items()}
    is_all_below = all(os.sep in name for names in classes.values() for name in names)
    inner = list(below.values())
    shared = set.intersection(*inner) if inner else set()
    if len(classes) > 1 and is_all_below and shared and any(len(names) > 1 for names in inner):
        first = next(iter(classes))
        raise DataError(
            f"The classes are nested: each of {', '.join(map(repr, classes))} in {root} has the subfolders "
            f"{', '.join(sorted(shared)[:5])}. Received: {root}. The first level of folders must be the classes. Give "
            f"one of them, data.path: {root / first}; or list path and class of each file in a CSV."
        )


# A list


def _in_list(path: Path, data: DataConfig) -> ImageFiles:
    table = _read_list(path, data)
    columns = _metadata_columns(table.column_names, path, data)
    types = {name: _type_of(table.schema.field(name).type) for name in columns}
    texts = table.select([PATH, data.label]).to_pydict()
    metadata = {name: _values(table[name], types[name], name=name, path=path) for name in columns}
    files: dict[tuple[str, str], ImageFile] = {}
    broken: list[BrokenFile] = []
    for number, (name, label) in enumerate(zip(texts[PATH], texts[data.label], strict=True)):
        if not name:
            broken.append(BrokenFile(f"row {number + 1} of {path.name}", "its path is missing"))
            continue
        target = os.path.join(path.parent, name)
        if not label:
            broken.append(BrokenFile(name, f"its {data.label} is missing in {path.name}"))
        elif not os.path.exists(target):
            broken.append(BrokenFile(name, f"the file listed in {path.name} does not exist"))
        else:
            values = {key: column[number] for key, column in metadata.items() if column[number] is not None}
            files.setdefault((name, label), ImageFile(target, name, label, values))
    classes: dict[str, list[str]] = {}
    for file in files.values():
        classes.setdefault(file.label, []).append(file.name)
    ordered = tuple(sorted(files.values(), key=lambda file: (file.name, file.label)))
    return ImageFiles(ordered, tuple(broken), tuple(_warn_of_single(classes)), types)


def _metadata_columns(names: list[str], path: Path, data: DataConfig) -> list[str]:
    """Return the checked columns of a list besides path and label."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"The list of images has several columns of one name. Received twice: {', '.join(twice)} in {path}. Rename "
            "one of them."
        )
    for column in (PATH, data.label):
        if column not in names:
            raise DataError(
                f"The list of images has no column {column!r}.{nearest(column, names)} Received: "
                f"{', '.join(names)} in {path}. It needs path and {data.label}; data.label names another."
            )
    if data.label in OWN_COLUMNS:
        raise DataError(
            f"data.label cannot be {data.label!r}: kubetfx writes a column of that name. Rename the column."
        )
    if unknown := [name for name in data.drop if name not in names]:
        raise DataError(
            f"data.drop: the list of images has no column {unknown[0]!r}.{nearest(unknown[0], names)} "
            f"Received: {', '.join(names)} in {path}."
        )
    metadata = [name for name in names if name not in (PATH, data.label, *data.drop)]
    if clash := [name for name in metadata if name in (*OWN_COLUMNS, *MODEL_OUTPUTS)]:
        raise DataError(
            f"Column {clash[0]!r} of the list has the name of a column that kubetfx writes, or of "
            f"an output of the model. Received: {path}. Rename it, or leave it out: data.drop: [{clash[0]}]"
        )
    return metadata


def _read_list(path: Path, data: DataConfig) -> pa.Table:
    texts = dict.fromkeys((PATH, data.label), pa.string())
    try:
        found = format_of(path.name)
        if found not in (None, "csv"):
            file = open_table(str(path), found, data.csv_options)
            table = pa.Table.from_batches(file.stream(file.types()))
            for column in texts.keys() & set(table.column_names):
                index = table.column_names.index(column)
                table = table.set_column(index, column, table[column].cast(pa.string()))
            return table
        return csv_file.read_whole(str(path), detect(str(path), data.csv_options), texts)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(f"The list of images cannot be read. Received: {path}, where {error}") from None
    except DataError as error:  # the error names the file and the line
        raise DataError(f"The list of images cannot be read. Received: {error}") from None


def _type_of(arrow_type: pa.DataType) -> CellType:
    if pa.types.is_integer(arrow_type):
        return "int64"
    return "float" if pa.types.is_floating(arrow_type) else "string"


def _values(column: pa.ChunkedArray, type_name: str, *, name: str, path: Path) -> list[Any]:
    try:
        if type_name == "float":
            return list(pc.if_else(pc.is_nan(column), None, column).to_pylist())
        return list(column.cast(pa.string() if type_name == "string" else pa.int64()).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"Column {name!r} of the list contains neither numbers nor UTF-8 text. Received: {column.type} in {path} "
            f"({error}). Leave it out: data.drop: [{name}]"
        ) from None

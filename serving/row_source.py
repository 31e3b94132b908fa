"""Rows for a model, from wherever they are: files, folders of images, JSON, and tables in memory, block by block."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.artifacts import IMAGE_BYTES, IMAGE_PATH
from kubetfx.errors import DataError, UsageError
from kubetfx.serving.image_folders import find_pictures, is_picture
from kubetfx.serving.model_columns import ModelColumns, check_type
from kubetfx.storage import is_web
from kubetfx.tables import blocks, memory
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.downloads import fetch
from kubetfx.tables.files import TableFiles, find_table
from kubetfx.tables.table_file import Cut, Rows

TABLE_CUT = Cut()
IMAGE_CUT = Cut(block_rows=256)
STORED_IMAGES_CUT = Cut(block_rows=32, segment_blocks=1_000_000)
"""For a table that has the images themselves: few are in memory at a time, and none is read twice."""
_UNNAMED = re.compile(r"column_\d+")
"""The name of a column of a CSV file without a row of names."""
_ANY = np.dtype(object)

Types = Mapping[str, pa.DataType | None]
"""Types of a table's columns; None where only the values say it."""


@dataclass(frozen=True)
class ReadingPlan:
    """What is read of a table, and what becomes of it."""

    columns: tuple[str, ...]
    """Columns to read."""
    numbers: tuple[str, ...]
    """Columns that may be read as float64."""
    copied: tuple[str, ...]
    """Columns to copy to the output."""
    cut: Cut
    """How a Parquet file is cut into blocks."""


def plan_reading(
    types: Mapping[str, Types], model: ModelColumns, *, outputs: Sequence[str] = (), copied: Sequence[str] = ()
) -> ReadingPlan:
    """Decide which columns of a table are read for a model.

    Args:
        types: The types of the columns of each of its files, by the file's name.
        model: what it takes.
        outputs: names of columns that the output has besides.
        copied: columns to copy. Paths of images are always copied.

    Returns:
        The plan, which holds for all files.

    Raises:
        DataError: a file lacks a column, or has one of a type that is never right.
        UsageError: a column to copy has the name of one of the output.
    """
    first = next(iter(types.values()))
    pictures = model.pictures(first)
    inputs = tuple(pictures.get(name, name) for name in model.inputs)
    if model.is_of_images:
        copied = tuple(dict.fromkeys([IMAGE_PATH] * (IMAGE_BYTES not in first) + list(copied)))
    for place, held in types.items():
        _check_columns(place, held, inputs, whose="of the model", is_of_images=model.is_of_images)
        _check_columns(place, held, copied, whose="that `columns` names")
        if any(held[name] != first[name] for name in copied):
            raise DataError(f"{place}: a column of `columns` is of another type than in {next(iter(types))}.")
        for name in inputs:
            if (arrow_type := held[name]) is not None and name not in model.lists:
                check_type(name, arrow_type, model.inputs.get(name, _ANY), place=place)
    if clashes := [name for name in copied if name in outputs]:
        raise UsageError(
            f"`columns`: the output has a column of that name. Received: {', '.join(clashes)}. Rename it in the input."
        )
    numbers = tuple(n for n in inputs if n in model.inputs and model.inputs[n].kind == "f" and n not in copied)
    cut = TABLE_CUT if not pictures else STORED_IMAGES_CUT if IMAGE_BYTES in inputs else IMAGE_CUT
    return ReadingPlan(tuple(dict.fromkeys([*inputs, *copied])), numbers, tuple(copied), cut)


def _check_columns(place: str, held: Types, wanted: Sequence[str], *, whose: str, is_of_images: bool = False) -> None:
    absent = [name for name in wanted if name not in held]
    if not absent:
        return
    remedy = "Add them; a cell may be empty."
    if all(_UNNAMED.fullmatch(name) for name in absent):
        remedy = (
            "Add them. A CSV file without a row of names, as the one for training, needs data.csv: {header: false}."
        )
    if is_of_images:
        remedy = f"Give paths of images in a column {IMAGE_PATH}, or their bytes in {IMAGE_BYTES}."
    raise DataError(f"{place} lacks columns {whose}: {', '.join(absent)}. Received: {', '.join(held)}. {remedy}")


@dataclass(frozen=True)
class RowSource:
    """Rows with the columns that a model needs."""

    root: Path
    """Folder that paths of images are relative to."""
    plan: ReadingPlan
    blocks: Iterator[Rows]
    """Blocks of rows, each numbered from 0."""


def open_rows(rows: Any, model: ModelColumns, *, csv: CsvOptions = UNKNOWN_CSV) -> RowSource:
    """Find rows for a model, and get ready to read them.

    Args:
        rows: a path of a table's file, of a folder of such, or of a JSON document; the URL of a file; a pandas frame,
            an Arrow table, or a list of dicts. For a model of images also a picture or a folder of them.
        model: what it takes.
        csv: how CSV files are written, as far as it is known.

    Returns:
        The rows, whose blocks are read when they are iterated over.

    Raises:
        DataError: they cannot be read, or lack a column. While the blocks are read: a file is broken.
    """
    if not isinstance(rows, str | os.PathLike):
        return _in_memory(memory.columns_of(rows), model, root=Path(), place="The table")
    path = fetch(str(rows)) if is_web(str(rows)) else Path(rows)
    if model.is_of_images and (path.is_dir() or (path.is_file() and is_picture(path.name))):
        root = path if path.is_dir() else path.parent
        pictures = find_pictures(path) if path.is_dir() else [str(path)]
        names = [os.path.relpath(picture, root) for picture in pictures]
        return _in_memory({IMAGE_PATH: names}, model, root=root, place=str(path))
    if path.suffix == ".json":
        if not path.exists():
            raise DataError(f"There is no such file of rows. Received: {path}.")
        return _in_memory(memory.read_json(path), model, root=path.parent, place=str(path))
    return _in_files(find_table(path), model, csv)


def _in_memory(columns: memory.Columns, model: ModelColumns, *, root: Path, place: str) -> RowSource:
    types = {name: None if isinstance(values, list) else values.type for name, values in columns.items()}
    plan = plan_reading({place: types}, model)

    def read() -> Iterator[Rows]:
        num_rows = len(next(iter(columns.values())))
        for start in range(0, num_rows, plan.cut.block_rows):
            part = {name: columns[name][start : start + plan.cut.block_rows] for name in plan.columns}
            yield memory.rows_of(part, names=plan.columns, numbers=plan.numbers, lists=model.lists)

    return RowSource(root, plan, read())


def _in_files(files: TableFiles, model: ModelColumns, csv: CsvOptions) -> RowSource:
    types = {path: blocks.column_types(path, files.format, csv) for path in files.paths}
    plan = plan_reading(types, model)

    def read() -> Iterator[Rows]:
        is_empty = True
        for path in files.paths:
            for segment in blocks.segments(path, files.format, csv, first_block=0, cut=plan.cut):
                wanted = [block.number for block in segment.blocks]
                for block, found in blocks.read_blocks(segment, wanted, columns=plan.columns, numbers=plan.numbers):
                    is_empty = is_empty and not block.num_rows
                    yield found
        if is_empty:
            raise DataError(f"There are no rows. Received: {', '.join(files.paths)}.")

    return RowSource(Path(str(files.root)), plan, read())

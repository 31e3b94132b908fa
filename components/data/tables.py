"""A run's table: its files as TFX is told of them, a scan that agrees on types, and the label.

Knows Arrow and nothing of TFX. Every column ends up as one of three types; missing cells are null. How files are read
is kubetfx/tables' to say.
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from kubetfx.components.data import data_source, partitions
from kubetfx.components.data.column_scan import ARROW_TYPES, to_type
from kubetfx.components.data.table_profile import Column, TableProfile
from kubetfx.components.data.table_scan import cell_type, check_label_is_there, merge, scan, whole_numbers
from kubetfx.config.data_section import DataConfig
from kubetfx.config.section import nearest
from kubetfx.errors import DataError, StorageError
from kubetfx.models.columns.known_types import readings
from kubetfx.models.columns.reading import texts_of
from kubetfx.storage import Location, list_files, locate
from kubetfx.tables import csv_file, parquet_file
from kubetfx.tables.csv_detection import detect
from kubetfx.tables.csv_dialect import Dialect
from kubetfx.tables.files import (
    SUFFIXES,
    Format,
    TableFiles,
    check_names,
    format_of,
    shown_names,
    suffix_of,
    visible_names,
)

BLOCK_BYTES = 4 * 2**20
BYTES_PER_COLUMN = 2**13
"""CSV is read in blocks of so many bytes, more where there are thousands of columns; Arrow reads 32 of them ahead.
Parquet is read in batches of so many rows and cells. Memory is bounded by them."""
BLOCK_ROWS = 65_536
BLOCK_CELLS = 2**21


@dataclass(frozen=True)
class MatchedFiles(TableFiles):
    """The files of a run's table, with the glob below their folder by which TFX's ExampleGen finds them."""

    pattern: str


def find_files(data: DataConfig) -> MatchedFiles:
    """Return the files of one format that `data.path`, a folder or a glob, means; the rows of a source are fetched into
    files.

    Args:
        data: the section.

    Raises:
        ConfigError: there is no such source.
        DataError: nothing matches, the files are of both formats, or the folder may not be read.
    """
    data = data_source.fetched(data)
    try:
        path = locate(data.path)
        if data.splits.files:
            return _files_of_splits(path, data)
        if path.is_dir():
            return _files_in_folder(path, data)
        base, pattern = (path.parent, path.name) if path.is_file() else _split_glob(path)
        matches = _matches(base, _newest(base, pattern))
    except PermissionError as error:
        raise DataError(f"data.path may not be read: {error}. Grant read permission, or run as its owner.") from None
    except StorageError as error:
        raise DataError(f"data.path cannot be read. {error}") from None
    except ValueError as error:
        raise DataError(f"data.path: {error}.") from None
    if not matches:
        raise DataError(
            f"data.path matches no file. Received: {data.path}. Give a folder of .csv or .parquet files, or a glob."
        )
    return MatchedFiles(base, tuple(matches), _format_of(matches, data), pattern)


def column_names(files: TableFiles, data: DataConfig) -> list[str]:
    """Return the names of the columns of all files, those in `data.drop` included.

    Args:
        files: the table.
        data: the section.
    """
    names: dict[str, None] = {}
    for path in files.paths:
        held = (
            _parquet_columns(path) if files.format == "parquet" else _csv_header(path, detect(path, data.csv_options))
        )
        names |= dict.fromkeys([*held, *partitions.columns_of(path)])
    return list(names)


def inspect_table(files: TableFiles, data: DataConfig) -> TableProfile:
    """Return what a scan of the whole table finds: a type for every column, the number of rows, missing cells and
    distinct values.

    A run looks at its table twice, before anything is done and in ExampleGen: the last scan of a process is kept, as
    long as the files have not changed.

    Args:
        files: the table.
        data: the section.

    Raises:
        DataError: a file is empty, ragged, not UTF-8, not of the format that was said; or the files disagree.
    """
    global _last_scan  # noqa: PLW0603
    key = _scan_key(files, data)
    if key is None or _last_scan is None or _last_scan[0] != key:
        profile = _inspect_table(files, data)
        if key is None or _scan_key(files, data) != key:
            return profile
        _last_scan = (key, profile)
    return _last_scan[1]


_last_scan: tuple[Any, TableProfile] | None = None


def _scan_key(files: TableFiles, data: DataConfig) -> Any:
    """What a scan depends on; None for files that are not on this machine."""
    try:
        stats = [os.stat(path) for path in files.paths]
    except OSError:
        return None
    states = tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
    return files.paths, states, files.format, data.drop, data.types, data.csv_options


def scan_columns(files: TableFiles, data: DataConfig, names: Collection[str]) -> TableProfile:
    """Scan some columns of a table, whether they are in `data.drop` or not.

    Args:
        files: the table.
        data: the section of the config.
        names: of the columns.

    Returns:
        Their profile.

    Raises:
        DataError: they cannot be read, or the files disagree.
    """
    others = tuple(name for name in column_names(files, data) if name not in names)
    return _inspect_table(files, data.model_copy(update={"drop": others}))


def _inspect_table(files: TableFiles, data: DataConfig) -> TableProfile:
    first_path, *other_paths = files.paths
    merged = first = _inspect_file(first_path, files.format, data)
    rows = {first_path: merged.num_rows}
    sources = {column.name: first_path for column in merged.columns if column.num_values}
    for path in other_paths:
        table = _inspect_file(path, files.format, data)
        if data.label in {*merged.names, *table.names}:
            check_label_is_there(first, data.label, path=first_path)
            check_label_is_there(table, data.label, path=path)
        merged = merge(merged, table, sources=sources, path=path)
        rows[path] = table.num_rows
    if merged.num_rows == 0:
        raise DataError(
            f"The table has a header and no rows. Received: {', '.join(files.paths)}, with the columns "
            f"{', '.join(merged.names)}."
        )
    of_folders = partitions.profile_columns(rows, drop=data.drop, known=merged.names, stated=data.stated_types)
    columns = [*merged.columns, *of_folders]
    columns = [whole_numbers(column) if column.name == data.label else column for column in columns]
    return replace(merged, columns=tuple(columns))


def read_blocks(
    path: str, columns: Sequence[Column], *, file_format: Format, data: DataConfig
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file, a block at a time, in the given columns and types.

    Args:
        path: of the file.
        columns: to read, with their types.
        file_format: of the file.
        data: the section.

    Yields:
        Batches of int64, double and string columns. Missing cells and NaN are null.
    """
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in columns])
    decimal = "."
    if file_format == "parquet":
        held = set(_parquet_columns(path))
        batches = _read_parquet(path, [name for name in schema.names if name in held])
    else:
        dialect = detect(path, data.csv_options)
        decimal = dialect.decimal
        held = set(_csv_header(path, dialect))
        types = {c.name: pa.string() if c.reading else ARROW_TYPES[c.type] for c in columns if c.name in held}
        batches = csv_file.stream(path, dialect, types, columns=list(types), block_bytes=_block_bytes(types))
    of_folders = partitions.columns_of(path)
    for batch in batches:
        if batch.num_rows:
            arrays = [
                batch.column(name) if name in held else partitions.cells(of_folders.get(name), batch.num_rows)
                for name in schema.names
            ]
            typed = [_understood(array, column, decimal=decimal) for array, column in zip(arrays, columns, strict=True)]
            yield pa.RecordBatch.from_arrays(typed, schema=schema)


def _understood(array: pa.Array, column: Column, *, decimal: str) -> pa.Array:
    """A column's block in the type of the column; its cells may be spelled unusually."""
    if column.reading and (column.type == "string" or cell_type(array.type) == "string"):
        array = readings()[column.reading].understood(texts_of(array), column, decimal=decimal)
    return to_type(array, ARROW_TYPES[column.type])


def _split_glob(path: Location) -> tuple[Location, str]:
    """The folder before the first placeholder, or around a path without one, and the rest."""
    text = str(path)
    base = re.split(r"[*?\[{]", text, maxsplit=1)[0].rpartition("/")[0]
    return locate(base or ("/" if text.startswith("/") else ".")), text[len(base) :].lstrip("/")


def _matches(base: Location, pattern: str) -> list[str]:
    """Files that match, hidden ones left alone, in order."""
    return [str(path) for path in list_files(base, pattern) if not path.name.startswith(".")]


def _files_in_folder(folder: Location, data: DataConfig) -> MatchedFiles:
    if re.search(r"[*?\[]", str(folder)):
        raise DataError(f"The name of a folder of data may have no *, ? or [. Received: {folder}. Rename it.")
    names = visible_names(folder)
    if not any(map(suffix_of, names)):
        names = _in_partitions(folder) or names
    formats: list[Format] = [data.format] if data.format in ("csv", "parquet") else ["csv", "parquet"]
    suffixes = {suffix_of(name) for name in names} - {None}
    by_suffix = {
        suffix: [name for name in names if name.endswith(suffix)]
        for suffix in sorted(suffix for suffix in suffixes if suffix)
        if any(suffix.lower() in SUFFIXES[file_format] for file_format in formats)
    }
    if not by_suffix:
        wanted = ", ".join(suffix for f in formats for suffix in SUFFIXES[f])
        raise DataError(f"There is no file to read ({wanted}) in {folder}. Received: {shown_names(names)}.")
    if len(by_suffix) > 1:
        raise DataError(
            f"{folder} holds files of several kinds. Received: {', '.join(by_suffix)}. "
            f"Name the ones to read: data.path: {folder}/*{next(iter(by_suffix))}"
        )
    ((suffix, found),) = by_suffix.items()
    found_format = format_of(suffix)
    assert found_format is not None  # `suffix_of` knows it
    depths = {name.count("/") for name in found}
    if len(depths) > 1:
        raise DataError(f"The files in the folders of {folder} are not all as deep. Received: {shown_names(found)}.")
    pattern = "*=*/" * depths.pop() + f"*{suffix}"
    return MatchedFiles(folder, tuple(f"{folder}/{name}" for name in found), found_format, pattern)


def _in_partitions(folder: Location) -> list[str]:
    """Files in folders that are named `column=value`, relative to the folder."""
    names = []
    for depth in range(1, partitions.MAX_DEPTH + 1):
        names += [path[len(str(folder)) + 1 :] for path in _matches(folder, "*=*/" * depth + "*")]
    return [name for name in names if suffix_of(name)]


def _files_of_splits(folder: Location, data: DataConfig) -> MatchedFiles:
    """The files that `data.splits.files` names. TFX's fingerprint covers all that is as deep in the folder."""
    if not folder.is_dir():
        raise DataError(f"data.path must be a folder, where data.splits.files names files in it. Received: {folder}.")
    paths: list[str] = []
    for split, pattern in data.splits.files.items():
        matching = _matches(folder, pattern)
        found = [path for path in matching if path not in paths]
        if not found:
            problem = "matches only files of the splits before it" if matching else "matches no file"
            raise DataError(
                f"data.splits.files.{split} {problem}. Received: {pattern}, in {folder}. Name files, or a glob such as "
                f"{split}/*.csv; each is of the first split that names it."
            )
        paths += found
    depths = {path[len(str(folder)) + 1 :].count("/") for path in paths}
    if len(depths) > 1:
        raise DataError(
            f"The files of data.splits.files must all be in {folder}, or all in folders of it. Received: "
            f"{', '.join(data.splits.files.values())}."
        )
    return MatchedFiles(folder, tuple(paths), _format_of(paths, data), "/".join("*" * (depths.pop() + 1)))


def _newest(base: Location, pattern: str) -> str:
    """The pattern with TFX's {SPAN}, {VERSION} and date placeholders filled in, by TFX's own rule: the newest."""
    if "{" not in pattern:
        return pattern
    from tfx.components.example_gen.utils import calculate_splits_fingerprint_span_and_version  # takes seconds
    from tfx.proto.example_gen_pb2 import Input

    from kubetfx.components.data import tfx_filesystem

    tfx_filesystem.register()
    split = Input.Split(name="all", pattern=pattern)
    try:
        calculate_splits_fingerprint_span_and_version(str(base), [split])
    except ValueError as error:
        raise DataError(f"data.path matches no span: {error}. Received: {base / pattern}.") from None
    return str(split.pattern)


def _format_of(paths: Sequence[str], data: DataConfig) -> Format:
    if data.format in ("csv", "parquet"):
        return data.format
    formats = {found for path in paths if (found := format_of(path))}
    if len(formats) == 1:
        return formats.pop()
    problem = "are of both formats" if formats else "have names that say neither CSV nor Parquet"
    raise DataError(
        f"The files that data.path matches {problem}. Received: {', '.join(paths[:5])}. "
        "Set data.format to csv or parquet, or narrow data.path."
    )


def _inspect_file(path: str, file_format: Format, data: DataConfig) -> TableProfile:
    try:
        if file_format == "parquet":
            return _inspect_parquet(path, data)
        return _inspect_csv(path, data)
    except PermissionError:
        raise DataError(f"{path} may not be read. Grant read permission, or run as its owner.") from None
    except StorageError as error:
        raise DataError(f"{path} cannot be read. {error}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}. Is it whole?") from None


def _inspect_parquet(path: str, data: DataConfig) -> TableProfile:
    names = [name for name in _parquet_columns(path) if name not in data.drop]
    try:
        return scan(lambda: _read_parquet(path, names), path, names=names, stated=data.stated_types)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} holds text that is not UTF-8. Received: {error.object[:40]!r}. Write it anew."
        ) from None


def _inspect_csv(path: str, data: DataConfig) -> TableProfile:
    dialect = detect(path, data.csv_options)
    header = _csv_header(path, dialect)
    names = [name for name in header if name and name not in data.drop]  # the first may be an index without a name
    if not names:
        raise DataError(f"{path}: no column is left. Received: data.drop = {list(data.drop)}.")
    types = dict.fromkeys(names, pa.string())

    def read() -> Iterator[pa.RecordBatch]:
        return csv_file.stream(path, dialect, types, columns=names, block_bytes=_block_bytes(names))

    try:
        profile = scan(read, path, names=names, stated=data.stated_types, decimal=dialect.decimal)
    except pa.ArrowInvalid as error:
        raise csv_file.explain(path, dialect, error, block_bytes=BLOCK_BYTES) from None
    said = f"{Path(path).name} is {described}." if (described := dialect.describe()) else ""
    return replace(profile, file_notes=(said,) if said else ())


def _csv_header(path: str, dialect: Dialect) -> list[str]:
    if csv_file.is_parquet(path):
        raise DataError(f"{path} is a Parquet file. Received: data.format csv. Set data.format: parquet.")
    return list(csv_file.header(path, dialect)[0])


def _block_bytes(columns: Collection[str]) -> int:
    return max(BLOCK_BYTES, BYTES_PER_COLUMN * len(columns))


def _parquet_columns(path: str) -> list[str]:
    try:
        names = list(parquet_file.schema(path).names)
    except DataError as error:
        raise DataError(f"{error} Set data.format: csv if it is one.") from None
    check_names(names, path)
    return names


def _read_parquet(path: str, names: list[str]) -> Iterator[pa.RecordBatch]:
    batch_rows = max(BLOCK_CELLS // max(len(names), 1), 1)
    return parquet_file.stream(path, names, batch_rows=min(batch_rows, BLOCK_ROWS))


def check_label(profile: TableProfile, data: DataConfig) -> Column:
    """Return the label's column.

    Args:
        profile: of the table.
        data: the section.

    Raises:
        DataError: there is no such column, it holds dates, it has fewer than two values, or rows without one.
    """
    if data.label not in profile.names:
        ranked = sorted(profile.names, key=lambda name: f"{name!r}" not in nearest(data.label, profile.names))
        raise DataError(
            f"There is no column {data.label!r} to predict.{nearest(data.label, profile.names)} "
            f"Received the columns: {', '.join(ranked)}."
        )
    label = profile.column(data.label)
    if label.dates:
        stated = yaml.safe_dump({data.label: "text"}, default_flow_style=True, allow_unicode=True).strip()
        raise DataError(
            f"The label {data.label!r} holds dates, and a model predicts classes or numbers. Received: dates as "
            f"{label.date_format}. If they are names of classes, say data.types: {stated}; or choose another label."
        )
    num_missing = profile.num_rows - label.num_values
    odd = f" Received: {label.odd_cells}." if label.odd_cells else ""
    if label.num_values == 0:
        raise DataError(f"The label {data.label!r} is missing in all {profile.num_rows} rows.{odd}")
    if num_missing and not data.drop_rows_without_label:
        raise DataError(
            f"The label {data.label!r} is missing in {num_missing} of {profile.num_rows} rows.{odd} "
            "Fill it in, or leave those rows out: data.drop_rows_without_label: true"
        )
    if label.num_distinct == 1 or (label.minimum is not None and label.minimum == label.maximum):
        value = label.values[0] if label.values else label.minimum
        raise DataError(
            f"The label {data.label!r} has one value, so there is nothing to learn. "
            f"Received: {value!r} in all {label.num_values} rows."
        )
    return label

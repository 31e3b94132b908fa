"""A run's table: its files, a scan that determines types, and the label.

It knows Arrow but not TFX. Every column has one of three types in the end; missing cells are null. kubetfx/tables reads
the files.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data import data_source
from kubetfx.components.data.block_work import Run, run_in_threads
from kubetfx.components.data.column_scan import ARROW_TYPES, to_type
from kubetfx.components.data.file_scan import profiles_of
from kubetfx.components.data.partition_columns import contradictions, profile_columns
from kubetfx.components.data.span_store import SpanStore
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.table_scan import (
    cell_type,
    check_label_is_there,
    merge,
    merged_column,
    whole_numbers,
)
from kubetfx.config.data_section import DataConfig
from kubetfx.config.section import nearest
from kubetfx.config.yaml_text import in_one_line
from kubetfx.errors import DataError, StorageError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.known_types import readings
from kubetfx.storage import Location, locate
from kubetfx.tables import partitions
from kubetfx.tables.as_text import texts_of
from kubetfx.tables.blocks import open_table
from kubetfx.tables.files import FORMATS, Format, TableFiles, find_table, matching_files, one_format
from kubetfx.tables.spans import choose as choose_spans
from kubetfx.tables.spans import exactly
from kubetfx.tables.table_file import TableFile, reading
from kubetfx.tables.window import Window, has_spans


def find_files(data: DataConfig, spans: Collection[str] | None = None) -> TableFiles:
    """Return the files of `data.path`, which all have one format; the rows of a source are fetched into files.

    Args:
        data: The section.
        spans: The patterns of spans that were found before; None: `data.window` chooses.

    Raises:
        ConfigError: the source does not exist.
        DataError: nothing matches, the files have several formats, or the folder is not readable.
    """
    data = data_source.fetched(data)
    try:
        path = locate(data.path)
        if data.splits.files:
            return _files_of_splits(path, data)
        if path.is_dir() or path.is_file():
            return find_table(path, _stated_format(data))
        base, pattern = _split_glob(path)
        if has_spans(pattern):
            return _in_spans(base, pattern, data, spans)
        matches = matching_files(base, pattern)
    except PermissionError as error:
        raise DataError(f"data.path may not be read: {error}. Grant read permission, or run as its owner.") from None
    except StorageError as error:
        raise DataError(f"data.path cannot be read. {error}") from None
    except ValueError as error:
        raise DataError(f"data.path: {error}.") from None
    if not matches:
        raise DataError(f"data.path matches no file. Received: {data.path}. Give a file, a folder of files, or a glob.")
    return TableFiles(base, tuple(matches), _stated_format(data) or one_format(matches), pattern)


def _stated_format(data: DataConfig) -> Format | None:
    return next((known for known in FORMATS if known == data.format), None)


def column_names(files: TableFiles, data: DataConfig) -> list[str]:
    """Return the names of the columns of all files, those in `data.drop` included.

    Args:
        files: the table.
        data: the section.
    """
    names: dict[str, None] = {}
    for path in files.paths:
        with reading(path):
            held = open_table(path, files.format, data.csv_options).types()
        names |= dict.fromkeys([*held, *partitions.columns_of(path)])
    return list(names)


def inspect_table(
    files: TableFiles, data: DataConfig, run: Run = run_in_threads, store: SpanStore | None = None
) -> TableProfile:
    """Return the profile of the whole table.

    It has a type for every column, the number of rows, missing cells and distinct values. A run scans its table twice,
    at the start and in ExampleGen, so the last scan of a process is kept as long as the files have not changed.

    Args:
        files: the table.
        data: the section.
        run: Executes the scans of files and parts.
        store: The store of the workspace, for a table in spans; None: every file is scanned.

    Raises:
        DataError: a file is empty, ragged, not UTF-8, not of the format that was said; or the files disagree.
    """
    global _last_scan  # noqa: PLW0603
    key = _scan_key(files, data)
    if key is None or _last_scan is None or _last_scan[0] != key:
        profile = _inspect_table(files, data, run, store if files.spans else None)
        if key is None or _scan_key(files, data) != key:
            return profile
        _last_scan = (key, profile)
    return _last_scan[1]


_last_scan: tuple[Any, TableProfile] | None = None


def _scan_key(files: TableFiles, data: DataConfig) -> Any:
    """Return the key of a scan; None for files that are not on this machine."""
    try:
        stats = [os.stat(path) for path in files.paths]
    except OSError:
        return None
    states = tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)
    return files.paths, states, files.format, data.drop, data.types, data.csv_options


def scan_columns(
    files: TableFiles, data: DataConfig, names: Collection[str], store: SpanStore | None = None
) -> TableProfile:
    """Scan some columns of a table, whether they are in `data.drop` or not.

    Args:
        files: the table.
        data: the section of the config.
        names: The names of the columns.
        store: The store of the workspace, for a table in spans.

    Returns:
        Their profile.

    Raises:
        DataError: they cannot be read, or the files disagree.
    """
    others = tuple(name for name in column_names(files, data) if name not in names)
    return _inspect_table(files, data.model_copy(update={"drop": others}), store=store if files.spans else None)


def _inspect_table(
    files: TableFiles, data: DataConfig, run: Run = run_in_threads, store: SpanStore | None = None
) -> TableProfile:
    first, *others = profiles_of(files, data, run, store)
    first_path, *other_paths = files.paths
    merged = first
    rows = {first_path: merged.num_rows}
    in_folders = {name for path in files.paths for name in partitions.columns_of(path)}
    held = {first_path: in_folders.intersection(merged.names)}
    contradicted = contradictions(first_path, first)
    sources = {column.name: first_path for column in merged.columns if column.num_values}
    for path, table in zip(other_paths, others, strict=True):
        if data.label in {*merged.names, *table.names}:
            check_label_is_there(first, data.label, path=first_path)
            check_label_is_there(table, data.label, path=path)
        merged = merge(merged, table, sources=sources, path=path, in_folders=in_folders)
        contradicted = contradictions(path, table) | contradicted
        rows[path], held[path] = table.num_rows, in_folders.intersection(table.names)
    if merged.num_rows == 0:
        raise DataError(
            f"The table has a header and no rows. Received: {', '.join(files.paths)}, with the columns "
            f"{', '.join(merged.names)}."
        )
    of_folders = profile_columns(rows, drop=data.drop, known=merged.names, stated=data.stated_types)
    own = [_with_folders(c, rows, held, sources, data) if c.name in in_folders else c for c in merged.columns]
    columns = [*own, *of_folders]
    _check_stated(columns, data)
    label = next((column for column in columns if column.name == data.label), None)
    if label is not None:
        columns[columns.index(label)] = _as_label(label, files, data, num_rows=merged.num_rows)
    changes = store.changes(files.spans) if store else ()
    return replace(
        merged, columns=tuple(columns), file_notes=(*files.notes, *changes, *merged.file_notes, *contradicted.values())
    )


def _with_folders(
    column: ColumnProfile,
    rows: Mapping[str, int],
    held: Mapping[str, set[str]],
    sources: Mapping[str, str],
    data: DataConfig,
) -> ColumnProfile:
    """Return a column merged from files and, for files that lack it, from the names of folders."""
    name = column.name
    lacking = {path: number for path, number in rows.items() if name not in held[path]}
    others = profile_columns(lacking, drop=data.drop, known=(), stated=data.stated_types)
    found = next((other for other in others if other.name == name and other.num_values), None)
    if found is None:
        return column
    if not column.num_values:
        return found
    return merged_column(column, found, source=sources[name], path=next(iter(lacking)))


def _check_stated(columns: Sequence[ColumnProfile], data: DataConfig) -> None:
    """Refuse a type that fits no cell."""
    for column in columns:
        stated = data.stated_types.get(column.name)
        if stated and stated.kind != "text" and column.odd_cells and not column.num_values:
            ways = {"date": in_one_line({column.name: {"date": "%d/%m/%Y"}}), "number": "data.csv: {decimal: ','}"}
            how = f", or how its cells are written, {ways[stated.kind]} for example" if stated.kind in ways else ""
            raise DataError(
                f"data.types gives column {column.name!r} a type that none of its cells fits: {stated.kind}. Received: "
                f"{column.odd_cells}. Say data.types: {in_one_line({column.name: 'text'})}{how}."
            )


def _as_label(column: ColumnProfile, files: TableFiles, data: DataConfig, *, num_rows: int) -> ColumnProfile:
    """Return the label, with a note on texts that are read as missing: NA may be a country."""
    column = _with_variants(whole_numbers(column))
    words = set(data.missing_values) - {""}
    if files.format != "csv" or column.type != "string" or column.num_values == num_rows or not words:
        return column
    as_written = data.model_copy(update={"missing_values": ("",)})
    found: Counter[str] = Counter()
    for path in files.paths:
        for block in read_blocks(path, [ColumnProfile(column.name, "string")], file_format="csv", data=as_written):
            cells = block.column(0)
            found.update(cells.filter(pc.is_in(cells, pa.array(sorted(words)))).to_pylist())
    if not found:
        return column
    others = [value for value in data.missing_values if value not in found]
    counts = ", ".join(f"{count:,} cells {value!r}" for value, count in sorted(found.items()))
    said = f"{counts} are read as missing; if that is a class, say data.missing_values: {in_one_line(others)}"
    return replace(column, note=", ".join(filter(None, [column.note, said])))


def _with_variants(label: ColumnProfile) -> ColumnProfile:
    """Return the label, with a note on classes that differ only in spaces or case."""
    spellings: dict[str, list[Any]] = {}
    for value in label.values if label.type == "string" else ():
        spellings.setdefault(str(value).strip().casefold(), []).append(value)
    alike = next((found for found in spellings.values() if len(found) > 1), None)
    if alike is None:
        return label
    said = f"{' and '.join(map(repr, alike))} are different classes; if they should not be, write them alike"
    return replace(label, note=", ".join(filter(None, [label.note, said])))


def read_blocks(
    path: str, columns: Sequence[ColumnProfile], *, file_format: Format, data: DataConfig
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file, a block at a time, in the given columns and types.

    Args:
        path: The path of the file.
        columns: The columns to read, with their types.
        file_format: of the file.
        data: the section.

    Yields:
        Batches of int64, double and string columns. Missing cells and NaN are null.
    """
    yield from blocks_of(open_table(path, file_format, data.csv_options), columns)


def blocks_of(file: TableFile, columns: Sequence[ColumnProfile]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file, or of a part of it, a block at a time, in the given columns and types.

    Args:
        file: An opened file, or a part of one.
        columns: The columns to read, with their types.

    Yields:
        Batches of int64, double and string columns. Missing cells and NaN are null.
    """
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in columns])
    held = file.types()
    wanted = {c.name: pa.string() if c.reading else ARROW_TYPES[c.type] for c in columns if c.name in held}
    decimal = file.decimal or "."
    of_folders = partitions.columns_of(file.path)
    for batch in file.stream(wanted):
        if batch.num_rows:
            arrays = [
                batch.column(name) if name in held else partitions.cells(of_folders.get(name), batch.num_rows)
                for name in schema.names
            ]
            typed = [_understood(array, column, decimal=decimal) for array, column in zip(arrays, columns, strict=True)]
            yield pa.RecordBatch.from_arrays(typed, schema=schema)


def _understood(array: pa.Array, column: ColumnProfile, *, decimal: str) -> pa.Array:
    """Return a column's block in the type of the column, also if its cells are spelled unusually."""
    if column.reading and (column.type == "string" or cell_type(array.type) == "string"):
        array = readings()[column.reading].understood(texts_of(array), column, decimal=decimal)
    return to_type(array, ARROW_TYPES[column.type])


def _split_glob(path: Location) -> tuple[Location, str]:
    """Split a path at the folder before the first placeholder, or at the parent folder, and return both parts."""
    text = str(path)
    base = re.split(r"[*?\[{]", text, maxsplit=1)[0].rpartition("/")[0]
    return locate(base or ("/" if text.startswith("/") else ".")), text[len(base) :].lstrip("/")


def _files_of_splits(folder: Location, data: DataConfig) -> TableFiles:
    """Return the files that `data.splits.files` names.

    TFX's fingerprint covers all files at the same depth in the folder.
    """
    if not folder.is_dir():
        raise DataError(f"data.path must be a folder, where data.splits.files names files in it. Received: {folder}.")
    paths: list[str] = []
    for split, pattern in data.splits.files.items():
        matching = matching_files(folder, pattern)
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
    return TableFiles(
        folder, tuple(paths), _stated_format(data) or one_format(paths), "/".join("*" * (depths.pop() + 1))
    )


def _in_spans(base: Location, pattern: str, data: DataConfig, spans: Collection[str] | None) -> TableFiles:
    chosen = choose_spans(base, pattern, data.window.meant if data.window else Window())
    taken = chosen.spans if spans is None else exactly(base, pattern, spans)
    if data.splits.by == "span" and len(taken) == 1:
        raise DataError(
            "data.splits.eval: newest leaves no span for training. Received: "
            f"{taken[0].label} alone, in {base / pattern}. Wait for the next, or leave `eval: newest` out."
        )
    paths = tuple(path for span in taken for path in span.paths)
    return TableFiles(base, paths, _stated_format(data) or one_format(paths), pattern, taken, chosen.notes)


def check_label(profile: TableProfile, data: DataConfig) -> ColumnProfile:
    """Return the label's column.

    Args:
        profile: The profile of the table.
        data: the section.

    Raises:
        DataError: the column does not exist, holds dates, has fewer than two values, infinite values, or rows without a
            value.
    """
    if data.label not in profile.names:
        ranked = sorted(profile.names, key=lambda name: f"{name!r}" not in nearest(data.label, profile.names))
        raise DataError(
            f"There is no column {data.label!r} to predict.{nearest(data.label, profile.names)} "
            f"Received the columns: {', '.join(ranked)}.{_other_delimiter(profile.names)}"
        )
    label = profile.column(data.label)
    if label.dates:
        stated = in_one_line({data.label: "text"})
        raise DataError(
            f"The label {data.label!r} holds dates, and a model predicts classes or numbers. Received: dates as "
            f"{label.date_format}. If they are names of classes, say data.types: {stated}; or choose another label."
        )
    num_missing = profile.num_rows - label.num_values
    said = label.odd_cells or (label.note if num_missing else None)
    odd = f" Received: {said}." if said else ""
    if label.num_values == 0:
        raise DataError(f"The label {data.label!r} is missing in all {profile.num_rows} rows.{odd}")
    if num_missing and not data.drop_rows_without_label:
        raise DataError(
            f"The label {data.label!r} is missing in {num_missing} of {profile.num_rows} rows.{odd} "
            "Fill it in, or leave those rows out: data.drop_rows_without_label: true"
        )
    if label.type == "float" and not math.isfinite((label.maximum or 0) - (label.minimum or 0)):
        raise DataError(
            f"The label {data.label!r} is infinite in some rows. Received: values from {label.minimum:g} to "
            f"{label.maximum:g}. Leave those rows out, or correct them."
        )
    if label.num_distinct == 1 or (label.minimum is not None and label.minimum == label.maximum):
        value = label.values[0] if label.values else label.minimum
        raise DataError(
            f"The label {data.label!r} has one value, so there is nothing to learn. "
            f"Received: {value!r} in all {label.num_values} rows{f' that have one ({label.note})' if said else ''}."
        )
    return label


def _other_delimiter(names: Sequence[str]) -> str:
    """Return a hint for a CSV file whose header was taken for one name."""
    marks = re.search(r"\w([^\w\"'.-]+)\w", names[0]) if len(names) == 1 else None
    if marks is None:
        return ""
    stated = in_one_line({"delimiter": marks[1][0]})
    return f" If another delimiter separates them, set it: data.csv: {stated}"

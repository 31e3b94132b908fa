"""Reading CSV and Parquet as one table, block by block, with errors that name the file and the place.

Knows Arrow and nothing of TFX. Every column ends up as one of three types; missing cells are null.
"""

import codecs
import csv
import gzip
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kubetfx.components.data.table_profile import Column, ColumnType, TableProfile
from kubetfx.config.data import DataConfig
from kubetfx.config.section import nearest
from kubetfx.errors import DataError, StorageError
from kubetfx.storage import Location, list_files, locate

if TYPE_CHECKING:
    import _csv

Format = Literal["csv", "parquet"]

SUFFIXES: Mapping[Format, tuple[str, ...]] = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet",),
}
ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "int64": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
}

BLOCK_BYTES = 4 * 2**20
BYTES_PER_COLUMN = 2**13
"""CSV is read in blocks of so many bytes, more where there are thousands of columns; Arrow reads 32 of them ahead.
Parquet is read in batches of so many rows and cells. Memory is bounded by them."""
BLOCK_ROWS = 65_536
BLOCK_CELLS = 2**21

MAX_DISTINCT = 10_000
"""Distinct values of a column are counted up to this number."""
MAX_UNIQUE = 1_000_000
"""As long as no value was seen twice, values are remembered up to this number, to tell an identifier."""

_WIDER: Mapping[pa.DataType, pa.DataType] = {
    pa.null(): pa.int64(),
    pa.int64(): pa.float64(),
    pa.float64(): pa.string(),
}


@dataclass(frozen=True)
class TableFiles:
    """The files of a table.

    `base` and `pattern` are how TFX's ExampleGen is told: a folder, and a glob below it.
    """

    base: str
    pattern: str
    format: Format
    paths: tuple[str, ...]


def find_files(data: DataConfig) -> TableFiles:
    """Resolve `data.path`, a folder or a glob, to the files of one format.

    Raises:
        DataError: nothing matches, the files are of both formats, or the folder may not be read.
    """
    try:
        path = locate(data.path)
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
    return TableFiles(str(base), pattern, _format_of(matches, data), tuple(matches))


def column_names(files: TableFiles, data: DataConfig) -> list[str]:
    """Names of the first file's columns, those in `data.drop` included."""
    path = files.paths[0]
    return _parquet_columns(path) if files.format == "parquet" else _csv_header(path, data)


def inspect_table(files: TableFiles, data: DataConfig) -> TableProfile:
    """Scan the whole table: agree on a type for every column, count rows, missing cells and distinct values.

    A run looks at its table twice, before anything is done and in TableExampleGen: the last scan of a process is kept,
    as long as the files have not changed.

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
    return files.paths, states, files.format, data.drop, data.missing_values


def _inspect_table(files: TableFiles, data: DataConfig) -> TableProfile:
    first_path, *other_paths = files.paths
    merged = _inspect_file(first_path, files.format, data)
    sources = {column.name: first_path for column in merged.columns if column.num_values}
    for path in other_paths:
        table = _inspect_file(path, files.format, data)
        _check_same_columns(merged, table, first_path=first_path, path=path)
        merged = _merge(merged, table, sources=sources, path=path)
    if merged.num_rows == 0:
        raise DataError(f"The table has a header and no rows. Received: {', '.join(files.paths)}.")
    return merged


def read_blocks(
    path: str, columns: Sequence[Column], *, file_format: Format, data: DataConfig
) -> Iterator[pa.RecordBatch]:
    """The rows of one file, a block at a time, in the given columns and types.

    Yields:
        Batches of int64, double and string columns. Missing cells and NaN are null.
    """
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in columns])
    if file_format == "parquet":
        batches = _read_parquet(path, [column.name for column in columns])
    else:
        types = {c.name: ARROW_TYPES[c.type] for c in columns}
        batches = _read_csv(path, data, types, include=list(types))
    for batch in batches:
        if batch.num_rows:
            arrays = [_to_type(batch.column(f.name), f.type) for f in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _split_glob(path: Location) -> tuple[Location, str]:
    """The folder before the first placeholder, or around a path without one, and the rest."""
    text = str(path)
    base = re.split(r"[*?\[{]", text, maxsplit=1)[0].rpartition("/")[0]
    return locate(base or ("/" if text.startswith("/") else ".")), text[len(base) :].lstrip("/")


def _matches(base: Location, pattern: str) -> list[str]:
    """Files that match, hidden ones left alone, in order."""
    return [str(path) for path in list_files(base, pattern) if not path.name.startswith(".")]


def _suffix(name: str) -> str | None:
    """The suffix that says the format, in the case in which it is written."""
    known = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes if name.lower().endswith(suffix)]
    return name[-len(known[0]) :] if known else None


def _files_in_folder(folder: Location, data: DataConfig) -> TableFiles:
    if re.search(r"[*?\[]", str(folder)):
        raise DataError(f"The name of a folder of data may have no *, ? or [. Received: {folder}. Rename it.")
    names = [path.name for path in list_files(folder) if not path.name.startswith(".")]
    formats: list[Format] = [data.format] if data.format in ("csv", "parquet") else ["csv", "parquet"]
    suffixes = {_suffix(name) for name in names} - {None}
    by_suffix = {
        suffix: [name for name in names if name.endswith(suffix)]
        for suffix in sorted(suffix for suffix in suffixes if suffix)
        if any(suffix.lower() in SUFFIXES[file_format] for file_format in formats)
    }
    if not by_suffix:
        wanted = ", ".join(suffix for f in formats for suffix in SUFFIXES[f])
        held = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"
        raise DataError(f"There is no file to read ({wanted}) in {folder}. Received: {held}.")
    if len(by_suffix) > 1:
        raise DataError(
            f"{folder} holds files of several kinds. Received: {', '.join(by_suffix)}. "
            f"Name the ones to read: data.path: {folder}/*{next(iter(by_suffix))}"
        )
    ((suffix, found),) = by_suffix.items()
    file_format = next(f for f, known in SUFFIXES.items() if suffix.lower() in known)
    return TableFiles(str(folder), f"*{suffix}", file_format, tuple(f"{folder}/{name}" for name in found))


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
    formats = {f for path in paths for f, suffixes in SUFFIXES.items() if path.lower().endswith(suffixes)}
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
        return _scan(_read_parquet(path, names), path, names=names)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} holds text that is not UTF-8. Received: {error.object[:40]!r}. Write it anew."
        ) from None


def _inspect_csv(path: str, data: DataConfig) -> TableProfile:
    header = _csv_header(path, data)
    names = [name for name in header if name and name not in data.drop]  # the first may be an index without a name
    if not names:
        raise DataError(f"{path}: no column is left. Received: data.drop = {list(data.drop)}.")
    types: dict[str, pa.DataType] = {}
    while True:
        try:
            if not types:  # those of the first block hold for the others too, unless one says otherwise below
                types = {field.name: _loosened(field.type) for field in _csv_schema(path, data, names)}
            return _scan(_read_csv(path, data, types, include=names), path, names=names)
        except pa.ArrowInvalid as error:
            column = _column_that_does_not_fit(error, header)
            if column is None or types.get(column, pa.string()) == pa.string():
                raise _explain_csv_error(path, error) from None
            types[column] = _WIDER[types[column]]


def _csv_header(path: str, data: DataConfig) -> list[str]:
    with _open_bytes(path) as file:
        if file.read(4) == b"PAR1":
            raise DataError(f"{path} is a Parquet file. Received: data.format csv. Set data.format: parquet.")
    try:
        with _open_text(path) as file:
            header = next((row for row in _csv_rows(file, path) if row), None)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    if header is None or header == [""]:
        raise DataError(f"{path} is empty. A CSV file starts with a line of column names.")
    duplicates = sorted({name for name in header if header.count(name) > 1})
    if duplicates:
        raise DataError(f"{path} has several columns of one name. Received twice: {', '.join(duplicates)}. Rename one.")
    if "" in header[1:]:
        raise DataError(
            f"{path}: column {header.index('', 1) + 1} has no name. Received the header: {','.join(header)}. Name it."
        )
    return header


def _csv_schema(path: str, data: DataConfig, names: list[str]) -> pa.Schema:
    reader = _open_csv(path, data, {}, include=names)
    return reader.schema if reader else pa.schema([])


def _read_csv(
    path: str, data: DataConfig, types: Mapping[str, pa.DataType], *, include: list[str]
) -> Iterator[pa.RecordBatch]:
    yield from _open_csv(path, data, types, include=include) or ()


def _open_csv(
    path: str, data: DataConfig, types: Mapping[str, pa.DataType], *, include: list[str]
) -> pa_csv.CSVStreamingReader | None:
    """Arrow's reader; None for a header without a line below, which Arrow takes for an error."""
    compression = "gzip" if path.lower().endswith(".gz") else None
    place = locate(path)
    stream = pa.input_stream(path if isinstance(place, Path) else place.open_file(), compression=compression)
    try:
        return pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(block_size=max(BLOCK_BYTES, BYTES_PER_COLUMN * len(include))),
            parse_options=pa_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=types,
                include_columns=include,
                null_values=list(data.missing_values),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                true_values=[],
                false_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return None
        raise


def _loosened(inferred: pa.DataType) -> pa.DataType:
    """Arrow's guess, kept for numbers; what it takes for a date or a time stays the text that it is."""
    return inferred if inferred in _WIDER else pa.string()


def _column_that_does_not_fit(error: pa.ArrowInvalid, header: list[str]) -> str | None:
    match = re.search(r"In CSV column #(\d+): CSV conversion error to (\w+)", str(error))
    return header[int(match[1])] if match else None


def _csv_rows(file: TextIO, path: str, *, strict: bool = False) -> "_csv.Reader":
    csv.field_size_limit(sys.maxsize)
    return csv.reader(file, delimiter=_delimiter(path), strict=strict)


def _explain_csv_error(path: str, error: pa.ArrowInvalid) -> DataError:
    """Say where a file that Arrow refused is wrong. Slow, and exact about lines inside quotes."""
    try:
        with _open_text(path) as file:
            rows = _csv_rows(file, path, strict=True)
            header = next(row for row in rows if row)
            for row in rows:
                if row and len(row) != len(header):
                    return DataError(
                        f"{path}, line {rows.line_num}: the header has {len(header)} columns, this row has {len(row)}. "
                        f"Received: {_shortened(','.join(row))}. "
                        "Mend the row; a comma inside a value needs quotes around it."
                    )
    except UnicodeDecodeError:
        return _not_utf8(path)
    except csv.Error as csv_error:
        return DataError(f"{path}, line {rows.line_num}: {csv_error}. Mend the quotes of that line.")
    if "straddling" in str(error):
        return DataError(
            f"{path} has a row that is too long for a CSV file. Received: more than {BLOCK_BYTES:,} bytes. "
            "Write the table as Parquet."
        )
    return DataError(f"{path} cannot be read as CSV: {error}")


def _not_utf8(path: str) -> DataError:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with _open_bytes(path) as file:
        while chunk := file.read(2**20):
            num_pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path} is not UTF-8. Received: byte 0x{error.object[error.start]:02x} at offset "
                    f"{offset - num_pending + error.start}. Convert it, for example: iconv -f latin1 -t utf-8"
                )
            offset += len(chunk)
    return DataError(f"{path} is not UTF-8: it ends in the middle of a character, at offset {offset}.")


def _parquet_columns(path: str) -> list[str]:
    try:
        with _parquet_file(path) as file:
            schema = file.schema_arrow
    except pa.ArrowInvalid:
        place = locate(path)
        size = place.stat().st_size if isinstance(place, Path) else place.info().num_bytes
        problem = "is empty" if size == 0 else "is not a Parquet file"
        raise DataError(f"{path} {problem}. Set data.format: csv if it is one.") from None
    duplicates = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if duplicates:
        raise DataError(f"{path} has several columns of one name. Received twice: {', '.join(duplicates)}. Rename one.")
    return list(schema.names)


def _read_parquet(path: str, names: list[str]) -> Iterator[pa.RecordBatch]:
    with _parquet_file(path) as file:
        batch_size = max(BLOCK_CELLS // max(len(names), 1), 1)
        yield from file.iter_batches(batch_size=min(batch_size, BLOCK_ROWS), columns=names)


def _parquet_file(path: str) -> pq.ParquetFile:
    place = locate(path)
    return pq.ParquetFile(path if isinstance(place, Path) else place.open_file())


def _type_of(arrow_type: pa.DataType, *, path: str, name: str) -> ColumnType:
    if pa.types.is_dictionary(arrow_type):
        return _type_of(arrow_type.value_type, path=path, name=name)
    if pa.types.is_integer(arrow_type):
        return "int64"
    if pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type) or pa.types.is_null(arrow_type):
        return "float"
    is_binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if pa.types.is_nested(arrow_type) or any(is_such(arrow_type) for is_such in is_binary):
        raise DataError(
            f"{path}: column {name!r} is no plain number or text. Received: {arrow_type}. "
            f"Leave it out: data.drop: [{name}]"
        )
    return "string"  # text, booleans, dates and times


def _to_type(array: pa.Array, target: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type != target:
        array = array.cast(target)
    if not pa.types.is_float64(target) or not pc.any(pc.is_nan(array)).as_py():
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, target), array)


def _scan(batches: Iterator[pa.RecordBatch], path: str, *, names: list[str]) -> TableProfile:
    scans: dict[str, _ColumnScan] = {}
    num_rows = 0
    for batch in batches:
        num_rows += batch.num_rows
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name not in scans:
                scans[name] = _ColumnScan(name, _type_of(array.type, path=path, name=name))
            try:
                scans[name].add(array)
            except pa.ArrowInvalid as error:
                raise DataError(f"{path}: column {name!r}: {error}. Leave it out: data.drop: [{name}]") from None
    return TableProfile(tuple(scans[n].column() if n in scans else Column(n, "float") for n in names), num_rows)


class _ColumnScan:
    """Counts of one column over its blocks."""

    def __init__(self, name: str, column_type: ColumnType) -> None:
        self._column = Column(name, column_type)
        self._distinct: pa.Array | None = pa.array([], ARROW_TYPES[column_type])
        self._sum = 0.0

    def add(self, array: pa.Array) -> None:
        column = self._column
        array = _to_type(array, ARROW_TYPES[column.type])
        num_values = len(array) - array.null_count
        minimum, maximum = column.minimum, column.maximum
        if column.type == "int64" and num_values:
            self._sum += pc.sum(array.cast(pa.float64(), safe=False)).as_py()
        if column.type != "string" and num_values:
            extremes = pc.min_max(array).as_py()
            minimum, maximum = _least(minimum, extremes["min"]), _greatest(maximum, extremes["max"])
        repeat = column.values_repeat
        if column.type == "float":
            self._add_decimals(array)
        elif self._distinct is not None or not repeat:
            distinct = array.unique().drop_null()
            repeat |= len(distinct) < num_values
            if self._distinct is not None:
                merged = pa.concat_arrays([self._distinct, distinct]).unique()
                repeat |= len(merged) < len(self._distinct) + len(distinct)
                self._distinct = merged if len(merged) <= (MAX_DISTINCT if repeat else MAX_UNIQUE) else None
        self._column = replace(
            column,
            num_values=column.num_values + num_values,
            minimum=minimum,
            maximum=maximum,
            values_repeat=repeat,
        )

    def _add_decimals(self, array: pa.Array) -> None:
        if self._distinct is not None:
            merged = pa.concat_arrays([self._distinct, array.unique().drop_null()]).unique()
            self._distinct = merged if len(merged) <= MAX_DISTINCT else None

    def column(self) -> Column:
        if self._column.type == "int64" and self._column.num_values:
            self._column = replace(self._column, mean=self._sum / self._column.num_values)
        if self._column.type == "float":
            num_decimals = None if self._distinct is None else len(self._distinct)
            return replace(self._column, num_distinct=None, num_decimals=num_decimals)
        if self._distinct is None:
            return replace(self._column, num_distinct=None)
        if len(self._distinct) > MAX_DISTINCT:
            return replace(self._column, num_distinct=None)
        return _with_values(self._column, tuple(sorted(self._distinct.to_pylist())))


def _with_values(column: Column, values: tuple[int | str, ...]) -> Column:
    if len(values) > MAX_DISTINCT:
        return replace(column, num_distinct=None, values=())
    repeat = column.values_repeat or len(values) < column.num_values
    return replace(column, num_distinct=len(values), values=values, values_repeat=repeat)


def _least(a: float | None, b: float | None) -> float | None:
    return min((x for x in (a, b) if x is not None), default=None)


def _greatest(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)


def _check_same_columns(first: TableProfile, second: TableProfile, *, first_path: str, path: str) -> None:
    if set(first.names) != set(second.names):
        missing = sorted(set(first.names) - set(second.names))
        extra = sorted(set(second.names) - set(first.names))
        differences = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"also has {', '.join(extra)}"] * bool(extra)
        raise DataError(
            f"{path} does not have the columns of {first_path}. Received: it {' and '.join(differences)}. "
            "Mend the file, narrow data.path, or leave the columns out with data.drop."
        )


def _merge(first: TableProfile, second: TableProfile, *, sources: dict[str, str], path: str) -> TableProfile:
    """Both tables as one. `sources` says in which file each column had its first value, and is kept up to date."""
    columns = []
    for ours in first.columns:
        theirs = second.column(ours.name)
        if ours.num_values and theirs.num_values:
            columns.append(_merge_columns(ours, theirs, source=sources[ours.name], path=path))
        else:
            columns.append(ours if ours.num_values else theirs)
        if theirs.num_values:
            sources.setdefault(ours.name, path)
    return TableProfile(tuple(columns), first.num_rows + second.num_rows)


def _merge_columns(first: Column, second: Column, *, source: str, path: str) -> Column:
    column_type = first.type
    if {first.type, second.type} == {"int64", "float"}:
        column_type = "float"
    elif first.type != second.type:
        raise DataError(
            f"{path}: column {second.name!r} holds {second.type}. Received: {first.type} in {source}. "
            f"Make the files agree, or leave the column out: data.drop: [{second.name}]"
        )
    merged = Column(
        first.name,
        column_type,
        first.num_values + second.num_values,
        None,
        first.values_repeat or second.values_repeat,
        _least(first.minimum, second.minimum),
        _greatest(first.maximum, second.maximum),
    )
    if column_type == "float":
        return merged
    if first.mean is not None and second.mean is not None:
        total = first.mean * first.num_values + second.mean * second.num_values
        merged = replace(merged, mean=total / merged.num_values)
    if first.num_distinct is None or second.num_distinct is None:
        return replace(merged, values_repeat=True)  # not known, and so not taken for an identifier
    return _with_values(merged, tuple(sorted({*first.values, *second.values})))


def check_label(profile: TableProfile, data: DataConfig) -> Column:
    """The label's column.

    Raises:
        DataError: there is no such column, it has fewer than two values, or rows without one.
    """
    if data.label not in profile.names:
        ranked = sorted(profile.names, key=lambda name: f"{name!r}" not in nearest(data.label, profile.names))
        raise DataError(
            f"There is no column {data.label!r} to predict.{nearest(data.label, profile.names)} "
            f"Received the columns: {', '.join(ranked)}."
        )
    label = profile.column(data.label)
    num_missing = profile.num_rows - label.num_values
    if label.num_values == 0:
        raise DataError(f"The label {data.label!r} is missing in all {profile.num_rows} rows.")
    if num_missing and not data.drop_rows_without_label:
        raise DataError(
            f"The label {data.label!r} is missing in {num_missing} of {profile.num_rows} rows. "
            "Fill it in, or leave those rows out: data.drop_rows_without_label: true"
        )
    if label.num_distinct == 1 or (label.minimum is not None and label.minimum == label.maximum):
        value = label.values[0] if label.values else label.minimum
        raise DataError(
            f"The label {data.label!r} has one value, so there is nothing to learn. "
            f"Received: {value!r} in all {label.num_values} rows."
        )
    return label


def _delimiter(path: str) -> str:
    return "\t" if path.lower().endswith((".tsv", ".tsv.gz")) else ","


def _open_bytes(path: str) -> BinaryIO:
    place = locate(path)
    file = path if isinstance(place, Path) else place.open_stream()
    if path.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.open(file, "rb"))
    return open(path, "rb") if isinstance(place, Path) else cast(BinaryIO, file)


def _open_text(path: str) -> TextIO:
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", newline="")


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[:length] + "..."

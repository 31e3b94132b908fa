"""The input of a bulk prediction: CSV, Parquet or a folder of images, cut into blocks that are read by themselves.

Cutting counts the rows on its own, so that what was predicted can be held against it. A row that cannot be read is a
BadRow and not the end of the job. What the cells become for a model is bulk_rows.py's.
"""

import csv
import gzip
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from kubetfx.errors import DataError
from kubetfx.serving.image_folders import SUFFIXES, pictures_below

Kind = Literal["csv", "parquet"]

CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet",)
PATH_COLUMN = "path"
"""Column of a table that says where an image lies."""

CSV_BLOCK_BYTES = 4 * 2**20
LISTING_ROWS = 65_536
READ_BYTES = 2**20
"""Of a column of a Parquet file at a time."""
HEADER_BYTES = 2**16
MAX_ROW_BYTES = 16 * 2**20
"""Of one row of a CSV file: a quote that is never closed would take the rest of the file for one cell."""

_NEWLINE, _RETURN, _QUOTE = b"\n"[0], b"\r"[0], b'"'[0]
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Consecutive rows that are predicted, and written, at once."""

    number: int
    num_rows: int
    num_bytes: int = 0
    """Of a CSV file, once it is unpacked."""


@dataclass(frozen=True)
class Cut:
    """How a Parquet file is cut."""

    block_rows: int = 65_536
    segment_blocks: int = 4
    """Blocks at most. There is no way into the middle of a row group but through the rows before it, so more of them
    are read in vain when segments are short, and fewer workers share a large row group when they are long."""


@dataclass(frozen=True)
class Segment:
    """Consecutive blocks of a file that are read in one go: what Beam hands to a worker."""

    path: str
    kind: Kind
    blocks: tuple[Block, ...]
    start: int = 0
    """CSV: the byte at which the first block starts. Parquet: rows of the row groups before it."""
    row_groups: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    """Names of the columns of a CSV file, in order."""


@dataclass(frozen=True)
class BadRow:
    """A row without a prediction."""

    index: int
    """Within its block, from 0."""
    reason: str
    content: str
    """The row: JSON, or the line as it stands if it has not one cell a column."""


@dataclass(frozen=True)
class Rows:
    """The rows of a block that could be read."""

    table: pa.Table
    index: np.ndarray
    """(rows,) int64: their numbers within the block, from 0."""
    bad: list[BadRow] = field(default_factory=list)


@dataclass(frozen=True)
class InputFiles:
    """The files of an input, in the order in which their rows are numbered."""

    root: Path
    """Folder that paths of images are relative to."""
    paths: tuple[Path, ...]
    kind: Kind


@dataclass(frozen=True)
class ImageFolder:
    """A folder whose pictures are still to be listed."""

    root: Path


def find_input(location: str, *, images: bool) -> InputFiles | ImageFolder:
    """The files that `--input` names.

    Args:
        location: a CSV or Parquet file, or a folder.
        images: whether the model takes pictures: a folder is then searched for them, with all folders in it.

    Raises:
        DataError: there is no such thing, or nothing in it to predict.
    """
    check_local(location, option="--input")
    path = Path(location).absolute()  # workers may have another working directory
    if path.is_dir():
        if images:
            return ImageFolder(path)
        return _tables_in(path)
    if not path.exists():
        raise DataError(f"There is no such input. Received: {location}. Give a CSV or Parquet file, or a folder.")
    kind = _kind_of(path)
    if kind is None:
        known = ", ".join((*CSV_SUFFIXES, *PARQUET_SUFFIXES))
        raise DataError(f"The name of the input says neither CSV nor Parquet. Received: {location}. Known: {known}.")
    return InputFiles(path.parent, (path,), kind)


def check_local(location: str, *, option: str) -> None:
    """Refuse an object store.

    Raises:
        DataError: the location is a URL.
    """
    if re.match(r"[a-z0-9]+:/", location):  # pathlib makes one slash of two
        raise DataError(
            f"{option} is a path of this machine's file system, or of one that all Beam workers have mounted. "
            f"Received: {location}. Mount the bucket (gcsfuse, mountpoint-s3) or copy it here, and give that path."
        )


def _tables_in(folder: Path) -> InputFiles:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    kinds = {name: kind for name in names if (kind := _kind_of(Path(name)))}
    if not kinds:
        held = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"
        raise DataError(f"There is no CSV or Parquet file in {folder}. Received: {held}.")
    if len(set(kinds.values())) > 1:
        raise DataError(
            f"{folder} holds both CSV and Parquet, which may be the same rows twice. Received: "
            f"{', '.join(list(kinds)[:5])}. Give one file, or a folder of one kind."
        )
    return InputFiles(folder, tuple(folder / name for name in kinds), next(iter(kinds.values())))


def _kind_of(path: Path) -> Kind | None:
    name = path.name.lower()
    if name.endswith(CSV_SUFFIXES):
        return "csv"
    return "parquet" if name.endswith(PARQUET_SUFFIXES) else None


def list_images(root: Path, listing: Path) -> str:
    """Write the paths of the pictures below a folder as a Parquet file, by name, hidden ones left alone.

    The list of a million pictures is a table like any other; in memory there is one folder's at a time.

    Returns:
        A digest of paths, sizes and modification times.

    Raises:
        DataError: there is no picture, or a folder may not be read.
    """
    schema = pa.schema([(PATH_COLUMN, pa.string())])
    digest = hashlib.sha256()
    paths: list[str] = []
    num_images = 0
    with pq.ParquetWriter(listing, schema) as writer:
        for picture in _pictures_in(root):
            name = os.fsencode(os.path.relpath(picture, root)).decode("utf-8", "replace")
            digest.update(f"{name}\0{stamp(Path(picture))}\0".encode())
            paths.append(name)
            num_images += 1
            if len(paths) == LISTING_ROWS:
                writer.write_table(pa.table([paths], schema=schema))
                paths = []
        if paths:
            writer.write_table(pa.table([paths], schema=schema))
    if not num_images:
        raise DataError(f"There is no image ({', '.join(SUFFIXES)}) in {root}, nor in a folder below it.")
    return digest.hexdigest()


def _pictures_in(root: Path) -> Iterator[str]:
    try:
        yield from pictures_below(root)
    except OSError as error:
        raise DataError(f"{error.filename} may not be read: {error.strerror}. Grant read permission.") from None


def stamp(path: Path) -> str:
    """What tells a file from another content of it: size and modification time."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # a link into nowhere, a zero in the name: whoever reads it will say so
        return str(error)
    return f"{status.st_size} {status.st_mtime_ns}"


def column_types(path: Path, kind: Kind) -> dict[str, pa.DataType]:
    """The columns of a file; those of a CSV file are text.

    Raises:
        DataError: the file cannot be read, or two columns have one name.
    """
    try:
        schema = pq.read_schema(path) if kind == "parquet" else None
        types = dict(zip(schema.names, schema.types, strict=True)) if schema else {}
        names = schema.names if schema else list(_csv_header(path)[0])
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {_one_line(error)}. Is it whole?") from None
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise DataError(f"{path} has several columns of one name. Received twice: {', '.join(duplicates)}. Rename one.")
    return types or dict.fromkeys(names, pa.string())


def segments(path: Path, kind: Kind, *, first_block: int, cut: Cut) -> Iterator[Segment]:
    """Cut a file into blocks of about the same number of rows, or of bytes for CSV.

    Args:
        path: the file.
        kind: what it is.
        first_block: number of its first block.
        cut: how, if it is a Parquet file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if kind == "parquet":
            yield from _parquet_segments(path, first_block=first_block, cut=cut)
        else:
            yield from _csv_segments(path, first_block=first_block)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {_one_line(error)}. Is it whole?") from None


def _parquet_segments(path: Path, *, first_block: int, cut: Cut) -> Iterator[Segment]:
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    number = first_block
    for groups in _groups(sizes, at_least=cut.block_rows):
        num_rows = sum(sizes[group] for group in groups)
        rows = [min(cut.block_rows, num_rows - start) for start in range(0, num_rows, cut.block_rows)]
        for first in range(0, len(rows), cut.segment_blocks):
            part = rows[first : first + cut.segment_blocks]
            blocks = tuple(Block(number + index, size) for index, size in enumerate(part))
            yield Segment(str(path), "parquet", blocks, start=first * cut.block_rows, row_groups=tuple(groups))
            number += len(blocks)


def _groups(sizes: Sequence[int], *, at_least: int) -> Iterator[list[int]]:
    """Neighbouring row groups, as many as a block takes."""
    pending: list[int] = []
    num_rows = 0
    for index, size in enumerate(sizes):
        pending.append(index)
        num_rows += size
        if num_rows >= at_least:
            yield pending
            pending, num_rows = [], 0
    if pending:
        yield pending


def _csv_segments(path: Path, *, first_block: int) -> Iterator[Segment]:
    header, start = _csv_header(path)
    blocks = [Block(first_block + i, *block) for i, block in enumerate(_csv_blocks(path, start=start))]
    if _is_packed(path):  # there is no way into the middle
        yield Segment(str(path), "csv", tuple(blocks), start=start, columns=header)
        return
    for block in blocks:
        yield Segment(str(path), "csv", (block,), start=start, columns=header)
        start += block.num_bytes


def _csv_header(path: Path) -> tuple[tuple[str, ...], int]:
    """The names of the columns, and the byte after them."""
    size = HEADER_BYTES
    while True:
        with _open_csv(path) as file:
            content = file.read(size)
        if content.startswith(b"PAR1"):
            raise DataError(f"{path} is a Parquet file. Rename it to .parquet.")
        skipped = len(_BOM) if content.startswith(_BOM) else 0
        rows = _careful_rows(content[skipped:], delimiter=_delimiter(path), encoding="utf-8")
        end, cells = next(((skipped + end, cells) for end, cells in rows if cells), (0, []))
        if end < len(content) or len(content) < size or size >= MAX_ROW_BYTES:
            break
        size *= 16  # the row may go on
    if not cells:
        raise DataError(f"{path} is empty. A CSV file starts with a line of column names.")
    return tuple(cells), end


def _csv_blocks(path: Path, *, start: int) -> Iterator[tuple[int, int]]:
    """Rows and bytes of each block."""
    delimiter = _delimiter(path)
    with _open_csv(path) as file:
        file.seek(start)
        carried = b""
        is_end = False
        while not is_end:
            content = file.read(CSV_BLOCK_BYTES)
            is_end = len(content) < CSV_BLOCK_BYTES
            chunk = carried + content
            num_rows, length = _count_rows(chunk, delimiter=delimiter, is_end=is_end)
            carried = chunk[length:]
            if len(carried) > MAX_ROW_BYTES:
                raise DataError(
                    f"{path} has a row of more than {MAX_ROW_BYTES:,} bytes. Received: {chunk[length : length + 40]!r}"
                    "... Mend its quotes: one of them is never closed."
                )
            if length:
                yield num_rows, length


def _count_rows(chunk: bytes, *, delimiter: str, is_end: bool) -> tuple[int, int]:
    """Whole rows at the beginning of a chunk of CSV: how many, blank lines apart, and their bytes."""
    ends = _plain_row_ends(chunk, delimiter=delimiter)
    if ends is None:
        rows = [(end, bool(cells)) for end, cells in _careful_rows(chunk, delimiter=delimiter)]
        if rows and not is_end:
            rows.pop()  # it may go on in the next chunk
        return sum(is_row for _, is_row in rows), rows[-1][0] if rows else 0
    if is_end and chunk and (not len(ends) or ends[-1] < len(chunk)):
        ends = np.append(ends, len(chunk))
    if not len(ends):
        return 0, 0
    starts = np.concatenate([[0], ends[:-1]])
    num_blank = sum(chunk[a:b].strip(b"\r\n") == b"" for a, b in _short_lines(starts, ends))
    return len(ends) - num_blank, int(ends[-1])


def _short_lines(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, int]]:
    short = np.flatnonzero(ends - starts <= 2)
    return zip(starts[short].tolist(), ends[short].tolist(), strict=True)


def _plain_row_ends(chunk: bytes, *, delimiter: str) -> np.ndarray | None:
    """Where rows end, found without looking at every byte in Python; None if that cannot tell.

    A quote opens a cell only at its start, and closes it only at its end. Where all quotes of a chunk are placed like
    that, a line end is the end of a row if the quotes before it are even in number.
    """
    if chunk.count(b"\r") != chunk.count(b"\r\n"):
        return None
    data = np.frombuffer(chunk, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    quotes = np.flatnonzero(data == _QUOTE)
    if len(quotes):
        opening, closing = quotes[::2], quotes[1::2]
        before = data[opening[opening > 0] - 1]
        after = data[closing[closing < len(data) - 1] + 1]
        edges = (ord(delimiter), _NEWLINE, _QUOTE)
        if not (np.isin(before, edges).all() and np.isin(after, (*edges, _RETURN)).all()):
            return None
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return ends + 1


def _careful_rows(chunk: bytes, *, delimiter: str, encoding: str = "latin-1") -> Iterator[tuple[int, list[str]]]:
    """Where each row ends, and its cells, whatever the quotes. A blank line has no cells."""
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in chunk.splitlines(keepends=True):
            end += len(line)
            yield line.decode(encoding, "surrogateescape")

    csv.field_size_limit(sys.maxsize)
    for cells in csv.reader(lines(), delimiter=delimiter):
        yield end, cells


def read_blocks(
    segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str], missing: Sequence[str]
) -> Iterator[tuple[Block, Rows]]:
    """The blocks of a segment, one after the other.

    Args:
        segment: of `segments`.
        wanted: numbers of the blocks.
        columns: to read.
        numbers: those of them that may be read as float64 where all their cells are numbers; otherwise text.
        missing: what stands for a missing cell in a CSV file.

    Raises:
        DataError: the file cannot be read, or is no longer what it was when it was cut.
    """
    try:
        if segment.kind == "parquet":
            yield from _read_parquet(segment, wanted, columns)
        else:
            yield from _read_csv(segment, wanted, columns=columns, numbers=numbers, missing=missing)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{segment.path} cannot be read: {_one_line(error)}. Is it whole?") from None


def _read_parquet(segment: Segment, wanted: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[Block, Rows]]:
    ends = np.cumsum([block.num_rows for block in segment.blocks]).tolist()
    last = max((end for end, block in zip(ends, segment.blocks, strict=True) if block.number in wanted), default=0)
    batch_size = max(block.num_rows for block in segment.blocks)
    with pq.ParquetFile(segment.path, buffer_size=READ_BYTES, pre_buffer=False) as file:
        batches = file.iter_batches(
            batch_size=batch_size, row_groups=list(segment.row_groups), columns=list(columns), use_threads=False
        )
        pieces = _cut(_without_first(batches, segment.start), [block.num_rows for block in segment.blocks])
        for end, block, table in zip(ends, segment.blocks, pieces, strict=False):
            if table.num_rows != block.num_rows:
                raise _changed(segment)
            if block.number in wanted:
                yield block, Rows(table.select(list(columns)), np.arange(block.num_rows))
            if end >= last:
                return


def _without_first(batches: Iterator[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches without the first rows."""
    for batch in batches:
        num_skipped = min(num_rows, batch.num_rows)
        num_rows -= num_skipped
        if num_skipped < batch.num_rows:
            yield batch.slice(num_skipped)


def _cut(batches: Iterator[pa.RecordBatch], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """Tables of the given numbers of rows; the last are shorter if the rows don't suffice."""
    rest: pa.RecordBatch | None = None
    for size in sizes:
        taken: list[pa.RecordBatch] = []
        missing = size
        while missing:
            batch = rest if rest is not None else next(batches, None)
            if batch is None:
                break
            taken.append(batch.slice(0, missing))
            rest = batch.slice(missing) if batch.num_rows > missing else None
            missing -= taken[-1].num_rows
        yield pa.Table.from_batches(taken) if taken else pa.table({})


def _read_csv(
    segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str], missing: Sequence[str]
) -> Iterator[tuple[Block, Rows]]:
    path = Path(segment.path)
    with _open_csv(path) as file:
        file.seek(segment.start)
        for block in segment.blocks:
            if block.number not in wanted:
                file.seek(block.num_bytes, io.SEEK_CUR)
                continue
            content = file.read(block.num_bytes)
            if len(content) != block.num_bytes:
                raise _changed(segment)
            table = _read_plain(content, segment, columns=columns, numbers=numbers, missing=missing)
            if table is not None and table.num_rows == block.num_rows:
                yield block, Rows(table, np.arange(block.num_rows))
            else:
                yield block, _read_carefully(content, segment, columns=columns, missing=missing)


def _read_plain(
    content: bytes, segment: Segment, *, columns: Sequence[str], numbers: Sequence[str], missing: Sequence[str]
) -> pa.Table | None:
    """Rows of a block of CSV, by Arrow; None if it finds something wrong with any of them."""
    names = list(segment.columns)
    try:
        return pa_csv.read_csv(
            pa.BufferReader(content),
            read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(content) + 1),
            parse_options=pa_csv.ParseOptions(delimiter=_delimiter(Path(segment.path)), newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.float64() if name in numbers else pa.string() for name in columns},
                include_columns=list(columns),
                null_values=list(missing),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _read_carefully(content: bytes, segment: Segment, *, columns: Sequence[str], missing: Sequence[str]) -> Rows:
    """Rows of a block of CSV, all cells as text, by the module csv: slow, and exact about what is wrong."""
    delimiter = _delimiter(Path(segment.path))
    positions = {name: segment.columns.index(name) for name in columns}
    kept: dict[str, list[str | None]] = {name: [] for name in columns}
    index: list[int] = []
    bad: list[BadRow] = []
    rows = (cells for _, cells in _careful_rows(content, delimiter=delimiter, encoding="utf-8") if cells)
    for number, cells in enumerate(rows):
        reason = _why_unreadable(cells, segment.columns, positions)
        if reason:
            bad.append(BadRow(number, reason, _line(cells, delimiter)))
            continue
        index.append(number)
        for name, position in positions.items():
            kept[name].append(None if cells[position] in missing else cells[position])
    table = pa.table({name: pa.array(cells, pa.string()) for name, cells in kept.items()})
    return Rows(table, np.array(index, np.int64), bad)


def _why_unreadable(cells: list[str], names: Sequence[str], positions: dict[str, int]) -> str | None:
    if len(cells) != len(names):
        return f"The header has {len(names)} columns, this row has {len(cells)}."
    for name, position in positions.items():
        if any("\udc80" <= character <= "\udcff" for character in cells[position]):
            return f"Column {name!r} is not UTF-8."
    return None


def _line(cells: list[str], delimiter: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _changed(segment: Segment) -> DataError:
    return DataError(f"{segment.path} is not what it was when its rows were counted. Leave it alone, and start again.")


def _delimiter(path: Path) -> str:
    return "\t" if path.name.lower().endswith((".tsv", ".tsv.gz")) else ","


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _open_csv(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if _is_packed(path) else path.open("rb"))

"""A CSV file: its header, its rows as a stream of Arrow's blocks, and what is wrong with it, in words."""

import codecs
import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from kubetfx.errors import DataError
from kubetfx.storage import locate
from kubetfx.tables.csv_dialect import BYTE_ORDER_MARK, Dialect, is_packed, not_decoded, open_bytes, open_text
from kubetfx.tables.csv_rows import careful_rows, is_decoded
from kubetfx.tables.files import check_names

_HEADER_BYTES = 2**16
"""Of a file that are read for its header, and sixteen times as many as long as it goes on."""
_OTHER_KINDS = {
    b"PAR1": "a Parquet file. Rename it to .parquet.",
    b"\x1f\x8b\x08": "packed by gzip. Unpack it, or rename it to .csv.gz.",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook. Unpack it, or save the sheet as CSV.",
    b"\xd0\xcf\x11\xe0": "an Excel workbook. Save the sheet as CSV.",
    b"\xfd7zXZ\x00": "packed by xz. Unpack it.",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard. Unpack it.",
    b"SQLite f": "a database of SQLite. Read it by data.source: kubetfx.tables.sql:read.",
}
"""What files that are no CSV begin with, and what to do."""
BLOCK_BYTES = 2**20
"""Of a small table; what Arrow takes unless told otherwise."""
MAX_ROW_BYTES = 16 * 2**20
"""Of one row: a quote that is never closed would take the rest of the file for one cell."""


def header(path: str, dialect: Dialect) -> tuple[tuple[str, ...], int]:
    """Read the names of the columns.

    The first name may be empty: pandas writes its index like that. Columns without a header are `column_1` and so on.

    Args:
        path: the file.
        dialect: of it.

    Returns:
        The names, and the byte of the dialect's text at which the rows begin.

    Raises:
        DataError: the file is empty, no text, or not of the encoding; or a column has no name, or that of another.
    """
    _check_is_text(path)
    content = b""
    size = _HEADER_BYTES
    while True:
        with open_text(path, dialect) as file:
            content = file.read(size)
        skipped = len(BYTE_ORDER_MARK) if content.startswith(BYTE_ORDER_MARK) else 0
        rows = careful_rows(content[skipped:], dialect)
        end, cells = next(((skipped + end, cells) for end, cells in rows if cells), (0, []))
        if end < len(content) or len(content) < size or size >= MAX_ROW_BYTES:
            break
        size *= 16  # the row may go on
    if not dialect.header and cells:
        return tuple(f"column_{number}" for number in range(1, len(cells) + 1)), skipped
    _check_header(cells, path)
    return tuple(cells), end


def _check_is_text(path: str) -> None:
    with open_bytes(path) as file:
        start = file.read(8)
    said = next((said for mark, said in _OTHER_KINDS.items() if start.startswith(mark)), None)
    if said:
        raise DataError(f"{path} is {said}")


def _check_header(names: list[str], path: str) -> None:
    if names in ([], [""]):
        raise DataError(f"{path} is empty. A CSV file starts with a line of column names.")
    if not all(map(is_decoded, names)):
        raise _undecoded(path)
    if "" in names[1:]:
        raise DataError(
            f"{path}: column {names.index('', 1) + 1} has no name. Received the header: {','.join(names)}. Name it; or "
            "leave out lines above the header: data.csv: {skip_rows: 1}"
        )
    check_names(names, path)


def is_parquet(path: str) -> bool:
    """Return whether a file is Parquet, whatever its name.

    Args:
        path: the file.
    """
    with open_bytes(path) as file:
        return file.read(4) == b"PAR1"


def _arrow_stream(path: str, dialect: Dialect) -> pa.NativeFile:
    if not dialect.is_plain:
        return pa.PythonFile(open_text(path, dialect), mode="r")
    place = locate(path)
    compression = "gzip" if is_packed(path) else None
    return pa.input_stream(path if isinstance(place, Path) else place.open_file(), compression=compression)


def _given_names(path: str, dialect: Dialect) -> list[str] | None:
    """The names of a file that has none; None for one with a header, where Arrow reads them."""
    return None if dialect.header else list(header(path, dialect)[0])


def stream(
    path: str, dialect: Dialect, types: Mapping[str, pa.DataType], *, columns: Sequence[str], block_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Read the rows of the file.

    Args:
        path: the file.
        dialect: of it.
        types: by column; Arrow guesses the others by the first block.
        columns: to read.
        block_bytes: of the file at a time; Arrow reads 32 blocks ahead.

    Yields:
        Batches with these columns, one per block of the file.

    Raises:
        pa.ArrowInvalid: the file is wrong; `explain` says how.
    """
    try:
        batches = pa_csv.open_csv(
            _arrow_stream(path, dialect),
            read_options=pa_csv.ReadOptions(block_size=block_bytes, column_names=_given_names(path, dialect)),
            parse_options=dialect.parse_options(),
            convert_options=dialect.convert_options(types, columns),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):  # a header without a line below, which is no error here
            return
        raise
    yield from batches


def read_whole(path: str, dialect: Dialect, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Read a small table with all of its columns.

    Args:
        path: the file.
        dialect: of it.
        types: by column, where they are known; columns that the file lacks are not looked for.

    Returns:
        The table. Arrow guesses the other types by all cells of a column.

    Raises:
        DataError: the file is wrong.
    """
    try:
        with open_text(path, dialect) as file:
            return pa_csv.read_csv(
                file,
                read_options=pa_csv.ReadOptions(column_names=_given_names(path, dialect)),
                parse_options=dialect.parse_options(),
                convert_options=dialect.convert_options(types, ()),
            )
    except pa.ArrowInvalid as error:
        raise explain(path, dialect, error, block_bytes=BLOCK_BYTES) from None


def explain(path: str, dialect: Dialect, error: pa.ArrowInvalid, *, block_bytes: int) -> DataError:
    """Say where a file that Arrow refused is wrong. This reads the file slowly, and is exact about lines inside quotes.

    Args:
        path: the file.
        dialect: of it.
        error: what Arrow raised.
        block_bytes: of the file that Arrow read at a time.

    Returns:
        The error to raise, with the number of the line.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        with io.TextIOWrapper(open_text(path, dialect), encoding="utf-8-sig", newline="") as file:
            rows = dialect.rows(file, strict=True)
            names = next((row for row in rows if row), [])
            if not names:
                return DataError(f"{path} is empty. A CSV file starts with a line of column names.")
            for row in rows:
                if row and len(row) != len(names):
                    first = "header" if dialect.header else "first row"
                    return DataError(
                        f"{path}, line {dialect.skip_rows + rows.line_num}: the {first} has {len(names)} columns, this "
                        f"row has {len(row)}. Received: {_shortened(dialect.joined(row))}. Mend the row; a delimiter "
                        f"({dialect.delimiter!r} here) inside a value needs quotes around it. Where the file is "
                        "written in another way, say how: data.csv, with skip_rows for lines above the header."
                    )
    except UnicodeDecodeError:
        return _undecoded(path)
    except csv.Error as csv_error:
        line = dialect.skip_rows + rows.line_num
        return DataError(f"{path}, line {line}: {csv_error}. Mend the quotes of that line.")
    if "straddling" in str(error):
        return DataError(
            f"{path} has a row that is too long for a CSV file. Received: more than {block_bytes:,} bytes. "
            "Write the table as Parquet."
        )
    return DataError(f"{path} cannot be read as CSV: {error}")


def _undecoded(path: str) -> DataError:
    """Where a file is not UTF-8; it is, as far as `detect` has looked."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with open_bytes(path) as file:
        while chunk := file.read(2**20):
            num_pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return not_decoded(path, "utf-8", error, offset=offset - num_pending)
            offset += len(chunk)
    return DataError(f"{path} is not UTF-8: it ends in the middle of a character, at offset {offset}.")


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[:length] + "..."

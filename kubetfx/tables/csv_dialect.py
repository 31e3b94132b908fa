"""How a CSV file is written: what is known of it, and its bytes as the UTF-8 that Arrow and the module csv read.

The only place that knows: a new delimiter or encoding is added here. What nobody says is found by csv_detection.py.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv

from kubetfx.errors import DataError
from kubetfx.storage import locate
from kubetfx.tables.csv_options import MISSING_VALUES
from kubetfx.tables.files import COMPRESSIONS

if TYPE_CHECKING:
    from _csv import Reader

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Bytes that some programs write at the start of a file in UTF-8. They are not part of the first name."""
DECODED_BYTES = 2**20
"""Number of bytes that are decoded at a time, of a file in another encoding than UTF-8."""


@dataclass(frozen=True)
class Dialect:
    """How one CSV file is written."""

    delimiter: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    encoding_is_guess: bool = False
    """Whether the bytes do not quite tell the encoding."""
    quote: str = '"'
    quote_is_stated: bool = False
    escape: str = ""
    """What stands before a quote within quotes, as Spark writes it; empty: such quotes are doubled."""
    header: bool = True
    skip_rows: int = 0
    comment: str = ""
    missing_values: tuple[str, ...] = MISSING_VALUES
    unsure: str = ""
    """A number of which the file does not tell whether its point is one between thousands."""

    @property
    def is_plain(self) -> bool:
        """Whether the file's own bytes can be parsed, so that a reader may begin anywhere in it."""
        return self.encoding == "utf-8" and not (self.skip_rows or self.comment or self.escape)

    def describe(self) -> str:
        """Return what is unusual about the file, in words; empty if nothing is."""
        separators = {",": "", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
        delimiter = separators.get(self.delimiter, repr(self.delimiter))
        said = [
            f"separated by {delimiter}" if delimiter else "",
            "with decimal commas" if self.decimal == "," else "",
            f"in {self.encoding}" if self.encoding != "utf-8" else "",
            "" if self.quote == '"' else f"quoted by {self.quote}" if self.quote else "without quotes",
            f"with quotes escaped by {self.escape}" if self.escape else "",
            "" if self.header else "without a header",
            f"from line {self.skip_rows + 1:,} on" if self.skip_rows else "",
            f"without the lines that begin with {self.comment}" if self.comment else "",
            f"with {self.unsure!r} read as {float(self.unsure):g} (if it is {self.unsure.replace('.', '')}, "
            "data.csv: {decimal: ','})"
            if self.unsure
            else "",
        ]
        words = ", ".join(filter(None, said))
        if self.encoding_is_guess:
            other = "cp1250" if self.encoding in ("cp1252", "iso8859-1") else "cp1252"
            words += f". The encoding is a guess: if letters are wrong, say data.csv: {{encoding: {other}}} for example"
        return words

    def parse_options(self) -> pa_csv.ParseOptions:
        """Return Arrow's options for parsing, with cells that may hold line ends."""
        return pa_csv.ParseOptions(delimiter=self.delimiter, quote_char=self.quote or False, newlines_in_values=True)

    def convert_options(self, types: Mapping[str, pa.DataType], columns: Sequence[str]) -> pa_csv.ConvertOptions:
        """Return Arrow's options for what the cells mean.

        Args:
            types: by column; Arrow guesses the others.
            columns: those to read, in order.
        """
        return pa_csv.ConvertOptions(
            column_types=types,
            include_columns=list(columns),
            null_values=list(self.missing_values),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            true_values=[],  # true and false are text
            false_values=[],
            decimal_point=self.decimal,
        )

    def rows(self, lines: Iterable[str], *, strict: bool = False) -> "Reader":
        """Parse lines by the module csv.

        Args:
            lines: with their ends.
            strict: whether a quote in the wrong place is an error.

        Returns:
            The cells of each row.
        """
        if not self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=strict)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=strict)

    def is_open_after(self, line: str, *, is_open: bool) -> bool:
        """Find whether a cell goes on after the end of a line.

        Args:
            line: The line of the file.
            is_open: whether one goes on from the line before.

        Returns:
            Whether the line ends within quotes. Those within a cell that does not begin with one mean nothing.
        """
        if not self.quote or self.quote not in line:
            return is_open
        quote = re.escape(self.quote)
        cell = rf"(?:^|{re.escape(self.delimiter)}){quote}(?:[^{quote}]|{quote}{quote})*({quote}|\Z)"
        found = re.finditer(cell, self.quote + line if is_open else line)
        return any(not match[1] for match in found)

    def doubled(self, line: str, *, is_open: bool) -> str:
        """Write the escaped quotes of a line twice, as all readers have them.

        Args:
            line: The line of the file.
            is_open: whether a cell goes on from the line before.

        Returns:
            The line, as it is where the dialect has no escape.
        """
        if not self.escape or self.quote not in line:
            return line
        quote, escape = re.escape(self.quote), re.escape(self.escape)
        inside = rf"(?s:[^{quote}{escape}]|{escape}.|{quote}{quote})*"
        cell = rf"((?:^|{re.escape(self.delimiter)}){quote})({inside})({quote}|{escape}?\Z)"

        def rewritten(match: re.Match[str]) -> str:
            # Escapes count, in pairs, only where a quote follows.
            before, text, end = match.groups()
            text = re.sub(rf"((?:{escape}{escape})*){escape}{quote}", lambda m: m[1][::2] + 2 * self.quote, text)
            if end == self.quote:
                text = re.sub(rf"(?:{escape}{escape})+\Z", lambda m: m[0][::2], text)
            return f"{before}{text}{end}"

        if is_open:
            return re.sub(cell, rewritten, self.quote + line)[len(self.quote) :]
        return re.sub(cell, rewritten, line)

    def joined(self, cells: Sequence[str]) -> str:
        """Return a row as a line of this dialect.

        Args:
            cells: with lone surrogates for bytes that are not of the encoding.
        """
        text = io.StringIO()
        quote = self.quote or '"'
        csv.writer(text, delimiter=self.delimiter, quotechar=quote, lineterminator="").writerow(cells)
        return text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def compression_of(path: str) -> str | None:
    """Return by what a file is compressed, as its name says: Arrow's name for it; None if by nothing.

    Args:
        path: The path of the file.
    """
    return next((codec for ending, codec in COMPRESSIONS.items() if path.lower().endswith(ending)), None)


def open_bytes(path: str) -> BinaryIO:
    """Open a file for reading its bytes, unpacked.

    Args:
        path: on this machine or in a bucket.

    Returns:
        The file, which is to be closed.

    Raises:
        OSError: it cannot be opened.
        StorageError: the bucket cannot be read.
    """
    place = locate(path)
    codec = compression_of(path)
    if isinstance(place, Path) and codec is None:
        return open(path, "rb")
    stored = pa.OSFile(path) if isinstance(place, Path) else place.open_stream()
    stream: BinaryIO = stored if codec is None else pa.CompressedInputStream(stored, codec)
    return stream


def open_text(path: str, dialect: Dialect) -> BinaryIO:
    """Open a CSV file as UTF-8, without the lines that are not rows: what all readers of CSV parse.

    Args:
        path: the file.
        dialect: Its dialect.

    Returns:
        The bytes, which are to be closed; they can be sought in only if the dialect is plain.

    Raises:
        OSError: it cannot be opened.
        StorageError: the bucket cannot be read.
        DataError: while it is read: it is not of the encoding.
    """
    file = open_bytes(path)
    return file if dialect.is_plain else io.BufferedReader(_Transcoded(file, path, dialect))


def skip(file: BinaryIO, num_bytes: int) -> None:
    """Move forward in a file of `open_text`, by reading where it cannot seek.

    Args:
        file: the file.
        num_bytes: to leave out.
    """
    if file.seekable():
        file.seek(num_bytes, io.SEEK_CUR)
        return
    while num_bytes and (chunk := file.read(min(num_bytes, DECODED_BYTES))):
        num_bytes -= len(chunk)


class _Transcoded(io.RawIOBase):
    """The rows of a file in UTF-8, read from the start to the end."""

    def __init__(self, file: BinaryIO, path: str, dialect: Dialect) -> None:
        self._file = file
        self._path = path
        self._dialect = dialect
        self._chunks = self._encoded()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]  # what io passes
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _encoded(self) -> Iterator[bytes]:
        texts = self._decoded()
        if self._dialect.skip_rows or self._dialect.comment or self._dialect.escape:
            texts = self._rows_of(_lines(texts))
        return (text.encode() for text in texts if text)

    def _decoded(self) -> Iterator[str]:
        encoding = "utf-8-sig" if self._dialect.encoding == "utf-8" else self._dialect.encoding
        decoder = codecs.getincrementaldecoder(encoding)()
        offset = 0
        try:
            while chunk := self._file.read(DECODED_BYTES):
                yield decoder.decode(chunk)
                offset += len(chunk)
            yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise not_decoded(self._path, self._dialect.encoding, error, offset=offset) from None

    def _rows_of(self, lines: Iterator[str]) -> Iterator[str]:
        """Yield the lines but for those to skip and comments, their quotes doubled.

        A line within quotes is part of a cell, however it begins.
        """
        comment = self._dialect.comment
        is_quoted = False
        for number, line in enumerate(lines):
            if number < self._dialect.skip_rows or (comment and not is_quoted and line.startswith(comment)):
                continue
            plain = self._dialect.doubled(line, is_open=is_quoted)
            is_quoted = self._dialect.is_open_after(plain, is_open=is_quoted)
            yield plain


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Yield lines with their ends, whichever these are, from pieces of text."""
    rest = ""
    for text in texts:
        *lines, rest = io.StringIO(rest + text, newline="") if rest or text else [""]
        yield from lines  # the last one may go on, and a line end have a second character
    yield rest


def not_decoded(path: str, encoding: str, error: UnicodeDecodeError, *, offset: int) -> DataError:
    """Say what is wrong with a file that is not of its encoding.

    Args:
        path: the file.
        encoding: that it was taken for.
        error: The error of the decoder.
        offset: in the file, of the bytes that the decoder was given.

    Returns:
        The error, which is not raised.
    """
    other = {"utf-8": "cp1252", "cp1252": "iso8859-1"}.get(encoding, "utf-8")  # the last but one takes every byte
    if offset == 0 and error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        other = "utf-16"
    return DataError(
        f"{path} is not {encoding.upper()}. Received: byte 0x{error.object[error.start]:02x} at offset "
        f"{offset + error.start}. Name its encoding, data.csv: {{encoding: {other}}} for example; or convert the file."
    )

"""What the bytes of a CSV file mean: its delimiter, its encoding, its missing cells, and the types of its columns.

The only place that knows: a new delimiter, encoding or type is added here.
"""

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from kubetfx.storage import locate
from kubetfx.tables.missing import MISSING_VALUES

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Bytes that some programs write at the start of a file in UTF-8. They are not part of the first name."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written."""

    delimiter: str = ","
    missing_values: tuple[str, ...] = MISSING_VALUES
    encoding: str = "utf-8"

    @classmethod
    def of(cls, path: str, missing_values: Sequence[str] = MISSING_VALUES) -> "Dialect":
        """Find out how a file is written.

        Args:
            path: of the file; its name says whether tabs separate the cells.
            missing_values: cells that count as missing.

        Returns:
            The dialect.
        """
        delimiter = "\t" if path.lower().endswith((".tsv", ".tsv.gz")) else ","
        return cls(delimiter, tuple(missing_values))

    def parse_options(self) -> pa_csv.ParseOptions:
        """Arrow's options for the form of the rows. Cells may hold line ends."""
        return pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)

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
        )

    def joined(self, cells: Sequence[str]) -> str:
        """Return a row as a line of this dialect.

        Args:
            cells: with lone surrogates for bytes that are not of the encoding.
        """

        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter, lineterminator="").writerow(cells)
        return text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_packed(path: str) -> bool:
    """Return whether a file is compressed by gzip, as its name says.

    Args:
        path: of the file.
    """
    return path.lower().endswith(".gz")


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
    if is_packed(path):
        return cast(BinaryIO, gzip.open(path if isinstance(place, Path) else place.open_stream(), "rb"))
    return open(path, "rb") if isinstance(place, Path) else cast(BinaryIO, place.open_stream())

"""What the user says about CSV files. It imports nothing, so that the config can be read at once."""

from dataclasses import dataclass
from typing import Literal

MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
"""Cells that count as missing, quoted or not, unless the config has others."""


@dataclass(frozen=True)
class CsvOptions:
    """What the user says about CSV files. None: it is found by looking at each file."""

    delimiter: str | None = None
    """One character between two cells."""
    decimal: Literal[".", ","] | None = None
    """Between the whole and the fractional part of a number."""
    encoding: str | None = None
    """A name that Python knows, such as `latin-1`."""
    quote: str | None = None
    """One character around a cell that holds a delimiter. Empty: quotes mean nothing."""
    escape: str | None = None
    """What stands before a quote within quotes. Empty: such quotes are doubled."""
    header: bool | None = None
    """Whether the first row names the columns. Otherwise they are `column_1`, `column_2`, ..."""
    skip_rows: int | None = None
    """Lines before the header, or before the first row."""
    comment: str | None = None
    """Lines that begin with this are left out."""
    missing_values: tuple[str, ...] = MISSING_VALUES
    """Cells that count as missing."""


UNKNOWN_CSV = CsvOptions()
"""Nothing is known: all is found by looking."""

"""How a column type reads cells of text, and what a bad cell is: one that means nothing where the others do.

A reading goes with one column through one pass over a file, or over a part of it; readings of parts are merged.
`components/data/text_scan.py` decides by it what the column holds.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.config.data_section import Stated
from kubetfx.models.columns.column_profile import ColumnProfile


class OddCells:
    """Cells that mean nothing: how many, and the first of them."""

    def __init__(self) -> None:
        """There are none yet."""
        self.number = 0
        self.first: tuple[str, int] | None = None
        """The cell, and its row, from 1."""

    def add(self, cells: pa.StringArray, odd: pa.BooleanArray, *, rows_before: int) -> None:
        """Count a block.

        Args:
            cells: Its cells.
            odd: which of them mean nothing.
            rows_before: rows of the file before it.
        """
        if self.first is None and pc.any(odd).as_py():
            index = odd.index(pa.scalar(True)).as_py()
            self.first = cells[index].as_py(), rows_before + index + 1
        self.number += odd.true_count

    def merge(self, later: "OddCells", *, rows_before: int) -> None:
        """Add those of the next part of the file.

        Args:
            later: with rows from the beginning of that part.
            rows_before: rows of the file before it.
        """
        if self.first is None and later.first is not None:
            cell, row = later.first
            self.first = cell, rows_before + row
        self.number += later.number


class Reading(ABC):
    """The reading of one column, in one pass over a file."""

    kind: ClassVar[str]
    """In `data.types`."""
    is_text: ClassVar[bool]
    """Whether good cells stay the text that they are: then cells of every type are read, as their text."""
    nouns: ClassVar[tuple[str, str]]
    """Words for one good cell, and for several: `a number`, `numbers`."""

    def __init__(self, *, decimal: str, stated: Stated | None) -> None:
        """Find out nothing yet.

        Args:
            decimal: mark between the whole and the fractional part of a number.
            stated: what the user says of the column, if anything.
        """
        self.decimal = decimal
        self.stated = stated
        self.num_cells = 0
        """That are not missing."""
        self.num_good = 0
        """That mean something."""
        self.is_patient = False
        """Whether the column is read to its end, however many cells are odd: other parts have fewer."""

    @abstractmethod
    def may_be(self, first: pa.StringArray) -> bool:
        """Return whether a column may be of this kind; it is not looked at further otherwise.

        Args:
            first: its first cells.
        """

    @abstractmethod
    def read(self, cells: pa.StringArray, *, rows_before: int) -> pa.Array:
        """Read a block.

        Args:
            cells: Its cells.
            rows_before: rows of the file before it.

        Returns:
            What is to be counted, int64, double or string; null where a cell is missing or odd.
        """

    def fresh(self) -> Self:
        """Return a reading that has read nothing yet, for the same cells: with what `may_be` has chosen."""
        return type(self)(decimal=self.decimal, stated=self.stated)

    @property
    def choice(self) -> Any:
        """What `may_be` has chosen; where parts of a column have chosen otherwise, they cannot be merged."""
        return self.kind

    def merge(self, later: Self, *, rows_before: int) -> Self | None:
        """Add what was found about the next part of the file.

        Args:
            later: of that part, with the same choice.
            rows_before: rows of the file before it.

        Returns:
            The fresh reading by which the parts have to be read again, since they would have been read otherwise as a
            whole; None: they would not.
        """
        self.num_cells += later.num_cells
        self.num_good += later.num_good
        return None

    @property
    @abstractmethod
    def odd(self) -> OddCells:
        """Cells that mean nothing."""

    @property
    def why_not(self) -> str | None:
        """Why the column is not of this kind, whatever the number of odd cells, in words; None: nothing says so."""
        return None

    def why_none(self, cell: str) -> str:
        """Return why a column most of whose cells mean nothing is not of this kind, in words; empty: nobody expects it.

        Args:
            cell: the first that means nothing.
        """
        return ""

    @abstractmethod
    def describe(self, column: ColumnProfile) -> ColumnProfile:
        """Add what was found about the column.

        Args:
            column: with the counts of its cells.

        Returns:
            The column with its `reading`, if it needs one.
        """

    @classmethod
    def merged(cls, column: ColumnProfile, first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
        """Add what was found about a column of two files.

        Args:
            column: The column of both, with the counts of its cells.
            first: of the files before.
            second: of one more file.

        Returns:
            The column.
        """
        return column

    @staticmethod
    @abstractmethod
    def understood(cells: pa.StringArray, column: ColumnProfile, *, decimal: str) -> pa.Array:
        """Read a block once it is known what the column holds.

        Args:
            cells: Its cells.
            column: what was found.
            decimal: mark between the whole and the fractional part of a number.

        Returns:
            The cells as examples have them; null where a cell is missing or odd.
        """


def odd_words(nouns: tuple[str, str], number: int, num_cells: int, first: tuple[str, int] | None) -> str | None:
    """Say how many cells are odd.

    Args:
        nouns: Words for one good cell, and for several.
        number: The number of odd cells.
        num_cells: The number of cells that are not missing.
        first: the first odd one, and its row.

    Returns:
        A sentence without its end; None: there is none.
    """
    if first is None:
        return None
    verb = f"is not {nouns[0]}" if number == 1 else f"are not {nouns[1]}"
    return f"{number:,} of {num_cells:,} cells {verb}, the first {first[0]!r} in row {first[1]:,}"

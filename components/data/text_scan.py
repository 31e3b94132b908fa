"""Profiles a column whose cells are text as numbers, dates or other types, as long as the cells fit."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data.column_scan import ColumnScan
from kubetfx.models.columns.column_profile import CellType, ColumnProfile
from kubetfx.models.columns.reading import Reading, odd_words

MAX_ODD_SHARE = 0.001
"""Maximum share of mistyped cells in a column of numbers or dates."""
MIN_CELLS_WITH_ODD = 20
"""Number of cells from which on one may be odd, if the others have more than MAX_VALUES_OF_KINDS values."""
MAX_VALUES_OF_KINDS = 20
"""Number of distinct values up to which a word among numbers counts as one of several kinds, such as `rotary` among
numbers of cylinders, rather than as a mistake.
"""

MIN_HOPELESS = 1_000
"""Number of odd cells from which on a column is not read to its end, if half of its cells are odd."""

Choice = str | Reading
"""The type of a column: text, with the reason; or a reading that has not read any cell yet."""


class TextScan:
    """Scans a column as the type that its first cells suggest until other cells contradict.

    It is text if more than a few of its cells are odd, or if its reading says so.
    """

    def __init__(
        self,
        name: str,
        readings: Sequence[Reading],
        *,
        choice: Choice | None,
        is_stated: bool,
        max_unique: int | None = None,
    ) -> None:
        """Begin a pass.

        Args:
            name: The name of the column.
            readings: The possible readings, the likeliest first.
            choice: The type according to the first cells of the file or an earlier pass; None: its own cells decide.
            is_stated: Whether the user gives the type.
            max_unique: See ColumnScan.
        """
        self._name = name
        self._candidates = readings
        self._text_note = choice if isinstance(choice, str) else None
        self._reading: Reading | None = None if isinstance(choice, str) else copy.deepcopy(choice)
        """Set once cells have been read."""
        self._rejected: Reading | None = None
        """For text: the reading that gives the reason."""
        self._is_stated = is_stated
        self._max_unique = max_unique
        self._scan: ColumnScan | None = None if self._text_note is None else self._new_scan("string")
        self._has_stopped = False
        """Whether cells were skipped, since too many before them were odd."""
        self._again: Choice | None = None

    def add(self, cells: pa.StringArray, *, rows_before: int) -> None:
        """Count a block.

        Args:
            cells: Its cells.
            rows_before: rows of the file before it.
        """
        if self._text_note is not None:
            self._count(cells)
        elif self._reading is None:
            if cells.null_count < len(cells):
                self._choose(cells, rows_before)
        elif self._is_hopeless(self._reading):  # another pass reads it as text
            self._has_stopped = True
        else:
            self._count(self._reading.read(cells, rows_before=rows_before))

    @property
    def choice(self) -> Choice | None:
        """The type of the column; None without cells."""
        if self._text_note is not None:
            return self._text_note
        return None if self._reading is None else self._reading.fresh()

    def merged(self, later: "TextScan", *, rows_before: int) -> "TextScan":
        """Merge two parts of a column, which must not be used again.

        Args:
            later: the next part.
            rows_before: rows of the file before it.

        Returns:
            Both, as if they had been read as one; or a scan whose `again` is set.
        """
        choice, others = self.choice, later.choice
        if choice is None:
            later._move(rows_before)
            return later
        if others is None or self._again is not None or (self._reading and self._is_hopeless(self._reading)):
            return self
        if _key(choice) != _key(others):
            self._again = choice
        elif later._again is not None:
            self._again = later._again
        else:
            if self._reading is not None and later._reading is not None:
                self._again = self._merge(self._reading, later._reading, later, rows_before)
            if later._scan is not None:
                self._scan = later._scan if self._scan is None else self._scan.merged(later._scan)
        return self

    def _merge(self, reading: Reading, others: Reading, later: "TextScan", rows_before: int) -> Reading | None:
        """Merge the readings, and return the one by which all parts must be read again, if needed."""
        again = reading.merge(others, rows_before=rows_before)
        is_hopeless = reading.why_not is not None or self._is_hopeless(reading)
        if again is None and later._has_stopped and not is_hopeless:
            again = reading.fresh()
        if again is not None:
            again.is_patient = True
        return again

    def _move(self, rows_before: int) -> None:
        """Count rows from the beginning of the file."""
        reading = self._reading or self._rejected
        if reading is None:
            return
        moved = reading.fresh()
        moved.merge(reading, rows_before=rows_before)
        if self._reading is None:
            self._rejected, self._text_note = moved, self._why_text(moved, num_different=0) or self._text_note
        else:
            self._reading = moved

    @property
    def counts(self) -> ColumnScan | None:
        """Counts of its cells; None without cells."""
        return self._scan

    def _new_scan(self, column_type: CellType) -> ColumnScan:
        return ColumnScan(self._name, column_type, max_unique=self._max_unique)

    def _choose(self, cells: pa.StringArray, rows_before: int) -> None:
        reasons: list[tuple[str | None, Reading]] = []
        for reading in self._candidates:
            if reading.may_be(cells) or self._is_stated:
                values = reading.read(cells, rows_before=rows_before)
                if (reason := self._why_text(reading, num_different=pc.count_distinct(values).as_py())) is None:
                    self._reading = reading
                    self._count(values)
                    return
                reasons.append((reason, reading))
            else:
                reasons.append((reading.why_not, reading))
        self._text_note, self._rejected = next((own for own in reasons if own[0]), ("", None))
        self._count(cells)

    def _count(self, values: pa.Array) -> None:
        if self._scan is None:
            is_text, is_whole = pa.types.is_string(values.type), pa.types.is_integer(values.type)
            self._scan = self._new_scan("string" if is_text else "int64" if is_whole else "float")
        if pa.types.is_floating(values.type):
            self._scan = self._scan.as_float()
        self._scan.add(values)

    def _is_hopeless(self, reading: Reading) -> bool:
        if self._is_stated or reading.is_patient:
            return False
        return reading.why_not is not None or reading.odd.number > max(MIN_HOPELESS, 0.5 * reading.num_cells)

    @property
    def again(self) -> Choice | None:
        """The type for another pass; None if this pass used the right type."""
        if self._again is not None:
            return self._again
        if self._reading is None or self._text_note is not None:
            return None
        return self._why_text(self._reading, num_different=self._scan.num_different if self._scan else 0)

    def _why_text(self, reading: Reading, *, num_different: int) -> str | None:
        if self._is_stated:
            return None
        if reading.why_not is not None:
            return reading.why_not
        allowed = MAX_ODD_SHARE * reading.num_cells
        if reading.num_cells >= MIN_CELLS_WITH_ODD and num_different > MAX_VALUES_OF_KINDS:
            allowed = max(allowed, 1)
        number, first = reading.odd.number, reading.odd.first
        if number <= allowed or first is None:
            return None
        if number > 0.5 * reading.num_cells or not reading.num_good:
            return reading.why_none(first[0])
        one, several = reading.nouns
        cells = f"1 cell is not {one}" if number == 1 else f"{number:,} cells are not {several}"
        return f"text, since {cells}, such as {first[0]!r} in row {first[1]:,}"

    def column(self) -> ColumnProfile:
        """Return the profile of the column."""
        if self._scan is None:
            return ColumnProfile(self._name, "float")
        column = self._scan.column()
        if self._reading is None:
            return replace(column, note=self._text_note or None)
        odd = self._reading.odd
        said = odd_words(self._reading.nouns, odd.number, self._reading.num_cells, odd.first)
        return replace(self._reading.describe(column), odd_cells=said)


def _key(choice: Choice) -> Any:
    """Return what distinguishes two choices; the cell that makes a column text does not count."""
    return "text" if isinstance(choice, str) else (choice.kind, choice.choice)

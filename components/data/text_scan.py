"""Counts of a column whose cells are text: of numbers, dates or whatever a column type reads, as long as the cells say
so.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data.column_scan import ColumnScan
from kubetfx.components.data.table_profile import Column
from kubetfx.models.columns.column_profile import CellType
from kubetfx.models.columns.reading import Reading, odd_words

MAX_ODD_SHARE = 0.001
"""A column of numbers or dates may have so many cells that are none, as a share of its cells: mistyped ones."""
MIN_CELLS_WITH_ODD = 20
"""From so many cells on, one may be odd, where the others have more than MAX_VALUES_OF_KINDS values."""
MAX_VALUES_OF_KINDS = 20
"""Up to so many values, a word among numbers is taken for one of several kinds, such as `rotary` among numbers of
cylinders, and not for a mistake."""

MIN_HOPELESS = 1_000
"""From so many odd cells on, a column of which they are half is not read to its end."""

Choice = str | Reading
"""What a column is taken for: text, and why; or what a reading says that has read nothing yet."""


class TextScan:
    """A column: of what its first cells look like until others say that it is text.

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
        """For a pass.

        Args:
            name: The name of the column.
            readings: what it may be, the likeliest first.
            choice: what the first cells of the file, or an earlier pass, say that it is; None: its own cells say it.
            is_stated: whether the user says what it is.
            max_unique: see ColumnScan.
        """
        self._name = name
        self._candidates = readings
        self._text_note = choice if isinstance(choice, str) else None
        self._reading: Reading | None = None if isinstance(choice, str) else copy.deepcopy(choice)
        """Once cells were seen."""
        self._rejected: Reading | None = None
        """For text: the reading that says why it is."""
        self._is_stated = is_stated
        self._max_unique = max_unique
        self._scan: ColumnScan | None = None if self._text_note is None else self._new_scan("string")
        self._has_stopped = False
        """Whether cells were left out, since those before them were hopeless."""
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
        elif self._is_hopeless(self._reading):  # another pass takes it for text
            self._has_stopped = True
        else:
            self._count(self._reading.read(cells, rows_before=rows_before))

    @property
    def choice(self) -> Choice | None:
        """What the column is taken for; None: there were no cells."""
        if self._text_note is not None:
            return self._text_note
        return None if self._reading is None else self._reading.fresh()

    def merged(self, later: "TextScan", *, rows_before: int) -> "TextScan":
        """Put two parts of a column together; they are not used again.

        Args:
            later: the next part.
            rows_before: rows of the file before it.

        Returns:
            Both, as if they had been read as one; or what says `again`.
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
        """Put the readings together; the one by which all parts have to be read again, if they have to."""
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
        """Counts of its cells; None: there were none."""
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
        """What another pass has to take the column for; None: this pass took it for what it is."""
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

    def column(self) -> Column:
        """Return what the pass found."""
        if self._scan is None:
            return Column(self._name, "float")
        column = self._scan.column()
        if self._reading is None:
            return replace(column, note=self._text_note or None)
        odd = self._reading.odd
        said = odd_words(self._reading.nouns, odd.number, self._reading.num_cells, odd.first)
        return replace(self._reading.describe(column), odd_cells=said)


def _key(choice: Choice) -> Any:
    """Return what makes two choices different: another cell may be the reason why a column is text."""
    return "text" if isinstance(choice, str) else (choice.kind, choice.choice)

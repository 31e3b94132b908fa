"""Counts of a column whose cells are text: of numbers, dates or whatever a column type reads, as long as the cells say
so."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from kubetfx.components.data.column_scan import ColumnScan
from kubetfx.components.data.table_profile import Column
from kubetfx.models.columns.reading import Reading, odd_words

MAX_ODD_SHARE = 0.001
"""A column of numbers or dates may have so many cells that are none, as a share of its cells: mistyped ones."""
MIN_CELLS_WITH_ODD = 20
"""From so many cells on, one may be odd, where the others have more than MAX_VALUES_OF_KINDS values."""
MAX_VALUES_OF_KINDS = 20
"""Up to so many values, a word among numbers is taken for one of several kinds, such as `rotary` among numbers of
cylinders, and not for a mistake."""


class TextScan:
    """A column: of what its first cells look like until others say that it is text.

    It is text if more than a few of its cells are odd, or if its reading says so.
    """

    def __init__(self, name: str, readings: Sequence[Reading], *, note: str | None, is_stated: bool) -> None:
        """For a pass.

        Args:
            name: of the column.
            readings: what it may be, the likeliest first.
            note: why it is text, as an earlier pass found; None: it may be something else.
            is_stated: whether the user says what it is.
        """
        self._name = name
        self._candidates = readings
        self._reading: Reading | None = None
        """Once cells were seen."""
        self._text_note = note
        self._is_stated = is_stated
        self._scan: ColumnScan | None = None if note is None else ColumnScan(name, "string")

    def add(self, cells: pa.StringArray, *, rows_before: int) -> None:
        """Count a block.

        Args:
            cells: of it.
            rows_before: rows of the file before it.
        """
        if self._text_note is not None:
            self._count(cells)
        elif self._reading is None:
            if cells.null_count < len(cells):
                self._choose(cells, rows_before)
        elif not self._is_hopeless(self._reading):  # another pass takes it for text
            self._count(self._reading.read(cells, rows_before=rows_before))

    def _choose(self, cells: pa.StringArray, rows_before: int) -> None:
        reasons: list[str | None] = []
        for reading in self._candidates:
            if reading.may_be(cells) or self._is_stated:
                values = reading.read(cells, rows_before=rows_before)
                if (reason := self._why_text(reading)) is None:
                    self._reading = reading
                    self._count(values)
                    return
                reasons.append(reason)
            else:
                reasons.append(reading.why_not)
        self._text_note = next(filter(None, reasons), "")
        self._count(cells)

    def _count(self, values: pa.Array) -> None:
        if self._scan is None:
            is_text, is_whole = pa.types.is_string(values.type), pa.types.is_integer(values.type)
            self._scan = ColumnScan(self._name, "string" if is_text else "int64" if is_whole else "float")
        if pa.types.is_floating(values.type):
            self._scan = self._scan.as_float()
        self._scan.add(values)

    def _is_hopeless(self, reading: Reading) -> bool:
        if self._is_stated:
            return False
        return reading.why_not is not None or reading.odd.number > max(1_000, 0.5 * reading.num_cells)

    @property
    def why_text(self) -> str | None:
        """Why the column, which was taken for something else, is text; None: it is not, or that is known."""
        return None if self._reading is None or self._text_note is not None else self._why_text(self._reading)

    def _why_text(self, reading: Reading) -> str | None:
        if self._is_stated:
            return None
        if reading.why_not is not None:
            return reading.why_not
        allowed = MAX_ODD_SHARE * reading.num_cells
        if reading.num_cells >= MIN_CELLS_WITH_ODD and reading.num_different > MAX_VALUES_OF_KINDS:
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
        """What the pass found."""
        if self._scan is None:
            return Column(self._name, "float")
        column = self._scan.column()
        if self._reading is None:
            return replace(column, note=self._text_note or None)
        odd = self._reading.odd
        said = odd_words(self._reading.nouns, odd.number, self._reading.num_cells, odd.first)
        return replace(self._reading.describe(column), odd_cells=said)

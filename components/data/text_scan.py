"""Counts of a column whose cells are text: numbers in whatever spelling, as long as the cells say so."""

from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data.column_scan import ColumnScan
from kubetfx.components.data.table_profile import Column
from kubetfx.tables.spelled_numbers import PLACEHOLDERS, understand

MAX_ODD_SHARE = 0.001
"""A column of numbers may have so many cells that are none, as a share of its cells: such as a mistyped one."""
MIN_CELLS_WITH_ODD = 20
"""From so many cells on, one may be odd, where the numbers have more than MAX_VALUES_OF_KINDS values."""
MAX_VALUES_OF_KINDS = 20
"""Up to so many values, a word among numbers is taken for one of several kinds, such as `rotary` among numbers of
cylinders, and not for a mistake."""

_PROBED_CELLS = 64


class _Block(NamedTuple):
    numbers: pa.Array
    """int64 or double; null where a cell is missing or no number."""
    odd: pa.BooleanArray | None
    """Where a cell is neither missing nor a number; None: nowhere."""
    is_spelled: bool
    """Whether Arrow's own reader of numbers cannot read the cells."""


def read_numbers(texts: pa.StringArray, *, decimal: str, may_be_whole: bool = True) -> _Block:
    """Read a block of cells as numbers.

    Args:
        texts: the cells.
        decimal: mark between the whole and the fractional part.
        may_be_whole: whether to look for whole numbers; without, all are decimal.

    Returns:
        The numbers, as int64 where all are whole, and what was unusual about the cells.
    """
    plain = texts if decimal == "." else _with_points(texts)
    if plain is not None:
        for candidate in (plain, pc.utf8_trim_whitespace(plain)):
            for arrow_type in (pa.int64(), pa.float64()) if may_be_whole else (pa.float64(),):
                try:
                    if may_be_whole:  # it is not known that the cells fit, and each that does not costs time
                        candidate[:_PROBED_CELLS].cast(arrow_type)
                    return _Block(candidate.cast(arrow_type), None, is_spelled=False)
                except pa.ArrowInvalid:
                    continue
    found = understand(texts, decimal=decimal)
    try:
        numbers = found.texts.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = found.texts.cast(pa.float64())
    return _Block(numbers, found.odd, is_spelled=True)


def _with_points(texts: pa.StringArray) -> pa.StringArray | None:
    """Cells with decimal commas as if they had points; None where points mean something else."""
    has_point = pc.any(pc.match_substring(texts, ".")).as_py()
    return None if has_point else pc.replace_substring(texts, ",", ".")


def _are_words(cells: pa.StringArray) -> bool:
    """Whether the first cells are surely text: none has a digit, and none stands for a missing one."""
    first = [cell for cell in cells[:_PROBED_CELLS].to_pylist() if cell is not None]
    return bool(first) and not any(
        any(character.isdigit() for character in cell) or cell.strip().lower() in PLACEHOLDERS for cell in first
    )


class TextScan:
    """A column: of numbers until its cells say that it is text.

    It is text if more than a few of its cells are no numbers, or if one begins with a zero, as codes do.
    """

    def __init__(self, name: str, decimal: str, *, note: str | None, is_stated: bool) -> None:
        """For a pass.

        Args:
            name: of the column.
            decimal: mark of its numbers.
            note: why it is text, as an earlier pass found; None: it may be of numbers.
            is_stated: whether the user says what it is.
        """
        self._name = name
        self._decimal = decimal
        self._text_note = note
        self._is_stated = is_stated
        self._scan = ColumnScan(name, "int64" if note is None else "string")
        self._is_first = True
        self._is_spelled = False
        self._example: tuple[str, str] | None = None
        self._zero: str | None = None
        self._num_cells = 0
        self._num_odd = 0
        self._num_numbers = 0
        self._num_values = 0
        self._odd: tuple[str, int] | None = None
        self._placeholder: str | None = None

    def add(self, cells: pa.StringArray, *, rows_before: int) -> None:
        """Count a block.

        Args:
            cells: of it.
            rows_before: rows of the file before it.
        """
        if self._text_note is not None:
            self._scan.add(cells)
            return
        if self._zero is not None or self._is_hopeless:
            return  # another pass takes it for text
        num_cells = len(cells) - cells.null_count
        self._num_cells += num_cells
        if self._is_first and not self._is_stated and _are_words(cells):
            self._take_as_text(cells, "")
            return
        block = read_numbers(cells, decimal=self._decimal, may_be_whole=self._scan.is_whole)
        self._num_numbers += len(block.numbers) - block.numbers.null_count
        if not self._is_stated and pa.types.is_integer(block.numbers.type):
            self._look_for_zeros(cells.filter(block.numbers.is_valid()))
        if block.is_spelled:
            self._look_at_spelling(cells, block, rows_before=rows_before)
        if self._is_first and num_cells and (reason := self.why_text) is not None:
            self._take_as_text(cells, reason)  # nothing was counted yet
            return
        self._is_first &= num_cells == 0
        if pa.types.is_floating(block.numbers.type):
            self._scan = self._scan.as_float()
        self._scan.add(block.numbers)

    def _take_as_text(self, cells: pa.StringArray, reason: str) -> None:
        self._text_note = reason
        self._scan = ColumnScan(self._name, "string")
        self._scan.add(cells)

    def _look_for_zeros(self, cells: pa.StringArray) -> None:
        found = cells.filter(pc.match_substring_regex(cells, r"^\s*0")).unique().to_pylist()
        codes = [cell for cell in found if cell.strip()[1:].strip()[:1].isdigit()]
        if codes:
            self._zero = codes[0]

    def _look_at_spelling(self, cells: pa.StringArray, block: _Block, *, rows_before: int) -> None:
        assert block.odd is not None
        self._is_spelled = True
        if self._odd is None and pc.any(block.odd).as_py():
            first = block.odd.index(pa.scalar(True)).as_py()
            self._odd = cells[first].as_py(), rows_before + first + 1
        if block.odd.true_count:
            self._num_odd += block.odd.true_count
            self._num_values = max(self._num_values, pc.count_distinct(block.numbers).as_py())
        if self._example is None:
            plain = pc.utf8_trim_whitespace(cells)
            unusual = pc.and_(block.numbers.is_valid(), pc.invert(pc.match_substring_regex(plain, r"^[\d.eE+-]*$")))
            if pc.any(unusual).as_py():
                first = unusual.index(pa.scalar(True)).as_py()
                self._example = cells[first].as_py(), f"{block.numbers[first].as_py():g}"
        if self._placeholder is None:
            stood_in = pc.and_(pc.and_(cells.is_valid(), block.numbers.is_null()), pc.invert(block.odd))
            if pc.any(stood_in).as_py():
                self._placeholder = cells.filter(stood_in)[0].as_py()

    @property
    def _is_hopeless(self) -> bool:
        return not self._is_stated and self._num_odd > max(1_000, 0.5 * self._num_cells)

    @property
    def why_text(self) -> str | None:
        """Why the column, which was taken for one of numbers, is text; None: it is not, or that is known."""
        if self._text_note is not None or self._is_stated:
            return None
        if self._zero is not None:
            return f"text, since {self._zero!r} begins with a zero"
        if self._num_cells and not self._num_odd and not self._num_numbers and self._placeholder is not None:
            return ""  # nothing but placeholders
        allowed = MAX_ODD_SHARE * self._num_cells
        if self._num_cells >= MIN_CELLS_WITH_ODD and self._num_values > MAX_VALUES_OF_KINDS:
            allowed = max(allowed, 1)
        if self._num_odd <= allowed or self._odd is None:
            return None
        if self._num_odd > 0.5 * self._num_cells:
            return ""
        value, row = self._odd
        cells = "1 cell is not a number" if self._num_odd == 1 else f"{self._num_odd:,} cells are not numbers"
        return f"text, since {cells}, such as {value!r} in row {row:,}"

    def column(self) -> Column:
        """What the pass found."""
        column = self._scan.column()
        if self._text_note is not None:
            return replace(column, note=self._text_note or None)
        if not column.num_values and column.type == "int64":
            column = Column(self._name, "float")
        said = []
        if self._example:
            said.append("{!r} is read as {}".format(*self._example))
        if self._placeholder is not None:
            said.append(f"{self._placeholder!r} is a missing cell")
        odd = None
        if self._odd is not None:
            value, row = self._odd
            verb = "is not a number" if self._num_odd == 1 else "are not numbers"
            odd = f"{self._num_odd:,} of {self._num_cells:,} cells {verb}, the first {value!r} in row {row:,}"
        return replace(column, is_spelled=self._is_spelled, note=", ".join(said) or None, odd_cells=odd)

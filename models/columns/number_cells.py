"""Numbers in cells of text, in whatever spelling.

Codes, which begin with a zero or are long, are none.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.config.data_section import Stated
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.reading import OddCells, Reading
from kubetfx.tables.spelled_numbers import PLACEHOLDERS, understand

_PROBED_CELLS = 64
_LIKE_A_NUMBER = re.compile(r"\s*[^\w\s]{0,2}\d[\d.,' ]*[^\d\s]{0,4}\s*")
_EXACT = 2.0**53
"""Up to here every whole number has a double of its own."""
_LONG_WHOLE = r"^\s*[+-]?[1-9]\d{16,}\s*$"
_CODES = {"$": "USD", "US$": "USD", "\N{EURO SIGN}": "EUR", "\N{POUND SIGN}": "GBP"}
_UNIT = r"(?P<unit>%|[A-Z]{0,2}\p{Sc}|[A-Z]{3})"


class _Block(NamedTuple):
    numbers: pa.Array
    """int64 or double; null where a cell is missing or no number."""
    odd: pa.BooleanArray | None
    """Where a cell is neither missing nor a number; None: nowhere."""
    is_spelled: bool
    """Whether Arrow's own reader of numbers cannot read the cells."""


def _read(texts: pa.StringArray, *, decimal: str, may_be_whole: bool = True) -> _Block:
    """Return a block of cells as int64 where all are whole, and what was unusual about the cells."""
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
    """Return cells with decimal commas as if they had points; None where points mean something else."""
    has_point = pc.any(pc.match_substring(texts, ".")).as_py()
    return None if has_point else pc.replace_substring(texts, ",", ".")


class NumberCells(Reading):
    """Numbers. Percentages, currencies and thousands are read, and what stands for a missing number."""

    kind = "number"
    is_text = False
    nouns = ("a number", "numbers")

    def __init__(self, *, decimal: str, stated: Stated | None) -> None:
        """Find out nothing yet.

        Args:
            decimal: mark between the whole and the fractional part of a number.
            stated: what the user says of the column, if anything.
        """
        super().__init__(decimal=decimal, stated=stated)
        self._odd = OddCells()
        self._is_whole = True
        self._began_whole = True
        """Whether no earlier part of the column is known to have a decimal number."""
        self._is_spelled = False
        self._zero: str | None = None
        self._too_long: str | None = None
        self._has_fractions = False
        self._units: dict[str, tuple[int, str, str]] = {}
        """For cells with a percent sign, a currency, or none: the row of the first, the cell, and the number that is
        read."""
        self._example: tuple[str, str] | None = None
        self._placeholder: str | None = None

    def may_be(self, first: pa.StringArray) -> bool:
        """Return whether any cell has a digit or stands for a missing one: otherwise they are surely words."""
        cells = [cell for cell in first[:_PROBED_CELLS].to_pylist() if cell is not None]
        return not cells or any(
            any(character.isdigit() for character in cell) or cell.strip().lower() in PLACEHOLDERS for cell in cells
        )

    def read(self, cells: pa.StringArray, *, rows_before: int) -> pa.Array:
        """Return int64, or double from the first decimal number on."""
        block = _read(cells, decimal=self.decimal, may_be_whole=self._is_whole)
        self.num_cells += len(cells) - cells.null_count
        self.num_good += len(block.numbers) - block.numbers.null_count
        if not self.stated and pa.types.is_integer(block.numbers.type):
            self._look_for_zeros(cells.filter(block.numbers.is_valid()))
        if pa.types.is_floating(block.numbers.type):
            self._look_for_long_numbers(cells, block.numbers)
        if block.is_spelled or "" not in self._units:
            self._look_at_units(cells, block, rows_before=rows_before)
        if block.is_spelled:
            self._look_at_spelling(cells, block, rows_before=rows_before)
        self._is_whole &= not pa.types.is_floating(block.numbers.type)
        return block.numbers

    def _look_for_zeros(self, cells: pa.StringArray) -> None:
        found = cells.filter(pc.match_substring_regex(cells, r"^\s*0")).unique().to_pylist()
        codes = [cell for cell in found if (after := cell.strip()[1:].strip()[:1]).isdigit() or after in ("x", "X")]
        if codes:
            self._zero = codes[0]

    def _look_for_long_numbers(self, cells: pa.StringArray, numbers: pa.DoubleArray) -> None:
        for some in (numbers[:_PROBED_CELLS], numbers):  # most columns with fractions have one soon
            if self._has_fractions:
                return
            self._has_fractions = pc.any(pc.not_equal(some, pc.round(some))).as_py() or False
        if self._has_fractions:
            return
        if self._too_long is None and pc.any(pc.greater(pc.abs(numbers), _EXACT)).as_py():
            self._too_long = next(iter(cells.filter(pc.match_substring_regex(cells, _LONG_WHOLE)).to_pylist()), None)

    def _look_at_units(self, cells: pa.StringArray, block: _Block, *, rows_before: int) -> None:
        """Note an example of each unit. A zero has no unit."""
        for size in (_PROBED_CELLS, len(cells)):  # most columns without units have a number soon
            numbers = block.numbers[:size]
            rows = pc.indices_nonzero(pc.fill_null(pc.not_equal(numbers, pa.scalar(0, numbers.type)), False))
            if not block.is_spelled and len(rows):
                rows = rows[:1]
                break
        some = cells.take(rows)
        units = pc.fill_null(pc.extract_regex(some, _UNIT).field("unit"), "")
        for unit in units.unique().to_pylist():
            index = units.index(pa.scalar(unit)).as_py()
            row = rows[index].as_py()
            example = rows_before + row + 1, some[index].as_py(), f"{numbers[row].as_py():g}"
            self._units.setdefault(_CODES.get(unit, unit), example)

    def _look_at_spelling(self, cells: pa.StringArray, block: _Block, *, rows_before: int) -> None:
        assert block.odd is not None
        self._is_spelled = True
        self._odd.add(cells, block.odd, rows_before=rows_before)
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

    def merge(self, later: Self, *, rows_before: int) -> Self | None:
        """Add the numbers of the later part.

        As a whole, cells behind the first decimal number are read as decimal ones, too: zeros at their beginning mean
        nothing there, but where they are spelled unusually.
        """
        super().merge(later, rows_before=rows_before)
        was_whole = self._is_whole or not later._began_whole
        again = self.fresh() if later._zero is not None and not was_whole else None
        self._zero = self._zero or later._zero
        self._odd.merge(later._odd, rows_before=rows_before)
        self._is_whole &= later._is_whole
        self._is_spelled |= later._is_spelled
        self._has_fractions |= later._has_fractions
        self._too_long = self._too_long or later._too_long
        self._example = self._example or later._example
        self._placeholder = self._placeholder or later._placeholder
        for unit, (row, cell, number) in later._units.items():
            self._units.setdefault(unit, (rows_before + row, cell, number))
        if again is not None:
            again._is_whole = again._began_whole = False
        return again

    @property
    def odd(self) -> OddCells:
        """Cells that are not numbers."""
        return self._odd

    @property
    def why_not(self) -> str | None:
        """Reason: a cell that begins with a zero or is very long, as codes are; or nothing but placeholders."""
        if self._zero is not None:
            return f"text, since {self._zero!r} begins with a zero"
        if self._too_long is not None and not self._has_fractions and not self.stated:
            return f"text, since {self._too_long!r} has more digits than a number keeps"
        if self.num_cells and not self._odd.number and not self.num_good and self._placeholder is not None:
            return ""
        return None

    def why_none(self, cell: str) -> str:
        """Say so of a cell that resembles a number: with a unit, such as `5 kg`, or grouped in an unusual way."""
        return f"text, since {cell!r} is not a number" if _LIKE_A_NUMBER.fullmatch(cell) else ""

    def describe(self, column: ColumnProfile) -> ColumnProfile:
        """Add whether numbers are spelled unusually, with an example."""
        if not column.num_values and column.type == "int64":
            column = ColumnProfile(column.name, "float")
        found = sorted((row, unit, (cell, number)) for unit, (row, cell, number) in self._units.items())
        units = {unit: example for _, unit, example in found} if self._is_spelled else {}
        said = _mixed_units(units)
        if self._example and not said:
            said.append("{!r} is read as {}".format(*self._example))
        if self._placeholder is not None:
            said.append(f"{self._placeholder!r} is a missing cell")
        reading = self.kind if self._is_spelled else ""
        return replace(column, reading=reading, units=units, note=", ".join(said) or None)

    @classmethod
    def merged(cls, column: ColumnProfile, first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
        """Add a note on units that do not fit together, also if each file has its own."""
        if not (first.units or second.units):
            return column
        units = {**_units(first), **{unit: cell for unit, cell in _units(second).items() if unit not in _units(first)}}
        said = [] if first.units == units else _mixed_units(units)
        if column.note and not any(column.note in words for words in said):
            said.append(column.note)
        return replace(column, units=units, note=", ".join(said) or None)

    @staticmethod
    def understood(cells: pa.StringArray, column: ColumnProfile, *, decimal: str) -> pa.Array:
        """Return the cells as int64 or double."""
        return _read(cells, decimal=decimal).numbers


def _units(column: ColumnProfile) -> dict[str, tuple[str, str]]:
    """Return the units of a file's column; for plain numbers, one of them is the example for no unit."""
    largest = column.maximum or column.minimum
    return column.units or ({"": (f"{largest:g}", f"{largest:g}")} if largest else {})


def _mixed_units(by_unit: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return a note on percentages among other numbers, or on several currencies; none if the units fit together."""
    currencies = [unit for unit in by_unit if unit not in ("%", "")]
    if "%" in by_unit and len(by_unit) > 1:
        units, problem = list(by_unit), "percentages are beside other numbers"
    elif len(currencies) > 1:
        units, problem = currencies, "several currencies count alike"
    else:
        return []
    examples = [by_unit[unit] for unit in units]
    return [f"{problem}: {', '.join('{!r} is read as {}'.format(*example) for example in examples)}"]

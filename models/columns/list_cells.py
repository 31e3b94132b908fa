"""Lists in cells of text: what separates their values, how many there are, and how long the longest is."""

from dataclasses import replace
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.config.data_section import Stated
from kubetfx.models.columns.column_profile import ColumnProfile, Lists
from kubetfx.models.columns.reading import OddCells, Reading
from kubetfx.tables.as_text import FOUND_SEPARATORS, LIST_SEPARATOR, lists_of

MAX_VALUES = 10_000
"""Different values are counted up to this number."""
MIN_CELLS = 20
MIN_USES = 3
"""A column of text is one of lists if its values are in this many cells on average, and there are at most half as many
of them as different cells: the same values are put together in many ways."""
_IN_BRACKETS = r"(?s)^\s*(\[.*\]|\{.*\})\s*$"
"""Lists and objects of JSON, and of Python."""
MAX_CHARACTERS = 40
"""Maximum number of characters in a value, where lists are found by looking."""


class ListCells(Reading):
    """Lists of values that are categories. Every text is a list, if only of one value, so none is odd."""

    kind = "list"
    is_text = True
    nouns = ("a list", "lists")

    def __init__(self, *, decimal: str, stated: Stated | None) -> None:
        """Find out nothing yet.

        Args:
            decimal: mark between the whole and the fractional part of a number.
            stated: what the user says of the column, if anything.
        """
        super().__init__(decimal=decimal, stated=stated)
        self._separator = (stated.how if stated else None) or FOUND_SEPARATORS[-1]
        self._values: pa.Array | None = pa.nulls(0, pa.string())
        """None: there are too many."""
        self._longest = 0
        self._in_brackets: str | None = None
        """A cell in brackets, if most are."""

    def may_be(self, first: pa.StringArray) -> bool:
        """Return whether a separator makes lists of the cells: of different lengths, and with values in common.

        Sentences, names and addresses are not.
        """
        cells = first.drop_null()
        in_brackets = cells.filter(pc.match_substring_regex(cells, _IN_BRACKETS))
        self._in_brackets = in_brackets[0].as_py() if 2 * len(in_brackets) > len(cells) else None
        if self.stated and self.stated.how:
            return True
        if self.stated:
            counts = {one: pc.sum(pc.count_substring(cells, one)).as_py() or 0 for one in FOUND_SEPARATORS}
            self._separator = max(reversed(FOUND_SEPARATORS), key=counts.__getitem__)
            return True
        if self._in_brackets is not None:
            return False
        found = next((one for one in FOUND_SEPARATORS if _are_lists(cells, one)), None)
        self._separator = found or self._separator
        return found is not None

    def read(self, cells: pa.StringArray, *, rows_before: int) -> pa.Array:
        """Return the cells as they are, if they have a value."""
        lists = lists_of(cells, self._separator)
        self.num_cells += len(cells) - cells.null_count
        self.num_good += len(lists) - lists.null_count
        self._longest = max(self._longest, pc.max(pc.list_value_length(lists)).as_py() or 0)
        if self._values is not None:
            values = pa.chunked_array([self._values, lists.flatten()]).unique()
            self._values = values if len(values) <= MAX_VALUES else None
        return pc.if_else(lists.is_valid(), cells, pa.scalar(None, pa.string()))

    def fresh(self) -> Self:
        """Return a reading with the separator."""
        found = super().fresh()
        found._separator, found._in_brackets = self._separator, self._in_brackets
        return found

    @property
    def choice(self) -> tuple[str, bool]:
        """The separator, and whether lists are in brackets."""
        return self._separator, self._in_brackets is not None

    def merge(self, later: Self, *, rows_before: int) -> Self | None:
        """Add the lists of the later part."""
        super().merge(later, rows_before=rows_before)
        self._longest = max(self._longest, later._longest)
        both = [values for values in (self._values, later._values) if values is not None]
        values = pa.chunked_array(both).unique() if len(both) == 2 else None
        self._values = values if values is not None and len(values) <= MAX_VALUES else None
        return None

    @property
    def why_not(self) -> str | None:
        """Reason: lists in brackets, unless the user says that the column holds lists."""
        if self._in_brackets is None or self.stated:
            return None
        cell = self._in_brackets[:60]
        return f"text, since {cell!r} is in brackets; for a list write 'a; b', or a file of JSON lines or Parquet"

    @property
    def odd(self) -> OddCells:
        """No cells: every text is a list."""
        return OddCells()

    def describe(self, column: ColumnProfile) -> ColumnProfile:
        """Add what separates the values, and how many there are."""
        num_values = None if self._values is None else len(self._values)
        lists = Lists(self._separator, num_values, self._longest)
        note = None if self._separator == LIST_SEPARATOR else f"lists, separated by {self._separator!r}"
        if self._in_brackets is not None:
            note = f"{note}; the brackets of {self._in_brackets[:60]!r} count as parts of its values"
        return replace(column, lists=lists, note=note)

    @classmethod
    def merged(cls, column: ColumnProfile, first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
        """Keep lists if they are in both files; otherwise the column is text."""
        if first.lists and second.lists and first.lists.separator == second.lists.separator:
            return replace(column, lists=first.lists.merged(second.lists), note=first.note)
        if not (first.lists or second.lists):
            return column
        how = [f"lists, separated by {one.lists.separator!r}" if one.lists else "text" for one in (first, second)]
        return replace(column, note=f"text, since files differ: {' and '.join(how)}")

    @staticmethod
    def understood(cells: pa.StringArray, column: ColumnProfile, *, decimal: str) -> pa.Array:
        """Return the cells as they are written."""
        return cells


def _are_lists(cells: pa.StringArray, separator: str) -> bool:
    if len(cells) < MIN_CELLS or not pc.any(pc.match_substring(cells, separator)).as_py():
        return False
    lists = lists_of(cells, separator)
    values = lists.flatten()
    lengths = pc.unique(pc.list_value_length(lists).drop_null())
    distinct = values.unique()
    return (
        len(lengths) > 1
        and MIN_USES * len(distinct) <= len(values)
        and 2 * len(distinct) <= len(cells.unique())
        and pc.max(pc.utf8_length(distinct)).as_py() <= MAX_CHARACTERS
    )

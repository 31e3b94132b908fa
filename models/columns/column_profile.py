"""What a scan of the data finds out about a column: what a column type chooses by."""

import re
from dataclasses import dataclass, field
from typing import Literal

MIN_ROWS_OF_IDENTIFIER = 20
MIN_ROWS_WITH_GAPS = 50
"""Minimum number of values for calling a column with gaps an identifier: that half of the numbers of a range come up
without any repetition is chance in one of three million tables."""
COUNTS_MEAN = 0.3
"""Whole numbers are counts if their mean is less than this above the lowest, as a share of their range. It is 0.5 for
values that are used evenly."""
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that are written without spaces between words, for RE2: each of their characters counts as a word."""
LENGTH_STEP = 8
"""Words per bucket of a histogram."""
MAX_LENGTH = 1_024
"""Words of a cell that are counted."""
_IDENTIFIER_NAME = re.compile(r"(^|_)(id|uuid|guid|key|index|rownum|row_?id)$|Id$|ID$|^Unnamed: 0$", re.ASCII)

CellType = Literal["int64", "float", "string"]


@dataclass(frozen=True)
class DateFormat:
    """How well a format of dates fits the cells of a column."""

    name: str
    """As kubetfx/tables/date_formats.py has it."""
    num_odd: int
    """Cells that are not dates of it."""
    first_odd: tuple[str, int] | None
    """The first of them, and its row."""
    seen: dict[str, int]
    """A bit for each month, weekday and hour that the dates have, by the name of the cycle."""

    def merged(self, other: "DateFormat") -> "DateFormat":
        """Return how well it fits the cells of two files.

        Args:
            other: of the second file.
        """
        seen = {cycle: bits | other.seen[cycle] for cycle, bits in self.seen.items()}
        return DateFormat(self.name, self.num_odd + other.num_odd, self.first_odd or other.first_odd, seen)


@dataclass(frozen=True)
class Lists:
    """What is known of the lists in a column."""

    separator: str
    num_values: int | None
    """Different values, or a bound; None: many."""
    longest: int
    """Values of the longest list."""

    def merged(self, other: "Lists") -> "Lists":
        """Return what is known of the lists of two files.

        Args:
            other: of the second file.
        """
        known = (self.num_values, other.num_values)
        number = None if None in known else sum(filter(None, known))
        return Lists(self.separator, number, max(self.longest, other.longest))


@dataclass(frozen=True)
class Texts:
    """What is known of the words in a column of text."""

    num_words: int
    """For all cells: what is between spaces; of scripts without spaces, each character."""
    lengths: tuple[int, ...]
    """Cells by their number of words, signs and such characters: LENGTH_STEP of them per bucket, the last for more than
    MAX_LENGTH."""

    def merged(self, other: "Texts") -> "Texts":
        """Return what is known of the words of two parts of a column.

        Args:
            other: of the second.
        """
        lengths = tuple(ours + theirs for ours, theirs in zip(self.lengths, other.lengths, strict=True))
        return Texts(self.num_words + other.num_words, lengths)

    def length_of(self, share: float) -> int | None:
        """Return how many words and signs a share of the cells have at most.

        Args:
            share: The share of the cells; the others may have more.

        Returns:
            A multiple of LENGTH_STEP; None: more than MAX_LENGTH.
        """
        wanted, found = share * sum(self.lengths), 0
        for bucket, number in enumerate(self.lengths[:-1], start=1):
            found += number
            if found >= wanted:
                return bucket * LENGTH_STEP
        return None


@dataclass(frozen=True)
class ColumnProfile:
    """What a scan found about a column."""

    name: str
    type: CellType
    num_values: int = 0
    """Cells that are not missing."""
    num_distinct: int | None = 0
    """None: more than MAX_DISTINCT, or a float column, whose role does not depend on it."""
    values_repeat: bool = False
    """Whether some value was seen twice, as far as MAX_UNIQUE allows to tell. Not looked at for a float column."""
    minimum: float | None = None
    maximum: float | None = None
    """Maximum of the values of an int64 or float column."""
    mean: float | None = None
    """Mean of the values of an int64 column."""
    values: tuple[int | float | str, ...] = field(default=(), repr=False)
    """The distinct values, sorted, where they were counted. A column type is asked without them: only those of the
    label are kept with the examples."""
    num_decimals: int | None = None
    """Distinct values of a float column; None: more than MAX_DISTINCT, or in several files."""
    reading: str = ""
    """The kind of the reading (models/columns/reading.py) that its cells of text need: of numbers that are spelled
    unusually, or where some cells mean nothing. Empty: they are taken as they are."""
    dates: tuple[DateFormat, ...] = ()
    """Formats of dates that fit its cells; none: it is not a column of dates."""
    lists: Lists | None = None
    """Facts about a column of lists."""
    texts: Texts | None = None
    """Facts about a column whose cells have several words."""
    units: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    """For a column with unusually spelled numbers: an example and the number that is read, by its
    percent sign or its currency; empty: neither."""
    note: str | None = None
    """What was understood of the cells and may surprise, in words."""
    odd_cells: str | None = None
    """How many cells of a column of numbers are not numbers, and the first of them, in words. They count as missing."""
    picture_reason: str | None = None
    """Why the column is one of pictures, in words; None: it is not."""

    def why_useless(self, num_rows: int) -> str | None:
        """Return why nothing can be learned from the values as such, in words; None: something can.

        Args:
            num_rows: rows of the table.
        """
        if self.num_values == 0:
            return "it has no value"
        if self.num_values == num_rows and (self.num_distinct == 1 or self._is_one_number):
            return "it has the same value in every row"
        if self.type == "float" or self.values_repeat or self.num_values < MIN_ROWS_OF_IDENTIFIER:
            return None
        if self.type == "string" or self.has_identifier_name or self._counts_rows(gaps_per_row=0):
            return "it has a different value in every row: an identifier"
        if self.num_values >= MIN_ROWS_WITH_GAPS and self._counts_rows(gaps_per_row=1):
            return "it has a different value in every row, as row numbers with gaps have: an identifier"
        return None

    @property
    def date_format(self) -> str:
        """For a column of dates: the format that fits best."""
        return self._best_format.name

    @property
    def other_formats(self) -> tuple[str, ...]:
        """For a column of dates: formats that fit as well."""
        best = self._best_format
        return tuple(one.name for one in self.dates if one is not best and one.num_odd == best.num_odd)

    @property
    def cycles(self) -> tuple[str, ...]:
        """For a column of dates: what varies of month, weekday and hour."""
        return tuple(cycle for cycle, bits in self._best_format.seen.items() if bits.bit_count() > 1)

    @property
    def _best_format(self) -> DateFormat:
        return min(self.dates, key=lambda one: one.num_odd)

    @property
    def has_identifier_name(self) -> bool:
        """Whether it is named like what tells rows, or things that rows are about, from each other."""
        return bool(_IDENTIFIER_NAME.search(self.name))

    @property
    def are_counts(self) -> bool:
        """Whether whole numbers say how many, and not which: they begin at 0 or 1, and their mean lies near that end.

        Codes (a month, an hour, a class of three) are used about evenly, or begin somewhere else (a year, a zip code).
        """
        lowest, highest, mean = self.minimum, self.maximum, self.mean
        if lowest not in (0, 1) or highest is None or mean is None:
            return False
        return mean - lowest < COUNTS_MEAN * (highest - lowest)

    @property
    def _is_one_number(self) -> bool:
        return self.minimum is not None and self.minimum == self.maximum

    def _counts_rows(self, *, gaps_per_row: int) -> bool:
        """Return whether numbers that do not repeat lie so close together that they are given out one by one."""
        lowest, highest = self.minimum, self.maximum
        return lowest is not None and highest is not None and highest - lowest < (1 + gaps_per_row) * self.num_values

"""Dates in cells of text: which format they are of is found over all of them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.config.data_section import Stated
from kubetfx.config.yaml_text import in_one_line
from kubetfx.models.columns.column_profile import ColumnProfile, DateFormat
from kubetfx.models.columns.reading import OddCells, Reading, odd_words
from kubetfx.tables import date_formats
from kubetfx.tables.date_formats import CYCLES, EPOCHS, FOUND_FORMATS, ISO, STATED_FORMATS
from kubetfx.tables.spelled_dates import understand

_PROBED_CELLS = 64
_NAMES = "|".join(date_formats.MONTHS)
_LIKE_A_DATE = (
    rf"\d[-/.]\d{{1,2}}[-/.]\d|^\s*\d{{4}}-\d\d\s*$|^\s*\d\d?:\d\d|\d{{8}}T\d{{6}}"
    rf"|(?i:({_NAMES})[a-z]*[ .,-]+\d|\d[ ./-]+({_NAMES}))"
)
_NAMED_ZONE = r"\d:\d\d\S*?(?: ?[AaPp][Mm])? ?\[?[A-Z][A-Za-z_]+(?:/[\w+-]+)*\]?\s*$"
_WITH_YEAR = r"\b(?:19|20)\d\d\b"
_MONTHS = "%Y-%m"
_COMPACT_DAY = "%Y%m%d"
_NAME_OF_DATES = re.compile(
    r"(?i:(^|[^a-z])(date|datetime|day|time|timestamp|ts|epoch|at|created|updated|modified)([^a-z]|$))"
    r"|[a-z](Date|Day|Time|Timestamp|At)$"
)
_EPOCH_YEARS = (1980, 2100)
"""An epoch is taken for the one of the units whose numbers are dates of these years."""


def date_format_of_numbers(column: ColumnProfile) -> str | None:
    """Find out whether whole numbers may be dates: by the name of the column, and by what its numbers would be.

    Args:
        column: with its values, where they were counted.

    Returns:
        The format, which is to be stated; None: they are hardly dates.
    """
    lowest, highest = column.minimum, column.maximum
    if column.type != "int64" or lowest is None or highest is None or lowest == highest:
        return None
    if not _NAME_OF_DATES.search(column.name):
        return None
    first, end = (date_formats.days_of(year, 1, 1) * 86_400 for year in _EPOCH_YEARS)
    for unit, one_second in zip(EPOCHS, (1, 10**3, 10**6, 10**9), strict=True):
        if first * one_second <= lowest and highest < end * one_second:
            return unit
    cells = pa.array([str(int(value)) for value in column.values or (lowest, highest)])
    is_date = _num_dates(cells, _COMPACT_DAY) == len(cells) and lowest > 1800_00_00 and highest < 2200_00_00
    return _COMPACT_DAY if is_date else None


def stated_as(name: str, date_format: str) -> str:
    """Return how `data.types` says that a column holds dates, in one line of YAML.

    Args:
        name: The name of the column.
        date_format: The format of its dates.
    """
    return in_one_line({name: {"date": date_format}})


class DateCells(Reading):
    """Dates, times of day, and points in time."""

    kind = "date"
    is_text = True
    nouns = ("a date", "dates")

    def __init__(self, *, decimal: str, stated: Stated | None) -> None:
        """Any format is possible that is not stated otherwise.

        Args:
            decimal: mark between the whole and the fractional part of a number.
            stated: what the user says of the column, if anything.
        """
        super().__init__(decimal=decimal, stated=stated)
        formats = (stated.how,) if stated and stated.how else STATED_FORMATS if stated else FOUND_FORMATS
        self._odd = {one: OddCells() for one in formats}
        self._seen = {one: dict.fromkeys(CYCLES, 0) for one in formats}
        self._has_gaps = False
        self._stated_best: str | None = None
        """The format that fits best, where it is known of the whole column."""
        self._zone: str | None = None
        """A cell whose zone is not known, if no format fits."""
        self._unlike: str | None = None
        """A cell that looks like a date, as most do, if no format fits."""

    def may_be(self, first: pa.StringArray) -> bool:
        """Return whether a format fits more than half of them; only such formats are looked at further."""
        cells = first.drop_null()[:_PROBED_CELLS]
        if not self.stated and not pc.any(pc.match_substring_regex(cells, _LIKE_A_DATE)).as_py():
            return False
        num_iso = _num_dates(cells, ISO)
        fits = {one: _num_dates(cells, one) - (0 if one == ISO else num_iso) for one in self._odd}
        likely = [one for one, number in fits.items() if number > len(cells) / 2]
        if likely == [_MONTHS] and not self.stated and _are_seasons(cells):
            return False
        if self.stated and not likely and not self.stated.how:  # no unit of numbers gives usual years: none is taken
            likely = [one for one in self._odd if one not in date_formats.EPOCHS]
        if likely:
            self._odd = {one: self._odd[one] for one in likely}
        elif not self.stated:
            zoned = cells.filter(pc.match_substring_regex(cells, _NAMED_ZONE))
            self._zone = zoned[0].as_py() if len(zoned) > len(cells) / 2 else None
            self._unlike = _like_dates(cells)
        return bool(likely or self.stated or self._zone)

    def read(self, cells: pa.StringArray, *, rows_before: int) -> pa.Array:
        """Return the cells that are dates, as they are."""
        self.num_cells += len(cells) - cells.null_count
        found = {one: understand(cells, one) for one in self._odd}
        for one, dates in found.items():
            self._odd[one].add(cells, dates.odd, rows_before=rows_before)
            times = dates.times.drop_null().unique().to_numpy()
            for cycle, (of_times, *_) in CYCLES.items():
                self._seen[one][cycle] |= sum(1 << int(value) for value in np.unique(of_times(times)))
        times = found[self._best].times
        self._has_gaps |= times.null_count > cells.null_count
        self.num_good += len(times) - times.null_count
        return pc.if_else(times.is_valid(), cells, pa.scalar(None, pa.string()))

    def fresh(self) -> Self:
        """Return a reading with the formats that are likely."""
        found = super().fresh()
        found._odd = {one: OddCells() for one in self._odd}
        found._zone, found._unlike = self._zone, self._unlike
        return found

    @property
    def choice(self) -> tuple[tuple[str, ...], bool, bool]:
        """The formats that are likely, and why there are none."""
        return tuple(self._odd), self._zone is not None, self._unlike is not None

    def merge(self, later: Self, *, rows_before: int) -> Self | None:
        """Add the dates of the later part, by the format that fits both best.

        Cells that were read by another one are read again.
        """
        counted_by = {self._best: self._counts, later._best: later._counts}
        super().merge(later, rows_before=rows_before)
        self._has_gaps |= later._has_gaps
        for one, odd in self._odd.items():
            odd.merge(later._odd[one], rows_before=rows_before)
            self._seen[one] = {cycle: bits | later._seen[one][cycle] for cycle, bits in self._seen[one].items()}
        best = self._best
        if all(counts[one] == counts[best] for one, counts in counted_by.items()):
            return None
        again = self.fresh()
        again._stated_best = best
        return again

    @property
    def _counts(self) -> dict[str, int]:
        return {one: odd.number for one, odd in self._odd.items()}

    @property
    def _best(self) -> str:
        return self._stated_best or min(self._odd, key=lambda one: self._odd[one].number)

    @property
    def odd(self) -> OddCells:
        """Cells that are not dates of the format that fits best."""
        return self._odd[self._best]

    @property
    def why_not(self) -> str | None:
        """Reason: a time zone that is not known, or no format that fits most cells."""
        if self._zone is None:
            unlike = self._unlike
            return None if unlike is None else f"text, since no format of dates fits most cells, such as {unlike!r}"
        return f"text, since the zone of {self._zone!r} is not known; write how far it is from UTC, +01:00 for example"

    def describe(self, column: ColumnProfile) -> ColumnProfile:
        """Add the formats that fit, and how well."""
        dates = tuple(DateFormat(one, odd.number, odd.first, dict(self._seen[one])) for one, odd in self._odd.items())
        reading = self.kind if self._has_gaps or self.stated else ""
        return _with_note(replace(column, reading=reading, dates=dates))

    @classmethod
    def merged(cls, column: ColumnProfile, first: ColumnProfile, second: ColumnProfile) -> ColumnProfile:
        """Keep the formats that fit in both files; text, if none does. Every format has the dates of ISO 8601 too."""
        pairs = {
            name: (_of_format(name, first.dates), _of_format(name, second.dates))
            for name in dict.fromkeys(one.name for one in (*first.dates, *second.dates))
        }
        dates = tuple(
            replace(ours.merged(theirs), name=name) for name, (ours, theirs) in pairs.items() if ours and theirs
        )
        if dates:
            best = min(dates, key=lambda one: one.num_odd)
            odd = odd_words(cls.nouns, best.num_odd, column.num_values + best.num_odd, best.first_odd)
            return _with_note(replace(column, dates=dates, odd_cells=odd))
        if not (first.dates or second.dates):
            return column
        formats = [one.date_format if one.dates else "text" for one in (first, second)]
        return replace(column, reading="", odd_cells=None, note=f"text, since files differ: {' and '.join(formats)}")

    @staticmethod
    def understood(cells: pa.StringArray, column: ColumnProfile, *, decimal: str) -> pa.Array:
        """Return the dates as they are written."""
        is_date = understand(cells, column.date_format).times.is_valid()
        return pc.if_else(is_date, cells, pa.scalar(None, pa.string()))


def _of_format(name: str, known: Sequence[DateFormat]) -> DateFormat | None:
    """Return how well a format fits the cells of a file: as it was counted, or as ISO 8601 does."""
    by_name = {one.name: one for one in known}
    return by_name.get(name) or by_name.get(ISO)


def _like_dates(cells: pa.StringArray) -> str | None:
    """Return the first of cells that look like dates, if most do, with a year."""
    like = cells.filter(
        pc.and_(pc.match_substring_regex(cells, _LIKE_A_DATE), pc.match_substring_regex(cells, _WITH_YEAR))
    )
    return str(like[0]) if 2 * len(like) > len(cells) else None


def _are_seasons(cells: pa.StringArray) -> bool:
    """Return whether cells such as `2005-06` are of a year and the next one."""
    pairs = pc.extract_regex(cells, r"^\s*\d\d(?P<first>\d\d)-(?P<next>\d\d)\s*$").drop_null().to_pylist()
    return all(int(pair["first"]) + 1 == int(pair["next"]) for pair in pairs)


def _num_dates(cells: pa.StringArray, date_format: str) -> int:
    times = understand(cells, date_format).times
    if date_format in date_formats.EPOCHS:
        first, end = (date_formats.days_of(year, 1, 1) * date_formats.DAY for year in _EPOCH_YEARS)
        times = times.filter(pc.and_(pc.greater_equal(times, first), pc.less(times, end)))
    return int(len(times) - times.null_count)


def _with_note(column: ColumnProfile) -> ColumnProfile:
    """Say in words how dates are written, unless it is as ISO 8601 has it."""
    found = column.date_format
    said = f"dates as {found}" if "%" in found else f"{found} since 1970"
    if others := column.other_formats:
        stated = stated_as(column.name, others[0])
        said += f", which the cells do not tell from {others[0]} (if it is that, data.types: {stated})"
    if "%y" in found:
        said += "; years are those from 1969 to 2068"
    return replace(column, note=None if found == ISO else said)

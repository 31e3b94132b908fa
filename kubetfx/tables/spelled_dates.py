"""Dates in cells of text, as date_formats.py has them, read by Arrow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.tables.date_formats import (
    ISO,
    MONTHS,
    NO_TIME,
    TIME,
    TIME_PARTS,
    ZONES,
    DateParts,
    TimeParts,
    pattern,
    point_in_time,
)
from kubetfx.tables.spelled_numbers import PLACEHOLDERS

_NO_DATES = ("0000-00-00", "0000-00-00 00:00:00")
"""Missing cells as MySQL writes them."""


@dataclass(frozen=True)
class Dates:
    """What was understood of a block of cells."""

    times: pa.Int64Array
    """Microseconds since 1970, in UTC. Null: the cell is missing, or no date."""
    odd: pa.BooleanArray
    """Whether a cell is neither missing nor a date."""


def understand(texts: pa.StringArray, date_format: str) -> Dates:
    """Read cells as dates of a format, or as those of ISO 8601.

    Args:
        texts: the cells.
        date_format: A format, as in date_formats.py.

    Returns:
        The points in time, one per cell.
    """
    coded = texts.dictionary_encode()
    times, is_date = _times(coded.dictionary, date_format)
    known = pa.array(times, mask=~is_date)
    is_placeholder = pc.is_in(
        pc.utf8_lower(pc.utf8_trim_whitespace(coded.dictionary)), pa.array([*sorted(PLACEHOLDERS), *_NO_DATES])
    )
    odd = pc.and_(known.is_null(), pc.invert(is_placeholder))
    return Dates(known.take(coded.indices), pc.fill_null(odd.take(coded.indices), False))


def _times(texts: pa.StringArray, date_format: str) -> tuple[Any, Any]:
    """Return microseconds, and whether a cell is a date at all."""
    parts = pa.nulls(len(texts), pa.string())
    for one in dict.fromkeys((ISO, date_format)):
        found = pattern(one)
        rewritten = pc.replace_substring_regex(texts, found.regex, found.parts)
        if found.has_names:
            for number, name in enumerate(MONTHS, start=1):
                rewritten = pc.replace_substring_regex(rewritten, f"(?i){name}", str(number))
        parts = pc.coalesce(
            parts, pc.if_else(pc.match_substring_regex(texts, found.regex), rewritten, pa.scalar(None, pa.string()))
        )
    of_date = _columns(pc.fill_null(parts, "1970|1|1||0"), 5)
    clock = pc.replace_substring_regex(of_date[3], TIME, TIME_PARTS)
    is_time = pc.match_substring_regex(of_date[3], TIME)
    of_time = _columns(pc.if_else(is_time, clock, NO_TIME), 9)
    year, month, day, microseconds = (_whole(of_date[index]) for index in (0, 1, 2, 4))
    hour, minute, second, zone_hours, zone_minutes = (_whole(of_time[index]) for index in (0, 1, 2, 6, 7))
    fraction = _whole(pc.utf8_slice_codeunits(of_time[3], 0, 6))
    zone = pc.index_in(of_time[8], pa.array(list(ZONES)))
    of_zone = pa.array(list(ZONES.values())).take(zone).fill_null(0).to_numpy()
    half, sign = (of_time[index].to_numpy(zero_copy_only=False) for index in (4, 5))
    times, exists = point_in_time(
        DateParts(year, month, day, microseconds),
        TimeParts(hour, minute, second, fraction, half, sign, zone_hours, zone_minutes, of_zone),
        where=np.where,
    )
    return times, exists & (pc.and_(parts.is_valid(), is_time).to_numpy(zero_copy_only=False))


def _columns(texts: pa.StringArray, number: int) -> Sequence[pa.StringArray]:
    """Return the parts of each text, by column."""
    flat = pc.split_pattern(texts, "|").flatten()
    return [flat.take(pa.array(np.arange(index, len(flat), number))) for index in range(number)]


def _whole(texts: pa.StringArray) -> Any:
    return texts.cast(pa.int64()).to_numpy()

"""Dates: how far away they are, as standard scores; month, weekday and hour, on a circle; times between two dates."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.column_type import Column, ColumnType, Encoding, concatenated
from kubetfx.models.columns.number import standard_scores
from kubetfx.tables.date_formats import (
    CYCLES,
    ISO,
    MONTHS,
    NO_TIME,
    SEPARATOR,
    TIME,
    TIME_PARTS,
    ZONES,
    DateParts,
    TimeParts,
    pattern,
    point_in_time,
)

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_transform as tft

    from kubetfx.config.model_section import ModelConfig
    from kubetfx.models.columns.reading import Reading

DATES = "dates"
MAX_PAIRED = 8
"""Maximum number of columns for which the times between two of them are features."""


class Date(ColumnType):
    """Dates, times of day and points in time, which are text in the table and in requests.

    One in ISO 8601, or in the column's own format, is understood; any other text counts as missing.
    """

    tag = "date"
    words = "date"
    cells = frozenset({"string"})
    has_domain = False

    @property
    def reading(self) -> "type[Reading]":
        """Reading of dates in any format."""
        from kubetfx.models.columns.date_cells import DateCells

        return DateCells

    def choose(self, column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> str | None:
        """Choose by what its cells were read as. Dates that differ in every row are not identifiers."""
        if not column.dates or config.names_otherwise(column.name, "date"):
            return None
        if column.name in config.date:
            return f"as configured, {column.date_format}"
        if not column.num_values or column.num_distinct == 1:
            return None
        return f"dates as {column.date_format}"

    def details(self, column: ColumnProfile) -> dict[str, str]:
        """Return the format, and what varies of month, weekday and hour."""
        return {"format": column.date_format, "cycles": " ".join(column.cycles)}

    def contradiction(self, column: ColumnProfile, details: Mapping[str, str]) -> str | None:
        """Return another format, unless the cells are in ISO 8601."""
        frozen = details.get("format", ISO)
        fitting = {one.name for one in column.dates}
        return None if not column.num_values or frozen in fitting or fitting == {ISO} else f'{{date: "{frozen}"}}'

    def preprocess(
        self, inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column], config: FeaturesConfig
    ) -> "dict[str, tf.Tensor]":
        """`dates`, (batch, any) float32.

        It has a standard score of each column and of the time between each two, the sine and cosine of what varies of
        month, weekday and hour, and a 1 for each missing cell of columns that had one in training. Where a cell is
        missing, the others are 0.
        """
        import tensorflow as tf

        times, is_known = _times(inputs, columns)
        first, second = _pairs(len(columns))
        both = tf.concat([times, tf.gather(times, first, axis=1) - tf.gather(times, second, axis=1)], axis=1)
        known = tf.gather(is_known, first, axis=1) & tf.gather(is_known, second, axis=1)
        unknown = tf.constant(float("nan"), tf.float64)
        seconds = tf.where(tf.concat([is_known, known], axis=1), tf.cast(both, tf.float64) / 1e6, unknown)
        parts = [standard_scores(seconds)]
        for cycle, (of_times, begin, number) in CYCLES.items():
            if own := [i for i, column in enumerate(columns) if cycle in column.details.get("cycles", "").split()]:
                turns = tf.cast(of_times(tf.gather(times, own, axis=1)) - begin, tf.float32) * (2 * math.pi / number)
                circle = tf.concat([tf.sin(turns), tf.cos(turns)], axis=1)
                there = tf.tile(tf.gather(is_known, own, axis=1), [1, 2])
                parts.append(tf.where(there, circle, tf.zeros_like(circle)))
        if optional := [i for i, column in enumerate(columns) if column.is_optional]:
            parts.append(tf.cast(tf.logical_not(tf.gather(is_known, optional, axis=1)), tf.float32))
        return {DATES: tf.concat(parts, axis=1)}

    def encode(
        self, transform_output: "tft.TFTransformOutput", *, model: "ModelConfig", features: FeaturesConfig
    ) -> Encoding | None:
        """Return the features as they are."""
        import keras

        spec = transform_output.transformed_feature_spec().get(DATES)
        if spec is None:
            return None
        dates = keras.Input((spec.shape[0],), name=DATES, dtype="float32")
        return Encoding({DATES: dates}, dates)

    def positions(self, columns: Sequence[Column]) -> dict[str, list[tuple[str, int]]] | None:
        """Return all parts for a single column; None for several, as the time between two dates belongs to both."""
        if len(columns) > 1:
            return None
        (column,) = columns
        number = 1 + 2 * len(column.details.get("cycles", "").split()) + column.is_optional
        return {column.name: [(DATES, index) for index in range(number)]}


def _pairs(number: int) -> Any:
    """Return (2, pairs) int: positions of two columns."""
    import numpy as np  # not above: SchemaGen asks for types, and starts in less without it

    pairs = [(i, j) for i in range(number) for j in range(i)] if number <= MAX_PAIRED else []
    return np.array(pairs, np.int32).reshape(-1, 2).T


def _times(inputs: "Mapping[str, tf.Tensor]", columns: Sequence[Column]) -> "tuple[tf.Tensor, tf.Tensor]":
    """Return (batch, columns) int64 microseconds since 1970, and whether a cell is a date.

    Strings are only looked at as often as there are formats, however many columns there are.
    """
    import tensorflow as tf

    cells = concatenated(inputs, columns, "string")
    formats = [column.details.get("format", ISO) for column in columns]
    order: list[int] = []
    dates = []
    for one in dict.fromkeys(formats):
        own = [index for index, other in enumerate(formats) if other == one]
        dates.append(_taken_apart(tf.gather(cells, own, axis=1), one))
        order += own
    parts = tf.gather(tf.concat(dates, axis=1), [order.index(index) for index in range(len(order))], axis=1)
    is_date = tf.not_equal(parts, "")
    year, month, day, time, microseconds = _split(tf.where(is_date, parts, "1970|1|1||0"), 5)
    is_time = tf.strings.regex_full_match(time, TIME)
    clock = tf.where(is_time, tf.strings.regex_replace(time, TIME, TIME_PARTS), NO_TIME)
    hour, minute, second, fraction, half, sign, zone_hours, zone_minutes, zone = _split(clock, 9)
    is_named = tf.equal(tf.expand_dims(zone, -1), list(ZONES))
    of_zone = tf.reduce_sum(tf.where(is_named, tf.constant(list(ZONES.values()), tf.int64), 0), axis=-1)
    of_time = (hour, minute, second, tf.strings.substr(fraction, 0, 6), zone_hours, zone_minutes)
    of_date = (year, month, day, microseconds)
    hour, minute, second, fraction, zone_hours, zone_minutes, *date = map(_whole, (*of_time, *of_date))
    times, exists = point_in_time(
        DateParts(*date),
        TimeParts(hour, minute, second, fraction, half, sign, zone_hours, zone_minutes, of_zone),
        where=tf.where,
    )
    return times, is_date & is_time & exists


def _taken_apart(cells: "tf.Tensor", date_format: str) -> "tf.Tensor":
    """Return year, month, day, time of day, and microseconds besides.

    They are empty where a cell is neither of the format nor ISO.
    """
    import tensorflow as tf

    found = tf.zeros_like(cells)
    for one in dict.fromkeys((date_format, ISO)):
        own = pattern(one)
        parts = tf.strings.regex_replace(cells, own.regex, own.parts)
        for number, name in enumerate(MONTHS if own.has_names else (), start=1):
            parts = tf.strings.regex_replace(parts, f"(?i){name}", str(number))
        found = tf.where(tf.strings.regex_full_match(cells, own.regex), parts, found)
    return found


def _split(texts: "tf.Tensor", number: int) -> "list[tf.Tensor]":
    """Return the parts of each text, by part; each of the shape of the texts."""
    import tensorflow as tf

    parts = tf.strings.split(tf.reshape(texts, [-1]), SEPARATOR).flat_values
    shape = tf.concat([tf.shape(texts), [number]], axis=0)
    return list(tf.unstack(tf.reshape(parts, shape), num=number, axis=-1))


def _whole(texts: "tf.Tensor") -> Any:
    import tensorflow as tf

    return tf.strings.to_number(texts, tf.int64)

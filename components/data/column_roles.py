"""Which role a column has as a feature: the rules, from what the scan of the table found.

SchemaGen writes the roles into the schema, models/features.py reads them there, and `kubetfx init` shows them.
"""

import re

from kubetfx.components.data import table_profile
from kubetfx.config.data import FeaturesConfig
from kubetfx.models.features import Role

MIN_ROWS_OF_IDENTIFIER = 20
COUNTS_MEAN = 0.3
"""Whole numbers are counts whose mean is less than so far from the lowest, as a share of their range. Values that are
used evenly have it at 0.5."""
_IDENTIFIER_NAME = re.compile(r"(^|_)(id|uuid|guid|key|index|rownum|row_?id)$|Id$|ID$|^Unnamed: 0$", re.ASCII)


def choose_role(column: table_profile.Column, *, num_rows: int, config: FeaturesConfig) -> tuple[Role, str]:
    """The role of a column that is not the label, and the reason in words.

    Args:
        column: what the scan of the table found.
        num_rows: rows of the table.
        config: the `features` section; columns that it names have the role that it says.
    """
    fits_vocabulary = column.num_distinct is not None and column.num_distinct <= config.vocabulary_size
    category: Role = "vocabulary" if fits_vocabulary else "hashed"
    if column.name in config.numeric:
        return "numeric", "as configured"
    if column.name in config.categorical:
        return category, "as configured"
    if reason := _reason_to_exclude(column, num_rows=num_rows):
        return "excluded", reason
    if column.type == "float":
        return "numeric", "decimal numbers"
    if column.type == "string":
        return category, _count_of_values(column)
    if column.num_distinct is None or column.num_distinct > config.integer_categories:
        return "numeric", "whole numbers"
    if column.num_distinct == 2:
        return "numeric", "two values, which a number tells apart as well"
    return ("numeric", "counts: small numbers prevail") if _are_counts(column) else (category, _count_of_values(column))


def _reason_to_exclude(column: table_profile.Column, *, num_rows: int) -> str | None:
    if column.num_values == 0:
        return "it has no value"
    if column.num_values == num_rows and (column.num_distinct == 1 or _is_one_number(column)):
        return "it has the same value in every row"
    if column.type == "float" or column.values_repeat or column.num_values < MIN_ROWS_OF_IDENTIFIER:
        return None
    if column.type == "string" or _IDENTIFIER_NAME.search(column.name) or _is_row_number(column):
        return "it has a different value in every row: an identifier"
    return None


def _are_counts(column: table_profile.Column) -> bool:
    """Whether whole numbers say how many, and not which: they begin at 0 or 1, and their mean lies near that end.

    Codes (a month, an hour, a class of three) are used about evenly, or begin somewhere else (a year, a zip code).
    """
    lowest, highest, mean = column.minimum, column.maximum, column.mean
    if lowest not in (0, 1) or highest is None or mean is None:
        return False
    return mean - lowest < COUNTS_MEAN * (highest - lowest)


def _is_one_number(column: table_profile.Column) -> bool:
    return column.minimum is not None and column.minimum == column.maximum


def _is_row_number(column: table_profile.Column) -> bool:
    lowest, highest = column.minimum, column.maximum
    return lowest is not None and highest is not None and highest - lowest + 1 == column.num_values


def _count_of_values(column: table_profile.Column) -> str:
    return f"{column.num_distinct:,} distinct values" if column.num_distinct is not None else "many distinct values"

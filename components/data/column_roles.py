"""The role of a column as a feature: that of the first column type that accepts it.

SchemaGen writes the roles into the schema, models/features.py reads them there, and `kubetfx init` shows them.
"""

from dataclasses import replace

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.features import EXCLUDED


def choose_role(column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> tuple[str, str]:
    """Return the role of a column that is not the label, and the reason in words.

    A type is asked only about cells that it accepts, and without the distinct values: SchemaGen has only those of the
    label, and the check before a run must come to the same choice.

    Args:
        column: what the scan of the table found.
        num_rows: rows of the table.
        config: The `features` section, with the user's types and the columns that it names.

    Raises:
        ConfigError: one of the user's types cannot be imported.
    """
    column = replace(column, values=())
    for tag, column_type in known_types.types_by_tag(config.types).items():
        if column.type not in column_type.cells:
            continue
        if reason := column_type.choose(column, num_rows=num_rows, config=config):
            return tag, reason
    return EXCLUDED, column.why_useless(num_rows) or "no column type takes it"

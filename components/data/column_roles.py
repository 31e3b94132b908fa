"""Which role a column has as a feature: that of the first column type that takes it.

SchemaGen writes the roles into the schema, models/features.py reads them there, and `kubetfx init` shows them.
"""

from dataclasses import replace

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.features import EXCLUDED


def choose_role(column: ColumnProfile, *, num_rows: int, config: FeaturesConfig) -> tuple[str, str]:
    """Return the role of a column that is not the label, and the reason in words.

    A type is asked only about cells that it takes, and without the distinct values: SchemaGen has those of the label
    alone, and the check before a run must not choose otherwise.

    Args:
        column: what the scan of the table found.
        num_rows: rows of the table.
        config: the `features` section: the user's types, and what columns that it names are.

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

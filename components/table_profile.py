"""What the scan of the table found, on the way from TableExampleGen to SchemaGen: a property of the examples."""

import json
from dataclasses import asdict, replace

from tfx import types

from components import tables

PROPERTY = "table_profile"
"""Custom property of the examples artifact that holds it, as JSON."""


def write(examples: types.Artifact, profile: tables.TableProfile, *, label: str) -> None:
    """Leave the profile on the examples. Only the label keeps its values."""
    columns = [asdict(column if column.name == label else replace(column, values=())) for column in profile.columns]
    document = json.dumps({"num_rows": profile.num_rows, "columns": columns})
    examples.set_string_custom_property(PROPERTY, document)


def read(examples: types.Artifact) -> tables.TableProfile:
    """The profile that TableExampleGen left on its examples."""
    document = json.loads(examples.get_string_custom_property(PROPERTY))
    columns = [tables.Column(**{**entry, "values": tuple(entry["values"])}) for entry in document["columns"]]
    return tables.TableProfile(tuple(columns), document["num_rows"])

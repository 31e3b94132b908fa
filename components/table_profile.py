"""What the scan of the table found, on the way from TableExampleGen to those that read its examples: a file among them.

It is no property of the artifact: Kubeflow Pipelines hands those to each task in one argument, and a table may have
more columns than fit in there.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

from components import tables

FILE = "table_profile.json"
"""Name in the folder of the examples."""


def write(examples_folder: Path, profile: tables.TableProfile, *, label: str) -> None:
    """Leave the profile with the examples. Only the label keeps its values."""
    columns = [asdict(column if column.name == label else replace(column, values=())) for column in profile.columns]
    document = json.dumps({"num_rows": profile.num_rows, "columns": columns})
    (examples_folder / FILE).write_text(document, encoding="utf-8")


def read(examples_folder: Path) -> tables.TableProfile:
    """The profile that TableExampleGen or ImageExampleGen left with its examples.

    Raises:
        FileNotFoundError: another ExampleGen wrote the examples.
    """
    document = json.loads((examples_folder / FILE).read_text(encoding="utf-8"))
    columns = [tables.Column(**{**entry, "values": tuple(entry["values"])}) for entry in document["columns"]]
    return tables.TableProfile(tuple(columns), document["num_rows"])

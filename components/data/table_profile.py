"""What the scan of the table found, on the way from TableExampleGen to those that read its examples: a file among them.

It is no property of the artifact: Kubeflow Pipelines hands those to each task in one argument, and a table may have
more columns than fit in there.
"""

import functools
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

FILE = "table_profile.json"
"""Name in the folder of the examples."""

ColumnType = Literal["int64", "float", "string"]


@dataclass(frozen=True)
class Column:
    """What a scan found out about a column."""

    name: str
    type: ColumnType
    num_values: int = 0
    """Cells that are not missing."""
    num_distinct: int | None = 0
    """None: more than MAX_DISTINCT, or a float column, of which no role hangs on it."""
    values_repeat: bool = False
    """Whether some value was seen twice, as far as MAX_UNIQUE allows to tell. Not looked at for a float column."""
    minimum: float | None = None
    maximum: float | None = None
    """Of the values of an int64 or float column."""
    mean: float | None = None
    """Of the values of an int64 column."""
    values: tuple[int | str, ...] = field(default=(), repr=False)
    """The distinct values, sorted, where they were counted."""
    num_decimals: int | None = None
    """Distinct values of a float column; None: more than MAX_DISTINCT, or in several files."""


@dataclass(frozen=True)
class TableProfile:
    """What a scan of the whole table found out."""

    columns: tuple[Column, ...]
    num_rows: int

    def column(self, name: str) -> Column:
        """The column of that name, which must be there."""
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, Column]:
        """There may be thousands, of which each is asked for."""
        return {column.name: column for column in reversed(self.columns)}

    @property
    def names(self) -> list[str]:
        """Column names in the order of the first file."""
        return [column.name for column in self.columns]


def write(examples_folder: Path, profile: TableProfile, *, label: str) -> None:
    """Leave the profile with the examples. Only the label keeps its values."""
    columns = [asdict(column if column.name == label else replace(column, values=())) for column in profile.columns]
    document = json.dumps({"num_rows": profile.num_rows, "columns": columns})
    (examples_folder / FILE).write_text(document, encoding="utf-8")


def num_rows(examples_folder: Path) -> int | None:
    """Rows of the table that the examples are of; None if another ExampleGen wrote them."""
    try:
        return read(examples_folder).num_rows
    except FileNotFoundError:
        return None


def read(examples_folder: Path) -> TableProfile:
    """The profile that TableExampleGen or ImageExampleGen left with its examples.

    Raises:
        FileNotFoundError: another ExampleGen wrote the examples.
    """
    document = json.loads((examples_folder / FILE).read_text(encoding="utf-8"))
    columns = [Column(**{**entry, "values": tuple(entry["values"])}) for entry in document["columns"]]
    return TableProfile(tuple(columns), document["num_rows"])

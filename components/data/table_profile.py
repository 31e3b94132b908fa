"""The result of the table's scan, which ExampleGen stores in a file beside its examples.

It is not a property of the artifact: Kubeflow Pipelines passes those to each task in one argument, and a table may have
more columns than fit into it.
"""

import functools
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from kubetfx.artifacts import TABLE_PROFILE
from kubetfx.models.columns.column_profile import ColumnProfile, DateFormat, Lists, Texts


@dataclass(frozen=True)
class TableProfile:
    """What a scan of the whole table found."""

    columns: tuple[ColumnProfile, ...]
    num_rows: int
    file_notes: tuple[str, ...] = ()
    """How the files were read, and which of their columns are left out, a sentence each."""
    split_notes: tuple[str, ...] = ()
    """Splits whose share of the rows differs from the configured one, a sentence each."""
    copy_notes: tuple[str, ...] = ()
    """Rows that are near copies of others, a sentence each."""
    copies_together: str | None = None
    """The column of text of which near copies are in one split, whether or not there are any."""

    @property
    def notes(self) -> list[str]:
        """Notes on how the table was read, a sentence each."""
        said = [f"Column {column.name!r}: {column.note}." for column in self.columns if column.note]
        odd = [f"Column {column.name!r}: {column.odd_cells}." for column in self.columns if column.odd_cells]
        return [*self.file_notes, *odd, *said, *self.copy_notes]

    def column(self, name: str) -> ColumnProfile:
        """Return the profile of a column.

        Args:
            name: The name of the column, which must exist.
        """
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, ColumnProfile]:
        """Return the columns by name, since there may be thousands of look-ups."""
        return {column.name: column for column in reversed(self.columns)}

    @property
    def described(self) -> list[str]:
        """Columns with statistics: all except the encoded bytes of pictures."""
        return [column.name for column in self.columns if not column.picture_reason]

    @property
    def names(self) -> list[str]:
        """Column names in the order of the first file."""
        return [column.name for column in self.columns]


def write(examples_folder: Path, profile: TableProfile, *, label: str) -> None:
    """Write the profile beside the examples. Only the label keeps its values.

    Args:
        examples_folder: The folder of the examples artifact.
        profile: The profile of the table.
        label: name of its column.
    """
    columns = [asdict(column if column.name == label else replace(column, values=())) for column in profile.columns]
    notes: dict[str, Any] = {
        "notes": profile.file_notes,
        "split_notes": profile.split_notes,
        "copy_notes": profile.copy_notes,
    }
    notes["copies_together"] = profile.copies_together
    document = json.dumps({"num_rows": profile.num_rows, "columns": columns, **notes})
    (examples_folder / TABLE_PROFILE).write_text(document, encoding="utf-8")


def read(examples_folder: Path) -> TableProfile:
    """Return the profile that kubetfx's ExampleGen wrote beside its examples.

    Args:
        examples_folder: The folder of the examples artifact.

    Raises:
        FileNotFoundError: another ExampleGen wrote the examples.
    """
    document = json.loads((examples_folder / TABLE_PROFILE).read_text(encoding="utf-8"))
    columns = [_column(entry) for entry in document["columns"]]
    file_notes, split_notes, copy_notes = (
        tuple(document.get(key, ())) for key in ("notes", "split_notes", "copy_notes")
    )  # profiles of earlier versions have none
    together = document.get("copies_together")
    return TableProfile(tuple(columns), document["num_rows"], file_notes, split_notes, copy_notes, together)


def _column(entry: dict[str, Any]) -> ColumnProfile:
    known = {field.name for field in fields(ColumnProfile)}  # an earlier version had other fields
    dates = tuple(DateFormat(**one) for one in entry.get("dates", ()))
    lists = Lists(**entry["lists"]) if entry.get("lists") else None
    texts = Texts(entry["texts"]["num_words"], tuple(entry["texts"]["lengths"])) if entry.get("texts") else None
    units = {unit: tuple(example) for unit, example in entry.get("units", {}).items()}
    return ColumnProfile(
        **{key: value for key, value in entry.items() if key in known}
        | {"values": tuple(entry["values"]), "dates": dates, "lists": lists, "texts": texts, "units": units}
    )

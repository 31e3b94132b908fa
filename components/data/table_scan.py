"""One pass over a table's blocks, and merging the profiles of several files.

It knows Arrow but no files: tables.py decides what is read, and in which order.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data.column_scan import MAX_FLOAT_VALUES, ColumnScan, known, with_values
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.text_scan import Choice, TextScan
from kubetfx.config.data_section import Stated
from kubetfx.config.yaml_text import in_one_line
from kubetfx.errors import DataError
from kubetfx.models.columns.column_profile import CellType, ColumnProfile
from kubetfx.models.columns.date_cells import date_format_of_numbers, stated_as
from kubetfx.models.columns.known_types import readings
from kubetfx.models.columns.number_cells import NumberCells
from kubetfx.models.columns.reading import Reading
from kubetfx.tables.as_text import LIST_SEPARATOR, is_list, texts_of


@dataclass(frozen=True)
class Plan:
    """How a file is scanned."""

    path: str
    """For errors."""
    names: Sequence[str]
    """Names of its columns. Columns that are in no block have type float and no values."""
    stated: Mapping[str, Stated]
    """The column types that the user gives."""
    decimal: str | None = None
    """Decimal mark of a CSV file, whose blocks are text."""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    """The types of columns according to the first cells or an earlier pass."""
    max_unique: int | None = None
    """See ColumnScan."""

    def chosen(self, choices: Mapping[str, Choice]) -> "Plan":
        """Return the plan of another pass.

        Args:
            choices: The types that this pass found.
        """
        return replace(self, choices={**self.choices, **choices})


def scan(
    read: Callable[[], Iterator[pa.RecordBatch]],
    path: str,
    *,
    names: Sequence[str],
    stated: Mapping[str, Stated],
    decimal: str | None = None,
) -> TableProfile:
    """Return the profile of a file.

    Args:
        read: begins a pass over the blocks of the file.
        path: its name, for errors.
        names: The names of its columns. Columns that are in no block have type float and no values.
        stated: The column types that the user gives.
        decimal: The decimal mark of a CSV file, whose blocks are text.

    Returns:
        The profile, without columns that hold neither numbers nor text, which are noted.

    Raises:
        DataError: a cell cannot be what the column holds.
    """
    plan = Plan(path, names, stated, decimal)
    while True:
        one_pass = Pass(plan)
        for batch in read():
            one_pass.add(batch)
        again = one_pass.again()
        if not again:
            return one_pass.profile()
        plan = plan.chosen(again)


class Pass:
    """One pass over a file, or over a part of it."""

    def __init__(self, plan: Plan, *, rows_before: int = 0) -> None:
        """Begin a pass.

        Args:
            plan: The plan of the file.
            rows_before: The number of rows before the part, from which errors compute the row number.
        """
        self._plan = plan
        self._rows_before = rows_before
        self._texts = {name: "" for name, one in plan.stated.items() if one.kind == "text"}
        self._scans: dict[str, ColumnScan | TextScan | None] = {}
        self._left_out: list[str] = []
        self.num_rows = 0
        """Number of rows of the part."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a block.

        Args:
            batch: the next rows.

        Raises:
            DataError: a cell cannot be what the column holds.
        """
        self._check_no_header(batch)
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name not in self._scans:
                self._scans[name] = self._scan_of(name, array.type)
            column = self._scans[name]
            try:
                if isinstance(column, TextScan):
                    column.add(texts_of(array), rows_before=self.num_rows)
                elif column is not None:
                    self._scans[name] = _added(column, array)
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"{self._plan.path}: column {name!r}: {error}. Say that it is text, data.types: "
                    f"{in_one_line({name: 'text'})}; or leave it out, data.drop: {in_one_line([name])}"
                ) from None
        self.num_rows += batch.num_rows

    def _check_no_header(self, batch: pa.RecordBatch) -> None:
        """Refuse text files that were concatenated with their headers."""
        if self._plan.decimal is None or batch.num_columns < 2:
            return
        first = batch.schema.names[0]
        repeats = pc.is_in(batch.column(0), pa.array([first, f"\ufeff{first}"]))
        for name, cells in zip(batch.schema.names[1:], batch.columns[1:], strict=True):
            if not pc.any(repeats).as_py():
                return
            repeats = pc.and_(repeats, pc.is_in(cells, pa.array([name])))
        if pc.any(repeats).as_py():
            row = self._rows_before + self.num_rows + repeats.index(pa.scalar(True)).as_py() + 1
            raise DataError(
                f"{self._plan.path}: row {row:,} repeats the header, as if files had been concatenated. Received: "
                f"{','.join(batch.schema.names)[:80]}. Leave such rows out, or give the files as they were, in a "
                "folder."
            )

    def _scan_of(self, name: str, arrow_type: pa.DataType) -> ColumnScan | TextScan | None:
        held = cell_type(arrow_type)
        if held is None:
            self._left_out.append(
                f"Column {name!r} is left out: it holds {arrow_type}, neither numbers, text nor lists of categories."
            )
            return None
        stated = self._plan.stated.get(name)
        if is_list(arrow_type) and (stated is None or stated.kind == "list"):
            stated = Stated("list", LIST_SEPARATOR)
        if readings := self._readings_of(held, stated):
            choice = self._plan.choices.get(name, self._texts.get(name))
            unique = self._plan.max_unique
            return TextScan(name, readings, choice=choice, is_stated=stated is not None, max_unique=unique)
        return ColumnScan(name, "string" if name in self._texts else held, max_unique=self._plan.max_unique)

    def _readings_of(self, held: CellType, stated: Stated | None) -> list[Reading]:
        """Return the possible readings of the cells: the type that the user gives, or the types that they look like.

        Parquet itself declares numbers.
        """
        is_text = held == "string"
        kinds = readings()
        if stated is not None:
            own = [kinds[stated.kind]] if stated.kind in kinds else []
            found = [reading for reading in own if is_text or reading.is_text]
        else:
            found = [reading for reading in kinds.values() if is_text and (self._plan.decimal or reading.is_text)]
        return [reading(decimal=self._plan.decimal or ".", stated=stated) for reading in found]

    def merge(self, later: "Pass") -> None:
        """Add the next part of the file.

        Args:
            later: The pass over it, which must not be used again.
        """
        for name, scan in later._scans.items():
            ours = self._scans.get(name)
            if isinstance(ours, TextScan) and isinstance(scan, TextScan):
                self._scans[name] = ours.merged(scan, rows_before=self.num_rows)
            elif isinstance(ours, ColumnScan) and isinstance(scan, ColumnScan):
                self._scans[name] = ours.merged(scan)
            elif name not in self._scans:  # there were no rows
                self._scans[name] = scan
        self._left_out = self._left_out or later._left_out
        self.num_rows += later.num_rows

    def take_values(self, later: "Pass") -> None:
        """See ColumnScan.

        Args:
            later: the pass over another part of the file.
        """
        for name, scan in later._scans.items():
            ours, theirs = _counts_of(self._scans.get(name)), _counts_of(scan)
            if ours is not None and theirs is not None:
                ours.take_values(theirs)

    def choices(self) -> dict[str, Choice]:
        """Return the types of the columns."""
        scans = {name: scan for name, scan in self._scans.items() if isinstance(scan, TextScan)}
        return {name: choice for name, scan in scans.items() if (choice := scan.choice) is not None}

    def again(self) -> dict[str, Choice]:
        """Return the columns that need another pass, with the types to use.

        This pass has the profiles of the others.
        """
        scans = {name: scan for name, scan in self._scans.items() if isinstance(scan, TextScan)}
        return {name: choice for name, scan in scans.items() if (choice := scan.again) is not None}

    def profile(self) -> TableProfile:
        """Return the profile."""
        scans = {name: self._scans[name] for name in self._plan.names if name in self._scans}
        columns = {name: self._noted(scan.column()) for name, scan in scans.items() if scan is not None}
        columns |= {name: ColumnProfile(name, "float") for name in self._plan.names if name not in self._scans}
        held = tuple(columns[name] for name in self._plan.names if name in columns)
        return TableProfile(held, self.num_rows, tuple(self._left_out))

    def _noted(self, column: ColumnProfile) -> ColumnProfile:
        """Return a column, and a note if its whole numbers may be dates, which only the user can say."""
        date_format = None if column.name in self._plan.stated or column.note else date_format_of_numbers(column)
        if date_format is None:
            return column
        said = f"whole numbers; if they are dates, say data.types: {stated_as(column.name, date_format)}"
        return replace(column, note=said)


def _counts_of(scan: ColumnScan | TextScan | None) -> ColumnScan | None:
    return scan.counts if isinstance(scan, TextScan) else scan


def _added(column: ColumnScan, array: pa.Array) -> ColumnScan:
    """Count a block; unsigned numbers that int64 cannot hold make the column one of decimal numbers."""
    try:
        column.add(array)
    except pa.ArrowInvalid:
        if not pa.types.is_unsigned_integer(array.type):
            raise
        column = column.as_float()
        column.add(array.cast(pa.float64(), safe=False))
    return column


def cell_type(arrow_type: pa.DataType) -> CellType | None:
    """Find the type of a column's cells.

    Args:
        arrow_type: The type of the column in a Parquet file or in a block.

    Returns:
        The type as which they are read; None if they are neither numbers nor text nor lists of categories.
    """
    if pa.types.is_dictionary(arrow_type):
        return cell_type(arrow_type.value_type)
    if pa.types.is_integer(arrow_type) or pa.types.is_duration(arrow_type):
        return "int64"
    if pa.types.is_floating(arrow_type) or pa.types.is_decimal(arrow_type) or pa.types.is_null(arrow_type):
        return "float"
    if is_list(arrow_type):
        of_values = None if is_list(arrow_type.value_type) else cell_type(arrow_type.value_type)
        return "string" if of_values in ("int64", "string") else None
    is_binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if pa.types.is_nested(arrow_type) or any(is_such(arrow_type) for is_such in is_binary):
        return None
    return "string"  # text, booleans, dates and times


def check_label_is_there(table: TableProfile, label: str, *, path: str) -> None:
    """Refuse a file without the label if other files have it; other columns may be missing.

    Args:
        table: The profile of the file.
        label: The name of the column.
        path: The path of the file.

    Raises:
        DataError: it lacks the label.
    """
    if label not in table.names:
        raise DataError(
            f"{path} lacks the label {label!r}, which other files have. Received the columns: "
            f"{', '.join(table.names)}. Fix the file, or narrow data.path."
        )


def merge(
    first: TableProfile,
    second: TableProfile,
    *,
    sources: dict[str, str],
    path: str,
    in_folders: Collection[str] = (),
) -> TableProfile:
    """Return the profile of two files together. A column that one of them lacks is missing in its rows, and noted.

    Args:
        first: The profile of the earlier files.
        second: The profile of one more file.
        sources: The file in which each column had its first value; it is updated.
        path: The name of the second file.
        in_folders: Columns that the names of folders give, too.

    Raises:
        DataError: a column holds numbers in one and text in the other.
    """
    columns = []
    for name in dict.fromkeys([*first.names, *second.names]):
        ours, theirs = (table.column(name) if name in table.names else None for table in (first, second))
        if ours and theirs and ours.num_values and theirs.num_values:
            columns.append(merged_column(ours, theirs, source=sources[name], path=path))
        else:
            held = [column for column in (ours, theirs) if column]
            columns.append(next((column for column in held if column.num_values), held[0]))
        if theirs and theirs.num_values:
            sources.setdefault(name, path)
    notes = tuple(
        dict.fromkeys([*first.file_notes, *second.file_notes, *_differences(first, second, path, in_folders)])
    )
    return TableProfile(tuple(columns), first.num_rows + second.num_rows, notes)


def whole_numbers(column: ColumnProfile) -> ColumnProfile:
    """Convert decimal numbers to whole ones, if all are whole: pandas writes 0 and 1 with gaps as 0.0 and 1.0.

    Args:
        column: the label.

    Returns:
        The column as int64; unchanged if it is another column, or has very many values.
    """
    if column.type != "float" or not column.values or not all(float(value).is_integer() for value in column.values):
        return column
    whole = tuple(int(value) for value in column.values)
    said = ", ".join(filter(None, [column.note, "whole numbers, though written with a decimal point"]))
    return replace(
        column,
        type="int64",
        values=whole,
        num_distinct=len(whole),
        num_decimals=None,
        values_repeat=len(whole) < column.num_values,
        reading=NumberCells.kind,
        note=said,
    )


def _differences(first: TableProfile, second: TableProfile, path: str, in_folders: Collection[str]) -> Iterator[str]:
    file = path.rpartition("/")[2]
    if lacking := [name for name in first.names if name not in {*second.names, *in_folders}]:
        yield f"{file} lacks columns of the files before it, which are missing cells there: {', '.join(lacking)}."
    if added := [name for name in second.names if name not in {*first.names, *in_folders}]:
        yield f"{file} has columns that the files before it lack, which are missing cells there: {', '.join(added)}."


def merged_column(first: ColumnProfile, second: ColumnProfile, *, source: str, path: str) -> ColumnProfile:
    """Return what a scan of two files found about a column that has values in both.

    Args:
        first: The profile from the earlier files.
        second: The profile from one more file.
        source: The file of the first.
        path: The name of the second file.

    Raises:
        DataError: it holds numbers in one and text in the other.
    """
    column_type = first.type
    if {first.type, second.type} == {"int64", "float"}:
        column_type = "float"
    elif first.type != second.type:
        raise DataError(
            f"{path}: column {second.name!r} holds {second.type}. Received: {first.type} in {source}. "
            f"Make the files agree, or say what it is, data.types: {in_one_line({second.name: 'text'})}, or number."
        )
    merged = ColumnProfile(
        first.name,
        column_type,
        first.num_values + second.num_values,
        None,
        first.values_repeat or second.values_repeat,
        min(known(first.minimum, second.minimum), default=None),
        max(known(first.maximum, second.maximum), default=None),
        reading=first.reading or second.reading,
        note=first.note or second.note,
        odd_cells=first.odd_cells or second.odd_cells,
        texts=first.texts.merged(second.texts) if first.texts and second.texts else first.texts or second.texts,
    )
    for reading in readings().values():
        merged = reading.merged(merged, first, second)
    if column_type == "float":
        both = {float(value) for value in (*first.values, *second.values)}
        is_known = bool(first.values and second.values and len(both) <= MAX_FLOAT_VALUES)
        return replace(merged, values=tuple(sorted(both)) if is_known else ())
    if first.mean is not None and second.mean is not None:
        total = first.mean * first.num_values + second.mean * second.num_values
        merged = replace(merged, mean=total / merged.num_values)
    if first.num_distinct is None or second.num_distinct is None:
        return replace(merged, values_repeat=True)  # not known, so that it does not count as an identifier
    return with_values(merged, tuple(sorted({*first.values, *second.values})))

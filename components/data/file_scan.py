"""The scan of a table's files: small files whole, and the parts of a large file in parallel.

The first cells of a large file are examined before its parts, so that all parts read a column in the same way. If they
could not, because the first cells are missing or later ones contradict them, the column is read again. The result does
not depend on how a file is cut.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from kubetfx.components.data import column_scan
from kubetfx.components.data.beam_mode import MAX_THREADS
from kubetfx.components.data.block_work import BlockWork, Run
from kubetfx.components.data.span_store import SpanStore, state_of
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.table_scan import Pass, Plan, scan
from kubetfx.components.data.table_shards import cut, opened_files, part_bytes_of
from kubetfx.components.data.text_scan import Choice
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.models.examples import read_ahead
from kubetfx.tables.blocks import open_table
from kubetfx.tables.file_parts import size_of
from kubetfx.tables.files import Format, TableFiles
from kubetfx.tables.table_file import TableFile, reading


def profiles_of(files: TableFiles, data: DataConfig, run: Run, store: SpanStore | None = None) -> list[TableProfile]:
    """Scan the files of a table.

    Args:
        files: The files of the table.
        data: The section.
        run: Executes work on many files and parts.
        store: The known files of spans; None: every file is scanned.

    Returns:
        The profile of each.

    Raises:
        DataError: a file is empty, ragged, not UTF-8, or not of the format.
    """
    if store is None:
        return _scanned(files, data, run)
    asked = (files.format, data.drop, data.stated_types, data.csv_options)
    places = [
        store.place(span.label, "scan", path, state_of([path]), *asked) for span in files.spans for path in span.paths
    ]

    def scanned(unknown: list[int]) -> list[TableProfile]:
        return _scanned(replace(files, paths=tuple(files.paths[number] for number in unknown)), data, run)

    return list(store.completed(places, scanned))


def _scanned(files: TableFiles, data: DataConfig, run: Run) -> list[TableProfile]:
    sizes = list(read_ahead((functools.partial(_size_of, path) for path in files.paths), threads=MAX_THREADS))
    part_bytes = part_bytes_of(sum(sizes))
    numbers = [number for number, size in enumerate(sizes) if size > part_bytes]
    opened = opened_files([files.paths[number] for number in numbers], files, data)
    parts = [[part for part, _ in own] for own in cut(opened, part_bytes=part_bytes, run=run)]
    looks = [
        functools.partial(_looked_at, number, file, own, data, part_bytes)
        for number, (file, _), own in zip(numbers, opened, parts, strict=True)
        if len(own) > 1
    ]
    large = {file.number: file for file in read_ahead(looks, threads=MAX_THREADS)}
    items: list[_Item] = [item for file in large.values() for item in file.items()]
    items += [_Whole(n, path, files.format, data) for n, path in enumerate(files.paths) if n not in large]
    profiles: dict[int, TableProfile] = {}
    while items:
        found = run(ScanParts(), items)
        items = []
        for number, own in found.items():
            if isinstance(own, TableProfile):
                profiles[number] = own
                continue
            whole = large[number].merged(own)
            profiles[number] = _updated(profiles.get(number), whole.profile())
            if again := whole.again():
                large[number] = large[number].again(again)
                items += large[number].items()
    noted = (_noted(profiles[n], large[n].parts[0]) if n in large else profiles[n] for n in range(len(files.paths)))
    return list(noted)


@dataclass(frozen=True)
class _Whole:
    """A file that is scanned as a whole."""

    number: int
    path: str
    format: Format
    data: DataConfig


@dataclass(frozen=True)
class _Part:
    """A part of a file."""

    number: int
    """Number of the file."""
    place: int
    """Number of the part."""
    part: TableFile
    plan: Plan


_Item = _Whole | _Part


@dataclass(frozen=True)
class _Large:
    """A file that is scanned in parts."""

    number: int
    parts: Sequence[TableFile]
    plan: Plan
    num_unique: int
    """Number of parts at its beginning in which repeated values are detected: they have about as many rows as values
    are remembered.
    """

    def items(self) -> Iterator[_Part]:
        """Yield its parts."""
        others = replace(self.plan, max_unique=0)
        for place, part in enumerate(self.parts):
            yield _Part(self.number, place, part, self.plan if place < self.num_unique else others)

    def merged(self, passes: "Mapping[int, _Passed]") -> Pass:
        """Return all passes as one.

        A part that could not be read is read again, now that the number of rows before it is known, so that the error
        can name the row.
        """
        whole = Pass(self.plan)
        for place, passed in sorted(passes.items()):
            whole.merge(passed.over or _pass_over(self.parts[place], self.plan, rows_before=whole.num_rows))
        return whole

    def again(self, choices: Mapping[str, Choice]) -> "_Large":
        """Return the same for some columns only."""
        return replace(self, plan=replace(self.plan.chosen(choices), names=tuple(choices)))


@dataclass
class _Passed:
    """A pass over parts that follow one another."""

    num_parts: int
    over: Pass | None
    """None: the part could not be read."""


_Found = TableProfile | dict[int, _Passed]
"""The profile of a file, or passes over its parts by the number of the first."""


class ScanParts(BlockWork[_Item, dict[int, _Found], dict[int, _Found], dict[int, _Found]]):
    """Scans files and parts of files; results are by number of the file.

    Passes over consecutive parts are merged. Distinct values, which are large, are shared even between parts that are
    not consecutive, so that no more are held than a file has.
    """

    def blocks(self, item: _Item) -> Iterator[dict[int, _Found]]:
        """Scan a file, or a part of one."""
        if isinstance(item, _Whole):
            yield {item.number: _profile_of(item)}
            return
        over = None
        with contextlib.suppress(DataError):  # see _Large.merged
            over = _pass_over(item.part, item.plan)
        yield {item.number: {item.place: _Passed(1, over)}}

    def create(self) -> dict[int, _Found]:
        """Return the state of no files."""
        return {}

    def add_block(self, state: dict[int, _Found], block: dict[int, _Found]) -> dict[int, _Found]:
        """Return the results of both."""
        return self.merge(state, block)

    def merge(self, first: dict[int, _Found], second: dict[int, _Found]) -> dict[int, _Found]:
        """Return the results of both."""
        for number, found in second.items():
            ours = first.setdefault(number, found)
            if ours is not found and isinstance(ours, dict) and isinstance(found, dict):
                first[number] = _joined({**ours, **found})
        return first

    def result(self, state: dict[int, _Found]) -> dict[int, _Found]:
        """Return the results by number of the file."""
        return state


def _joined(passes: Mapping[int, _Passed]) -> dict[int, _Passed]:
    """Return passes with consecutive ones merged."""
    found: dict[int, _Passed] = {}
    heavy: Pass | None = None
    last = -1
    for place, passed in sorted(passes.items()):
        before = found.get(last)
        if before and before.over and passed.over and last + before.num_parts == place:
            before.over.merge(passed.over)
            before.num_parts += passed.num_parts
            continue
        found[place] = passed
        last = place
        if heavy is not None and passed.over is not None:
            heavy.take_values(passed.over)
        heavy = heavy or passed.over
    return found


def _updated(before: TableProfile | None, now: TableProfile) -> TableProfile:
    """Return a profile with the columns that were read again."""
    if before is None:
        return now
    again = {column.name: column for column in now.columns}
    return replace(before, columns=tuple(again.get(column.name, column) for column in before.columns))


def _noted(profile: TableProfile, file: TableFile) -> TableProfile:
    return replace(profile, file_notes=(file.note, *profile.file_notes)) if file.note else profile


def _size_of(path: str) -> int:
    with reading(path):
        return size_of(path)


def _looked_at(number: int, file: TableFile, parts: Sequence[TableFile], data: DataConfig, part_bytes: int) -> _Large:
    """Return a file with the look of its columns in the first block."""
    with reading(file.path):
        plan = Plan(file.path, _names_of(file, data), data.stated_types, file.decimal)
        first = next(file.stream(_types_of(file, plan.names)), None)
    if first is None:
        return _Large(number, parts, plan, 1)
    beginning = Pass(plan)
    beginning.add(first)
    num_bytes = column_scan.MAX_UNIQUE * first.nbytes / max(first.num_rows, 1)
    return _Large(number, parts, plan.chosen(beginning.choices()), math.ceil(num_bytes / part_bytes))


def _profile_of(item: _Whole) -> TableProfile:
    with reading(item.path):
        file = open_table(item.path, item.format, item.data.csv_options)
        names = _names_of(file, item.data)
        read = functools.partial(_checked, file, names, rows_before=0)
        profile = scan(read, item.path, names=names, stated=item.data.stated_types, decimal=file.decimal)
    return _noted(profile, file)


def _pass_over(part: TableFile, plan: Plan, *, rows_before: int = 0) -> Pass:
    over = Pass(plan, rows_before=rows_before)
    with reading(part.path):
        for batch in _checked(part, plan.names, rows_before=rows_before):
            over.add(batch)
    return over


def _checked(file: TableFile, names: Sequence[str], *, rows_before: int) -> Iterator[pa.RecordBatch]:
    for batch in file.stream(_types_of(file, names)):
        file.check(batch, rows_before=rows_before)
        rows_before += batch.num_rows
        yield batch


def _types_of(file: TableFile, names: Sequence[str]) -> dict[str, pa.DataType]:
    held = file.types()
    return {name: held[name] for name in names}


def _names_of(file: TableFile, data: DataConfig) -> list[str]:
    names = [name for name in file.types() if name and name not in data.drop]  # the first may be an unnamed index
    if not names:
        raise DataError(f"{file.path}: no column is left. Received: data.drop = {list(data.drop)}.")
    return names

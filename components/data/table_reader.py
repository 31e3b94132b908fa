"""A table in files as examples: shards of about one size, in which the content of a row chooses its split.

tables.py finds the files and scans them, and table_shards.py cuts them.
"""

import functools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.components.data import picture_columns, row_splits, table_profile, tables
from kubetfx.components.data.block_work import Run, run_in_threads
from kubetfx.components.data.column_scan import ARROW_TYPES
from kubetfx.components.data.example_reader import ALL, ExampleReader, Files, Source
from kubetfx.components.data.near_copies import FindTexts, NearCopies, find_groups, longest_text, text_columns
from kubetfx.components.data.span_shards import SpanShards
from kubetfx.components.data.span_store import SpanStore, state_of
from kubetfx.components.data.table_shards import Shard, shards_of
from kubetfx.components.data.time_bounds import time_bounds
from kubetfx.config.data_section import DataConfig, FeaturesConfig
from kubetfx.config.section import nearest
from kubetfx.errors import ConfigError, DataError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.storage import is_url
from kubetfx.tables.files import TableFiles
from kubetfx.tables.table_file import TableFile

if TYPE_CHECKING:
    from kubetfx.components.data.image_reading import Pictures

_Item = TypeVar("_Item")


class TableReader(ExampleReader):
    """Reads the table that `data.path` names."""

    unit = "row"
    compression = "snappy"

    def __init__(
        self,
        data: DataConfig,
        features: FeaturesConfig,
        *,
        spans: Collection[str] | None = None,
        store: SpanStore | None = None,
    ) -> None:
        """Set up the reader; nothing is read yet.

        Args:
            data: the section of the config.
            features: the section of the config, of which the columns count that it names.
            spans: The patterns of the spans that a driver found; None: `data.window` chooses.
            store: The store of the workspace, with spans that were read before; None without one.
        """
        self._data = data
        self._features = features
        self._spans = spans
        self._store = store

    def files(self) -> Files:
        """Return the files of the table."""
        found = self._files
        if found.spans:
            patterns = {span.label: span.pattern for span in found.spans}
            newest = found.spans[-1]
            return Files(str(found.root), patterns, span=newest.number, version=newest.version)
        return Files(str(found.root), {ALL: found.pattern})

    def fingerprint(self) -> str:
        """Return the fingerprint of the table's pictures; empty without pictures.

        A table in a bucket has none, and is not scanned for it.
        """
        files = self._files
        if any(is_url(path) for path in files.paths):
            return ""
        column = picture_columns.picture_column(self._profile(files))
        return f",pictures:{picture_columns.fingerprint(column, files, self._data)}" if column else ""

    def table_files(self) -> TableFiles:
        """Return all files, including those that `data.splits.files` names."""
        return self._files

    def open(self, splits: Mapping[str, int], run: Run) -> Source:
        """Scan the table, and inspect its pictures."""
        files = self._files
        profile = self._profile(files, run)
        tables.check_label(profile, self._data)
        pictures = None
        if (column := picture_columns.picture_column(profile)) is not None:
            from kubetfx.components.data import image_reading  # it imports TensorFlow

            pictures = image_reading.pictures_of(column, files, self._data, num_rows=profile.num_rows, run=run)
        columns = self._all_columns(files, profile)
        shards = shards_of(files, self._data, run)
        rule = self._rule(splits, files, columns, shards, run)
        if near_copies := self._near_copies(files, profile, shards, run):
            profile = replace(profile, copies_together=near_copies.column)
            if near_copies.groups.num_groups:
                rule = replace(rule, near_copies=near_copies)
                profile = replace(profile, copy_notes=(near_copies.note,))
        names_split = self._data.splits.column if self._data.splits.by == "column" else None
        kept = [column for column in profile.columns if column.name != names_split]
        types = {c.name: pa.binary() if c.picture_reason else ARROW_TYPES[c.type] for c in kept}
        examples = replace(profile, columns=tuple(kept))
        read = _ReadShard(examples, columns, files, self._data, rule, pictures)
        schema = pa.schema(list(types.items()))
        kept_shards = None
        if files.spans and self._store and pictures is None:
            kept_shards = self._kept_shards(self._store, files, shards, read)
        return Source(examples, schema, shards, read, kept_shards)

    @staticmethod
    def _kept_shards(store: SpanStore, files: TableFiles, shards: Sequence[Shard], read: "_ReadShard") -> SpanShards:
        """Return the place of each shard, which may not exist yet."""
        of_path = {path: span.label for span in files.spans for path in span.paths}
        reading = read.depends_on
        places = []
        for shard in shards:
            paths = [part.path for part in shard]
            is_newest = [path in read.rule.newest for path in paths]
            places.append(store.place(of_path[paths[0]], "examples", shard, state_of(paths), is_newest, reading))
        return SpanShards(store, files.spans, places)

    def _rule(
        self,
        splits: Mapping[str, int],
        files: TableFiles,
        columns: Sequence[ColumnProfile],
        shards: Sequence[Shard],
        run: Run,
    ) -> row_splits.RowSplits:
        config = self._data.splits
        buckets = np.cumsum(list(splits.values())).tolist()
        if config.columns:
            known = tables.column_names(files, self._data)
            for name in config.columns:
                if name not in known:
                    raise ConfigError(
                        f"The data has no column {name!r}, which data.splits names.{nearest(name, known)} "
                        f"Known: {', '.join(known)}."
                    )
        rule = row_splits.RowSplits(config, buckets, list(splits))
        if config.by == "span":
            return replace(rule, newest=frozenset(files.spans[-1].paths))
        if config.by != "time":
            return rule
        of_time = [column for column in columns if column.name == config.column]
        date_format = next((column.date_format for column in of_time if column.dates), None)
        bounds = time_bounds(
            [part for shard in shards for part in shard],
            functools.partial(_cells_of, column=of_time[0]),
            buckets,
            column=config.columns[0],
            date_format=date_format,
            run=run,
        )
        return replace(rule, bounds=bounds, date_format=date_format)

    def _near_copies(
        self, files: TableFiles, profile: table_profile.TableProfile, shards: Sequence[Shard], run: Run
    ) -> NearCopies | None:
        """Return rows with nearly the same text, if no other rule groups rows.

        The spans of a table are read separately, so there a check of the rows finds them.
        """
        if files.spans or not self._data.splits.keeps_copies_together:
            return None
        texts = text_columns(profile, label=self._data.label, config=self._features)
        name = longest_text(profile, texts)
        if name is None:
            return None
        read = functools.partial(_texts_of, column=profile.column(name))
        groups = find_groups(
            run(FindTexts(read), [part for shard in shards for part in shard]), num_rows=profile.num_rows
        )
        return NearCopies(name, groups)

    def _all_columns(self, files: TableFiles, profile: table_profile.TableProfile) -> list[ColumnProfile]:
        """Return the columns of the table including those in `data.drop`.

        Dropping a column then does not change the splits.
        """
        if not self._data.drop:
            return list(profile.columns)
        dropped = [name for name in tables.column_names(files, self._data) if name and name in self._data.drop]
        if not dropped:
            return list(profile.columns)
        try:
            found = tables.scan_columns(files, self._data, dropped, self._store).columns
        except DataError:  # perhaps they were dropped for that reason
            found = tuple(ColumnProfile(name, "string") for name in dropped)
        return [*profile.columns, *found]

    @functools.cached_property
    def _files(self) -> TableFiles:
        return tables.find_files(self._data, self._spans)

    def _profile(self, files: TableFiles, run: Run = run_in_threads) -> table_profile.TableProfile:
        profile = tables.inspect_table(files, self._data, run, self._store)
        return picture_columns.with_pictures(profile, files, self._data, named=self._features.image)


def _cells_of(part: TableFile, *, column: ColumnProfile) -> Iterator[pa.Array]:
    return (block.column(0) for block in tables.blocks_of(part, [column]))


def _texts_of(part: TableFile, *, column: ColumnProfile) -> Iterator[tuple[str, pa.Array]]:
    return ((ALL, cells) for cells in _cells_of(part, column=column))


@dataclass(frozen=True)
class _ReadShard:
    """Reads the rows of a shard that have a label and, if there is a column of pictures, a picture."""

    profile: table_profile.TableProfile
    """Types of the columns that become examples."""
    columns: Sequence[ColumnProfile]
    """Types of the columns that are read, including those that only determine the split."""
    files: TableFiles
    data: DataConfig
    rule: row_splits.RowSplits
    pictures: "Pictures | None"

    @property
    def depends_on(self) -> tuple[Any, ...]:
        """Everything that determines the result of reading a shard, besides its files and the newest span."""
        known = {column.name for column in self.profile.columns}
        columns = [
            (
                *(column.name, column.type, column.reading, column.name in known, sorted(column.units)),
                *(column.date_format if column.dates else None, column.lists.separator if column.lists else None),
            )
            for column in self.columns
        ]
        return columns, self.data.label, self.data.csv_options, replace(self.rule, newest=frozenset())

    def __call__(self, shard: Shard) -> Iterator[tuple[pa.RecordBatch, Array]]:
        yield from _one_ahead(block for file in shard for block in self._split_blocks(file))

    def _split_blocks(self, part: TableFile) -> Iterator[tuple[pa.RecordBatch, Array]]:
        names = [column.name for column in self.profile.columns]
        file = os.path.relpath(part.path, str(self.files.root)) if self.data.splits.files else part.path
        for block in tables.blocks_of(part, self.columns):
            labelled = block.filter(block.column(self.data.label).is_valid())
            whole, keyed = self._with_pictures(labelled, part.path)
            yield whole.select(names), self.rule.split(keyed, file=file)

    def _with_pictures(self, block: pa.RecordBatch, path: str) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Return the rows with a usable picture, once with its bytes and once as the split rule sees them."""
        column = picture_columns.picture_column(self.profile)
        if column is None or self.pictures is None:
            return block, block
        contents = self.pictures.read(block.column(column.name), table=path)
        usable = contents.is_valid()
        kept = block.filter(usable)
        position = kept.schema.names.index(column.name)
        keyed = kept
        if column.name in self.rule.columns:  # copies under other names are of one group
            keyed = kept.set_column(position, column.name, self.pictures.hashes(kept.column(position), table=path))
        return kept.set_column(position, column.name, contents.filter(usable)), keyed


def _one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the items while a thread prepares the next one: reading and writing both release the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item

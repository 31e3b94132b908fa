"""A table in CSV or Parquet files as examples: a file is a shard, and the content of a row chooses its split.

Which files there are and what is in them is tables.py's to say.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.components.data import picture_columns, table_profile, tables
from kubetfx.components.data.example_reader import ExampleReader, Run, Source
from kubetfx.config.data_section import DataConfig
from kubetfx.storage import is_url

if TYPE_CHECKING:
    from kubetfx.components.data.image_reading import Pictures

_Item = TypeVar("_Item")


class TableReader(ExampleReader):
    """Reads the table that `data.path` names."""

    unit = "row"
    compression = "snappy"

    def __init__(self, data: DataConfig, image_columns: Sequence[str]) -> None:
        """Find nothing yet.

        Args:
            data: the section of the config.
            image_columns: `features.image`.
        """
        self._data = data
        self._image_columns = image_columns

    def files(self) -> tuple[str, str]:
        """Where the table is."""
        found = tables.find_files(self._data)
        return found.base, found.pattern

    def fingerprint(self) -> str:
        """Of its pictures; empty without them. What lies in a bucket has none, and is not scanned for it."""
        files = tables.find_files(self._data)
        if any(is_url(path) for path in files.paths):
            return ""
        column = picture_columns.picture_column(self._profile(files))
        return f",pictures:{picture_columns.fingerprint(column, files, self._data)}" if column else ""

    def open(self, splits: Mapping[str, int], run: Run) -> Source:
        """Scan the table, and look into its pictures."""
        files = tables.find_files(self._data)
        profile = self._profile(files)
        tables.check_label(profile, self._data)
        pictures = None
        if (column := picture_columns.picture_column(profile)) is not None:
            from kubetfx.components.data import image_reading  # it imports TensorFlow

            pictures = image_reading.pictures_of(column, files, self._data, num_rows=profile.num_rows, run=run)
        types = {c.name: pa.binary() if c.picture_reason else tables.ARROW_TYPES[c.type] for c in profile.columns}
        read = _ReadFile(profile.columns, files.format, self._data, np.cumsum(list(splits.values())).tolist(), pictures)
        return Source(profile, pa.schema(list(types.items())), files.paths, read)

    def _profile(self, files: tables.TableFiles) -> table_profile.TableProfile:
        profile = tables.inspect_table(files, self._data)
        return picture_columns.with_pictures(profile, files, self._data, named=self._image_columns)


@dataclass(frozen=True)
class _ReadFile:
    """Reads the rows of a file that have a label, and a picture where there is a column of them."""

    columns: Sequence[table_profile.Column]
    format: tables.Format
    data: DataConfig
    buckets: Sequence[int]
    pictures: "Pictures | None"

    def __call__(self, path: str) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        for block, keys in _one_ahead(self._keyed_blocks(path)):
            yield block, splits_of(keys, self.buckets)

    def _keyed_blocks(self, path: str) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        for block in tables.read_blocks(path, self.columns, file_format=self.format, data=self.data):
            labelled = block.filter(block.column(self.data.label).is_valid())
            whole, keyed = self._with_pictures(labelled, path)
            yield whole, row_keys(keyed)

    def _with_pictures(self, block: pa.RecordBatch, path: str) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The rows whose picture can be used: with its bytes, and as they are in the table."""
        column = next((column for column in self.columns if column.picture_reason), None)
        if column is None or self.pictures is None:
            return block, block
        contents = self.pictures.read(block.column(column.name), table=path)
        usable = contents.is_valid()
        kept = block.filter(usable)
        return kept.set_column(kept.schema.names.index(column.name), column.name, contents.filter(usable)), kept


def splits_of(keys: pa.Array, buckets: Sequence[int]) -> np.ndarray:
    """Index of the split that each row belongs to.

    The rule of TFX's ExampleGen: SHA-256 of the row, as a number, modulo the number of buckets.

    Args:
        keys: the rows' contents, from row_keys.
        buckets: cumulated numbers of buckets of the splits, in order; fewer than 2^32 in all.

    Returns:
        (rows,) int64.
    """
    sha256 = hashlib.sha256
    digests = b"".join([sha256(key).digest() for key in keys.cast(pa.binary()).to_pylist()])
    words = np.frombuffer(digests, ">u4").reshape(-1, 8).astype(np.uint64)
    remainder = np.zeros(len(words), np.uint64)
    for word in words.T:  # long division: 32 bits at a time
        remainder = ((remainder << np.uint64(32)) | word) % np.uint64(buckets[-1])
    return np.searchsorted(np.asarray(buckets), remainder.astype(np.int64), side="right")


def row_keys(block: pa.RecordBatch) -> pa.Array:
    """The content of each row as one text, whatever the order of the columns.

    TFX takes the serialized tf.Example for this, whose features are in an order that changes from process to process.
    Decimal numbers count with 32 bits: their splits are those of the time when examples had no more.

    Args:
        block: rows as the table has them, pictures by their paths.

    Returns:
        (rows,) string.
    """
    columns = [block.column(name) for name in sorted(block.schema.names)]
    narrow = [c.cast(pa.float32()) if pa.types.is_float64(c.type) else c for c in columns]
    texts = [column.cast(pa.string()) for column in narrow]
    return pc.binary_join_element_wise(*texts, "\x1f", null_handling="replace", null_replacement="\x00")


def _one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, of which a thread makes the next one meanwhile: reading lets go of the interpreter, and so does
    writing."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item

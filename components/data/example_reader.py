"""The interface between ExampleGen and a source of examples; table_reader.py and image_folder.py implement it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import Run
from kubetfx.components.data.span_shards import SpanShards
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.tables.files import TableFiles

BlockReader = Callable[[Any], Iterator[tuple[pa.RecordBatch, Array]]]
"""Takes a shard, and yields blocks of its rows with the index of the split of each row, (rows,) int64. It can be
pickled."""


@dataclass(frozen=True)
class Source:
    """A reader's description of its rows, and how to read them."""

    profile: TableProfile
    schema: pa.Schema
    """Schema of the blocks."""
    shards: Sequence[Any]
    """Parts of the data, each of which becomes a file per split; they can be pickled."""
    read: BlockReader
    spans: SpanShards | None = None
    """For a table in spans: the shards that already exist."""
    report: Mapping[str, Any] | None = None
    """For images: which are left out and why, and which are copies (components/data/image_notes.py)."""


ALL = "all"
"""Name of the only pattern of a table without spans."""


@dataclass(frozen=True)
class Files:
    """The files that hold the examples."""

    folder: str
    patterns: Mapping[str, str]
    """Globs below the folder: one, or one per span, by its name."""
    span: int = 0
    """Number of the newest span."""
    version: int | None = None
    """Version of the newest span."""


class ExampleReader:
    """A source of examples."""

    unit: ClassVar[str]
    """What a row is, in the singular."""
    compression: ClassVar[str]
    """Compression of the files of examples: a codec of Parquet, or `none`."""

    def files(self) -> Files | None:
        """Return the files that TFX's driver fingerprints.

        Returns:
            The files; None if the reader knows its files itself, and only its own fingerprint counts.

        Raises:
            DataError: there are no files.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return a fingerprint of the data that `files` does not name.

        Raises:
            DataError: there is nothing to read.
        """
        raise NotImplementedError

    def table_files(self) -> TableFiles | None:
        """Return the files, to record where rows come from; None if the rows do not come from a table."""
        return None

    def open(self, splits: Mapping[str, int], run: Run) -> Source:
        """Examine all of the data.

        Args:
            splits: The number of hash buckets by split, in their order.
            run: Executes work on many files.

        Returns:
            The description of the rows, and how to read them.

        Raises:
            DataError: the data cannot be read or has nothing to learn.
            AnomaliesError: more of the images are broken than `data.max_broken_fraction` allows.
        """
        raise NotImplementedError

"""What ExampleGen asks of a source of examples; table_reader.py and image_folder.py have those that there are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from kubetfx.components.data.block_work import Run
from kubetfx.components.data.span_shards import SpanShards
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.tables.files import TableFiles

BlockReader = Callable[[Any], Iterator[tuple[pa.RecordBatch, np.ndarray]]]
"""Takes a shard, and yields blocks of its rows with the index of the split of each row, (rows,) int64. It can be
pickled."""


@dataclass(frozen=True)
class Source:
    """What a reader has found out about its rows, and how they are read."""

    profile: TableProfile
    schema: pa.Schema
    """Of the blocks."""
    shards: Sequence[Any]
    """Parts of the data, each of which becomes a file per split; they can be pickled."""
    read: BlockReader
    spans: SpanShards | None = None
    """For a table in spans: which shards there are already."""
    report: Mapping[str, Any] | None = None
    """For images: what was left out and why, and which are copies (components/data/image_notes.py)."""


ALL = "all"
"""Of a table without spans, the name of its only pattern."""


@dataclass(frozen=True)
class Files:
    """Which files hold the examples."""

    folder: str
    patterns: Mapping[str, str]
    """Globs below the folder: one, or one per span, by its name."""
    span: int = 0
    """The number of the newest."""
    version: int | None = None
    """Of the newest."""


class ExampleReader:
    """Where examples come from."""

    unit: ClassVar[str]
    """What a row is, in the singular."""
    compression: ClassVar[str]
    """For the files of examples: a codec of Parquet, or `none`."""

    def files(self) -> Files | None:
        """Return the files of which TFX's driver takes the fingerprint.

        Returns:
            None: the reader knows its files itself, and its fingerprint is all there is.

        Raises:
            DataError: there are none.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Of what `files` does not name; it changes with the data.

        Raises:
            DataError: there is nothing to read.
        """
        raise NotImplementedError

    def table_files(self) -> TableFiles | None:
        """Return the files, to record where rows come from; None: the rows are not those of a table."""
        return None

    def open(self, splits: Mapping[str, int], run: Run) -> Source:
        """Look at all of the data.

        Args:
            splits: the number of hash buckets of each split by its name, in their order.
            run: does work on many files.

        Returns:
            What was found, and how the rows are read.

        Raises:
            DataError: the data cannot be read or has nothing to learn.
            AnomaliesError: more of the images are broken than `data.max_broken_fraction` allows.
        """
        raise NotImplementedError

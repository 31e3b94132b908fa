"""What a file of a table is, whatever its format: its columns, its rows as a stream, and cut into blocks.

A format is a subclass of TableFile; blocks.py knows them all.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.errors import DataError, StorageError


@dataclass(frozen=True)
class Block:
    """Consecutive rows that are predicted, and written, at once."""

    number: int
    """Counted from 0 through all files of a table."""
    num_rows: int
    num_bytes: int = 0
    """Size in a file of text, once it is unpacked."""


@dataclass(frozen=True)
class Cut:
    """How a file of row groups, of Parquet, Arrow or ORC, is cut."""

    block_rows: int = 65_536
    """Rows per block."""
    segment_blocks: int = 4
    """Blocks per segment, at most. A row group can only be read from its start: with short segments more rows are read
    just to be skipped, with long ones fewer workers share a large row group."""


@dataclass(frozen=True)
class Segment:
    """Consecutive blocks of a file that are read in one go: what Beam hands to a worker."""

    file: "TableFile"
    blocks: tuple[Block, ...]
    start: int = 0
    """Text: the byte at which the first block starts. Otherwise: rows of the row groups before it."""
    row_groups: tuple[int, ...] = ()
    """Numbers of the row groups that the blocks are in."""

    def changed(self) -> DataError:
        """Return the error for a file that has other rows than when it was cut."""
        return DataError(f"{self.file.path} changed since its rows were counted. Leave it as it is, and start again.")


@dataclass(frozen=True)
class BadRow:
    """A row without a prediction."""

    index: int
    """Within its block, from 0."""
    reason: str
    """Why there is none, as a sentence."""
    content: str
    """The row: JSON, or the line of the file if it cannot be read."""


@dataclass(frozen=True)
class Rows:
    """The rows of a block that could be read."""

    table: pa.Table
    """The columns that were asked for."""
    index: Array
    """(rows,) int64: their numbers within the block, from 0."""
    bad: list[BadRow] = field(default_factory=list)
    """The other rows of the block."""


class TableFile(ABC):
    """A file of a table. It is opened by each method, and can be handed to other processes."""

    path: str
    """On this machine or in a bucket."""

    @property
    def decimal(self) -> str | None:
        """The decimal mark of a format whose cells are all text; None for one whose cells have types."""
        return None

    @property
    def note(self) -> str:
        """What is unusual about how the file is written, as a sentence; empty if nothing is."""
        return ""

    @abstractmethod
    def types(self) -> dict[str, pa.DataType | None]:
        """Return the columns, in order, and what they hold; None where the values of each row say it.

        Raises:
            DataError: the file is not of the format, or two columns have one name.
        """

    @abstractmethod
    def stream(self, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Read the rows from the first to the last.

        Args:
            types: by name, of the columns to read: what the cells of a format of text are read as. Others have types
                of their own.

        Yields:
            Batches with these columns.

        Raises:
            DataError: a row is not of the format.
        """

    def check(self, batch: pa.RecordBatch, *, rows_before: int) -> None:  # noqa: B027 - most formats have no such rows
        """Refuse rows that can be read, and are hardly what was meant.

        Args:
            batch: of `stream`, with text as the file has it.
            rows_before: rows of the file before it.

        Raises:
            DataError: there are some.
        """

    @abstractmethod
    def segments(self, *, first_block: int, cut: Cut) -> Iterator[Segment]:
        """Cut the file into blocks of about the same number of rows, or of bytes for text.

        Args:
            first_block: number of its first block.
            cut: how a file of row groups is cut.

        Yields:
            Segments, which together have every row once.
        """

    @abstractmethod
    def read(
        self, segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str]
    ) -> Iterator[tuple[Block, Rows]]:
        """Read blocks of a segment, one after the other. A row that cannot be read is a BadRow.

        Args:
            segment: of this file.
            wanted: numbers of the blocks.
            columns: to read.
            numbers: those of them that may be read as float64 where all their cells are numbers.

        Yields:
            Each wanted block, and its rows.
        """


def neighbours(sizes: Sequence[int], *, at_least: int) -> Iterator[list[int]]:
    """Put neighbours together until they are large enough; the last ones may be smaller.

    Args:
        sizes: of all, in their order.
        at_least: size of a group.

    Yields:
        The indices of each group.
    """
    pending: list[int] = []
    total = 0
    for index, size in enumerate(sizes):
        pending.append(index)
        total += size
        if total >= at_least:
            yield pending
            pending, total = [], 0
    if pending:
        yield pending


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Say in words why a file cannot be read.

    Args:
        path: The path of the file that is read within the context.

    Raises:
        DataError: it cannot be read.
    """
    try:
        yield
    except PermissionError:
        raise DataError(f"{path} may not be read. Grant read permission, or run as its owner.") from None
    except StorageError as error:
        raise DataError(f"{path} cannot be read. {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} holds text that is not UTF-8. Received: {error.object[:40]!r}. Write it again."
        ) from None
    except (pa.ArrowException, OSError, EOFError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"{path} cannot be read: {said}. Is it whole?") from None

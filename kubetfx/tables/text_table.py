"""What CSV and JSON lines have in common: rows that end with lines, and files cut into blocks by their bytes."""

import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from kubetfx.errors import DataError
from kubetfx.tables.csv_dialect import Dialect, compression_of, open_text, skip
from kubetfx.tables.csv_rows import count_rows
from kubetfx.tables.table_file import Block, Cut, Rows, Segment, TableFile

BLOCK_BYTES = 4 * 2**20
"""Block bytes of a block."""
MAX_ROW_BYTES = 16 * 2**20
"""For one row: a quote that is never closed would take the rest of the file for one cell."""


class TextTable(TableFile):
    """A file whose rows are lines, or, within quotes, several."""

    dialect: Dialect
    start: int
    """The byte of the dialect's text at which the rows begin."""

    @property
    def _row_bytes(self) -> int:
        """Bytes of all rows, at most."""
        return sys.maxsize

    @abstractmethod
    def _rows(self, content: bytes, *, num_rows: int, columns: Sequence[str], numbers: Sequence[str]) -> Rows:
        """Return the rows of a block."""

    def segments(self, *, first_block: int, cut: Cut) -> Iterator[Segment]:
        """Cut the file by its bytes."""
        blocks = [Block(first_block + index, *sizes) for index, sizes in enumerate(self._sizes())]
        start = self.start
        if compression_of(self.path) or not self.dialect.is_plain:  # there is no way into the middle
            yield Segment(self, tuple(blocks), start=start)
            return
        for block in blocks:
            yield Segment(self, (block,), start=start)
            start += block.num_bytes

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """Yield rows and bytes of each block."""
        with open_text(self.path, self.dialect) as file:
            skip(file, self.start)
            carried = b""
            left = self._row_bytes
            while left:
                content = file.read(min(BLOCK_BYTES, left))
                left = left - len(content) if len(content) == BLOCK_BYTES else 0
                chunk = carried + content
                num_rows, length = count_rows(chunk, self.dialect, is_end=not left)
                carried = chunk[length:]
                if len(carried) > MAX_ROW_BYTES:
                    remedy = "Correct its quotes: one of them is never closed." if self.dialect.quote else "Split it."
                    raise DataError(
                        f"{self.path} has a row of more than {MAX_ROW_BYTES:,} bytes. Received: "
                        f"{chunk[length : length + 40]!r}... {remedy}"
                    )
                if length:
                    yield num_rows, length

    def read(
        self, segment: Segment, wanted: Sequence[int], *, columns: Sequence[str], numbers: Sequence[str]
    ) -> Iterator[tuple[Block, Rows]]:
        """Read blocks by their bytes."""
        with open_text(self.path, self.dialect) as file:
            skip(file, segment.start)
            for block in segment.blocks:
                if block.number not in wanted:
                    skip(file, block.num_bytes)
                    continue
                content = file.read(block.num_bytes)
                if len(content) != block.num_bytes:
                    raise segment.changed()
                yield block, self._rows(content, num_rows=block.num_rows, columns=columns, numbers=numbers)

"""Rows that are larger than `training.cache_bytes`.

They are written once to files beside the training, and read from there in another order in each epoch.

The order is shuffled at two levels: blocks of neighbouring rows, and then the rows of as many blocks as the buffer
holds. It depends on the seed and the number of the epoch alone, and any step of it can be reached without reading what
is before it: a training that was killed goes on in the middle of an epoch.
"""

import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.errors import TrainingError
from kubetfx.models.examples import read_ahead

BLOCK_ROWS = 1_024
"""Neighbouring rows that stay together at the first level."""
BUFFER_BYTES = 2**25
"""Rows of this many bytes are shuffled at the second level; about three times as much is in memory."""
_FREE_BYTES = 2**27
"""Free bytes of the disk, which are left for what else the training writes."""

Arrays = dict[str, Array]


class StoredRows:
    """Arrays of rows in files, one file per array. The files are removed with the object.

    Args:
        parent: folder that the files are put below.
        num_rows: The number of rows of all arrays.
        example: arrays of any number of rows: their names, types and shapes.

    Raises:
        TrainingError: the disk has no room for them, or an array holds text.
    """

    def __init__(self, parent: Path, num_rows: int, example: Arrays) -> None:
        self.num_rows = num_rows
        self._kinds = {name: (array.dtype, array.shape[1:]) for name, array in example.items()}
        self._check_room(parent)
        self._folder = tempfile.TemporaryDirectory(prefix=".rows-", dir=parent)
        self._files = {name: self._open(number) for number, name in enumerate(self._kinds)}

    def _check_room(self, parent: Path) -> None:
        if texts := [name for name, (dtype, _) in self._kinds.items() if dtype.kind not in "fiub"]:
            raise TrainingError(
                "The transformed rows take more than training.cache_bytes, and are to be kept in files, which hold "
                f"numbers alone. Received: text in {', '.join(texts)}. Raise training.cache_bytes, or have the "
                "preprocessing_fn return numbers."
            )
        needed, free = self.num_rows * self.row_bytes, shutil.disk_usage(parent).free
        if needed + _FREE_BYTES > free:
            raise TrainingError(
                "The transformed rows take more than training.cache_bytes, and the disk has no room for them. "
                f"Received: {needed:,} bytes for {self.num_rows:,} rows, and {free:,} free bytes below {parent}. Free "
                "some, or raise training.cache_bytes where the memory is larger than the disk."
            )

    def _open(self, number: int) -> IO[bytes]:
        return (Path(self._folder.name) / str(number)).open("w+b")

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes."""
        return sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in self._kinds.values())

    def append(self, block: Arrays) -> None:
        """Write the next rows.

        Args:
            block: arrays by name, each (rows, ...).
        """
        for name, (dtype, _) in self._kinds.items():
            self._files[name].write(np.ascontiguousarray(block[name], dtype).data)

    def flush(self) -> None:
        """Have all rows in the files, for those who read them."""
        for file in self._files.values():
            file.flush()

    def batches(
        self,
        batch_size: int,
        *,
        epochs: Iterable[int],
        seed: int | None,
        first_step: int = 0,
        rows_of_epoch: int | None = None,
    ) -> tf.data.Dataset:
        """Return batches, one epoch after the other.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            epochs: their numbers.
            seed: The seed of the orders, together with the number of the epoch. None: in the order in which they were
                written.
            first_step: batches of the first epoch that are left out.
            rows_of_epoch: The number of rows per epoch. If it is less than that of all rows, the last ones are left
                out; if it is more, the first ones come again. None: all rows, once.

        Returns:
            Arrays by name, each (rows of the batch, ...).
        """
        rows_of_epoch = self.num_rows if rows_of_epoch is None else rows_of_epoch

        def whole_batches() -> Iterator[Arrays]:
            starts = itertools.chain([first_step * batch_size], itertools.repeat(0))
            reads = (
                read
                for epoch, start in zip(epochs, starts, strict=False)
                for read in self._reads(seed, epoch, start, rows_of_epoch)
            )
            rest: Arrays = {}
            for rows, is_last in read_ahead(reads, threads=1):
                window = {name: np.concatenate([rest[name], array]) for name, array in rows.items()} if rest else rows
                num_rows = len(next(iter(window.values())))
                whole = num_rows if is_last else num_rows - num_rows % batch_size
                if whole:
                    yield {name: array[:whole] for name, array in window.items()}
                rest = {name: array[whole:] for name, array in window.items()} if whole < num_rows else {}

        signature = {
            name: tf.TensorSpec([None, *shape], tf.as_dtype(dtype)) for name, (dtype, shape) in self._kinds.items()
        }
        label = next(iter(self._kinds))
        return tf.data.Dataset.from_generator(whole_batches, output_signature=signature).flat_map(
            lambda window: tf.data.Dataset.range(0, tf.shape(window[label], tf.int64)[0], batch_size).map(
                lambda start: {name: tensor[start : start + batch_size] for name, tensor in window.items()}
            )
        )

    def _reads(
        self, seed: int | None, epoch: int, start: int, stop: int
    ) -> Iterator[Callable[[], tuple[Arrays, bool]]]:
        """Yield reads of some rows of an epoch, each of as many as the buffer holds.

        Each returns its rows, and whether they are the last of the epoch.
        """
        blocks = np.arange(0, self.num_rows, BLOCK_ROWS)
        if seed is not None:
            np.random.default_rng([seed, epoch]).shuffle(blocks)
        per_window = max(1, BUFFER_BYTES // (BLOCK_ROWS * self.row_bytes))
        position = 0
        while position < stop:  # the rows come again where an epoch has more than there are
            for number, begin in enumerate(range(0, len(blocks), per_window)):
                chosen = blocks[begin : begin + per_window]
                rows = int(self._rows_of(chosen).sum())
                first, last = max(start - position, 0), min(stop - position, rows)
                if first < last:
                    order = None if seed is None else (seed, epoch, number)
                    is_last = position + rows >= stop
                    yield functools.partial(self._read, chosen, order, slice(first, last), is_last=is_last)
                position += rows

    def _read(self, starts: Array, order: tuple[int, ...] | None, part: slice, *, is_last: bool) -> tuple[Arrays, bool]:
        """Return a part of the rows of some blocks, in an order that is drawn with a seed."""
        if order is None:
            return {name: self._blocks_of(name, starts)[part] for name in self._kinds}, is_last
        chosen = np.random.default_rng(order).permutation(int(self._rows_of(starts).sum()))[part]
        # In a third of the time that [chosen] takes.
        return {name: self._blocks_of(name, starts).take(chosen, axis=0) for name in self._kinds}, is_last

    def _rows_of(self, starts: Array) -> Array:
        """Return the number of rows of each block: the last one of all may have fewer."""
        counts: Array = np.minimum(BLOCK_ROWS, self.num_rows - starts)
        return counts

    def _blocks_of(self, name: str, starts: Array) -> Array:
        dtype, shape = self._kinds[name]
        counts = self._rows_of(starts)
        found = np.empty((int(counts.sum()), *shape), dtype)
        per_row = found[:1].nbytes
        file, bytes_of, position = self._files[name].fileno(), found.data.cast("B"), 0
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            end, offset = position + count * per_row, start * per_row - position
            while position < end:  # a read may return fewer bytes than were asked for
                num_read = os.preadv(file, [bytes_of[position:end]], offset + position)
                if not num_read:
                    raise TrainingError(
                        f"A file of the transformed rows ends too soon. Received: {position:,} bytes of {end:,} "
                        f"below {self._folder.name}. Nobody but the training may change that folder: run again."
                    )
                position += num_read
        return found

"""The rows of a split as a network is trained on them: preprocessed once, and kept in memory or in files."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.errors import DataError, TrainingError
from kubetfx.models.examples import RowGroup, read_blocks, read_groups, row_groups
from kubetfx.models.features import LABEL, WEIGHT
from kubetfx.models.prefetching import fetched_ahead
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.row_order import batches_of_indices, lengths_of
from kubetfx.models.row_weights import weights_of
from kubetfx.models.stored_rows import Arrays, StoredRows
from kubetfx.models.team import Team

SAMPLE_ROWS = 200_000
"""Rows that layers are fitted to when the data does not fit `training.cache_bytes`."""
SAMPLE_GROUPS = 16
"""Number of row groups from which layers are fitted if each of several processes has a part of the rows."""


@dataclass(frozen=True)
class TrainingRows:
    """Examples of a split after preprocessing."""

    num_rows: int
    """Number of rows of the split, whoever has them."""
    labels: Array
    """(rows,) int64 index of the class or float32 number: of the rows, or of `sample` where this process has a part."""
    arrays: Arrays | None
    """Features and label by name, (rows, ...); None when they are larger than the cache."""
    stored: StoredRows | None = None
    """The same, and the weights if there are any, in files: when they are larger than the cache."""
    sample: Arrays = field(default_factory=dict)
    """Features and label by name, (rows, ...): of all rows, or of every so many where they are not in memory."""
    weights: Array | None = None
    """(rows,) float32, how often each of `labels` counts, on average once; None: each counts once."""
    digest: str = ""
    """Digest of all that is trained on."""
    team: Team = field(default_factory=Team)
    """The processes that train. If they are several, each has a part of the split's rows in files."""
    lengths: Array | None = None
    """(rows,) tokens of each row in memory that is padded to the longest of its batch: batches are of about one length.
    None: any rows are a batch."""

    def batches(
        self, batch_size: int, *, seed: int | None = None, epochs: range | None = range(1), first_step: int = 0
    ) -> tf.data.Dataset:
        """Return batches in an order that depends on the seed and the number of the epoch alone.

        A batch is (features, label), and the weights where rows have any.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            seed: The seed of the orders; None: in the order of the files.
            epochs: their numbers; None: all from 0, without end.
            first_step: batches of the first epoch that are left out.

        Returns:
            Batches; of a team those of this process, as many per step as it has replicas.
        """
        if self.arrays is not None:
            dataset = self._in_memory(self.arrays, batch_size, seed, epochs, first_step)
        else:
            dataset = self._in_files(batch_size, seed, epochs, first_step)
        names = (LABEL, WEIGHT) if WEIGHT in dataset.element_spec else (LABEL,)

        @tf.autograph.experimental.do_not_convert
        def divided(row: dict[str, tf.Tensor]) -> tuple[Any, ...]:
            return row, *(row.pop(name) for name in names)

        return fetched_ahead(dataset.map(divided, num_parallel_calls=tf.data.AUTOTUNE))

    def _in_memory(
        self, arrays: Arrays, batch_size: int, seed: int | None, epochs: range | None, first_step: int
    ) -> tf.data.Dataset:
        weights = {} if self.weights is None else {WEIGHT: self.weights}
        tensors = {name: tf.constant(array) for name, array in {**arrays, **weights}.items()}
        indices = batches_of_indices(self.num_rows, batch_size, seed=seed, lengths=self.lengths)
        indices = indices.repeat(None if epochs is None else epochs.stop)
        start = epochs.start if epochs else 0
        indices = indices.skip(start * math.ceil(self.num_rows / batch_size) + first_step)

        @tf.autograph.experimental.do_not_convert
        def gather(rows: tf.Tensor) -> dict[str, tf.Tensor]:
            return {name: tf.gather(tensor, rows) for name, tensor in tensors.items()}

        if self.team.share.is_whole:
            return indices.map(gather, num_parallel_calls=tf.data.AUTOTUNE)
        parts = self.team.share.of(indices.map(lambda rows: (rows,)), is_averaged=epochs is not None)
        return parts.map(lambda rows, weight: _reweighted(gather(rows), weight), num_parallel_calls=tf.data.AUTOTUNE)

    def _in_files(self, batch_size: int, seed: int | None, epochs: range | None, first_step: int) -> tf.data.Dataset:
        assert self.stored is not None
        numbers = itertools.count() if epochs is None else epochs
        own_batch, rows_of_epoch = batch_size, self.stored.num_rows
        if self.team.size > 1 and epochs is not None:  # in validation each has all of its rows once
            own_batch = max(batch_size // self.team.size, 1)
            rows_of_epoch = self.num_steps(batch_size) * own_batch
        batches = self.stored.batches(
            own_batch, epochs=numbers, seed=seed, first_step=first_step, rows_of_epoch=rows_of_epoch
        )
        share = self.team.own_share
        if share.is_whole:
            return batches
        names = sorted(batches.element_spec)
        parts = share.of(batches.map(lambda row: tuple(row[name] for name in names)), is_averaged=epochs is not None)
        return parts.map(lambda *part: _reweighted(dict(zip(names, part[:-1], strict=True)), part[-1]))

    def shuffled_batches(self, batch_size: int, *, seed: int, epochs: range, first_step: int = 0) -> tf.data.Dataset:
        """Return batches, each epoch in another order, which depends on the seed and its number alone.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.
            seed: The seed of the orders.
            epochs: one after the other.
            first_step: batches of the first epoch that are left out.
        """
        return self.batches(batch_size, seed=seed, epochs=epochs, first_step=first_step)

    def num_steps(self, batch_size: int) -> int:
        """Return the number of steps that the team does per epoch.

        Args:
            batch_size: The number of rows per batch of the whole team.
        """
        if self.stored is not None and self.team.size > 1:
            return math.ceil(self.num_rows / (max(batch_size // self.team.size, 1) * self.team.size))
        return math.ceil(self.num_rows / batch_size)

    def validation_batches(self, batch_size: int) -> tuple[tf.data.Dataset, int]:
        """Return batches in the order of the files, repeatedly.

        Args:
            batch_size: rows of a batch; the last one of an epoch may have fewer.

        Returns:
            The batches, and how many of them this process has in an epoch.
        """
        rows = self.stored.num_rows if self.stored is not None else self.num_rows
        batch_size = self.team.share.divisible(batch_size, rows)
        return self.batches(batch_size, epochs=None), math.ceil(rows / batch_size)


def load_rows(
    files: list[str],
    preprocess: Preprocessing,
    *,
    cache_bytes: int,
    scratch: Path,
    weight: str | None = None,
    team: Team | None = None,
) -> TrainingRows:
    """Preprocess the rows of a split.

    Args:
        files: The files of its examples.
        preprocess: from raw columns to features and label.
        cache_bytes: rows that take more are not kept in memory, and read from files in each epoch.
        scratch: folder that these files are put below.
        weight: the column that says how often each row counts; None: each counts once.
        team: who trains; None: this process alone. Rows that do not fit in memory are read by one of them each.

    Returns:
        The rows, in memory or in files.

    Raises:
        DataError: all rows weigh 0.
        TrainingError: they take more than `cache_bytes`, and the disk has no room for them, or there are more workers
            than row groups.
    """
    team = team or Team()
    groups = row_groups(files)
    num_rows = sum(group.num_rows(footer) for group, footer in groups)
    weights = _read_weights(files, weight) if weight else None
    first = preprocess.of_block(next(read_groups(groups[:1], preprocess.inputs.columns)))
    num_bytes = num_rows * sum(array[:1].nbytes for array in first.values())
    in_memory = num_bytes <= cache_bytes
    where = "in memory" if in_memory else "in files: over training.cache_bytes"
    logging.info("%d rows, %d bytes, %s.", num_rows, num_bytes, where)
    if team.size > 1 and not in_memory:
        return _load_part(groups, preprocess, first, weights, scratch=scratch, team=team)
    labels = np.empty(num_rows, first[LABEL].dtype)
    arrays = stored = None
    if in_memory:
        arrays = {name: np.empty((num_rows, *array.shape[1:]), array.dtype) for name, array in first.items()}
    else:
        stored = StoredRows(scratch, num_rows, _weighted(first, weights, slice(0, len(first[LABEL]))))
    sampled: list[Arrays] = []
    step = math.ceil(num_rows / SAMPLE_ROWS)
    start = 0
    digest = hashlib.sha256(b"" if weights is None else weights.tobytes())
    blocks = map(preprocess.of_block, read_groups(groups[1:], preprocess.inputs.columns))
    for found in itertools.chain([first], blocks):
        rows = slice(start, start + len(found[LABEL]))
        labels[rows] = found[LABEL].reshape(-1)
        for name in sorted(found):
            digest.update(_bytes_of(found[name]))
        for name, array in (arrays or {}).items():
            array[rows] = found[name]
        if stored is not None:
            stored.append(_weighted(found, weights, rows))
            sampled.append(_every(step, found, first=-start % step))
        start = rows.stop
    if stored is not None:
        stored.flush()
    sample = arrays or _concatenated(sampled)
    lengths = lengths_of(arrays) if arrays else None
    return TrainingRows(num_rows, labels, arrays, stored, sample, weights, digest.hexdigest(), team, lengths)


def _load_part(
    groups: Sequence[tuple[RowGroup, Any]],
    preprocess: Preprocessing,
    first: Arrays,
    weights: Array | None,
    *,
    scratch: Path,
    team: Team,
) -> TrainingRows:
    """Load the rows that one of several processes reads, and a sample that all of them read.

    A process reads every `team.size`-th row group.
    """
    counts = np.array([group.num_rows(footer) for group, footer in groups])
    starts = np.append(0, counts.cumsum())
    if len(groups) < team.size:
        raise TrainingError(
            "The transformed rows take more than training.cache_bytes, so each worker reads some of the row groups of "
            f"the examples. Received: {len(groups)} row groups, and {team.size} workers. Take fewer workers, raise "
            "training.cache_bytes, or have more files of data."
        )

    def blocks_of(numbers: Sequence[int]) -> Iterator[tuple[int, Arrays]]:
        blocks = read_groups([groups[number] for number in numbers], preprocess.inputs.columns)
        for number, block in zip(numbers, blocks, strict=True):
            rows = slice(starts[number], starts[number + 1])
            yield number, _weighted(preprocess.of_block(block), weights, rows)

    some = np.unique(np.linspace(0, len(groups) - 1, SAMPLE_GROUPS).astype(int)).tolist()
    step = math.ceil(counts[some].sum() / SAMPLE_ROWS)
    sample = _concatenated([_every(step, found) for _, found in blocks_of(some)])
    own = list(range(team.number, len(groups), team.size))
    example = _weighted(first, weights, slice(0, counts[0]))
    stored = StoredRows(scratch, int(counts[own].sum()), example)
    for _, found in blocks_of(own):
        stored.append(found)
    stored.flush()
    digest = hashlib.sha256(str(counts.tolist()).encode())
    for name in sorted(sample):
        digest.update(_bytes_of(sample[name]))
    return TrainingRows(
        int(starts[-1]),
        sample[LABEL].reshape(-1),
        None,
        stored,
        sample,
        sample.pop(WEIGHT, None),
        digest.hexdigest(),
        team,
    )


def _every(step: int, block: Arrays, *, first: int = 0) -> Arrays:
    """Return every so many rows of a block: copies, since a view of a few rows would keep all of them in memory."""
    return {name: array[first::step].copy() for name, array in block.items()}


def _concatenated(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _reweighted(row: dict[str, tf.Tensor], weight: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the same with weights that are so many times as large."""
    before = row.get(WEIGHT, tf.ones(tf.shape(row[LABEL])[:1]))
    return {**row, WEIGHT: before * weight}


def _bytes_of(array: Array) -> bytes | memoryview:
    return b"\x1f".join(array.ravel()) if array.dtype == object else np.ascontiguousarray(array).data


def _weighted(found: Arrays, weights: Array | None, rows: slice) -> Arrays:
    return found if weights is None else {**found, WEIGHT: weights[rows]}


def _read_weights(files: list[str], column: str) -> Array:
    """Return (rows,) float32, on average 1: the learning rate suits weights of any size."""
    found = np.concatenate([weights_of(block, column) for block in read_blocks(files, [column])])
    if not found.any():
        raise DataError(
            f"training.sample_weight: all rows of a split weigh 0 in the column {column!r}. Received: {len(found):,} "
            "rows of the training or validation split. Give it rows that count, or leave training.sample_weight out."
        )
    relative: Array = (found / found.mean()).astype(np.float32)
    return relative

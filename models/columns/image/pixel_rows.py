"""Images of a split for training: read from the examples, decoded in parallel, and kept in memory if they fit.

The order of an epoch depends on the seed and the number of the epoch alone, so a training that is taken up again after
epoch 3 sees in epoch 4 what it would have seen.
"""

import functools
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.artifacts import CONTENT_HASH, PIXELS
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.columns.image.decoding import decode_and_resize, decode_batch
from kubetfx.models.examples import read_blocks
from kubetfx.models.prefetching import fetched_ahead
from kubetfx.models.team import Team

ENCODED_BYTES = 2**28
"""Encoded images of up to so much are kept in memory where decoded ones do not fit; of more, so much is in the shuffle
buffer."""

_DECODE_BATCH = 64
_PARALLEL = os.cpu_count() or 1
"""Images, or batches, that are decoded at a time. AUTOTUNE settles on one, for the whole training, as often as not."""


@dataclass(frozen=True)
class ImageRows:
    """Rows of a split that have an image each."""

    labels: Array
    """(rows,) int64, the index of the class; or float32, the number."""
    features: Mapping[str, Array]
    """What else the network takes, by name, each (rows, ...)."""
    pixels: tf.Tensor | None
    """(images, height, width, 3) uint8, in the memory of the machine; None when they are larger than the cache."""
    contents: tf.Tensor | None
    """(images,) string, encoded; None when they are decoded, or too large as well."""
    stream: tf.data.Dataset
    """(number of the row, encoded bytes), in the order of the files."""
    digest: str
    """Digest of the images and their labels."""
    model: ModelConfig
    max_pixels: int
    mean_bytes: float
    """Mean bytes of an encoded image."""
    team: Team = field(default_factory=Team)
    """Who has a part of each batch."""

    @property
    def decoded_bytes(self) -> int:
        """What all decoded images take."""
        height, width = self.model.image_shape
        return len(self.labels) * height * width * 3

    @property
    def sample(self) -> Mapping[str, Array]:
        """Features besides the pixels by name, (rows, ...)."""
        return self.features

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return len(self.labels)

    def num_steps(self, batch_size: int) -> int:
        """Return the number of steps of an epoch.

        Args:
            batch_size: The number of rows per batch.
        """
        return math.ceil(self.num_rows / batch_size)

    def validation_batches(self, batch_size: int) -> tuple[tf.data.Dataset, int]:
        """Return batches in the order of the files, repeatedly.

        Args:
            batch_size: rows of a batch.

        Returns:
            The batches, and how many of them are in an epoch.
        """
        batch_size = self.team.share.divisible(batch_size, self.num_rows)
        if self.pixels is not None or self.contents is not None:
            rows = tf.data.Dataset.range(len(self.labels)).batch(batch_size).map(lambda rows: (rows,))
        else:
            rows = self.stream.batch(batch_size)
        return self._images(rows, tf.data.AUTOTUNE, is_averaged=False).repeat(), self.num_steps(batch_size)

    def shuffled_batches(self, batch_size: int, *, seed: int, epochs: range, first_step: int = 0) -> tf.data.Dataset:
        """Return batches of (features with PIXELS, label), one epoch after the other.

        Args:
            batch_size: rows of a batch; the last of an epoch may have fewer.
            seed: The seed of the order, together with the number of the epoch.
            epochs: their numbers.
            first_step: batches of the first epoch that are left out.
        """
        if self.pixels is not None or self.contents is not None:
            rows = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(
                lambda epoch: self._order(seed, epoch).batch(batch_size)
            )
            return self._images(rows.skip(first_step).map(lambda rows: (rows,)), _PARALLEL, is_averaged=True)
        buffer = max(int(ENCODED_BYTES / max(self.mean_bytes, 1)), batch_size)
        one_by_one = [
            self.stream.shuffle(buffer, seed=seed + 1 + epoch, reshuffle_each_iteration=False).batch(batch_size)
            for epoch in epochs  # a seed that is a tensor is not a seed for tf.data
        ]
        encoded = functools.reduce(lambda before, next_epoch: before.concatenate(next_epoch), one_by_one)
        return self._images(encoded.skip(first_step), _PARALLEL, is_averaged=True)

    def _images(self, batches: tf.data.Dataset, parallel: int, *, is_averaged: bool) -> tf.data.Dataset:
        """Return (features with PIXELS, label), and a weight if a team has parts of the batches.

        Args:
            batches: (numbers of the rows), or with what is encoded.
            parallel: batches at a time.
            is_averaged: whether the weights are for averages over the parts.
        """
        if self.team.share.is_whole:
            return fetched_ahead(batches.map(self._take, parallel), tf.data.AUTOTUNE)
        parts = self.team.share.of(batches, is_averaged=is_averaged)
        weighted = parts.map(
            lambda *part: (*self._take(*part[:-1]), tf.fill(tf.shape(part[0])[:1], part[-1])), parallel
        )
        return fetched_ahead(weighted, tf.data.AUTOTUNE)

    def _order(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(len(self.labels), dtype=tf.int64)
        shuffled = tf.random.experimental.stateless_shuffle(rows, seed=tf.stack([tf.constant(seed, tf.int64), epoch]))
        return tf.data.Dataset.from_tensor_slices(shuffled)

    def _take(self, rows: tf.Tensor, contents: tf.Tensor | None = None) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        if self.contents is not None:
            contents = tf.gather(self.contents, rows)
        if contents is not None:
            return self._with_others(rows, decode_batch(contents, model=self.model, max_pixels=self.max_pixels))
        with tf.init_scope():
            pixels = self.pixels
        return self._with_others(rows, tf.gather(pixels, rows))

    def _with_others(self, rows: tf.Tensor, pixels: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        with tf.init_scope():  # one copy, and not one in each graph
            labels = tf.constant(self.labels)
            others = {name: tf.constant(array) for name, array in self.features.items()}
        features = {name: tf.gather(tensor, rows) for name, tensor in others.items()}
        return {**features, PIXELS: pixels}, tf.gather(labels, rows)


def load_images(
    files: Sequence[str],
    *,
    column: str,
    labels: Array,
    features: Mapping[str, Array],
    model: ModelConfig,
    max_pixels: int,
    cache_bytes: int,
    team: Team | None = None,
) -> ImageRows:
    """Read the images of a split, and decode them into memory if they fit.

    Args:
        files: The files of the split.
        column: The column of the images.
        labels: (rows,) of the split, in the order of the files.
        features: what else the network takes, each (rows, ...).
        model: says the size.
        max_pixels: The maximum number of pixels of a picture.
        cache_bytes: The maximum number of bytes of decoded images that are kept.
        team: who has a part of each batch; None: this process alone.

    Returns:
        The rows, with pixels, with encoded images, or with a stream of these.
    """
    num_bytes = sum(os.path.getsize(file) for file in files)
    with_contents = num_bytes <= ENCODED_BYTES
    hash_column = CONTENT_HASH if CONTENT_HASH in pq.read_schema(files[0]).names else column
    digest, contents = _read(files, column if with_contents else None, hash_column, labels)
    encoded = _stream(files, column)
    mean_bytes = num_bytes / max(len(labels), 1)
    rows = ImageRows(
        labels, features, None, contents, encoded.enumerate(), digest, model, max_pixels, mean_bytes, team or Team()
    )
    if rows.decoded_bytes > cache_bytes:
        logging.info(
            "%d images, decoded again in each epoch from %s: %d bytes are more than training.cache_bytes leaves, %d.",
            len(labels),
            "the disk" if contents is None else "memory",
            rows.decoded_bytes,
            cache_bytes,
        )
        return rows
    available = _available_bytes()
    if available is not None and rows.decoded_bytes > available / 2:
        logging.warning("Decoded images take %d bytes of %d that are free.", rows.decoded_bytes, available)
    if contents is not None:
        encoded = tf.data.Dataset.from_tensor_slices(contents)
    decode = functools.partial(decode_and_resize, model=model, max_pixels=max_pixels)
    blocks = encoded.map(decode, num_parallel_calls=_PARALLEL).batch(_DECODE_BATCH)
    with tf.device("CPU:0"):  # a GPU's memory is the network's; and of an array TensorFlow would make two copies
        pixels = tf.concat(list(fetched_ahead(blocks, tf.data.AUTOTUNE)), axis=0)
    logging.info("%d images, decoded once and kept in memory: %d bytes.", len(labels), rows.decoded_bytes)
    return replace(rows, pixels=pixels, contents=None)


def _stream(files: Sequence[str], column: str) -> tf.data.Dataset:
    """Return the encoded pictures of a split, one by one, in the order of the files."""
    blocks = tf.data.Dataset.from_generator(
        lambda: (_bytes_of(block, column) for block in read_blocks(files, [column])),
        output_signature=tf.TensorSpec([None], tf.string),
    )
    return blocks.unbatch()


def _bytes_of(block: pa.RecordBatch, name: str) -> Array:
    contents: Array = block.column(name).cast(pa.binary()).to_numpy(zero_copy_only=False)
    return contents


def _read(files: Sequence[str], column: str | None, hash_column: str, labels: Array) -> tuple[str, tf.Tensor | None]:
    """Return a digest of images and labels, and the encoded images if they are asked for."""
    digest = hashlib.sha256(labels.tobytes())
    contents: list[tf.Tensor] = []
    for block in read_blocks(files, list(dict.fromkeys(name for name in (column, hash_column) if name))):
        for content in _bytes_of(block, hash_column):
            digest.update(content)
        if column is not None:
            contents.append(tf.constant(_bytes_of(block, column), tf.string))
    kept = tf.concat(contents or [tf.constant([], tf.string)], axis=0) if column is not None else None
    return digest.hexdigest(), kept


def _available_bytes() -> int | None:
    """Return the memory that can be had without swapping; None where Linux does not say it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return values[0] if values else None

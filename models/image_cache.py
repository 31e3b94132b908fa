"""Images of a split for training: read from the examples, decoded in parallel, and kept in memory if they fit.

The order of an epoch depends on the seed and the number of the epoch alone, so a training that is taken up again after
epoch 3 sees in epoch 4 what it would have seen.
"""

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import logging

from kubetfx.config.model import ModelConfig
from kubetfx.models.examples import files_in, first_rows, read_blocks
from kubetfx.models.image_decoding import decode_and_resize, decode_batch

ENCODED_BYTES = 2**28
"""Encoded images of up to so much are kept in memory where decoded ones do not fit; of more, so much is in the shuffle
buffer."""

_IMAGE = "image"
_CONTENT_HASH = "content_hash"
_DECODE_BATCH = 64
_DIGEST_ROWS = 256
_PARALLEL = os.cpu_count() or 1
"""Images, or batches, that are decoded at a time. AUTOTUNE settles on one, for the whole training, as often as not."""


@dataclass(frozen=True)
class ImageRows:
    """Images of a split."""

    labels: np.ndarray
    """(images,) int64, the index of the class."""
    pixels: tf.Tensor | None
    """(images, height, width, 3) uint8, in the memory of the machine; None when they are larger than the cache."""
    contents: tf.Tensor | None
    """(images,) string, encoded; None when they are decoded, or too large as well."""
    stream: tf.data.Dataset
    """(encoded bytes, index of the class), in the order of the files."""
    digest: str
    """Of the images and their labels."""
    model: ModelConfig
    max_pixels: int
    mean_bytes: float
    """Of an encoded image."""

    @property
    def decoded_bytes(self) -> int:
        """What all decoded images take."""
        return decoded_bytes(len(self.labels), self.model)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """(pixels, label) batches in the order of the files: of validation."""
        if self.pixels is not None or self.contents is not None:
            dataset = tf.data.Dataset.range(len(self.labels)).batch(batch_size).map(self._take, tf.data.AUTOTUNE)
        else:
            dataset = self._decoded(self.stream).batch(batch_size)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def shuffled_batches(self, batch_size: int, *, seed: int, epochs: range) -> tf.data.Dataset:
        """(pixels, label) batches of several epochs, one after the other."""
        if self.pixels is not None or self.contents is not None:
            rows = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(
                lambda epoch: self._order(seed, epoch).batch(batch_size)
            )
            return rows.map(self._take, _PARALLEL).prefetch(tf.data.AUTOTUNE)
        buffer = max(int(ENCODED_BYTES / max(self.mean_bytes, 1)), batch_size)
        one_by_one = [
            self.stream.shuffle(buffer, seed=seed + 1 + epoch, reshuffle_each_iteration=False).batch(batch_size)
            for epoch in epochs  # a seed that is a tensor is no seed for tf.data
        ]
        encoded = functools.reduce(lambda before, next_epoch: before.concatenate(next_epoch), one_by_one)
        return encoded.map(self._decode_batch, num_parallel_calls=_PARALLEL).prefetch(tf.data.AUTOTUNE)

    def _order(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.range(len(self.labels), dtype=tf.int64)
        shuffled = tf.random.experimental.stateless_shuffle(rows, seed=tf.stack([tf.constant(seed, tf.int64), epoch]))
        return tf.data.Dataset.from_tensor_slices(shuffled)

    def _take(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = self._tensors
        some, some_labels = tf.gather(images, rows), tf.gather(labels, rows)
        return (some, some_labels) if self.contents is None else self._decode_batch(some, some_labels)

    def _decode_batch(self, contents: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return decode_batch(contents, model=self.model, max_pixels=self.max_pixels), labels

    @property
    def _tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.init_scope():  # one copy, and not one in each graph
            return self.pixels if self.contents is None else self.contents, tf.constant(self.labels)

    def _decoded(self, encoded: tf.data.Dataset) -> tf.data.Dataset:
        return encoded.map(
            lambda content, label: (decode_and_resize(content, model=self.model, max_pixels=self.max_pixels), label),
            num_parallel_calls=_PARALLEL,
        )


def load_images(
    patterns: Sequence[str],
    *,
    label: str,
    classes: Sequence[str],
    model: ModelConfig,
    max_pixels: int,
    cache_bytes: int,
) -> ImageRows:
    """Read a split, and decode it into memory if it fits.

    Args:
        patterns: of its files.
        label: name of the label's column.
        classes: names of the classes, in the order of their index.
        model: says the size.
        max_pixels: of a picture.
        cache_bytes: decoded images of up to so much are kept.
    """
    files = files_in(*patterns)
    num_bytes = sum(os.path.getsize(file) for file in files)
    labels, digest, contents = _read(files, label, classes, with_contents=num_bytes <= ENCODED_BYTES)
    index = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(classes), tf.range(len(classes), dtype=tf.int64)), -1
    )
    stream = stream_texts(files, (_IMAGE, label)).map(lambda content, name: (content, index.lookup(name)))
    rows = ImageRows(labels, None, contents, stream, digest, model, max_pixels, num_bytes / max(len(labels), 1))
    if rows.decoded_bytes > cache_bytes:
        logging.info(
            "%d images, decoded anew in each epoch from %s: %d bytes are more than training.cache_bytes leaves, %d.",
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
        stream = tf.data.Dataset.from_tensor_slices((contents, labels))
    blocks = rows._decoded(stream).batch(_DECODE_BATCH).prefetch(tf.data.AUTOTUNE)
    with tf.device("CPU:0"):  # a GPU's memory is the network's; and of an array TensorFlow would make two copies
        pixels = tf.concat([block for block, _ in blocks], axis=0)
    logging.info("%d images, decoded once and kept in memory: %d bytes.", len(labels), rows.decoded_bytes)
    return replace(rows, pixels=pixels, contents=None)


def stream_texts(files: Sequence[str], columns: Sequence[str]) -> tf.data.Dataset:
    """Texts and encoded pictures of a split, a tuple of scalars a row, in the order of the files."""
    blocks = tf.data.Dataset.from_generator(
        lambda: (tuple(_bytes_of(block, name) for name in columns) for block in read_blocks(files, columns)),
        output_signature=tuple(tf.TensorSpec([None], tf.string) for _ in columns),
    )
    return blocks.unbatch()


def first_pictures(files: Sequence[str], number: int) -> list[bytes]:
    """The encoded pictures at the start of a split."""
    block = first_rows(files, number, [_IMAGE])
    return list(_bytes_of(block, _IMAGE)) if block is not None else []


def _bytes_of(block: pa.RecordBatch, name: str) -> np.ndarray:
    return block.column(name).cast(pa.binary()).to_numpy(zero_copy_only=False)


def decoded_bytes(number: int, model: ModelConfig) -> int:
    """What so many images take in the network's size."""
    height, width = model.image_shape
    return number * height * width * 3


def _read(
    files: Sequence[str], label: str, classes: Sequence[str], *, with_contents: bool
) -> tuple[np.ndarray, str, tf.Tensor | None]:
    """Labels, a digest of images and labels, and the encoded images if they are asked for."""
    columns = (label, _CONTENT_HASH, *([_IMAGE] if with_contents else []))
    index = {name.encode(): number for number, name in enumerate(classes)}
    digest = hashlib.sha256()
    labels: list[int] = []
    contents: list[tf.Tensor] = []
    for block in read_blocks(files, columns):
        names, hashes = _bytes_of(block, label), _bytes_of(block, _CONTENT_HASH)
        labels.extend(index.get(name, -1) for name in names)
        for start in range(0, block.num_rows, _DIGEST_ROWS):
            some = slice(start, start + _DIGEST_ROWS)
            digest.update(b"".join(hashes[some]) + b"\n".join(names[some]))
        if with_contents:
            contents.append(tf.constant(_bytes_of(block, _IMAGE), tf.string))
    kept = tf.concat(contents or [tf.constant([], tf.string)], axis=0) if with_contents else None
    return np.array(labels, np.int64), digest.hexdigest(), kept


def _available_bytes() -> int | None:
    """Memory that can be had without swapping, where Linux says it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return values[0] if values else None

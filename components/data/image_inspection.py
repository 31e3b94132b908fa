"""Inspects image files: facts about each, or why it cannot be used.

Files are decoded by the decoder of training and serving (models/columns/image/decoding.py).
"""

import hashlib
import os
import re
import threading
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from kubetfx.models.columns.image.decoding import decode

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
"""Exif orientations that swap width and height."""
_ENOUGH_PIXELS = 16
"""Number of pixels along an edge that give the brightness as well as all pixels."""
_PIXELS_PER_ROW = 256
"""Number of pixels along rows and columns, on average, that are examined; float32 adds this many without rounding."""
_TOO_LARGE_BYTES = 2**29
"""Decoded size of a JPEG, which TensorFlow decodes at a fraction of its size."""
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""
_SKIPPED_SEGMENTS = frozenset((0xC4, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE))
"""Markers of a JPEG file before the frame header: tables, comments and application segments, except 0xE1, which holds
Exif.
"""
_FRAME_HEADERS = frozenset((0xC0, 0xC1, 0xC2))
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""Pillow's mode by number of components."""
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_WRAPPING = re.compile(r"^(\{\{.*?\}\} ?|Paddings: )|\s*\[Op:.*\]$")


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image."""

    width: int
    """Width as displayed, after the Exif orientation."""
    height: int
    channels: int
    """Channels as stored: 1 for grey, 3 for colours and palettes, 4 for CMYK and for images with transparency."""
    format: str
    """`jpeg`, `png`, `bmp`, `gif` or `webp`."""
    brightness: float
    """Mean luma, 0 for black to 1 for white."""
    num_bytes: int
    content_hash: str
    """SHA-256 of the file, in hexadecimal."""

    @property
    def image_size(self) -> str:
        """The longer edge as a range between powers of two, for slices: `128 to 255 px`."""
        power = max(self.width, self.height).bit_length() - 1
        return f"{2**power} to {2 ** (power + 1) - 1} px"


def inspect(content: bytes, *, max_pixels: int) -> ImageFacts:
    """Inspect the bytes of a file, and decode them.

    Args:
        content: The bytes.
        max_pixels: Maximum number of pixels; a picture whose header says more is refused before it is decoded.

    Returns:
        The facts.

    Raises:
        ValueError: the file cannot be used; the message says why.
    """
    (found,) = inspect_all([content], max_pixels=max_pixels)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def inspect_all(contents: Sequence[bytes], *, max_pixels: int) -> list[ImageFacts | str]:
    """Inspect the bytes of files, and decode them, several at a time.

    Args:
        contents: The bytes of each file.
        max_pixels: Maximum number of pixels; a picture whose header says more is refused before it is decoded.

    Returns:
        The facts about each, or why it cannot be used.
    """
    found: list[ImageFacts | str] = []
    positions: defaultdict[_Decoding, list[int]] = defaultdict(list)
    for position, content in enumerate(contents):
        try:
            facts, is_cmyk = _before_decoding(content, max_pixels=max_pixels)
        except ValueError as error:
            found.append(str(error))
            continue
        found.append(facts)
        positions[_decoding_of(facts, is_cmyk=is_cmyk, max_pixels=max_pixels)].append(position)
    for decoding, own in positions.items():
        for position, brightness in zip(own, _brightness([contents[p] for p in own], decoding), strict=True):
            facts_or_reason = found[position]
            if isinstance(brightness, str):
                found[position] = brightness
            elif isinstance(facts_or_reason, ImageFacts):
                found[position] = replace(facts_or_reason, brightness=brightness)
    return found


def _before_decoding(content: bytes, *, max_pixels: int) -> tuple[ImageFacts, bool]:
    """Return the facts that a file's header and bytes give, and whether it is CMYK."""
    if not content:
        raise ValueError("it is empty: 0 bytes")
    width, height, mode, kind = _header(content)
    if width * height > max_pixels:
        raise ValueError(
            f"it has {width:,} x {height:,} pixels, more than data.max_pixels, {max_pixels:,}; it was not decoded"
        )
    hexadecimal = hashlib.sha256(content).hexdigest()
    return ImageFacts(width, height, _channels(mode), kind, 0.0, len(content), hexadecimal), mode == "CMYK"


def _header(content: bytes) -> tuple[int, int, str, str]:
    """Return width, height, Pillow's mode and the format."""
    return _plain_jpeg_header(content) or _header_by_pillow(content)


def _plain_jpeg_header(content: bytes) -> tuple[int, int, str, str] | None:
    """Return the header of a JPEG file without Exif, in a tenth of Pillow's time; None for all others.

    ITU-T T.81, B.1.1 and B.2.2: segments of a marker and a length, of which the frame header is one.
    """
    at = 2
    if not content.startswith(b"\xff\xd8"):
        return None
    while at + 10 <= len(content) and content[at] == 0xFF and content[at + 1] in _SKIPPED_SEGMENTS:
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    segment = content[at : at + 10]
    if len(segment) < 10 or segment[0] != 0xFF or segment[1] not in _FRAME_HEADERS or segment[9] not in _JPEG_MODES:
        return None
    height, width = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
    return (width, height, _JPEG_MODES[segment[9]], "jpeg") if width and height else None


def _header_by_pillow(content: bytes) -> tuple[int, int, str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit; ours is next
            image = Image.open(BytesIO(content), formats=_FORMATS)
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise ValueError(f"it has {int(pixels[0]):,} pixels, and was not decoded" if pixels else str(error)) from None
    except UnidentifiedImageError:
        raise ValueError("it is not a JPEG, PNG, BMP, GIF or WebP file, whatever its name says") from None
    except Exception as error:  # a damaged file can raise anything in Pillow's parsers
        raise ValueError(f"its header is damaged: {error}") from None
    width, height = image.size
    if orientation in _SIDEWAYS:
        width, height = height, width
    return width, height, image.mode, "jpeg" if image.format == "MPO" else str(image.format).lower()


def _channels(mode: str) -> int:
    return {"1": 1, "L": 1, "I": 1, "I;16": 1, "I;16B": 1, "F": 1, "LA": 2, "P": 3, "RGB": 3, "PA": 4}.get(mode, 4)


@dataclass(frozen=True)
class _Decoding:
    """How pictures are decoded for the check."""

    max_pixels: int
    jpeg: tuple[int, int] | None = None
    """Channels, and the divisor of the decoded size: 2, 4 or 8, which takes a fraction of the time and still fails for
    a damaged file. None for other formats.
    """

    def decode(self, content: tf.Tensor) -> tf.Tensor:
        """Return (height, width, channels) uint8."""
        if self.jpeg is None:
            return decode(content, max_pixels=self.max_pixels)
        channels, ratio = self.jpeg
        return tf.io.decode_jpeg(content, channels=channels, ratio=ratio)


def _decoding_of(facts: ImageFacts, *, is_cmyk: bool, max_pixels: int) -> _Decoding:
    channels = 4 if is_cmyk else 3
    if facts.format != "jpeg" or facts.width * facts.height * channels >= _TOO_LARGE_BYTES:
        return _Decoding(max_pixels)
    ratio = next((r for r in (8, 4, 2) if min(facts.width, facts.height) >= r * _ENOUGH_PIXELS), 1)
    return _Decoding(max_pixels, (3 if is_cmyk else 1, ratio))  # JPEG holds the luma as it is


def _brightness(contents: Sequence[bytes], decoding: _Decoding) -> list[float | str]:
    """Return the mean luma of pictures, or why one cannot be decoded."""
    try:
        lumas = _graph(decoding)(tf.constant(contents, tf.string)).numpy()
        return [round(float(luma) / 255, 6) for luma in lumas]
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError) as error:
        if len(contents) == 1:
            return [f"it cannot be decoded: {_in_words(error)}"]
    half = len(contents) // 2
    return [*_brightness(contents[:half], decoding), *_brightness(contents[half:], decoding)]


_graphs: dict[_Decoding, Any] = {}
_lock = threading.Lock()


def _graph(decoding: _Decoding) -> Any:
    """Return the graph from bytes (batch,) to the mean luma of each, traced once per process."""
    with _lock:
        if decoding not in _graphs:

            def lumas(contents: tf.Tensor) -> tf.Tensor:
                return tf.map_fn(
                    lambda content: _mean_luma(decoding.decode(content)),
                    contents,
                    fn_output_signature=tf.TensorSpec([], tf.float32),
                    parallel_iterations=os.cpu_count() or 1,
                )

            graph = tf.function(lumas, input_signature=[tf.TensorSpec([None], tf.string)])
            graph.get_concrete_function()
            _graphs[decoding] = graph
        return _graphs[decoding]


def _mean_luma(pixels: tf.Tensor) -> tf.Tensor:
    """Return the mean luma of a picture, from some of its pixels if there are many."""
    size = tf.cast(tf.shape(pixels)[0] * tf.shape(pixels)[1], tf.float32)
    step = tf.maximum(tf.cast(tf.math.ceil(tf.sqrt(size) / _PIXELS_PER_ROW), tf.int32), 1)
    means = tf.reduce_mean(tf.cast(pixels[::step, ::step], tf.float32), axis=[0, 1])
    return tf.reduce_sum(means * _LUMA) if pixels.shape[-1] == 3 else means[0]


def _in_words(error: tf.errors.OpError) -> str:
    """Return TensorFlow's message without the location in the graph and the code."""
    message = str(error.message).partition("\n\t [[")[0].rpartition("\n\n")[2]
    message = _WRAPPING.sub("", message).strip().rstrip(".")
    if "jpeg::Uncompress" in message:
        return "the JPEG data is damaged, or ends too early"
    return message.splitlines()[0] if message else "TensorFlow refuses it"

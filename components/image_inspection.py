"""What is in an image file, or why it cannot be used; and which split each image belongs to.

Whether a file can be decoded is asked of the decoder that training and serving use (models/image_decoding.py).
"""

import hashlib
import re
import threading
import warnings
from bisect import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from models.image_decoding import decode

SLACK = 0.05
"""A class may be off its share of a split by so much before its images are counted out instead."""

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
"""Exif orientations in which width and height change places."""
_ENOUGH_PIXELS = 64
"""Pixels of an edge that tell the brightness as well as all do."""
_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_WRAPPING = re.compile(r"^(\{\{.*?\}\} ?|Paddings: )|\s*\[Op:.*\]$|\n\t \[\[.*", re.DOTALL)


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image."""

    width: int
    """As it is shown: after the orientation of Exif."""
    height: int
    channels: int
    """As stored: 1 for grey, 3 for colours and palettes, 4 for CMYK and where there is transparency."""
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
    """Look at the bytes of a file, and decode them.

    Args:
        content: the bytes.
        max_pixels: a larger picture is refused, by what its header says, before it is decoded.

    Raises:
        ValueError: it cannot be used; the message says why.
    """
    if not content:
        raise ValueError("it is empty: 0 bytes")
    width, height, mode, kind = _header(content)
    if width * height > max_pixels:
        raise ValueError(
            f"it has {width:,} x {height:,} pixels, more than data.max_pixels, {max_pixels:,}; it was not decoded"
        )
    try:
        brightness = _brightness(content, width, height, kind=kind, is_cmyk=mode == "CMYK", max_pixels=max_pixels)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError) as error:
        raise ValueError(f"it cannot be decoded: {_in_words(error)}") from None
    hexadecimal = hashlib.sha256(content).hexdigest()
    return ImageFacts(width, height, _channels(mode), kind, brightness, len(content), hexadecimal)


def _header(content: bytes) -> tuple[int, int, str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit; ours is next
            image = Image.open(BytesIO(content), formats=_FORMATS)
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise ValueError(f"it has {int(pixels[0]):,} pixels, and was not decoded" if pixels else str(error)) from None
    except UnidentifiedImageError:
        raise ValueError("it is no JPEG, PNG, BMP, GIF or WebP file, whatever its name says") from None
    except Exception as error:  # whatever a damaged file makes of Pillow's parsers
        raise ValueError(f"its header is damaged: {error}") from None
    width, height = image.size
    if orientation in _SIDEWAYS:
        width, height = height, width
    return width, height, image.mode, "jpeg" if image.format == "MPO" else str(image.format).lower()


def _channels(mode: str) -> int:
    return {"1": 1, "L": 1, "I": 1, "I;16": 1, "I;16B": 1, "F": 1, "LA": 2, "P": 3, "RGB": 3, "PA": 4}.get(mode, 4)


def _brightness(content: bytes, width: int, height: int, *, kind: str, is_cmyk: bool, max_pixels: int) -> float:
    if kind == "jpeg":  # a fraction of the size costs a fraction of the time, and a damaged file still fails
        ratio = next((r for r in (8, 4, 2) if min(width, height) >= r * _ENOUGH_PIXELS), 1)
        channels = 3 if is_cmyk else 1  # JPEG holds the luma as it is
        pixels = tf.io.decode_jpeg(content, channels=channels, ratio=ratio).numpy()
        if not is_cmyk:
            return round(float(pixels.mean()) / 255, 6)
    else:
        pixels = _decoder(max_pixels)(tf.constant(content)).numpy()
    means = [pixels[:, :, channel].mean() for channel in range(3)]
    return round(float(means @ _LUMA) / 255, 6)


_decoders: dict[int, Any] = {}
_lock = threading.Lock()


def _decoder(max_pixels: int) -> Any:
    """`decode` as a graph, traced once a process."""
    with _lock:
        if max_pixels not in _decoders:
            signature = [tf.TensorSpec([], tf.string)]
            graph = tf.function(lambda content: decode(content, max_pixels=max_pixels), input_signature=signature)
            graph.get_concrete_function()
            _decoders[max_pixels] = graph
        return _decoders[max_pixels]


def _in_words(error: tf.errors.OpError) -> str:
    message = _WRAPPING.sub("", str(error.message)).strip().rstrip(".")
    if "jpeg::Uncompress" in message:
        return "the JPEG data is damaged, or ends too early"
    return message.splitlines()[0] if message else "TensorFlow refuses it"


# Splits


def assign_splits(classes: Mapping[str, Sequence[str]], fractions: Mapping[str, float]) -> dict[str, str]:
    """The split of every content, by hash and stratified (docs/decisions/0010-images.md).

    The hash is a number from 0 to 1, and the fractions cut that range: an image keeps its split whatever is added
    beside it. Only where a class would be off its share by more than SLACK of its images, and by more than one image,
    its images are counted out in the order of their hashes.

    Args:
        classes: hashes of the contents, in hexadecimal, by class. A content that is in several counts in the first.
        fractions: of the splits, in order.

    Returns:
        Split by hash: copies of an image are always in the same.
    """
    splits: dict[str, str] = {}
    for label in sorted(classes):
        hashes = sorted({name for name in classes[label] if name not in splits})
        splits.update(_splits_of_class(hashes, fractions))
    return splits


def _splits_of_class(hashes: Sequence[str], fractions: Mapping[str, float]) -> dict[str, str]:
    names = list(fractions)
    cuts = np.cumsum(list(fractions.values()))[:-1].tolist()
    by_hash = [names[bisect(cuts, int(name[:13], 16) / 16**13)] for name in hashes]
    counts = {name: by_hash.count(name) for name in names}
    slack = max(1.0, SLACK * len(hashes))
    is_off = any(abs(counts[name] - fraction * len(hashes)) > slack for name, fraction in fractions.items())
    if is_off or (len(hashes) >= 2 and not (counts[names[0]] and counts[names[-1]])):
        quotas = _quotas(len(hashes), fractions)
        by_hash = [name for name in names for _ in range(quotas[name])]
    elif len(hashes) == 1:
        by_hash = names[:1]
    return dict(zip(hashes, by_hash, strict=True))


def _quotas(number: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Images of a class by split: rounded by largest remainder; the first and the last split get one first."""
    names = list(fractions)
    quotas = {name: int(fraction * number + 1e-9) for name, fraction in fractions.items()}
    for name in (names[0], names[-1]):
        quotas[name] = max(quotas[name], 1)
    remainders = sorted(names, key=lambda name: quotas[name] - fractions[name] * number)
    while (left := number - sum(quotas.values())) != 0:
        name = remainders.pop(0) if left > 0 else max(quotas, key=lambda name: quotas[name] - fractions[name] * number)
        quotas[name] += 1 if left > 0 else -1
    return quotas


def find_copies(hashes: Mapping[str, str]) -> list[list[str]]:
    """Names of files with the same content, a list each.

    Args:
        hashes: of the contents, by name.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for name, content_hash in hashes.items():
        names[content_hash].append(name)
    return sorted(sorted(copies) for copies in names.values() if len(copies) > 1)

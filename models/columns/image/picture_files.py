"""What TensorFlow's decoders leave to the caller.

It reads what a file says of itself before it is decoded, takes only the first frame of an animation, and heeds palettes
and the orientation of Exif.

JPEG, PNG, BMP, GIF and WebP, by what the bytes are and not by any name.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_HEAD_BYTES = 32
_EXIF_ORIENTATION = 0x0112
_MAX_HEADER_SEGMENTS = 64
"""Parts of a file that are looked through for its orientation: a damaged file must not make a loop without end."""

_MAX_GIF_EXTENSIONS = 32
_MAX_GIF_BLOCKS = 2_048
"""Blocks of a chain that are looked through one by one, behind those that are as large as the first. Metadata (XMP)
may have hundreds; a file that needs more is refused."""


def _out_of_line(function: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    """Return a function that stays one in the graph.

    In line, its operations are visited where they have nothing to do.
    """
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(function, input_signature=signature, experimental_attributes={"_noinline": True})


@_out_of_line
def any_pixels(content: tf.Tensor) -> tf.Tensor:
    """Count the pixels of a file of any format, as its header says.

    Args:
        content: its bytes, () string.

    Returns:
        () int64; -1 if it is not a picture.
    """
    head = _head(content)
    jpeg, png, bmp, webp = jpeg_pixels(content), *_pixels_in(head)
    pixels = [jpeg, png, lambda: _gif_pixels(content, head), bmp, webp, lambda: tf.constant(-1, tf.int64)]
    return tf.switch_case(_format_index(head), pixels)


@_out_of_line
def decode_any(content: tf.Tensor) -> tf.Tensor:
    """Decode a picture of any format, and turn it upright.

    Args:
        content: the bytes of a file, () string.

    Returns:
        (height, width, 3) uint8.
    """
    head = _head(content)
    index = _format_index(head)
    image = tf.switch_case(
        index,
        [
            lambda: tf.io.decode_jpeg(content, channels=3),
            lambda: tf.io.decode_png(content, channels=3),
            lambda: tf.io.decode_image(_first_gif_frame(content), channels=3, expand_animations=False),
            lambda: _decode_bmp(content, head),
            lambda: _decode_webp(content, head),
            lambda: tf.zeros([1, 1, 3], tf.uint8),
        ],
    )
    image = tf.ensure_shape(image, [None, None, 3])
    return _upright(image, _orientation(content, index, head))


def png_pixels(content: tf.Tensor) -> tf.Tensor:
    """Count the pixels of a PNG file, as its header says.

    Args:
        content: its bytes, () string.

    Returns:
        () int64.
    """
    edges = _bytes(content, 16, 8)
    return _big(edges[:4]) * _big(edges[4:])


# What a file says of itself before it is decoded


def _bytes(content: tf.Tensor, start: tf.Tensor | int, number: int) -> tf.Tensor:
    """Return some bytes of a file, (number,) int64; zeros behind its end."""
    size = tf.strings.length(content)
    start = tf.minimum(tf.cast(start, tf.int32), size)
    part = tf.strings.substr(content, start, number)
    padded = tf.strings.substr(tf.strings.join([part, tf.constant(b"\0" * number)]), 0, number)
    return tf.cast(tf.reshape(tf.io.decode_raw(padded, tf.uint8), [number]), tf.int64)


def _head(content: tf.Tensor) -> tf.Tensor:
    return _bytes(content, 0, _HEAD_BYTES)


def _little(values: tf.Tensor) -> tf.Tensor:
    """Return a number from its bytes in the last axis, the lowest first."""
    weights = tf.constant([256**power for power in range(values.shape[-1])], tf.int64)
    return tf.reduce_sum(values * weights, axis=-1)


def _big(values: tf.Tensor) -> tf.Tensor:
    """Return a number from its bytes in the last axis, the highest first."""
    return _little(tf.reverse(values, axis=[-1]))


def _starts(values: tf.Tensor, text: bytes, *, at: int = 0) -> tf.Tensor:
    expected = tf.constant(list(text), tf.int64)
    return tf.reduce_all(tf.equal(values[at : at + len(text)], expected))


def _format_index(head: tf.Tensor) -> tf.Tensor:
    """Return 0 for JPEG, then PNG, GIF, BMP and WebP; 5 for anything else."""
    is_format = [
        _starts(head, b"\xff\xd8\xff"),
        _starts(head, b"\x89PNG\r\n\x1a\n"),
        tf.logical_or(_starts(head, b"GIF87a"), _starts(head, b"GIF89a")),
        _starts(head, b"BM"),
        tf.logical_and(_starts(head, b"RIFF"), _starts(head, b"WEBP", at=8)),
        tf.constant(True),
    ]
    return tf.argmax(tf.cast(tf.stack(is_format), tf.int32), output_type=tf.int32)


def jpeg_pixels(content: tf.Tensor) -> Callable[[], tf.Tensor]:
    """Count the pixels of a JPEG file, as its header says.

    Args:
        content: its bytes, () string.

    Returns:
        A branch for `tf.switch_case`, which returns () int64.
    """
    return lambda: tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(content)[:2], tf.int64))


def _pixels_in(head: tf.Tensor) -> list[Callable[[], tf.Tensor]]:
    """Return pixels of PNG, BMP and WebP files, as their first bytes say."""

    def bmp() -> tf.Tensor:
        height = tf.bitcast(tf.cast(_little(head[22:26]), tf.uint32), tf.int32)  # negative: from the top down
        return _little(head[18:22]) * tf.abs(tf.cast(height, tf.int64))

    def webp() -> tf.Tensor:
        lossy = (_little(head[26:28]) % 2**14) * (_little(head[28:30]) % 2**14)
        bits = _little(head[21:25])
        lossless = (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)
        extended = (_little(head[24:27]) + 1) * (_little(head[27:30]) + 1)
        return tf.where(
            _starts(head, b"VP8X", at=12), extended, tf.where(_starts(head, b"VP8L", at=12), lossless, lossy)
        )

    return [
        lambda: _big(head[16:20]) * _big(head[20:24]),
        bmp,
        webp,
    ]


# What TensorFlow's decoders leave to the caller


def _gif_pixels(content: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Return the number of pixels of a GIF's screen or of its first frame, whichever is larger.

    A frame may exceed the screen. -1: there is no frame.
    """
    start = _gif_frame(tf.io.decode_raw(content, tf.uint8))
    frame = _bytes(content, tf.maximum(start, 0), 10)
    pixels = tf.maximum(_little(head[6:8]) * _little(head[8:10]), _little(frame[5:7]) * _little(frame[7:9]))
    return tf.where(tf.logical_and(start >= 0, _starts(frame, b",")), pixels, -1)


def _first_gif_frame(content: tf.Tensor) -> tf.Tensor:
    """Return the file without its other frames: TensorFlow reads all, and makes the picture as large as the largest."""
    data = tf.io.decode_raw(content, tf.uint8)
    start = _gif_frame(data)
    descriptor = _bytes(content, start, 10)
    end = _after_sub_blocks(data, start + 11 + _gif_palette_bytes(descriptor[9]))
    # Cut short, it has no other frame. Beyond the number of blocks that are searched nothing is known, and nothing is
    # decoded.
    first = tf.strings.join([tf.strings.substr(content, 0, tf.maximum(end, 0)), b";"])
    return tf.where(end <= tf.size(data), first, content)


def _gif_frame(data: tf.Tensor) -> tf.Tensor:
    """Return where the first frame's descriptor is, () int32.

    It is behind the palette and the extensions (GIF 89a, 18 to 26). There may be something else at that place;
    negative: it was not looked for to the end.

    An extension without a block is none here: the decoder takes what follows for another of its blocks.
    """

    def is_extension(at: tf.Tensor) -> tf.Tensor:
        return tf.logical_and(tf.equal(_at(data, at), 0x21), _at(data, at + 2) > 0)

    (frame,) = tf.while_loop(
        is_extension,
        lambda at: (_after_sub_blocks(data, at + 2),),
        (13 + _gif_palette_bytes(_at(data, 10)),),
        maximum_iterations=_MAX_GIF_EXTENSIONS,
    )
    return frame


def _gif_palette_bytes(flags: tf.Tensor) -> tf.Tensor:
    flags = tf.cast(flags, tf.int32)
    return tf.where(flags >= 0x80, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _after_sub_blocks(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Return where a chain of blocks ends that each begin with their size.

    It is past the file's end if it is cut short, negative if it has too many.
    """
    size = _at(data, start)  # of all blocks but the last, as encoders have it
    is_other = tf.concat([tf.not_equal(tf.cast(data[start :: size + 1], tf.int32), size), [True]], axis=0)
    (end,) = tf.while_loop(
        lambda at: _at(data, at) > 0,
        lambda at: (at + 1 + _at(data, at),),
        (start + (size + 1) * tf.argmax(is_other, output_type=tf.int32),),
        maximum_iterations=_MAX_GIF_BLOCKS,
    )
    behind = tf.where(end < tf.size(data), end + 1, tf.size(data) + 1)
    return tf.where(_at(data, end) > 0, -1, behind)


def _at(data: tf.Tensor, index: tf.Tensor | int) -> tf.Tensor:
    """Return a byte, () int32; 0 before the start and behind the end."""
    is_there = tf.logical_and(index >= 0, index < tf.size(data))
    byte = tf.gather(data, tf.clip_by_value(index, 0, tf.maximum(tf.size(data) - 1, 0)))
    return tf.where(is_there, tf.cast(byte, tf.int32), 0)


def _decode_bmp(content: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Decode a BMP file, with its palette: TensorFlow reads the numbers of its colours as shades of grey."""

    def by_palette() -> tf.Tensor:
        colors = tf.reshape(_bytes(content, 14 + tf.cast(_little(head[14:18]), tf.int32), 4 * 256), [256, 4])
        numbers = tf.io.decode_bmp(content, channels=0)[:, :, 0]
        return tf.gather(tf.cast(tf.reverse(colors[:, :3], axis=[1]), tf.uint8), tf.cast(numbers, tf.int32))

    has_palette = tf.equal(_little(head[28:30]), 8)
    return tf.cond(has_palette, by_palette, lambda: tf.io.decode_image(content, channels=3, expand_animations=False))


def _decode_webp(content: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Return the first frame.

    TensorFlow 2.21 reads an animation as four channels, into memory for three where the header says that there is no
    transparency: it overruns it. So an animation's header says here that there is. It would read all frames, and is
    handed one.
    """
    is_extended = _starts(head, b"VP8X", at=12)
    is_animated = tf.logical_and(is_extended, tf.equal(head[20] // 2 % 2, 1))
    flags = tf.cast(tf.bitwise.bitwise_or(head[20], 0x10), tf.int32)
    characters = tf.constant([bytes([code]) for code in range(256)])

    def animation() -> tf.Tensor:
        size = tf.strings.length(content)
        first_end = _end_of_webp_frame(content)
        end = tf.where(tf.logical_and(first_end >= 0, first_end <= size), first_end, size)
        size_bytes = tf.gather(characters, tf.bitwise.right_shift(end - 8, [0, 8, 16, 24]) % 256)
        parts = [b"RIFF", tf.strings.reduce_join(size_bytes), tf.strings.substr(content, 8, 12), characters[flags]]
        patched = tf.strings.join([*parts, tf.strings.substr(content, 21, end - 21)])
        return tf.io.decode_webp(patched, channels=4)[0, :, :, :3]

    return tf.cond(is_animated, animation, lambda: tf.io.decode_webp(content, channels=0)[0, :, :, :3])


def _end_of_webp_frame(content: tf.Tensor) -> tf.Tensor:
    """Return where the first frame of an animation ends; -1 if there is none."""

    def step(at: tf.Tensor, _found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chunk = _bytes(content, at, 8)
        size = 8 + _little(chunk[4:8])
        size += size % 2
        end = tf.cast(tf.minimum(size, 2**30), tf.int32)
        return _next(at, _starts(chunk, b"ANMF"), tf.constant(False), data=end, size=size)

    return _walk(content, 12, step)


# Orientation: Exif 2.32, 4.6.2 and the tag 0x0112


def _orientation(content: tf.Tensor, index: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Return 1 to 8, as Exif has it; 1 if the file says nothing."""
    nowhere = tf.constant(-1, tf.int32)
    start = tf.switch_case(
        index,
        [
            lambda: _exif_in_jpeg(content),
            lambda: _exif_in_png(content),
            lambda: nowhere,
            lambda: nowhere,
            lambda: _exif_in_webp(content, head),
            lambda: nowhere,
        ],
    )
    return tf.cond(start >= 0, lambda: _orientation_in_tiff(content, start), lambda: tf.constant(1, tf.int64))


def _exif_in_jpeg(content: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor, _found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        segment = _bytes(content, at, 10)
        is_exif = tf.logical_and(tf.equal(segment[1], 0xE1), _starts(segment, b"Exif\0\0", at=4))
        is_last = tf.logical_or(tf.not_equal(segment[0], 0xFF), segment[1] < 0xE0)  # a table: Exif stands before them
        return _next(at, is_exif, is_last, data=10, size=2 + _big(segment[2:4]))

    return _walk(content, 2, step)


def _exif_in_png(content: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor, _found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chunk = _bytes(content, at, 8)
        is_last = tf.logical_or(_starts(chunk, b"IDAT", at=4), _starts(chunk, b"IEND", at=4))
        return _next(at, _starts(chunk, b"eXIf", at=4), is_last, data=8, size=12 + _big(chunk[:4]))

    return _walk(content, 8, step)


def _exif_in_webp(content: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor, _found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chunk = _bytes(content, at, 14)
        size = _little(chunk[4:8])
        data = tf.where(_starts(chunk, b"Exif\0\0", at=8), 14, 8)
        return _next(at, _starts(chunk, b"EXIF"), tf.constant(False), data=data, size=8 + size + size % 2)

    has_exif = tf.logical_and(_starts(head, b"VP8X", at=12), tf.equal(head[20] // 8 % 2, 1))
    return tf.cond(has_exif, lambda: _walk(content, 12, step), lambda: tf.constant(-1, tf.int32))


def _next(
    at: tf.Tensor, is_exif: tf.Tensor, is_last: tf.Tensor, *, data: tf.Tensor | int, size: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where the walk goes on, past every end if it is over; and where the Exif data is, -1 if not here."""
    beyond = tf.constant(2**31 - 1, tf.int64)
    step = tf.minimum(tf.cast(at, tf.int64) + size, beyond)
    found = tf.where(is_exif, at + data, -1)
    return tf.cast(tf.where(tf.logical_or(is_exif, is_last), beyond, step), tf.int32), found


def _walk(
    content: tf.Tensor, start: int, step: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
) -> tf.Tensor:
    size = tf.strings.length(content)
    _, found = tf.while_loop(
        lambda at, _found: at < size,
        step,
        (tf.constant(start, tf.int32), tf.constant(-1, tf.int32)),
        maximum_iterations=_MAX_HEADER_SEGMENTS,
    )
    return found


def _orientation_in_tiff(content: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    header = _bytes(content, start, 8)
    is_little = _starts(header, b"II")

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(is_little, _little(values), _big(values))

    directory = start + tf.cast(tf.minimum(number(header[4:8]), 2**20), tf.int32)
    num_entries = tf.cast(number(_bytes(content, directory, 2)), tf.int32)
    size = tf.strings.length(content)
    is_whole = directory + 2 + 12 * num_entries <= size

    def read() -> tf.Tensor:
        raw = tf.io.decode_raw(tf.strings.substr(content, directory + 2, 12 * num_entries), tf.uint8)
        entries = tf.cast(tf.reshape(raw, [num_entries, 12]), tf.int64)
        tags, values = number(entries[:, :2]), number(entries[:, 8:10])
        value = tf.reduce_max(tf.where(tf.equal(tags, _EXIF_ORIENTATION), values, 0))
        return tf.where(tf.logical_and(value >= 1, value <= 8), value, 1)

    return tf.cond(tf.logical_and(is_whole, num_entries > 0), read, lambda: tf.constant(1, tf.int64))


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn an image by reversing and transposing: the functions of tf.image have checks, which `decode` avoids."""
    turned = tf.transpose(image, [1, 0, 2])
    upright = tf.switch_case(
        tf.cast(orientation, tf.int32) - 1,
        [
            lambda: image,
            lambda: tf.reverse(image, [1]),
            lambda: tf.reverse(image, [0, 1]),
            lambda: tf.reverse(image, [0]),
            lambda: turned,
            lambda: tf.reverse(turned, [1]),
            lambda: tf.reverse(turned, [0, 1]),
            lambda: tf.reverse(turned, [0]),
        ],
    )
    return tf.ensure_shape(upright, [None, None, 3])

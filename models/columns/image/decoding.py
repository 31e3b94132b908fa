"""From the bytes of a picture file to what the network sees, in TensorFlow's graph.

ExampleGen checks files with it, training and evaluation read them with it, and it is in the graph of the served
model: there is no second way to read a picture.
"""

import tensorflow as tf

from kubetfx.config.model_section import ModelConfig
from kubetfx.models.columns.image.picture_files import any_pixels, decode_any, jpeg_pixels, png_pixels


def decode(content: tf.Tensor, *, max_pixels: int) -> tf.Tensor:
    """Return a picture as a camera or browser would show it.

    Args:
        content: bytes of a file, () string.
        max_pixels: width times height at most. A larger picture is an error, raised before it is decoded.

    Returns:
        (height, width, 3) uint8. Transparency is left out, 16 bits become 8, the orientation of EXIF is applied.

    Raises:
        tf.errors.InvalidArgumentError: it is not a picture, a damaged one, or too large. It says which.
    """
    # A few operations for most files, instead of hundreds, which take longer than the decoding of a small picture. All
    # checks are here: in a branch they make it stateful, and tf.data that has to be reproducible runs that one by one.
    way = tf.where(_is_plain_jpeg(content), 0, tf.where(_is_plain_png(content), 1, 2))
    num_pixels = tf.switch_case(way, [jpeg_pixels(content), lambda: png_pixels(content), lambda: any_pixels(content)])
    is_picture = tf.debugging.Assert(  # its error has these words alone, where assert_less_equal adds its tensors
        num_pixels >= 0,
        ["image_bytes is not a picture: the bytes are not those of a JPEG, PNG, BMP, GIF or WebP file."],
    )
    fits = tf.debugging.Assert(
        num_pixels <= max_pixels,
        [f"image_bytes is a picture of more than {max_pixels:,} pixels (data.max_pixels); it was not decoded."],
    )
    content = _after(fits, _after(is_picture, content))
    image = tf.switch_case(
        way,
        [
            lambda: tf.io.decode_jpeg(content, channels=3),
            lambda: tf.io.decode_png(content, channels=3),
            lambda: decode_any(content),
        ],
    )
    return tf.ensure_shape(image, [None, None, 3])


def _is_plain_jpeg(content: tf.Tensor) -> tf.Tensor:
    """Return whether it is a JPEG file whose tables begin before any place that Exif could have, as most have it."""
    start = tf.strings.substr(content, 0, 6)
    after_jfif = tf.strings.substr(content, tf.minimum(tf.strings.length(content), 20), 2)
    is_jfif = tf.logical_and(tf.equal(start, b"\xff\xd8\xff\xe0\x00\x10"), tf.equal(after_jfif, b"\xff\xdb"))
    return tf.logical_or(is_jfif, tf.equal(tf.strings.substr(content, 0, 4), b"\xff\xd8\xff\xdb"))


def _is_plain_png(content: tf.Tensor) -> tf.Tensor:
    """Return whether it is a PNG file whose pixels come next after its header: there is no Exif before them."""
    start = tf.strings.substr(content, 0, 8)
    next_chunk = tf.strings.substr(content, tf.minimum(tf.strings.length(content), 37), 4)
    return tf.logical_and(tf.equal(start, b"\x89PNG\r\n\x1a\n"), tf.equal(next_chunk, b"IDAT"))


def resize(image: tf.Tensor, *, model: ModelConfig) -> tf.Tensor:
    """Return a picture in the size that the network sees.

    Args:
        image: (height, width, 3) uint8.
        model: its `image_size` and `resize`.

    Returns:
        (*model.image_shape, 3) uint8.
    """
    height, width = model.image_shape
    if model.resize == "pad":
        resized = tf.image.resize_with_pad(image, height, width, antialias=True)
    elif model.resize == "crop":
        resized = tf.image.resize(_middle(image, height, width), [height, width], antialias=True)
    else:
        resized = tf.image.resize(image, [height, width], antialias=True)
    pixels = tf.saturate_cast(tf.round(resized), tf.uint8)
    return tf.ensure_shape(pixels, [height, width, 3])


def decode_and_resize(content: tf.Tensor, *, model: ModelConfig, max_pixels: int) -> tf.Tensor:
    """Make of a file what the network sees: `decode`, then `resize`.

    Args:
        content: bytes of a file, () string.
        model: its `image_size` and `resize`.
        max_pixels: see `decode`.

    Returns:
        (*model.image_shape, 3) uint8.
    """
    return resize(decode(content, max_pixels=max_pixels), model=model)


def decode_batch(contents: tf.Tensor, *, model: ModelConfig, max_pixels: int) -> tf.Tensor:
    """Make of files what the network sees.

    Args:
        contents: bytes of files, (batch,) string.
        model: its `image_size` and `resize`.
        max_pixels: see `decode`.

    Returns:
        (batch, *model.image_shape, 3) uint8.
    """
    return tf.map_fn(
        lambda content: decode_and_resize(content, model=model, max_pixels=max_pixels),
        contents,
        fn_output_signature=tf.TensorSpec([*model.image_shape, 3], tf.uint8),
    )


def _after(check: tf.Operation | None, content: tf.Tensor) -> tf.Tensor:
    """Return the bytes, once a check has passed. A graph has no order otherwise, and would decode meanwhile."""
    if check is None:  # not in a graph: it has passed, or raised
        return content
    with tf.control_dependencies([check]):
        return tf.identity(content)


def _middle(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return the largest middle part of an image that has the proportions of height and width."""
    shape = tf.cast(tf.shape(image)[:2], tf.float64)
    scale = tf.reduce_min(shape / tf.constant([height, width], tf.float64))
    part = tf.maximum(tf.cast(tf.round(tf.constant([height, width], tf.float64) * scale), tf.int32), 1)
    part = tf.minimum(part, tf.shape(image)[:2])
    offset = (tf.shape(image)[:2] - part) // 2
    return tf.image.crop_to_bounding_box(image, offset[0], offset[1], part[0], part[1])

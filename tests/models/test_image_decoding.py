import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kubetfx.config.model_section import ModelConfig
from kubetfx.models.columns.image.decoding import decode, decode_and_resize, decode_any, resize

PIXELS = np.kron(np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
PICTURE = Image.fromarray(PIXELS)
SMALL = ModelConfig(kind="image", image_size=(8, 16))


@pytest.fixture(scope="module")
def decoded() -> Callable[..., np.ndarray]:
    """`decode` as it runs everywhere: in a graph."""
    graph = tf.function(
        lambda content: decode(content, max_pixels=10_000), input_signature=[tf.TensorSpec([], tf.string)]
    )
    return lambda content: graph(content).numpy()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str, mode: str, **options: Any) -> bytes:
    frames = [Image.new(mode, (30, 20), (value, value, value, 128)[: len(mode)]) for value in (40, 120, 240)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def turned(kind: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    return encoded(PICTURE, kind, exif=exif, **options)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"quality": 95}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {"quality": 95}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("PNG", "L", {}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("BMP", "L", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {"quality": 80}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGBA", {"quality": 80}),
    ],
)
def test_picture_is_read_as_pillow_reads_it(decoded, kind, mode, options):
    content = encoded(PICTURE.convert(mode), kind, **options)

    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    difference = np.abs(decoded(content).astype(int) - expected.astype(int))
    assert difference.max() <= (8 if kind == "JPEG" else 1)  # JPEG leaves a decoder some freedom
    assert difference.mean() < 1


def test_16_bit_png_keeps_its_higher_bits(decoded):
    deep = Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257)

    np.testing.assert_array_equal(decoded(encoded(deep, "PNG")), np.repeat(PIXELS[:, :, :1], 3, axis=2))


def test_transparency_of_a_png_is_left_out(decoded):
    transparent = PICTURE.copy()
    transparent.putalpha(7)

    np.testing.assert_array_equal(decoded(encoded(transparent, "PNG")), PIXELS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
def test_animation_is_its_first_frame(decoded, kind, options, mode):
    image = decoded(animation(kind, mode, **options))

    assert image.shape == (20, 30, 3)
    np.testing.assert_allclose(image, 40, atol=1)


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
def test_no_other_frame_of_an_animation_is_read(decoded, kind, options):
    content = animation(kind, "RGB", **options)

    np.testing.assert_allclose(decoded(content[:-12]), 40, atol=1)  # the last one is cut short


def gif_of_frames(screen: tuple[int, int], *frames: tuple[int, int]) -> bytes:
    """A GIF of frames with a palette of their own, in whose header the screen is what is said."""
    parts = []
    for size in frames:
        image = encoded(Image.new("P", size), "GIF")
        palette = 3 * 2 ** (image[10] % 8 + 1)
        start = image.index(b",", 13 + palette)
        local = image[13 : 13 + palette]
        parts.append(image[start : start + 9] + bytes([0x80 | image[10] % 8]) + local + image[start + 10 : -1])
    width, height = (edge.to_bytes(2, "little") for edge in screen)
    return b"GIF89a" + width + height + b"\0\0\0" + b"!\xfe\x03abc\0" + b"".join(parts) + b";"


def test_frame_that_is_larger_than_its_screen_is_refused_before_it_is_decoded(decoded):
    assert decoded(gif_of_frames((5, 5), (100, 100))).shape == (100, 100, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 10,000 pixels"):
        decoded(gif_of_frames((5, 5), (101, 100)))
    assert decoded(gif_of_frames((5, 5), (6, 7), (4_000, 4_000))).shape == (7, 6, 3)


def with_extension(blocks: bytes) -> bytes:
    """A GIF of 6 x 7 pixels behind a comment of these blocks."""
    return gif_of_frames((5, 5), (6, 7)).replace(b"!\xfe\x03abc\0", b"!\xfe" + blocks + b"\0")


@pytest.mark.parametrize(
    "blocks",
    [b"\xfe" + b"a" * 254, b"\xff" + b"a" * 255, b"".join(bytes([size]) + b"a" * size for size in range(1, 200))],
    ids=["254 bytes each", "255 bytes each", "a size of their own each"],
)
def test_frame_is_found_behind_blocks_of_any_size(decoded, blocks):
    assert decoded(with_extension(5 * blocks + b"\x02aa")).shape == (7, 6, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"GIF89a" + b"\x05\0\x05\0\0\0\0" + b"!\xfe\x01a\0" * 100_000 + b";",
        with_extension(b"\x01a\x02aa" * 100_000),
        with_extension(b""),
        b"GIF89a" + b"\x05\0\x05\0\0\0\0" + b";",
    ],
    ids=["extensions without end", "blocks without end", "an extension without a block", "no frame"],
)
def test_gif_whose_first_frame_is_not_found_is_refused(decoded, content):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a picture"):
        decoded(content)


def test_frame_of_blocks_without_end_is_not_decoded(decoded):
    frame = gif_of_frames((5, 5), (6, 7))
    data = frame.index(b",") + 10 + 3 * 2 ** (frame[frame.index(b",") + 9] % 8 + 1) + 1

    with pytest.raises(tf.errors.InvalidArgumentError, match="GIF"):
        decoded(frame[:data] + b"\x01a\x02aa" * 100_000 + b"\0;")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_picture_stands_upright(decoded, kind, orientation):
    content = turned(kind, orientation, **({"lossless": True} if kind == "WEBP" else {}))

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    image = decoded(content)
    assert image.shape == expected.shape
    np.testing.assert_allclose(image.astype(int), expected.astype(int), atol=2)


def test_orientation_in_big_endian_is_read(decoded):
    content = turned("JPEG", 6)
    little = content[content.index(b"Exif\0\0") + 6 :]
    assert little[:2] in (b"II", b"MM")
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    body = b"Exif\0\0" + tiff
    plain = encoded(PICTURE, "JPEG")
    content = plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:]

    assert decoded(content).shape == (PIXELS.shape[1], PIXELS.shape[0], 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_file_without_anything_before_its_pixels_is_read_like_any_other(decoded, kind):
    content = encoded(PICTURE, kind)

    np.testing.assert_array_equal(decoded(content), decode_any(content).numpy())
    for length in range(60):  # where the short way looks
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoded(content[:length])


def test_decoding_changes_no_state_so_that_files_are_decoded_in_parallel():
    """Determinism makes tf.data call a function one by one that has other stateful operations than assertions."""
    graph = tf.function(
        lambda content: decode(content, max_pixels=10_000), input_signature=[tf.TensorSpec([], tf.string)]
    ).get_concrete_function()

    operations = [op for op in graph.graph.get_operations() if op.op_def.is_stateful]

    assert {op.type for op in operations} <= {"Assert", "If"}
    functions = {
        op.get_attr(branch).name for op in operations if op.type == "If" for branch in ("then_branch", "else_branch")
    }
    nodes = [
        node.op
        for f in graph.graph.as_graph_def().library.function
        for node in f.node_def
        if f.signature.name in functions
    ]
    assert {"Assert", "NoOp", "Identity", "Const"} >= {op for op in nodes if op != "Placeholder"}


@pytest.mark.parametrize("cut", [b"", b"\xff" * 40], ids=["cut off", "garbage"])
def test_damaged_exif_is_no_reason_to_refuse_a_picture(decoded, cut):
    body = b"Exif\0\0II*\0\x08\0\0\0" + cut
    plain = encoded(PICTURE, "JPEG")
    content = plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:]

    assert decoded(content).shape == PIXELS.shape


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a picture"),
        (b"just text", "not a picture"),
        (encoded(PICTURE, "TIFF"), "not a picture"),
        (encoded(PICTURE, "JPEG", quality=95)[:-200], "Invalid JPEG data"),
        (encoded(PICTURE, "PNG")[:-40], "Invalid PNG data"),
        (encoded(PICTURE, "GIF")[:-100], "Invalid GIF data"),
        (encoded(PICTURE, "WEBP")[:-60], "Failed to decode WebP image"),
        (encoded(PICTURE, "BMP")[:-100], "Input size should match"),
        (encoded(PICTURE.convert("1"), "BMP"), "Number of channels"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"BM", "bmp|BMP"),
        (b"RIFF\0\0\0\0WEBP", "WebP"),
    ],
)
def test_what_cannot_be_decoded_is_an_error_in_words(decoded, content, words):
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        decoded(content)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("PNG", "1", {}),
        ("GIF", "L", {}),
        ("BMP", "L", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {}),
    ],
)
def test_size_is_refused_before_anything_is_decoded(decoded, kind, mode, options):
    fits, large = (encoded(Image.new(mode, size), kind, **options) for size in ((100, 100), (101, 100)))

    assert decoded(fits).shape == (100, 100, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 10,000 pixels \(data\.max_pixels\)"):
        decoded(large)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 10,000 pixels"):
        decoded(large[: -10 if kind == "JPEG" else 40])  # the header is enough to know


def test_image_is_stretched_padded_or_cropped_to_the_networks_size():
    half = np.zeros((32, 32, 3), np.uint8)
    half[:16] = 200

    stretched, padded, cropped = (
        resize(half, model=SMALL.model_copy(update={"resize": way})).numpy() for way in ("stretch", "pad", "crop")
    )

    assert stretched.shape == padded.shape == cropped.shape == (8, 16, 3)
    assert set(np.unique(padded[:, :4])) == {0}
    assert padded[0, 8, 0] == 200
    assert cropped[0, 0, 0] == 200
    assert cropped[7, 0, 0] == 0
    assert stretched[1, 0, 0] == 200


def test_shrinking_averages_instead_of_skipping_pixels():
    stripes = np.tile(np.array([[0], [255]], np.uint8).repeat(3, axis=1)[np.newaxis], (64, 32, 1))

    shrunk = resize(stripes, model=SMALL).numpy()

    assert 100 < shrunk[2:-2, 2:-2].min() <= shrunk[2:-2, 2:-2].max() < 155


def test_decoding_and_resizing_is_one_function_for_a_batch_too():
    contents = tf.constant([encoded(PICTURE, "PNG"), encoded(PICTURE, "JPEG")])

    images = tf.map_fn(
        lambda content: decode_and_resize(content, model=SMALL, max_pixels=10_000),
        contents,
        fn_output_signature=tf.TensorSpec([8, 16, 3], tf.uint8),
    )

    np.testing.assert_array_equal(images[0], resize(PIXELS, model=SMALL))

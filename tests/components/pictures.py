"""Picture files for tests, good and bad."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, *, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """A picture of width and height; another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_picture(path: Path, seed: int, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG"}.get(path.suffix, path.suffix[1:].upper())
    path.write_bytes(encoded(picture(seed, **options), kind))
    return path


def write_classes(
    root: Path, *, number: int = 30, classes: tuple[str, ...] = ("cat", "dog"), suffix: str = ".png"
) -> Path:
    """Folders of pictures, a class each."""
    for index, name in enumerate(classes):
        for seed in range(number):
            write_picture(root / name / f"{seed:03}{suffix}", 1_000 * index + seed)
    return root

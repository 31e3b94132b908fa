"""Writes the images of this example: 1,797 handwritten digits of 8 x 8 pixels, as PNG files, a folder per digit.

    python -m examples.digits.prepare

The source is scikit-learn's `load_digits` (the test set of the UCI ML hand-written digits datasets, CC BY 4.0). Does
nothing when the images are there already.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

IMAGES_PATH = Path(__file__).parent / "data"
SHADES = 16
"""The source counts pixels of a 4 x 4 block: 0 to 16."""


def main() -> None:
    """Write the images, unless they are there."""
    if IMAGES_PATH.exists():
        print(f"{IMAGES_PATH} is there already.", file=sys.stderr)
        return
    number = write_images(IMAGES_PATH)
    print(f"Wrote {number:,} images to {IMAGES_PATH}.", file=sys.stderr)


def write_images(folder: Path) -> int:
    """Write every digit as FOLDER/DIGIT/NUMBER.png, and say how many there are."""
    digits = load_digits()
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a try that was broken off
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = partial / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * (255 / SHADES)).astype(np.uint8)).save(path)
    partial.rename(folder)
    return len(digits.images)


if __name__ == "__main__":
    main()

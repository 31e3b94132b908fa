"""Draws the images of this example: leaf-like pictures of 12 classes, as imbalanced as the V2 Plant Seedlings set.

    python -m examples.seedlings.prepare [--share 0.25] [--largest 512] [--seed 0] [--output FOLDER]

They replace photographs, so that tests and benchmarks need no download: the same classes, their frequencies, and
sizes from 49 pixels up. README.md says how the real set is used in their place.
"""

import argparse
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

IMAGES_PATH = Path(__file__).parent / "data"
SMALLEST = 49
"""Pixels of the smallest edge in the V2 Plant Seedlings set."""
_FINE = 2
"""Drawn so many times larger: edges are smooth after shrinking."""


@dataclass(frozen=True)
class Species:
    """What tells a class from the others; lengths are shares of the picture's edge."""

    images: int
    """In the V2 Plant Seedlings set."""
    leaves: int
    width: float
    """Width of a leaf, as a share of its length."""
    lobes: int
    depth: float
    """Depth of the lobes, as a share of the width."""
    bend: float
    green: tuple[int, int, int]
    stalk: float
    """Part of the length that has no blade."""


SPECIES = {
    "Black-grass": Species(309, 3, 0.05, 0, 0.0, 0.5, (70, 120, 60), 0.0),
    "Charlock": Species(452, 4, 0.55, 5, 0.15, 0.1, (80, 150, 60), 0.35),
    "Cleavers": Species(335, 6, 0.22, 0, 0.0, 0.05, (60, 140, 70), 0.1),
    "Common Chickweed": Species(713, 6, 0.5, 0, 0.0, 0.05, (110, 180, 80), 0.4),
    "Common wheat": Species(253, 2, 0.06, 0, 0.0, 0.2, (120, 170, 70), 0.0),
    "Fat Hen": Species(538, 6, 0.4, 3, 0.2, 0.1, (120, 160, 110), 0.2),
    "Loose Silky-bent": Species(762, 2, 0.03, 0, 0.0, 0.9, (90, 140, 70), 0.0),
    "Maize": Species(257, 3, 0.2, 0, 0.0, 0.3, (90, 160, 50), 0.0),
    "Scentless Mayweed": Species(607, 8, 0.25, 7, 0.6, 0.05, (80, 140, 60), 0.1),
    "Shepherds Purse": Species(274, 9, 0.3, 4, 0.35, 0.05, (100, 150, 80), 0.15),
    "Small-flowered Cranesbill": Species(576, 5, 0.9, 6, 0.4, 0.05, (70, 130, 70), 0.5),
    "Sugar beet": Species(463, 4, 0.35, 0, 0.0, 0.15, (60, 150, 50), 0.3),
}


def main() -> None:
    """Draw the images, unless they are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.25, help="of the set's 5,539 images")
    parser.add_argument("--largest", type=int, default=512, help="pixels of an edge at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=IMAGES_PATH)
    options = parser.parse_args()
    if options.output.exists():
        print(f"{options.output} is there already.", file=sys.stderr)
        return
    number = write_images(options.output, share=options.share, largest=options.largest, seed=options.seed)
    print(f"Wrote {number:,} images to {options.output}.", file=sys.stderr)


def write_images(folder: Path, *, share: float, largest: int, seed: int) -> int:
    """Write FOLDER/SPECIES/NUMBER.png, and say how many there are.

    Args:
        folder: to write; it appears when all is there.
        share: The share of the images of each class.
        largest: pixels of an edge at most.
        seed: the same one gives the same images.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a try that was broken off
    total = 0
    for index, (name, species) in enumerate(SPECIES.items()):
        (partial / name).mkdir(parents=True, exist_ok=True)
        for number in range(max(round(species.images * share), 1)):
            picture = draw(species, np.random.default_rng([seed, index, number]), largest=largest)
            picture.save(partial / name / f"{number:04}.png")
            total += 1
    partial.rename(folder)
    return total


def draw(species: Species, random: np.random.Generator, *, largest: int) -> Image.Image:
    """Return one plant from above, on soil."""
    edge = round(SMALLEST * (largest / SMALLEST) ** random.beta(1.5, 2.5))  # few are large
    size = edge * _FINE
    picture = _soil(size, random)
    pen = ImageDraw.Draw(picture)
    light = random.uniform(0.75, 1.2)
    leaves = max(species.leaves + int(random.integers(-1, 2)), 2)
    turn = random.uniform(0, 2 * math.pi)
    for number in range(leaves):
        angle = turn + 2 * math.pi * number / leaves + random.normal(0, 0.12)
        length = size * random.uniform(0.3, 0.46)
        shade = light * random.uniform(0.9, 1.1)
        color = tuple(min(int(part * shade), 255) for part in species.green)
        _leaf(pen, species, random, size=size, angle=angle, length=length, color=color)
    return picture.resize((edge, edge), Image.Resampling.LANCZOS)


def _soil(size: int, random: np.random.Generator) -> Image.Image:
    coarse = random.normal(0, 1, (max(size // 16, 2), max(size // 16, 2)))
    fine = random.normal(0, 1, (size // 2, size // 2))
    parts = [np.asarray(Image.fromarray(noise.astype(np.float32)).resize((size, size))) for noise in (coarse, fine)]
    grain = parts[0] * 10 + parts[1] * 14 + random.uniform(-15, 15)
    pixels = np.array([118, 96, 74]) + grain[..., np.newaxis]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _leaf(
    pen: ImageDraw.ImageDraw,
    species: Species,
    random: np.random.Generator,
    *,
    size: int,
    angle: float,
    length: float,
    color: tuple[int, ...],
) -> None:
    along = np.linspace(0, 1, 60)
    blade = np.clip((along - species.stalk) / (1 - species.stalk), 0, 1)
    half = np.sin(np.pi * blade**0.8) * species.width / 2 * random.uniform(0.85, 1.15)
    if species.lobes:
        half = half * (1 - species.depth * (0.5 + 0.5 * np.cos(2 * np.pi * species.lobes * blade)))
    half = np.maximum(half, 0.012)
    bend = species.bend * random.normal(0, 1)
    direction = angle + bend * along
    step = length / len(along)
    x = size / 2 + np.cumsum(np.cos(direction)) * step
    y = size / 2 + np.cumsum(np.sin(direction)) * step
    left, right = direction + math.pi / 2, direction - math.pi / 2
    outline = [
        *zip(x + np.cos(left) * half * length, y + np.sin(left) * half * length, strict=True),
        *zip((x + np.cos(right) * half * length)[::-1], (y + np.sin(right) * half * length)[::-1], strict=True),
    ]
    pen.polygon([(float(px), float(py)) for px, py in outline], fill=color)
    vein = tuple(min(part + 25, 255) for part in color)
    pen.line([(float(px), float(py)) for px, py in zip(x, y, strict=True)], fill=vein, width=max(size // 200, 1))


if __name__ == "__main__":
    main()

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kubetfx.components.evaluation.image_evaluation import change
from kubetfx.components.evaluation.image_gallery import TILE, sheet_of


def gradient_of(labels: list[int]) -> Callable[[], Any]:
    """Of a network that likes class 1 the better the brighter the image."""
    return lambda: np.where(np.array(labels) == 1, -1.0, 1.0)[:, None, None, None]


@pytest.mark.parametrize("kind", ["noise", "blur", "rotation", "jpeg", "fgsm"])
def test_stronger_change_changes_more(kind):
    half = np.zeros((2, 16, 16, 3), np.uint8)
    half[:, :, 8:] = 200
    half[:, ::2] += 30
    weak, strong = {"noise": (0.01, 0.2), "blur": (0.5, 3), "rotation": (3, 40), "jpeg": (95, 5), "fgsm": (0.01, 0.1)}[
        kind
    ]
    options = {"number": 0, "gradient": gradient_of([0, 1])}

    a, b = (np.asarray(change(half, kind, strength, **options), np.float32) for strength in (weak, strong))
    again = np.asarray(change(half, kind, strong, **options), np.float32)

    assert a.shape == half.shape
    assert 0 < np.abs(a - half).mean() < np.abs(b - half).mean()
    assert b.min() >= 0
    assert b.max() <= 255
    np.testing.assert_array_equal(b, again)


def test_gradient_attack_goes_against_the_label():
    grey = np.full((2, 4, 4, 3), 100, np.uint8)

    attacked = change(grey, "fgsm", 0.1, number=0, gradient=gradient_of([0, 1]))

    assert attacked[0].min() == pytest.approx(125.5)
    assert attacked[1].max() == pytest.approx(74.5)


def test_sheet_has_rows_of_tiles():
    tiles = [Image.new("RGB", (TILE, TILE + 36)) for _ in range(9)]

    assert sheet_of(tiles).size == (8 * TILE, 2 * (TILE + 36))
    assert sheet_of([]).size[0] > 0

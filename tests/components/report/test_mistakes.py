import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from kubetfx.components.report import mistakes, render
from kubetfx.components.report.facts import Quality
from kubetfx.components.report.predictions import Predictions
from tests.components.report import sample

CLASSES = ("cat", "dog", sample.SCRIPT)


def content(size: tuple[int, int], *, kind: str = "PNG", orientation: int | None = None) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size, "red").save(buffer, kind, exif=exif)
    return buffer.getvalue()


def opened(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.fixture(scope="module")
def found() -> tuple[int, list[mistakes.Mistake]]:
    """Of four pictures, the second of which has a class that the model does not know."""
    pictures = [content((8, 8)), content((9, 9)), content((400, 200), kind="JPEG"), content((16, 16))]
    rows = pa.RecordBatch.from_pydict({"image": pictures, "path": ['a/"b".png'] * 4})
    outputs = np.array([[0.3, 0.6, 0.1], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]])
    known = np.array([True, False, True, True])
    return mistakes.describe(rows, Predictions(CLASSES, np.array([0, 1, 0]), outputs, known, np.ones(3)), "image")


def test_most_certain_mistake_comes_first(found) -> None:
    number, shown = found

    assert number == 2
    assert [(one.truth, one.named, one.score) for one in shown] == [("dog", sample.SCRIPT, 0.8), ("cat", "dog", 0.6)]


def test_pictures_are_those_of_the_mistakes_and_small(found) -> None:
    _, (large, small) = found

    assert (opened(large.picture).size, opened(large.picture).format) == ((128, 64), "JPEG")
    assert (opened(small.picture).size, opened(small.picture).format) == ((8, 8), "PNG")


def test_turned_photograph_is_shown_upright() -> None:
    uri = mistakes.picture(content((40, 20), kind="JPEG", orientation=6))

    assert opened(uri).size == (20, 40)


def test_page_has_the_pictures_with_their_classes_in_words(found) -> None:
    number, shown = found
    quality = Quality(sample_rows=3, total_rows=3, classes=list(CLASSES), num_mistakes=number, mistakes=shown)
    facts = sample.facts().model_copy(update={"quality": quality})
    html = render.report(facts)

    assert 'alt="cat, taken for dog"' in html
    assert html.count('<img src="data:image/') == 2
    assert "<script" not in html
    without = quality.model_copy(update={"num_mistakes": 0, "mistakes": []})
    assert "Every picture is taken for what it is" in render.report(facts.model_copy(update={"quality": without}))

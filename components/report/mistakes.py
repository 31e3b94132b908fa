"""Facts about the pictures that a classifier of images misclassifies."""

import base64
import io

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from kubetfx.artifacts import IMAGE_PATH
from kubetfx.components.report.facts import Mistake
from kubetfx.components.report.predictions import Predictions

MAX_MISTAKES = 24
EDGE = 128
"""Pixels of the longer edge of a picture in the report."""
_LOSSLESS_EDGE = 48
"""Pixels up to which a picture is kept as it is: compression would destroy it."""


def describe(rows: pa.RecordBatch, predictions: Predictions, column: str) -> tuple[int, list[Mistake]]:
    """Find the rows that are taken for another class, and the ones that the model is most certain about.

    Args:
        rows: The rows of a sample; those of a folder of images have a `path`.
        predictions: for the sample.
        column: The column of the images.

    Returns:
        Their number, and at most MAX_MISTAKES of them.
    """
    named, scores = predictions.outputs.argmax(axis=1), predictions.outputs.max(axis=1)
    wrong = np.flatnonzero(named != predictions.labels)
    chosen = wrong[np.argsort(-scores[wrong], kind="stable")][:MAX_MISTAKES]
    positions = np.flatnonzero(predictions.known)
    found = []
    for row in chosen:
        position = int(positions[row])
        found.append(
            Mistake(
                picture=picture(rows.column(column)[position].as_py()),
                path=rows.column(IMAGE_PATH)[position].as_py() if IMAGE_PATH in rows.schema.names else "",
                truth=predictions.classes[predictions.labels[row]],
                named=predictions.classes[named[row]],
                score=float(scores[row]),
            )
        )
    return len(wrong), found


def picture(content: bytes) -> str:
    """Return a small copy of a picture, as a data URI.

    Args:
        content: The content of an image file that the model has decoded.
    """
    with Image.open(io.BytesIO(content)) as opened:
        opened.draft("RGB", (2 * EDGE, 2 * EDGE))
        small = ImageOps.exif_transpose(opened).convert("RGB")
    small.thumbnail((EDGE, EDGE))
    is_small = max(small.size) <= _LOSSLESS_EDGE
    buffer = io.BytesIO()
    small.save(buffer, "PNG" if is_small else "JPEG", quality=80)
    kind = "png" if is_small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

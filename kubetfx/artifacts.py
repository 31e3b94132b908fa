"""Names of the files inside artifacts, and of what they hold: each is written in one module and read in others."""

from pathlib import Path

TRAIN, VALIDATION, EVAL = "train", "validation", "eval"
"""Splits of an examples artifact. `eval` is the one that a model is judged by."""

SCHEMA = "schema.pbtxt"
"""File of a schema artifact."""

METRICS_FILE = "metrics.json"
"""The figures of a run for machines, in its report and in its folder."""

_EXTRA = Path("assets.extra")
"""Folder of a SavedModel that is reserved for others, and that TensorFlow Serving leaves alone."""
MODEL_FACTS = _EXTRA / "kubetfx.json"
"""What a model's graph does not say: its label, its classes, its columns (serving/model_facts.py)."""
REQUEST = _EXTRA / "request.json"
"""A body for the REST API's `:predict`, with one real row."""
PUSH_RECORD = _EXTRA / "push.json"
"""Where a pushed version comes from (components/push/push_directory.py)."""
WARMUP_REQUESTS = _EXTRA / "tf_serving_warmup_requests"
"""Requests that TensorFlow Serving replays before a version answers."""

BYTES_SUFFIX = "_bytes"
"""End of the name of an input of bytes, such as encoded pictures: TensorFlow Serving's REST API has base64 there."""
IMAGE_BYTES = f"image{BYTES_SUFFIX}"
"""Input of a model of images, and column of a table that holds them."""
IMAGE_PATH = "path"
"""Column of a table that says where an image is, and feature of an image's tf.Example."""


CONTENT_HASH = "content_hash"
"""Column of the SHA-256 of each file; only examples of a folder of images have it."""

PIXELS = "pixels"
"""The network's input of an image: (batch, height, width, 3) float32, 0 to 255. Also its name in the signature
`network`."""


def split_folder(split: str) -> str:
    """Return the folder of a split in an examples or statistics artifact.

    Args:
        split: its name, for example `train`.
    """
    return f"Split-{split}"

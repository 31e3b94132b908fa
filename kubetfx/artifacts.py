"""Names of the files inside artifacts and of their contents: each is written by one module and read by others."""

from pathlib import Path

TRAIN, VALIDATION, EVAL = "train", "validation", "eval"
"""Splits of an examples artifact. A model is judged on `eval`."""

TABLE_PROFILE = "table_profile.json"
"""What the scan of the table found, in an examples artifact."""
SPANS = "spans.json"
"""The spans of the examples and the span of each shard, in an examples artifact."""
ORIGIN = "origin.json"
"""The files that the rows come from, with their digests, in an examples or an evaluation artifact
(kubetfx/provenance.py)."""
IMAGE_NOTES = "images.json"
"""Which pictures are broken, copies or left out, in an examples artifact."""
STATISTICS = "FeatureStats.pb"
"""The statistics of a split, in a statistics artifact."""
SCHEMA = "schema.pbtxt"
"""File of a schema artifact."""
ANOMALIES = "SchemaDiff.pb"
"""The anomalies of a split, in an anomalies artifact."""
LABEL_NOISE = "label_noise.json"
"""Rows that share all features and differ in the label, in an anomalies artifact."""
TEXTS = "texts.json"
"""Scripts, unknown words, entropy and lengths of texts by column and split, in an anomalies artifact."""
WORDS = "words.parquet"
"""Words of the training rows by column of text, in an anomalies artifact."""
FOLD = "fold.json"
"""Number and rows of a fold of cross-validation, in its examples; and its metrics, in its evaluation."""
CROSS_VALIDATION = "cross_validation.json"
"""Metrics of all folds, in a cross-validation artifact."""
OUT_OF_FOLD = "predictions.parquet"
"""Rows that folds held out, with the predictions of the models of those folds."""
HISTORY = "history.json"
"""The epochs of a training, in the artifacts of the Trainer."""
HYPERPARAMETERS = "best_hyperparameters.txt"
"""The best settings of a search, in its artifact of hyperparameters. TFX's Tuner uses this name and the next one."""
TUNER_RESULTS = "tuner_results.json"
"""Rows of the trials that were trained to their end, in an artifact of tuner results."""
STUDY = "study.json"
"""All results of a search, in the same artifact."""
EVALUATION = "evaluation.json"
"""Metrics, checks and slices, in an evaluation artifact."""
GOLDEN_ROWS = "golden.json"
"""Rows and the network's predictions for them, in an evaluation artifact."""
DECISION = "decision.txt"
"""Why a recurring run continues or stops, in the artifact of RetrainGate."""

FACTS = "facts.json"
"""The content of a run's report, in its artifact and in the folder of the run; so are the three files below."""
REPORT = "report.html"
CARD = "model_card.md"
METRICS_FILE = "metrics.json"
"""The metrics of a run, for programs."""

SERVING_MODEL = "Format-Serving"
"""Folder of the SavedModel in a model artifact."""
SAVED_MODEL = "saved_model.pb"
"""The file that makes a folder a SavedModel."""
DEFAULT_SIGNATURE = "serving_default"
"""What a server answers by if a request names no signature."""
VOCABULARIES = Path("assets")
"""Folder of a SavedModel's files; those of kubetfx's models are vocabularies."""
_EXTRA = Path("assets.extra")
"""Folder of a SavedModel that is reserved for other tools; TensorFlow Serving ignores it."""
MODEL_FACTS = _EXTRA / "kubetfx.json"
"""Facts about a model that its graph lacks: its label, its classes, its columns (serving/model_facts.py)."""
WEIGHTS = _EXTRA / "weights.json"
"""The name of the weight that each variable of a model holds (models/warm_start.py)."""
REQUEST = _EXTRA / "request.json"
"""A body for the REST API's `:predict`, with one real row."""
PUSH_RECORD = _EXTRA / "push.json"
"""Where a pushed version comes from (components/push/push_directory.py)."""
PROVENANCE = _EXTRA / "provenance.json"
"""Rows, config, code and libraries that a pushed version comes from (kubetfx/provenance.py)."""
PUSHED_GOLDEN_ROWS = _EXTRA / GOLDEN_ROWS
"""The golden rows that a pushed version was verified with; its promotion uses them again."""
WARMUP_REQUESTS = _EXTRA / "tf_serving_warmup_requests"
"""Requests that TensorFlow Serving replays before a version answers."""

BYTES_SUFFIX = "_bytes"
"""Suffix of the name of an input of bytes, such as encoded pictures: TensorFlow Serving's REST API expects base64
there.
"""
IMAGE_BYTES = f"image{BYTES_SUFFIX}"
"""Input of a model that takes images, and the column of a table that holds them."""
IMAGE_PATH = "path"
"""Column of a table with the path of each image, and feature of an image's tf.Example."""

CONTENT_HASH = "content_hash"
"""Column with the SHA-256 of each file; only examples from a folder of images have it."""

PIXELS = "pixels"
"""The network's input of an image: (batch, height, width, 3) float32, 0 to 255. Also its name in the signature
`network`."""


def split_folder(split: str) -> str:
    """Return the folder of a split in an examples or statistics artifact.

    Args:
        split: The name of the split, for example `train`.
    """
    return f"Split-{split}"


TIMES = "times:"
"""Prefix of the statistics of a date column's points in time, in seconds since 1970."""

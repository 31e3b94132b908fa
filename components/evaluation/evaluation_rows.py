"""The evaluation split as metrics need it: labels, what each model says, and the columns of the slices, in blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kubetfx.models.features import LABEL
from kubetfx.serving.saved_model import SavedModel, SessionOptions

Array = np.ndarray[Any, Any]

BATCH_ROWS = 8_192
IMAGE_BATCH_ROWS = 64
"""Of images, whose network computes more for each than memory would hold for thousands."""
BLOCK_CELLS = 2**22
"""Rows times outputs of a block, about: a metric takes its time for each block, and memory for each cell."""

_EXAMPLES, _TRANSFORM = "serving_examples", "transform_features"
_OPTIONS = SessionOptions(scheduling="pool")
"""Operations on thousands of rows are worth running beside each other."""


def files_of(split: str) -> list[str]:
    """The files of a split.

    Args:
        split: folder of the artifact's split.
    """
    return sorted(tf.io.gfile.glob(f"{split}/*"))


@dataclass(frozen=True)
class Block:
    """Some rows."""

    labels: Mapping[str, Array]
    """By name of the model: (rows,) index of the class, or number."""
    predictions: Mapping[str, Array]
    """By name of the model: (rows, classes) probabilities, or (rows,) numbers."""
    columns: Mapping[str, Array]
    """Of the slices: (rows,) object, None where a cell is missing."""

    @property
    def num_cells(self) -> int:
        """Rows times outputs, of the first model."""
        return next(iter(self.predictions.values())).size


class Models:
    """Models that answer rows."""

    def __init__(self, saved_models: Mapping[str, Path], *, output: str, columns: Sequence[str]) -> None:
        """Load them.

        Args:
            saved_models: folder of each by its name.
            output: `probabilities` or `value`.
            columns: to read beside the answers.
        """
        self._models = {
            name: SavedModel(path, _OPTIONS, only=(_EXAMPLES, _TRANSFORM)) for name, path in saved_models.items()
        }
        self._output = output
        self._columns = columns
        is_image = any(model.facts and model.facts.image for model in self._models.values())
        self._batch_rows = IMAGE_BATCH_ROWS if is_image else BATCH_ROWS

    def blocks(self, files: Sequence[str]) -> Iterator[Block]:
        """The rows of files, in blocks of about BLOCK_CELLS.

        Args:
            files: gzipped TFRecords of tf.Examples.
        """
        readers = {name: _ColumnReader(name) for name in self._columns}
        waiting: list[Block] = []
        num_cells = 0
        for examples in tf.data.TFRecordDataset(sorted(files), "GZIP").batch(self._batch_rows).prefetch(2):
            waiting.append(self._answer(examples, readers))
            num_cells += waiting[-1].num_cells
            if num_cells >= BLOCK_CELLS:
                yield _joined(waiting)
                waiting, num_cells = [], 0
        if waiting:
            yield _joined(waiting)

    def _answer(self, examples: tf.Tensor, readers: Mapping[str, "_ColumnReader"]) -> Block:
        labels, predictions = {}, {}
        for name, model in self._models.items():
            rows = {"examples": examples.numpy()}
            predictions[name] = model.signature(_EXAMPLES)(rows, [self._output])[self._output]
            labels[name] = model.signature(_TRANSFORM)(rows, [LABEL])[LABEL].reshape(-1)
        return Block(labels, predictions, {column: reader.cells(examples) for column, reader in readers.items()})


def _joined(blocks: Sequence[Block]) -> Block:
    def of_all(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return Block(
        of_all([block.labels for block in blocks]),
        of_all([block.predictions for block in blocks]),
        of_all([block.columns for block in blocks]),
    )


class _ColumnReader:
    """Reads the raw cells of a column, whose type only the examples say."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._dtypes: tuple[tf.DType, ...] = (tf.string, tf.int64, tf.float32)

    def cells(self, examples: tf.Tensor) -> Array:
        """The cells (rows,) object of serialized tf.Examples; None where one is missing."""
        block = np.full(len(examples), None, object)
        for dtype in self._dtypes:
            try:
                found = tf.io.parse_example(examples, {self._name: tf.io.VarLenFeature(dtype)})[self._name]
            except tf.errors.InvalidArgumentError:  # another type
                continue
            values = found.values.numpy()
            if len(values):
                self._dtypes = (dtype,)
            block[found.indices.numpy()[:, 0]] = values.astype(object)
            break
        return block

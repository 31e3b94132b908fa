"""The evaluation split as metrics need it: labels, what each model says, and the columns of the slices, in blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.examples import RowGroup

Array = np.ndarray[Any, Any]

BATCH_ROWS = 8_192
IMAGE_BATCH_ROWS = 64
"""Of images, whose network computes more for each than memory would hold for thousands."""
BLOCK_CELLS = 2**22
"""Rows times outputs of a block, about: a metric takes its time for each block, and memory for each cell."""


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

    def __init__(self, saved_models: Mapping[str, Path], *, columns: Sequence[str]) -> None:
        """Load them.

        Args:
            saved_models: folder of each by its name.
            columns: to read beside the answers.
        """
        self._models = {name: AskedModel(path) for name, path in saved_models.items()}
        self._columns = columns
        is_image = any(model.facts.image for model in self._models.values())
        self._batch_rows = IMAGE_BATCH_ROWS if is_image else BATCH_ROWS

    def blocks(self, group: RowGroup) -> Iterator[Block]:
        """Ask the models for the rows of a row group.

        Args:
            group: of examples.

        Yields:
            Blocks of about BLOCK_CELLS.
        """
        waiting: list[Block] = []
        rows = group.read(columns_to_read(self._models.values(), self._columns))
        for start in range(0, rows.num_rows, self._batch_rows):
            waiting.append(self._answer(rows.slice(start, self._batch_rows)))
            if sum(block.num_cells for block in waiting) >= BLOCK_CELLS:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)

    def _answer(self, rows: pa.RecordBatch) -> Block:
        labels, predictions = {}, {}
        for name, model in self._models.items():
            labels[name], predictions[name] = model.ask(rows)
        return Block(labels, predictions, {column: _cells(rows.column(column)) for column in self._columns})


def _joined(blocks: Sequence[Block]) -> Block:
    def of_all(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return Block(
        of_all([block.labels for block in blocks]),
        of_all([block.predictions for block in blocks]),
        of_all([block.columns for block in blocks]),
    )


def _cells(array: pa.Array) -> Array:
    """(rows,) object: text as bytes, as TFMA has it; None where a cell is missing."""
    if pa.types.is_string(array.type):
        array = array.cast(pa.binary())
    encoded = array.dictionary_encode()
    values = np.array([*encoded.dictionary.to_pylist(), None], object)
    cells: Array = values[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()]
    return cells

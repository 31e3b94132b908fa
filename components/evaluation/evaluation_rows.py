"""The evaluation split in blocks for metrics: labels, predictions of each model, and the columns of the slices."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.components.evaluation.baselines import Baseline
from kubetfx.components.evaluation.slices import cells_of
from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.examples import RowGroup
from kubetfx.models.row_weights import weights_of

Array = np.ndarray[Any, Any]

BATCH_ROWS = 8_192
IMAGE_BATCH_ROWS = 64
"""Rows per block of images, since the network's activations for thousands of them would not fit in memory."""
BLOCK_CELLS = 2**22
"""Approximate number of rows times outputs in a block: a metric takes time per block, and memory per cell."""


@dataclass(frozen=True)
class Block:
    """Some rows."""

    labels: Mapping[str, Array]
    """By name of the model or baseline: (rows,) index of the class, or number."""
    predictions: Mapping[str, Array]
    """By name of the model or baseline: (rows, classes) probabilities, or (rows,) numbers."""
    columns: Mapping[str, Array]
    """Columns of the slices: (rows,) object, None if a cell is missing."""
    order: Array
    """(rows,) random numbers for sampling, which do not depend on where the rows are read."""
    weights: Array
    """(rows,) float64, the weight of each row."""

    @property
    def num_cells(self) -> int:
        """Rows times outputs of the first model."""
        return next(iter(self.predictions.values())).size


class Models:
    """Models that predict for rows."""

    def __init__(
        self,
        saved_models: Mapping[str, Path],
        *,
        baselines: Mapping[str, Baseline],
        columns: Sequence[str],
        weight: str | None,
    ) -> None:
        """Load the models.

        Args:
            saved_models: The folders of the models by name; the first is the candidate.
            baselines: Baselines by name, which take the features of the candidate.
            columns: The columns to read in addition.
            weight: The column of row weights; None: each row counts once.
        """
        self._weight = weight
        self._baselines = baselines
        self._models = {name: AskedModel(path) for name, path in saved_models.items()}
        self._columns = columns
        is_image = any(model.facts.image for model in self._models.values())
        self._batch_rows = IMAGE_BATCH_ROWS if is_image else BATCH_ROWS

    def blocks(self, group: RowGroup) -> Iterator[Block]:
        """Predict for the rows of a row group.

        Args:
            group: The row group of examples.

        Yields:
            Blocks of about BLOCK_CELLS.
        """
        waiting: list[Block] = []
        others = [*self._columns, *([self._weight] if self._weight else [])]
        rows = group.read(columns_to_read(self._models.values(), others))
        order = np.random.default_rng([zlib.crc32(Path(group.file).name.encode()), group.number]).random(rows.num_rows)
        for start in range(0, rows.num_rows, self._batch_rows):
            batch = slice(start, start + self._batch_rows)
            waiting.append(self._answer(rows.slice(start, self._batch_rows), order[batch]))
            if sum(block.num_cells for block in waiting) >= BLOCK_CELLS:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)

    def _answer(self, rows: pa.RecordBatch, order: Array) -> Block:
        found = {name: model.ask(rows) for name, model in self._models.items()}
        labels = {name: own for name, (own, _, _) in found.items()}
        predictions = {name: outputs for name, (_, outputs, _) in found.items()}
        of_candidate, _, features = next(iter(found.values()))
        for name, baseline in self._baselines.items():
            labels[name], predictions[name] = of_candidate, baseline.predict(features, rows.num_rows)
        columns = {column: cells_of(rows.column(column)) for column in self._columns}
        return Block(labels, predictions, columns, order, weights_of(rows, self._weight))


def _joined(blocks: Sequence[Block]) -> Block:
    def of_all(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return Block(
        of_all([block.labels for block in blocks]),
        of_all([block.predictions for block in blocks]),
        of_all([block.columns for block in blocks]),
        np.concatenate([block.order for block in blocks]),
        np.concatenate([block.weights for block in blocks]),
    )

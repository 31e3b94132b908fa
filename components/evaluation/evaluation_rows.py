"""The evaluation split in blocks for metrics: labels, predictions of each model, and the columns of the slices."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.components.evaluation.baselines import Baseline
from kubetfx.components.evaluation.kept_answers import Answers, KeptAnswers
from kubetfx.components.evaluation.slices import cells_of
from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.examples import RowGroup
from kubetfx.models.row_weights import weights_of

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
        kept: KeptAnswers | None = None,
    ) -> None:
        """Load the models.

        Args:
            saved_models: The folders of the models by name; the first is the candidate.
            baselines: Baselines by name, which take the features of the candidate.
            columns: The columns to read in addition.
            weight: The column of row weights; None: each row counts once.
            kept: Answers of earlier runs. The candidate is asked in any case, since baselines take its features.
        """
        self._kept = kept
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
        known = self._kept.of(group) if self._kept else {}
        asked: dict[str, list[Answers]] = {name: [] for name in self._models}
        waiting: list[Block] = []
        others = [*self._columns, *([self._weight] if self._weight else [])]
        rows = group.read(columns_to_read(self._models.values(), others))
        order = np.random.default_rng([zlib.crc32(Path(group.file).name.encode()), group.number]).random(rows.num_rows)
        for start in range(0, rows.num_rows, self._batch_rows):
            batch = slice(start, start + self._batch_rows)
            before = {name: (labels[batch], outputs[batch]) for name, (labels, outputs) in known.items()}
            block = self._answer(rows.slice(start, self._batch_rows), order[batch], before)
            for name, answers in asked.items():
                answers.append((block.labels[name], block.predictions[name]))
            waiting.append(block)
            if sum(block.num_cells for block in waiting) >= BLOCK_CELLS:
                yield _joined(waiting)
                waiting = []
        if waiting:
            yield _joined(waiting)
        if self._kept and known.keys() < asked.keys():
            self._kept.keep(group, {name: _concatenated(answers) for name, answers in asked.items()})

    def _answer(self, rows: pa.RecordBatch, order: Array, known: Mapping[str, Answers]) -> Block:
        candidate = next(iter(self._models))
        of_candidate, outputs, features = self._models[candidate].ask(rows)
        labels, predictions = {candidate: of_candidate}, {candidate: outputs}
        for name, model in self._models.items():
            if name != candidate:
                labels[name], predictions[name] = known.get(name) or model.ask(rows)[:2]
        for name, baseline in self._baselines.items():
            labels[name], predictions[name] = of_candidate, baseline.predict(features, rows.num_rows)
        columns = {column: cells_of(rows.column(column)) for column in self._columns}
        return Block(labels, predictions, columns, order, weights_of(rows, self._weight))


def _concatenated(answers: Sequence[Answers]) -> Answers:
    labels, outputs = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    return labels, outputs


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

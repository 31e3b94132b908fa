"""Evaluates models: every metric of every slice and model is added up over blocks of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.data.block_work import BlockWork
from kubetfx.components.evaluation.baselines import Baseline
from kubetfx.components.evaluation.confusion import ConfusionMatrix
from kubetfx.components.evaluation.evaluation_result import COUNT
from kubetfx.components.evaluation.evaluation_rows import Block, Models
from kubetfx.components.evaluation.kept_answers import KeptAnswers
from kubetfx.components.evaluation.metric import Accumulator, Sums
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.evaluation.row_sample import Drawn
from kubetfx.components.evaluation.slices import OVERALL, SliceKey, rows_by_slice
from kubetfx.config.metric_catalogue import Task
from kubetfx.models.examples import RowGroup
from kubetfx.storage import folder_here

Values = dict[SliceKey, dict[str, dict[str, float]]]
"""Values of the metrics, by slice, model and name."""
Place = tuple[SliceKey, str, str]
States = dict[Place | Literal["drawn"], Any]
"""States of the accumulators, by slice, model and metric; and the sample."""

_CONFUSION = "confusion"
_DRAWN: Literal["drawn"] = "drawn"


@dataclass(frozen=True)
class Request:
    """A request for an evaluation. It can be pickled."""

    saved_models: Mapping[str, Path]
    """Folders of the models by name; the first is the candidate."""
    task: Task
    metrics: Sequence[str]
    slices: Sequence[tuple[str, ...]]
    """Columns of each kind of slice."""
    top_k: int = 1
    """`model.top_k`, for a model of images."""
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    """Baselines of the candidate besides the other models, by name."""
    weight: str | None = None
    """The column of row weights; None: each row counts once."""
    kept: KeptAnswers | None = None
    """Answers of the models in earlier runs."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Paths or URLs of the models, as workers see them, where those differ from `saved_models`."""

    def load_models(self) -> Models:
        """Return the models, ready to be asked."""
        columns = sorted({column for spec in self.slices for column in spec})
        folders = {name: folder_here(self.places.get(name, str(path))) for name, path in self.saved_models.items()}
        return Models(folders, baselines=self.baselines, columns=columns, weight=self.weight, kept=self.kept)

    def accumulator(self, metric: str) -> Accumulator:
        """Return a new accumulator of a metric.

        Args:
            metric: its name.
        """
        return find_metric(metric, task=self.task).make_accumulator(top_k=self.top_k)


@dataclass(frozen=True)
class Outcome:
    """The result of an evaluation."""

    values: Values
    drawn: Drawn | None
    """A sample of the rows; None if there are none."""
    confusion: Array | None = None
    """(classes, classes) the candidate's confusion matrix, for a classification; int64 unless rows have weights. Rows
    are true classes, columns predicted ones.
    """


class _RowCount(Sums):
    def terms(self, labels: Array, predictions: Array) -> Array:
        return np.ones((len(labels), 1))

    def of_state(self, state: Array) -> Array:
        return state[..., 0]


class Evaluation(BlockWork[RowGroup, Block, States, Outcome]):
    """All metrics of all slices and models: the states of their accumulators."""

    def __init__(self, request: Request) -> None:
        """Store the request; nothing is loaded yet.

        Args:
            request: What to evaluate.
        """
        self.request = request

    def setup(self) -> None:
        """Load the models."""
        self._models = self.request.load_models()

    @cached_property
    def _accumulators(self) -> dict[str, Accumulator]:
        """Return the accumulators by metric.

        They are made where they are used, so that the user's own metrics need not be pickled.
        """
        made = {name: self.request.accumulator(name) for name in self.request.metrics}
        confusion = {_CONFUSION: ConfusionMatrix()} if self.request.task == "classification" else {}
        return {COUNT: _RowCount(), **made, **confusion}

    def blocks(self, item: RowGroup) -> Iterator[Block]:
        """Return the rows of a row group with the models' predictions."""
        return self._models.blocks(item)

    def create(self) -> States:
        """Return the state of no slices, whose states are made with its first rows."""
        return {}

    def add_block(self, state: States, block: Block) -> States:
        """Add the rows to every slice that they are in."""
        result = dict(state)
        drawn = Drawn(block.order, block.labels[self._candidate], block.predictions, block.weights)
        result[_DRAWN] = drawn.joined(state.get(_DRAWN))
        slices: list[tuple[SliceKey, Any]] = [
            (OVERALL, slice(None)),
            *rows_by_slice(self.request.slices, block.columns),
        ]
        for key, rows in slices:
            for model in block.labels if key == OVERALL else self.request.saved_models:
                labels, predictions = block.labels[model][rows], block.predictions[model][rows]
                weights = block.weights[rows]
                for name in self._names(key, model):
                    accumulator = self._accumulators[name]
                    place = (key, model, name)
                    before = result[place] if place in result else accumulator.create()
                    counted = np.ones(len(labels)) if name == COUNT else weights
                    result[place] = accumulator.add_block(before, labels, predictions, counted)
        return result

    def merge(self, first: States, second: States) -> States:
        """Merge the states of the slices that both have."""
        both = {place: self._merged(place, first[place], second[place]) for place in first.keys() & second.keys()}
        return {**first, **second, **both}

    def _merged(self, place: Place | Literal["drawn"], first: Any, second: Any) -> Any:
        return first.joined(second) if place == _DRAWN else self._accumulators[place[2]].merge(first, second)

    def result(self, state: States) -> Outcome:
        """Return the metrics of all slices."""
        values: Values = {}
        confusion = None
        for place, own in state.items():
            if place == _DRAWN:
                continue
            key, model, name = place
            found = self._accumulators[name].result(own)
            if name == _CONFUSION:
                confusion = found if self.request.weight else found.astype(np.int64)
            else:
                values.setdefault(key, {}).setdefault(model, {})[name] = float(found)
        return Outcome(values, state.get(_DRAWN), confusion)

    @property
    def _candidate(self) -> str:
        return next(iter(self.request.saved_models))

    def _names(self, key: SliceKey, model: str) -> Iterator[str]:
        """Return the names of a slice's metrics.

        A confusion matrix, which is large, is only made of all rows for the candidate.
        """
        has_confusion = key == OVERALL and model == self._candidate
        return (name for name in self._accumulators if name != _CONFUSION or has_confusion)

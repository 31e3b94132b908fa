"""Two runs side by side: metrics, slices, training, and where their configs differ."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubetfx.components.report.facts import Data, Facts, Training
from kubetfx.config.metric_catalogue import Better, better_of
from kubetfx.run_record import RunRecord


@dataclass(frozen=True)
class Pair:
    """A figure of both runs; None where a run has none."""

    name: str
    first: float | None
    second: float | None
    lower_is_better: bool = False
    judged: bool = True
    """Whether more, or less, is better."""

    @property
    def difference(self) -> float | None:
        """The second less the first."""
        return None if self.first is None or self.second is None else self.second - self.first

    @property
    def is_better(self) -> bool | None:
        """Whether the second is better; None if they are equal, one is missing, or the direction is unknown."""
        return None if not self.difference or not self.judged else (self.difference < 0) == self.lower_is_better


@dataclass(frozen=True)
class ConfigDifference:
    """A key whose value differs."""

    key: str
    """Dotted."""
    first: str
    second: str


@dataclass(frozen=True)
class Side:
    """One of the runs."""

    record: RunRecord
    facts: Facts | None

    @property
    def training(self) -> Training | None:
        """Its training, if it came so far."""
        return self.facts.training if self.facts else None

    @property
    def better(self) -> dict[str, Better]:
        """Which values of its metrics are better."""
        evaluation = self.facts.evaluation if self.facts else None
        metrics = evaluation.metrics if evaluation else []
        return {metric.name: "lower" if metric.lower_is_better else "higher" for metric in metrics}


@dataclass(frozen=True)
class Comparison:
    """A comparison of two runs."""

    first: Side
    second: Side
    metrics: list[Pair]
    training: list[Pair]
    slices_by: str | None
    """The metric that the slices are compared by; None if the runs have no slices."""
    slices: list[Pair]
    """Slices, the one that worsened most first."""
    config: list[ConfigDifference]

    @property
    def has_other_data(self) -> bool:
        """Whether the metrics are from different rows, so that a difference need not come from the model.

        The facts about the rows decide, since fingerprints depend on the time of the files.
        """
        first, second = (side.facts.data if side.facts else None for side in (self.first, self.second))
        if first is None or second is None or first.sampled_rows != second.sampled_rows:
            return False
        return not _are_alike(*(_of_rows(data) for data in (first, second)))


def _of_rows(data: Data) -> list[object]:
    columns = {
        column.name: {name: split.model_dump() for name, split in column.splits.items()} for column in data.columns
    }
    return [[split.model_dump() for split in data.splits], columns]


def _are_alike(first: object, second: object) -> bool:
    """Return whether they are equal except for the last digits of sums, whose order depends on Beam."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_are_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_are_alike, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-5, abs_tol=1e-9)
    return first == second


def compare(first: Side, second: Side) -> Comparison:
    """Return two runs side by side, with what differs.

    Args:
        first: a run.
        second: the run that is measured against it.
    """
    better = first.better | second.better
    slices_by, slices = _slices(first, second, better)
    return Comparison(
        first=first,
        second=second,
        metrics=list(_pairs(first.record.metrics, second.record.metrics, better)),
        training=list(_pairs(_of_training(first), _of_training(second), {})),
        slices_by=slices_by,
        slices=slices,
        config=list(config_differences(first.record.config, second.record.config)),
    )


def _pairs(first: Mapping[str, float], second: Mapping[str, float], better: Mapping[str, Better]) -> Iterator[Pair]:
    for name in dict.fromkeys([*first, *second]):
        lower = better_of(name, better) == "lower" or name in _LESS_IS_BETTER
        yield Pair(name, first.get(name), second.get(name), lower, judged=name not in _NEITHER)


_LESS_IS_BETTER = frozenset({"validation loss", "seconds per epoch"})
_NEITHER = frozenset({"example_count", "epochs", "best epoch", "parameters"})


def _of_training(side: Side) -> dict[str, float]:
    training = side.training
    if training is None:
        return {}
    found: dict[str, float | None] = {
        "epochs": training.epochs,
        "best epoch": training.best_epoch,
        "validation loss": min(training.history.get("val_loss", []), default=None),
        "seconds per epoch": sum(training.seconds) / len(training.seconds) if training.seconds else None,
        "parameters": training.parameters,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _slices(first: Side, second: Side, better: Mapping[str, Better]) -> tuple[str | None, list[Pair]]:
    evaluations = [side.facts.evaluation for side in (first, second) if side.facts and side.facts.evaluation]
    if len(evaluations) < 2 or not any(evaluation.slices for evaluation in evaluations):
        return None, []
    metric = evaluations[1].ranked_by
    values = [{one.name: one.metrics.get(metric) for one in evaluation.slices} for evaluation in evaluations]
    lower = better_of(metric, better) == "lower"
    pairs = [Pair(name, values[0].get(name), values[1].get(name), lower) for name in {**values[0], **values[1]}]

    def change(pair: Pair) -> tuple[bool, float, str]:
        worse = (pair.difference or 0.0) * (1 if lower else -1)
        return pair.difference is None, -worse, pair.name

    return metric, sorted(pairs, key=change)


def config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[ConfigDifference]:
    """Yield the keys whose values differ, by their dotted paths. A key that is missing is like one without a value.

    Args:
        first: the config of a run, as its record has it.
        second: The config of the other run.
    """
    flat_first, flat_second = dict(_flat(first)), dict(_flat(second))
    for key in dict.fromkeys([*flat_first, *flat_second]):
        values = flat_first.get(key), flat_second.get(key)
        if values[0] != values[1]:
            yield ConfigDifference(key, *map(_shown, values))


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)

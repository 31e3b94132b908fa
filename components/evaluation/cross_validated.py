"""The result of cross-validation, as it is stored and displayed. It uses neither TensorFlow nor TFX."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kubetfx.artifacts import CROSS_VALIDATION, FOLD
from kubetfx.components.evaluation.evaluation_result import COUNT
from kubetfx.config.metric_catalogue import CROSS_VALIDATED_PREFIX, describe

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class FoldMetrics:
    """Metrics of a fold's model on the held-out rows."""

    fold: int
    """From 0."""
    repeat: int
    """From 0."""
    rows: dict[str, int]
    """Number of rows by split; `eval` is the held-out one."""
    metrics: dict[str, float]
    """The metrics that are defined."""
    classes_without_training_rows: list[str] = field(default_factory=list)
    """Classes that occur only in the held-out rows."""


@dataclass(frozen=True)
class Spread:
    """A metric over folds."""

    mean: float
    deviation: float | None
    """Standard deviation over the folds; None if only one fold has the metric."""
    lower: float | None
    """Bounds of a 95 % interval of the mean."""
    upper: float | None
    folds: int
    """Number of folds that have the metric."""


@dataclass(frozen=True)
class CrossValidated:
    """Metrics of all folds."""

    folds: list[FoldMetrics]
    """The folds by repeat and fold."""
    rule: str
    """How rows were assigned to folds, in words."""

    @property
    def metrics(self) -> dict[str, Spread]:
        """By name of the metric, over all folds."""
        names = dict.fromkeys(name for one in self.folds for name in one.metrics if name != COUNT)
        return {name: self._spread(name) for name in names}

    def means(self, names: Iterable[str]) -> dict[str, float]:
        """Return means over folds as separate metrics.

        Args:
            names: The names of the metrics, which begin with CROSS_VALIDATED_PREFIX.

        Returns:
            The means by name; NaN if no fold has the metric.
        """
        found = self.metrics
        own = {name: found.get(name.removeprefix(CROSS_VALIDATED_PREFIX)) for name in names}
        return {name: spread.mean if spread else math.nan for name, spread in own.items()}

    def _spread(self, name: str) -> Spread:
        folds = [one for one in self.folds if name in one.metrics]
        values = np.array([one.metrics[name] for one in folds])
        mean = float(values.mean())
        if len(values) < 2:
            return Spread(mean, None, None, None, len(values))
        held_out = np.mean([one.rows["eval"] / max(sum(one.rows.values()) - one.rows["eval"], 1) for one in folds])
        deviation = float(values.std(ddof=1))
        half = half_width(deviation, len(values), held_out=float(held_out))
        known = describe(name)
        lowest, highest = known.bounds if known else (-math.inf, math.inf)
        return Spread(mean, deviation, max(mean - half, lowest), min(mean + half, highest), len(values))

    @property
    def notes(self) -> list[str]:
        """Notes for readers of the metrics, in sentences."""
        return [
            f"{name} has no training row of {', '.join(map(repr, one.classes_without_training_rows))}: all of its rows "
            "are in this fold."
            for name, one in zip(self.names, self.folds, strict=True)
            if one.classes_without_training_rows
        ]

    @property
    def names(self) -> list[str]:
        """Names of the folds, counted from 1."""
        repeats = len({one.repeat for one in self.folds}) > 1
        return [f"Fold {one.fold + 1}" + f" of repeat {one.repeat + 1}" * repeats for one in self.folds]


def half_width(deviation: float, number: int, *, held_out: float) -> float:
    """Return half the width of the 95 % interval of a mean over folds.

    Folds share training rows, so that their metrics vary less than those of new tables would. The variance of the mean
    is corrected for this: C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.

    Args:
        deviation: The standard deviation over the folds.
        number: The number of folds, at least two.
        held_out: The number of held-out rows per training row.
    """
    from scipy.special import stdtrit  # Student's distribution; scipy.stats takes a second to import

    quantile = float(stdtrit(number - 1, (1 + _CONFIDENCE) / 2))
    return quantile * deviation * math.sqrt(1 / number + held_out)


def write_fold(folder: Path, found: FoldMetrics) -> None:
    """Write the metrics of a fold into its artifact.

    Args:
        folder: The folder of the artifact.
        found: The metrics.
    """
    (folder / FOLD).write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")


def read_fold(folder: Path) -> FoldMetrics:
    """Return the metrics of a fold.

    Args:
        folder: The folder of its artifact.
    """
    return FoldMetrics(**json.loads((folder / FOLD).read_text(encoding="utf-8")))


def write(folder: Path, folds: Sequence[FoldMetrics], *, rule: str) -> CrossValidated:
    """Combine folds, and write the result into an artifact.

    Args:
        folder: The folder of the artifact.
        folds: The folds of all repeats.
        rule: How rows were assigned to folds, in words.

    Returns:
        All of them, in their order.
    """
    found = CrossValidated(sorted(folds, key=lambda one: (one.repeat, one.fold)), rule)
    document = {**asdict(found), "metrics": {name: asdict(spread) for name, spread in found.metrics.items()}}
    (folder / CROSS_VALIDATION).write_text(json.dumps(document, indent=1), encoding="utf-8")
    return found


def read(folder: Path) -> CrossValidated:
    """Return the result of cross-validation.

    Args:
        folder: The folder of its artifact.
    """
    document: Mapping[str, Any] = json.loads((folder / CROSS_VALIDATION).read_text(encoding="utf-8"))
    return CrossValidated([FoldMetrics(**one) for one in document["folds"]], document["rule"])

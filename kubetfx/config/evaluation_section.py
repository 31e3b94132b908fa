"""The section `evaluation`: metrics, thresholds, slices and the robustness check."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.cross_validation_section import CrossValidationConfig
from kubetfx.config.metric_catalogue import (
    CALIBRATION_ERROR,
    CATALOGUE,
    CROSS_VALIDATED_PREFIX,
    ROBUSTNESS_PREFIX,
    Better,
    Description,
    Task,
    default_names,
    is_reference,
    names_for,
)
from kubetfx.config.section import Section


class Bounds(Section):
    """Bounds of a metric. A model that violates one is not blessed."""

    at_least: float | None = None
    """Lower bound of the metric's value."""
    at_most: float | None = None
    """Upper bound of the metric's value."""
    worse_by_at_most: float | None = Field(None, ge=0)
    """How much worse the metric may be than that of the currently served model, in the metric's own unit. Always passes
    if nothing is served yet.
    """

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if not self._asks:
            raise ValueError(f"a threshold needs {', '.join(self._keys[:-1])} or {self._keys[-1]}")
        return self

    @property
    def _keys(self) -> list[str]:
        return list(type(self).model_fields)

    @property
    def _asks(self) -> bool:
        return any(bound is not None for bound in (self.at_least, self.at_most, self.worse_by_at_most))

    def wrong_side(self, better: Better) -> str | None:
        """Explain what is wrong with a bound that only bad models satisfy.

        Args:
            better: Whether higher or lower values are better.

        Returns:
            None if nothing is wrong.
        """
        wrong, right = ("at_most", "at_least") if better == "higher" else ("at_least", "at_most")
        value = getattr(self, wrong)
        if value is None:
            return None
        return f"{better} values are better, so the bound is {right}. Received: {wrong}: {value:g}"

    def out_of_reach(self, lowest: float, highest: float) -> str | None:
        """Explain what is wrong with a bound that no model can satisfy.

        Args:
            lowest: The lowest possible value of the metric.
            highest: The highest possible value.

        Returns:
            None if nothing is wrong.
        """
        is_low = self.at_most is not None and self.at_most < lowest
        is_high = self.at_least is not None and self.at_least > highest
        if not is_low and not is_high:
            return None
        values = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"of {lowest:g} or more"
        received = f"at_most: {self.at_most:g}" if is_low else f"at_least: {self.at_least:g}"
        percent = f". For {self.at_least:g} % say {self.at_least / 100:g}" if self.at_least and is_high else ""
        return f"its values are {values}, so no model passes. Received: {received}{percent}"


class Threshold(Bounds):
    """Bounds of a metric over all rows."""

    better_than_baseline: bool | Literal["linear"] = True
    """Whether the metric must be better than that of a constant prediction, the most frequent class or the mean of the
    training rows, by more than chance explains with 95 % confidence. `linear`: better than a linear model.
    """

    @property
    def _asks(self) -> bool:
        is_said = "better_than_baseline" in self.model_fields_set and self.better_than_baseline is not False
        return is_said or super()._asks


def problem_of(bound: Bounds, metric: Description) -> str | None:
    """Return what is wrong with the bound of a metric; None if nothing is.

    Args:
        bound: of the metric.
        metric: its description.
    """
    return bound.wrong_side(metric.better) or bound.out_of_reach(*metric.bounds)


class RobustnessConfig(Section):
    """Changes to the images of the evaluation split.

    The loss of accuracy by each change is a metric, named `drop_` plus the name and strength of the change, for example
    drop_blur_1.5; a threshold can bound it.
    """

    noise: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Standard deviations of noise, as fractions of the intensity of white."""
    blur: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Standard deviations of a Gaussian blur, in pixels of the network's input."""
    rotation: tuple[Annotated[float, Field(gt=0, le=180)], ...] = ()
    """Rotation angles in degrees."""
    jpeg: tuple[Annotated[int, Field(ge=1, le=100)], ...] = ()
    """Qualities of JPEG compression, 1 to 100."""
    fgsm: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Largest change of a pixel, as a fraction of the intensity of white, in one step against the label (fast gradient
    sign method).
    """
    max_images: int = Field(1_000, ge=1)
    """Number of images of the evaluation split that are changed; the first ones are taken."""

    @property
    def metrics(self) -> dict[str, tuple[str, float]]:
        """Kind and strength of each change, by metric."""
        kinds = ("noise", "blur", "rotation", "jpeg", "fgsm")
        return {
            f"{ROBUSTNESS_PREFIX}{kind}_{value:g}": (kind, value) for kind in kinds for value in getattr(self, kind)
        }


class EvaluationConfig(Section):
    """Metrics, and the thresholds that a model must meet to be pushed."""

    metrics: tuple[str, ...] = ()
    """Metrics to compute; one of your own as `module:attribute`. Empty: all of kubetfx's that fit the task."""
    thresholds: dict[str, Threshold] = {}
    """Bounds by metric. Empty: the first metric must be better than that of a constant, and at most 0.01 worse than
    that of the served model.
    """
    slices: tuple[str | tuple[str, ...], ...] | dict[str, dict[str, Bounds]] = ()
    """Columns, or combinations of columns, for whose values the metrics are also computed separately. For images: the
    label, `image_size`, `format`, `channels`, or a column of the table that lists the images. A mapping gives bounds
    for each value of a column: `{carrier: {accuracy: {at_least: 0.7}}}`. Slices of fewer than 30 rows are shown but not
        judged.
    """
    robustness: RobustnessConfig = RobustnessConfig()
    calibrate: bool = False
    """Calibrate the probabilities of a classifier by a temperature that the validation split chooses. The temperature
    is part of the exported model, and calibration_error is added to the metrics.
    """
    cross_validation: CrossValidationConfig | None = None
    """Cross-validation: also train and evaluate on folds of the whole table. None: no."""

    @model_validator(mode="after")
    def _bounds_are_on_the_right_side(self) -> Self:
        for place, bounds in self.bounds.items():
            for name, bound in bounds.items():
                metric = name.removeprefix(CROSS_VALIDATED_PREFIX)
                if metric in CATALOGUE and (problem := problem_of(bound, CATALOGUE[metric])):
                    raise ValueError(f"evaluation.{place}.{name}: {problem}")
        return self

    @model_validator(mode="after")
    def _means_of_folds_have_bounds_of_their_own(self) -> Self:
        for name in self.cross_validated:
            if self.cross_validation is None:
                raise ValueError(
                    f"evaluation.thresholds.{name} needs cross-validation. Received: no evaluation.cross_validation. "
                    f"Add it: "
                    "evaluation.cross_validation: {folds: 5}"
                )
            if is_reference(name):
                raise ValueError(
                    f"evaluation.thresholds.{name}: the mean over folds of a metric of your own cannot be bounded. "
                    f"Name one "
                    f"of kubetfx's, for example {CROSS_VALIDATED_PREFIX}accuracy"
                )
            threshold = self.thresholds[name]
            is_bounded = threshold.at_least is not None or threshold.at_most is not None
            if not is_bounded or threshold.worse_by_at_most is not None or threshold.better_than_baseline == "linear":
                raise ValueError(
                    f"evaluation.thresholds.{name}: the mean over folds can only be bounded by at_least and at_most. "
                    f"Received: {', '.join(sorted(threshold.model_fields_set))}"
                )
        return self

    @property
    def bounds(self) -> dict[str, Mapping[str, Bounds]]:
        """All bounds by metric, by the key that contains them: `thresholds`, `slices.COLUMN`."""
        return {
            "thresholds": self.thresholds,
            **{f"slices.{column}": bounds for column, bounds in self.slice_bounds.items()},
        }

    @property
    def slice_bounds(self) -> dict[str, dict[str, Bounds]]:
        """Bounds by metric, by the column that makes the slices."""
        return self.slices if isinstance(self.slices, dict) else {}

    @property
    def sliced(self) -> list[tuple[str, ...]]:
        """The columns of each set of slices."""
        return [(spec,) if isinstance(spec, str) else spec for spec in self.slices]

    @property
    def _named_metrics(self) -> list[str]:
        return list(dict.fromkeys([*self.metrics, *(name for bounds in self.bounds.values() for name in bounds)]))

    @property
    def of_folds(self) -> Self:
        """The section for the folds of cross-validation: the same metrics, but no thresholds.

        A new bound then changes no fold.
        """
        names = [name.removeprefix(CROSS_VALIDATED_PREFIX) for name in self.thresholds]
        thresholds = {
            name: Threshold(better_than_baseline=True) for name in names if not name.startswith(ROBUSTNESS_PREFIX)
        }
        return type(self)(metrics=self.metrics, thresholds=thresholds, calibrate=self.calibrate)

    @property
    def cross_validated(self) -> tuple[str, ...]:
        """The means over folds that have thresholds."""
        return tuple(name for name in self.thresholds if name.startswith(CROSS_VALIDATED_PREFIX))

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The user's own metrics, `module:attribute`."""
        return tuple(name for name in self._named_metrics if is_reference(name))

    def metric_names(self, task: Task, *, sees_images: bool = False) -> tuple[str, ...]:
        """Return the metrics that are computed from predictions: ours in the catalogue's order, then the user's own.

        Args:
            task: The task of the model.
            sees_images: Whether one of the model's columns holds images.
        """
        ours = names_for(task, sees_images=sees_images)
        defaults = () if self.metrics else default_names(task, sees_images=sees_images)
        of_folds = (name.removeprefix(CROSS_VALIDATED_PREFIX) for name in self.cross_validated)
        of_calibration = (CALIBRATION_ERROR,) if self.calibrate else ()
        wanted = {*defaults, *self._named_metrics, *of_folds, *of_calibration}
        return (*(name for name in ours if name in wanted), *self.own_metrics)

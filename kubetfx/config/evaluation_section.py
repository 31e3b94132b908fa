"""The section `evaluation`: metrics, thresholds, slices and the robustness check."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from kubetfx.config.metric_catalogue import CATALOGUE, ROBUSTNESS_PREFIX, Better, Task, is_reference, names_for
from kubetfx.config.section import Section


class Threshold(Section):
    """Bounds of a metric. A model that misses one is not blessed."""

    at_least: float | None = None
    """Lower bound of the metric's value."""
    at_most: float | None = None
    """Upper bound of the metric's value."""
    worse_by_at_most: float | None = Field(None, ge=0)
    """How much worse than the model that is served now, in the metric's own unit. Passes when nothing is served yet."""

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_least is None and self.at_most is None and self.worse_by_at_most is None:
            raise ValueError("a threshold needs at_least, at_most or worse_by_at_most")
        return self

    def wrong_side(self, better: Better) -> str | None:
        """Say what is wrong with a bound that lets only bad models pass.

        Args:
            better: which values of the metric are better.

        Returns:
            None: nothing is.
        """
        wrong, right = ("at_most", "at_least") if better == "higher" else ("at_least", "at_most")
        value = getattr(self, wrong)
        if value is None:
            return None
        return f"{better} values are better, so the bound is {right}. Received: {wrong}: {value:g}"


class RobustnessConfig(Section):
    """Changes to the images of the evaluation split. The accuracy that each costs is a metric, named `drop_` with the
    name and strength of the change, for example drop_blur_1.5; a threshold may bound it."""

    noise: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Standard deviations of noise, as a share of white."""
    blur: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Standard deviations of a Gaussian blur, in pixels of the network's input."""
    rotation: tuple[Annotated[float, Field(gt=0, le=180)], ...] = ()
    """Angles in degrees."""
    jpeg: tuple[Annotated[int, Field(ge=1, le=100)], ...] = ()
    """Qualities of JPEG compression, 1 to 100."""
    fgsm: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Largest change of a pixel, as a share of white, in one step against the label (fast gradient sign method)."""
    max_images: int = Field(1_000, ge=1)
    """Images of the evaluation split that are changed, the first ones."""

    @property
    def metrics(self) -> dict[str, tuple[str, float]]:
        """Kind and strength of each change, by metric."""
        kinds = ("noise", "blur", "rotation", "jpeg", "fgsm")
        return {
            f"{ROBUSTNESS_PREFIX}{kind}_{value:g}": (kind, value) for kind in kinds for value in getattr(self, kind)
        }


class EvaluationConfig(Section):
    """Metrics, and the thresholds that a model has to reach to be pushed."""

    metrics: tuple[str, ...] = ()
    """Metrics to compute; one of your own as `module:attribute`. Empty: all of kubetfx's that fit the task."""
    thresholds: dict[str, Threshold] = {}
    """Bounds by metric. Empty: only that the first metric is no more than 0.01 worse than that of the served model."""
    slices: tuple[str | tuple[str, ...], ...] = ()
    """Columns, or combinations of columns, by whose values the metrics are also computed. Of images: the label,
    `image_size`, `format`, `channels`, or a column of the table that lists them."""
    robustness: RobustnessConfig = RobustnessConfig()

    @model_validator(mode="after")
    def _bounds_are_on_the_right_side(self) -> Self:
        for name, threshold in self.thresholds.items():
            if name in CATALOGUE and (problem := threshold.wrong_side(CATALOGUE[name].better)):
                raise ValueError(f"evaluation.thresholds.{name}: {problem}")
        return self

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The metrics of the user's own, `module:attribute`."""
        return tuple(name for name in dict.fromkeys([*self.metrics, *self.thresholds]) if is_reference(name))

    def metric_names(self, task: Task, *, sees_images: bool = False) -> tuple[str, ...]:
        """Return the metrics that are computed from predictions: ours in the catalogue's order, then the user's own.

        Args:
            task: of the model.
            sees_images: whether one of the model's columns has images.
        """
        ours = names_for(task, sees_images=sees_images)
        wanted = {*(self.metrics or ours), *self.thresholds}
        return (*(name for name in ours if name in wanted), *self.own_metrics)

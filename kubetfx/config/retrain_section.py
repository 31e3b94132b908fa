"""The section `retrain`: when `kubetfx watch` runs the pipeline again."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.durations import Duration, duration
from kubetfx.config.section import Section

Trigger = Literal["new_span", "drift", "schedule"]


class RetrainConfig(Section):
    """When the pipeline runs again."""

    on: Annotated[tuple[Trigger, ...], Field(min_length=1)] = ("new_span",)
    """`new_span`: a span has arrived, or its files were rewritten; for data without spans, its files have changed.
    `drift`: served requests cross a bound of `monitoring`, and there is data that the last run did not have.
    `schedule`: the time `every` has passed since the last run began."""
    every: Duration | None = None
    """Interval of `schedule`, for example `7d`."""
    at_most: Duration | None = None
    """Minimum time between the starts of two runs, for example `1d`. None: a run starts as soon as there is a
    reason.
    """
    back_off: Duration = "10m"
    """Minimum delay after a failed run; it doubles with each further failure, up to a day."""

    @model_validator(mode="after")
    def _schedule_has_a_time(self) -> Self:
        if ("schedule" in self.on) != (self.every is not None):
            raise ValueError(
                "`on: [schedule]` and `every` go together. Received: "
                f"on: [{', '.join(self.on)}], every: {self.every}. For example on: [schedule], every: 7d"
            )
        if self.every and self.at_most and duration(self.every) < duration(self.at_most):
            raise ValueError(
                f"`at_most` is longer than `every`. Received: every: {self.every}, at_most: {self.at_most}. Make "
                "at_most shorter"
            )
        return self

"""The section `tuning`: which settings are tried, how many of them, and by which metric the best is chosen.

Whether the keys are there and take the values is checked by `PipelineConfig`, which has them.
"""

import math
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kubetfx.config.section import Section

TRIALS = 40
"""Trials where neither their number nor the minutes are given."""
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""SQLAlchemy's dialect and driver by the plain scheme of a URL."""


class Interval(Section):
    """Numbers between two others."""

    range: tuple[float, float] | None = None
    """The lowest and the highest number, both included: each is as likely as any other."""
    log: tuple[float, float] | None = None
    """The same of numbers whose size is what matters, such as a learning rate: [1e-4, 1e-2]."""
    step: float | None = Field(None, gt=0)
    """For `range`: only the lowest number and those so many steps above it."""

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if (self.range is None) == (self.log is None):
            raise ValueError("give `range: [lowest, highest]`, or `log: [lowest, highest]`, and not both")
        low, high = self.bounds
        if self.log and low <= 0:
            raise ValueError(
                f"log is of numbers above 0. Received: log: [{low:g}, {high:g}]. Take range, or begin above 0"
            )
        if low >= high:
            raise ValueError(
                f"there is nothing between the two numbers. Received: [{low:g}, {high:g}]. Give the lower one "
                "first, and a higher one"
            )
        if self.step is not None and self.log:
            raise ValueError(f"step is of range. Received: log, and step: {self.step:g}. Leave it out")
        if self.step is not None and self.step > high - low:
            raise ValueError(
                f"the step is longer than the range. Received: [{low:g}, {high:g}], step: {self.step:g}. Take a "
                "shorter one"
            )
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest number."""
        found = self.range or self.log
        assert found is not None
        return found

    @property
    def is_of_integers(self) -> bool:
        """Whether the numbers that it names are all whole."""
        return all(float(number).is_integer() for number in (*self.bounds, self.step or 1))


Values = Annotated[
    Annotated[Interval, Tag("Interval")] | Annotated[tuple[Any, ...], Tag("tuple[]")],
    Discriminator(lambda given: "tuple[]" if isinstance(given, list | tuple) else "Interval"),
]
"""For a key: numbers between two others, or a list to choose from."""


class TuningConfig(Section):
    """A search for better settings, between Transform and Trainer: each trial trains with some of them, and is judged
    by the validation split. The Trainer takes the best."""

    trials: int | None = Field(None, ge=1)
    """Settings that are tried at most. Default: 40; with `minutes`, as many as there is time for."""
    minutes: float | None = Field(None, gt=0)
    """No trial begins after so many minutes, and those that run are stopped."""
    metric: str | None = None
    """By which settings are compared, on the validation split. Default: the first of `evaluation.thresholds`, and
    without any cross_entropy, or root_mean_squared_error."""
    search: dict[str, Values] = {}
    """Values by dotted key of `model`, `training` or `features`: a list to choose from, `{range: [0, 0.5], step: 0.1}`,
    or `{log: [1e-4, 1e-2]}`. Default: a space that suits the data and the kind of the model."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: settings near the good ones become more likely (tree-structured Parzen estimator)."""
    pruner: Literal["hyperband", "none"] = "hyperband"
    """`hyperband`: trials that are behind others after the same number of epochs are stopped. `none`: all are trained
    to their end. Trials of `model.kind: auto` always are, and so are those that search for the kind."""
    parallel: int = Field(1, ge=1)
    """Trials at the same time: processes of this machine, which share its cores; on Kubeflow as many tasks, each like
    that of the Trainer, which needs `storage`."""
    storage: str | None = None
    """Database of the trials, for several machines: `postgresql://USER:${PASSWORD}@HOST/NAME`, or `mysql://...`;
    `${NAME}` is looked up when it is used. Default: a file of the workspace."""
    study: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
    """Name of the search in the storage. Default: made of the pipeline's name, the data, and all settings, so that the
    same command goes on with it and any other begins anew."""
    storage_timeout: float = Field(600, gt=0)
    """Seconds that a storage is waited for that no longer answers."""

    @field_validator("search")
    @classmethod
    def _has_values(cls, search: dict[str, Values]) -> dict[str, Values]:
        for key, values in search.items():
            if isinstance(values, tuple) and len(values) < 2:
                raise ValueError(
                    f"{key}: a choice has two values at least. Received: {list(values)}. Give more, or set {key} itself"
                )
        return search

    @field_validator("storage")
    @classmethod
    def _is_a_database(cls, storage: str | None) -> str | None:
        if storage is None:
            return None
        if "://" not in storage or urlsplit(storage).scheme not in (*DRIVERS, *DRIVERS.values()):
            raise ValueError(
                "a URL of PostgreSQL or MySQL is needed, postgresql://USER:${PASSWORD}@HOST/NAME for example. "
                f"Received: {storage.partition('://')[0] if '://' in storage else storage}. Leave it out for a "
                "file in the workspace"
            )
        password = urlsplit(storage).password
        if password and "${" not in password:
            raise ValueError(
                "a password in the file would be stored in clear. Received: a URL with one. Refer to it: "
                f"{storage.replace(f':{password}@', ':${PASSWORD}@', 1)}"
            )
        return storage

    @property
    def most_trials(self) -> float:
        """Trials at most; infinite where only the time is limited."""
        return self.trials or (TRIALS if self.minutes is None else math.inf)

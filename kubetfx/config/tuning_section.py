"""The section `tuning`: which settings are tried, how many of them, and by which metric the best is chosen.

Whether the keys are there and take the values is checked by `PipelineConfig`, which has them.
"""

import math
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kubetfx.config.section import Section

TRIALS = 40
"""Number of trials if neither their number nor the minutes are given."""
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""SQLAlchemy's dialect and driver, by the scheme of the URL."""


class Interval(Section):
    """An interval of numbers."""

    range: tuple[float, float] | None = None
    """The lowest and the highest number, both included, drawn uniformly."""
    log: tuple[float, float] | None = None
    """The same for numbers whose order of magnitude matters, such as a learning rate: [1e-4, 1e-2]."""
    step: float | None = Field(None, gt=0)
    """For `range`: the distance between two candidates, from the lowest number on."""

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if (self.range is None) == (self.log is None):
            raise ValueError("give either `range: [lowest, highest]` or `log: [lowest, highest]`")
        low, high = self.bounds
        if self.log and low <= 0:
            raise ValueError(
                f"log needs numbers above 0. Received: log: [{low:g}, {high:g}]. Use range, or begin above 0"
            )
        if low >= high:
            raise ValueError(
                f"the interval is empty. Received: [{low:g}, {high:g}]. Give the lower one first, and a higher one"
            )
        if self.step is not None and self.log:
            raise ValueError(f"step applies to range only. Received: log, and step: {self.step:g}. Leave it out")
        if self.step is not None and self.step > high - low:
            raise ValueError(
                f"the step is longer than the range. Received: [{low:g}, {high:g}], step: {self.step:g}. Use "
                "a shorter one"
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
        """Whether all of its numbers are whole."""
        return all(float(number).is_integer() for number in (*self.bounds, self.step or 1))


Values = Annotated[
    Annotated[Interval, Tag("Interval")] | Annotated[tuple[Any, ...], Tag("tuple[]")],
    Discriminator(lambda given: "tuple[]" if isinstance(given, list | tuple) else "Interval"),
]
"""The candidates of a key: an interval of numbers, or a list to choose from."""


class TuningConfig(Section):
    """A search for better settings, between Transform and Trainer.

    Each trial trains with a choice of settings, and is judged on the validation split. The Trainer uses the best.
    """

    trials: int | None = Field(None, ge=1)
    """Maximum number of trials. Default: 40; with `minutes`, as many as there is time for."""
    minutes: float | None = Field(None, gt=0)
    """Time limit: no trial begins after this many minutes, and running trials are stopped."""
    metric: str | None = None
    """The metric that compares settings, on the validation split. Default: the first of `evaluation.thresholds`;
    without thresholds, cross_entropy or root_mean_squared_error.
    """
    search: dict[str, Values] = {}
    """Values by dotted key of `model`, `training` or `features`: a list to choose from, `{range: [0, 0.5], step: 0.1}`,
    or `{log: [1e-4, 1e-2]}`. Default: a space that suits the data and the kind of the model."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: settings near the good ones become more likely (tree-structured Parzen estimator)."""
    pruner: Literal["hyperband", "none"] = "hyperband"
    """`hyperband`: trials that are worse than others after the same number of epochs are stopped. `none`: all are
    trained to their end, as trials of `model.kind: auto`, and those that search for the kind, always are.
    """
    parallel: int = Field(1, ge=1)
    """Number of parallel trials: processes on this machine, which share its cores; on Kubeflow, tasks like that of the
    Trainer, which requires `storage`.
    """
    storage: str | None = None
    """Database of the trials, for several machines: `postgresql://USER:${PASSWORD}@HOST/NAME`, or `mysql://...`;
    `${NAME}` is looked up when it is used. Default: a file of the workspace."""
    study: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
    """Name of the search in the storage. Default: derived from the pipeline's name, the data and all settings, so that
    the same command continues the search and any other starts a new one.
    """
    storage_timeout: float = Field(600, gt=0)
    """Seconds to wait for a storage that no longer answers."""

    @field_validator("search")
    @classmethod
    def _has_values(cls, search: dict[str, Values]) -> dict[str, Values]:
        for key, values in search.items():
            if isinstance(values, tuple) and len(values) < 2:
                raise ValueError(
                    f"{key}: a choice needs at least two values. Received: {list(values)}. Give more, or set {key} "
                    f"itself"
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
        """Maximum number of trials; infinite if only the time is limited."""
        return self.trials or (TRIALS if self.minutes is None else math.inf)

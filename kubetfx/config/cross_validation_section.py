"""The section `evaluation.cross_validation`: how the table is cut into folds."""

from typing import Self

from pydantic import Field, model_validator

from kubetfx.config.data_section import Splits
from kubetfx.config.metric_catalogue import Task
from kubetfx.config.section import Section


class CrossValidationConfig(Section):
    """All rows are cut into folds.

    Each fold is held out once, while a model is trained from scratch on the other rows. The mean of a metric over the
    folds is itself a metric, whose name has the prefix `cross_validated_`, for example cross_validated_auc; a threshold
    can bound it.
    """

    folds: int = Field(5, ge=2, le=1_000)
    """Number of folds, each of which costs one training."""
    stratified: bool | None = None
    """Whether each fold has the same shares of classes as the whole table. Default: true for a classification, unless
    the folds are ordered by time.
    """
    repeats: int = Field(1, ge=1, le=1_000)
    """How often the table is cut into folds, each time with another seed."""
    group: str | None = None
    """Rows with the same value of this column, such as one customer's, are in the same fold. Default: the column by
    which `data.splits` groups rows.
    """
    time: str | None = None
    """A column of numbers or dates. The folds follow each other in time, and each is predicted by a model trained on
    older rows only. The oldest rows are in no fold. Default: the column by which `data.splits` orders rows in time.
    """
    parallel: int | None = Field(None, ge=1)
    """Maximum number of folds processed at the same time. Default: on Kubeflow what the cluster has room for, on one
    machine what its cores allow.
    """

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.group is not None and self.time is not None:
            raise ValueError(
                f"folds are made either by group or by time. Received: group: {self.group}, time: {self.time}. Remove "
                f"one of them"
            )
        if self.time is not None and self.stratified:
            raise ValueError(f"folds by time are not stratified. Received: time: {self.time}, stratified: true")
        if self.time is not None and self.repeats > 1:
            raise ValueError(
                f"folds by time would be the same in each repeat. Received: time: {self.time}, repeats: "
                f"{self.repeats}. "
                "Leave out repeats"
            )
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Columns that determine the folds, by key."""
        return {key: name for key, name in (("group", self.group), ("time", self.time)) if name is not None}

    @property
    def num_trainings(self) -> int:
        """Number of trainings: the folds of all repeats."""
        return self.folds * self.repeats

    def time_column(self, splits: Splits) -> str | None:
        """Return the column that orders the folds in time; None if they are not ordered.

        Args:
            splits: `data.splits`, whose groups and times the folds inherit.
        """
        return splits.column if not self.columns and splits.by == "time" else self.time

    def resolved(self, splits: Splits, task: Task) -> Self:
        """Return the section with its defaults filled in.

        Args:
            splits: `data.splits`, whose groups and times the folds inherit.
            task: The task of the model.

        Raises:
            ValueError: a default that is filled in contradicts the rest.
        """
        filled = {splits.by: splits.column} if not self.columns and splits.by in ("group", "time") else {}
        by_time = self.time_column(splits) is not None
        stratified = self.stratified if self.stratified is not None else task == "classification" and not by_time
        return type(self).model_validate(self.model_dump() | filled | {"stratified": stratified})

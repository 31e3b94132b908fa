"""The section `evaluation.cross_validation`: how the table is cut into folds."""

from typing import Self

from pydantic import Field, model_validator

from kubetfx.config.data_section import Splits
from kubetfx.config.metric_catalogue import Task
from kubetfx.config.section import Section


class CrossValidationConfig(Section):
    """All rows are cut into folds. Each fold is held out once, while the other rows are analyzed and trained on anew.
    The mean of a metric over the folds is the metric `cross_validated_` and its name, for example
    cross_validated_auc; a threshold may bound it."""

    folds: int = Field(5, ge=2, le=1_000)
    """Parts of the table, and trainings."""
    stratified: bool | None = None
    """Whether each fold has the classes in the shares of the whole table. Default: for a classification, unless folds
    are ordered by time."""
    repeats: int = Field(1, ge=1, le=1_000)
    """How often the table is cut anew, by other random numbers."""
    group: str | None = None
    """Rows with one value of this column, such as a customer, are in one fold. Default: the column by whose groups
    `data.splits` splits."""
    time: str | None = None
    """A column of numbers or dates. The folds follow each other in time, and a fold is predicted by a model of older
    rows alone. The oldest rows are in no fold. Default: the column by whose times `data.splits` splits."""
    parallel: int | None = Field(None, ge=1)
    """Folds that are worked on at the same time. Default: on Kubeflow as many as the cluster has room for, on one
    machine as many as its cores are enough for."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.group is not None and self.time is not None:
            raise ValueError(
                f"folds are made by groups or by time. Received: group: {self.group}, time: {self.time}. Leave one out"
            )
        if self.time is not None and self.stratified:
            raise ValueError(f"folds by time are not stratified. Received: time: {self.time}, stratified: true")
        if self.time is not None and self.repeats > 1:
            raise ValueError(
                f"folds by time are the same in each repeat. Received: time: {self.time}, repeats: {self.repeats}. "
                "Leave out repeats"
            )
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Columns that decide about the folds, by key."""
        return {key: name for key, name in (("group", self.group), ("time", self.time)) if name is not None}

    @property
    def num_trainings(self) -> int:
        """Folds of all repeats."""
        return self.folds * self.repeats

    def time_column(self, splits: Splits) -> str | None:
        """Return the column by whose times the folds follow each other; None if they do not.

        Args:
            splits: `data.splits`: what belongs together there does so here.
        """
        return splits.column if not self.columns and splits.by == "time" else self.time

    def resolved(self, splits: Splits, task: Task) -> Self:
        """Return the section with its defaults filled in.

        Args:
            splits: `data.splits`: what belongs together there does so here.
            task: The task of the model.

        Raises:
            ValueError: what is filled in does not go with the rest.
        """
        filled = {splits.by: splits.column} if not self.columns and splits.by in ("group", "time") else {}
        by_time = self.time_column(splits) is not None
        stratified = self.stratified if self.stratified is not None else task == "classification" and not by_time
        return type(self).model_validate(self.model_dump() | filled | {"stratified": stratified})

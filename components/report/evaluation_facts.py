"""Facts about the evaluation: metrics, slices and the verdict."""

from kubetfx.components.evaluation.evaluation_result import Check, Interval
from kubetfx.components.report.fact import Model


class Metric(Model):
    """A metric of the candidate on the evaluation split."""

    name: str
    value: float
    interval: Interval | None = None
    served: float | None = None
    simple: dict[str, float] = {}
    """Values of the baselines, `constant` and `linear`."""
    lower_is_better: bool = False
    checks: list[Check] = []


class Slice(Model):
    """Rows that have one value in a column, or one combination of values in several."""

    name: str
    rows: int
    metrics: dict[str, float]
    value: float | None = None
    """Value of the metric that ranks slices."""
    interval: Interval | None = None
    behind: float | None = None
    """How much worse than the whole evaluation split; negative if better."""
    is_small: bool = False
    checks: list[Check] = []


class Evaluation(Model):
    """The verdict and its reasons."""

    is_blessed: bool
    metrics: list[Metric]
    ranked_by: str
    """The metric of `Slice.value`."""
    slices: list[Slice] = []
    not_compared_because: str | None = None
    failures: list[str] = []
    """Why the model is not blessed, in words."""
    notes: list[str] = []
    """Notes for readers of the metrics."""
    confusion: list[list[int | float]] = []
    """For all rows, with their weights: a row is a true class, a column a predicted one."""
    weight: str | None = None
    """The column that says how often each row counts."""

    @property
    def checks(self) -> list[Check]:
        """Every check: those of all rows in the order of the metrics, then those of slices."""
        of_all = [check for metric in self.metrics for check in metric.checks]
        return [*of_all, *(check for one in self.slices for check in one.checks)]

    @property
    def baselines(self) -> list[str]:
        """Those that were measured, of `constant` and `linear`."""
        return list(dict.fromkeys(name for metric in self.metrics for name in metric.simple))

    def metric(self, name: str) -> Metric | None:
        """Return a metric; None if it was not measured.

        Args:
            name: The name of the metric.
        """
        return next((metric for metric in self.metrics if metric.name == name), None)

"""Facts about `evaluation.calibrate`: the temperature of a model, and what it has changed."""

from typing import TYPE_CHECKING, Self

from kubetfx.components.evaluation.classification import CalibrationError
from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.evaluation.metric import value_of
from kubetfx.components.report.fact import Model
from kubetfx.models.temperature import uncalibrated

if TYPE_CHECKING:
    from kubetfx.components.report.predictions import Predictions


class Calibration(Model):
    """How the probabilities of a model were calibrated."""

    temperature: float
    before: float
    """Cross entropy of the validation rows without the temperature."""
    after: float
    """The same with it."""
    rows: int
    """Rows of validation."""
    error_before: float | None = None
    """Calibration error on the evaluation split without the temperature."""
    error_after: float | None = None
    """The same with it."""

    def measured(self, predictions: "Predictions") -> Self:
        """Return the same with its errors on rows of the evaluation split.

        Args:
            predictions: The predictions of the calibrated model.
        """
        if not len(predictions.labels):
            return self
        before = uncalibrated(predictions.outputs, self.temperature)
        errors = (
            float(value_of(CalibrationError(), predictions.labels, outputs, predictions.weights))
            for outputs in (before, predictions.outputs)
        )
        return self.model_copy(update=dict(zip(("error_before", "error_after"), errors, strict=True)))

    @property
    def words(self) -> str:
        """The temperature, and what it has changed."""
        changed = "less" if self.temperature > 1 else "more"
        said = [
            f"Probabilities are calibrated by the temperature {self.temperature:.2f}: {changed} certain than before."
        ]
        if self.error_before is not None and self.error_after is not None:
            said.append(
                f"On the evaluation split a probability is off by {format_metric(self.error_after)} on average, and by "
                f"{format_metric(self.error_before)} without the temperature."
            )
        said.append(
            f"The cross entropy of the {self.rows:,} validation rows, which chose it, is {format_metric(self.after)} "
            f"instead of {format_metric(self.before)}."
        )
        return " ".join(said)

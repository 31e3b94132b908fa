"""Accumulators of the metrics of a regression."""

from collections.abc import Callable, Mapping

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.evaluation.metric import Accumulator, Additive, Mean, ratio


def row_errors(labels: Array, predictions: Array) -> Array:
    """Return the error of each prediction, (rows,) float64.

    Args:
        labels: (rows,) numbers.
        predictions: (rows,) numbers.
    """
    return predictions.astype(np.float64) - labels.astype(np.float64)


class MeanAbsoluteError(Mean):
    """Mean of the absolute errors."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return the absolute error."""
        return np.abs(row_errors(labels, predictions))


class MeanSquaredError(Mean):
    """Mean of the squared errors."""

    def row_values(self, labels: Array, predictions: Array) -> Array:
        """Return the squared error."""
        return np.square(row_errors(labels, predictions))


class RootMeanSquaredError(MeanSquaredError):
    """Root of the mean of the squared errors."""

    def of_state(self, state: Array) -> Array:
        """Return the root of the mean."""
        return np.sqrt(super().of_state(state))


class SquaredPearsonCorrelation(Additive):
    """Square of Pearson's correlation of labels and predictions.

    Undefined if either is constant. The state has the weight, the means, and the sums of products of deviations, which
    is stable for large values. T. Chan, G. Golub and R. LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", 1979.
    """

    def add_block(self, state: Array | None, labels: Array, predictions: Array, weights: Array) -> Array | None:
        """See Accumulator; the state is (..., 6)."""
        if not len(labels):
            return state
        x, y = labels.astype(np.float64), predictions.astype(np.float64)
        middle_x, middle_y = x.mean(), y.mean()
        x, y = x - middle_x, y - middle_y
        total, *sums = np.moveaxis(weights @ np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1), -1, 0)
        mean_x, mean_y = (np.divide(sum_, total, out=np.zeros_like(total), where=total > 0) for sum_ in sums[:2])
        products = [sums[2] - total * mean_x**2, sums[3] - total * mean_y**2, sums[4] - total * mean_x * mean_y]
        added: Array = self.merge(state, np.stack([total, mean_x + middle_x, mean_y + middle_y, *products], axis=-1))
        return added

    def added(self, first: Array, second: Array) -> Array:
        """Return the state of the rows of both."""
        total = first[..., 0] + second[..., 0]
        share = np.divide(second[..., 0], total, out=np.zeros_like(total), where=total > 0)
        delta_x, delta_y = np.moveaxis(second[..., 1:3] - first[..., 1:3], -1, 0)
        between = first[..., 0] * share
        products = np.stack([between * delta_x**2, between * delta_y**2, between * delta_x * delta_y], axis=-1)
        means = first[..., 1:3] + np.stack([delta_x, delta_y], axis=-1) * share[..., np.newaxis]
        return np.concatenate([total[..., np.newaxis], means, first[..., 3:] + second[..., 3:] + products], axis=-1)

    def of_state(self, state: Array) -> Array:
        """Return the square of the covariance by the product of the variances."""
        return ratio(state[..., 5] ** 2, np.maximum(state[..., 3], 0) * np.maximum(state[..., 4], 0))


ACCUMULATORS: Mapping[str, Callable[..., Accumulator]] = {
    "mean_absolute_error": MeanAbsoluteError,
    "mean_squared_error": MeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "squared_pearson_correlation": SquaredPearsonCorrelation,
}
"""By the name that the catalogue has."""

"""`evaluation.calibrate`: probabilities that are as often right as they say, by one number, the temperature.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: the logits are
divided by a temperature, which the validation rows choose by their cross entropy. Here logits are the logarithms of the
probabilities, which differ from a network's by a constant per row, so that trees and averages are calibrated as
networks are. The likeliest class stays what it is.
"""

import numpy as np

from kubetfx.arrays import Array

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of the temperature."""
DOUBT = float(np.log(2))
"""Deviation of the logarithm of the temperature before any row is seen: half or twice is as far as one would guess."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""Lower bound of a probability whose logarithm is taken."""


def find_temperature(labels: Array, probabilities: Array, weights: Array) -> float:
    """Return the temperature at which rows are likeliest.

    Before any row its logarithm is normally distributed about 0, with the deviation DOUBT, so that a few rows without a
    mistake do not make a model certain. The cross entropy of the rows is never higher than without the temperature.

    Args:
        labels: (rows,) index of the class.
        probabilities: (rows, classes).
        weights: (rows,) how often each row counts.
    """
    from scipy import optimize

    logits = _logits(probabilities)
    of_labels = weights @ logits[np.arange(len(labels)), labels]

    def loss(logarithm: float) -> float:
        inverse = np.exp(-logarithm)
        of_rows = weights @ _log_sums(logits * inverse) - inverse * of_labels
        return float(of_rows + (logarithm / DOUBT) ** 2 / 2)

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5}).x))


def uncalibrated(probabilities: Array, temperature: float) -> Array:
    """Return what a model would say without its temperature, (rows, classes) float64.

    Args:
        probabilities: (rows, classes), calibrated.
        temperature: That of the model.
    """
    logits = _logits(probabilities) * temperature
    found: Array = np.exp(logits - _log_sums(logits)[:, np.newaxis])
    return found


def cross_entropy(labels: Array, probabilities: Array, weights: Array, *, temperature: float) -> float:
    """Return the mean cross entropy of rows at a temperature.

    Args:
        labels: (rows,) index of the class.
        probabilities: (rows, classes), without the temperature.
        weights: (rows,) how often each row counts.
        temperature: 1: as the probabilities are.
    """
    logits = _logits(probabilities) / temperature
    return float(np.average(_log_sums(logits) - logits[np.arange(len(labels)), labels], weights=weights))


def _logits(probabilities: Array) -> Array:
    found: Array = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    return found


def _log_sums(logits: Array) -> Array:
    highest = logits.max(axis=1)
    found: Array = highest + np.log(np.exp(logits - highest[:, np.newaxis]).sum(axis=1))
    return found

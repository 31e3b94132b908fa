"""TFDV's histograms of a column, computed on arrays.

TFDV goes through a thousand quantiles in Python, bucket by bucket. Every number equals TFDV's to the last bit
(tests/components/data/test_tfx_patches.py). With two thousand columns, TFDV's version took most of the time of
StatisticsGen.
"""

import numpy as np
from tensorflow_data_validation.utils import quantiles_util
from tensorflow_metadata.proto.v0 import statistics_pb2

from kubetfx.arrays import Array

_theirs = quantiles_util.generate_equi_width_histogram


def bin_weights(boundaries: Array, cumulative: Array) -> tuple[Array, Array, Array]:
    """Compute the weight of each bin between quantiles; equal bins share theirs.

    Args:
        boundaries: (quantiles,) rising, not always strictly.
        cumulative: (quantiles,) the weight up to each.

    Returns:
        Lower bounds, upper bounds and weights of the bins, each (quantiles - 1,).
    """
    cumulative = cumulative.astype(np.float64)
    low, high, counts = boundaries[:-1], boundaries[1:], np.diff(cumulative)
    if not high.size:
        return low, high, counts
    starts = np.flatnonzero(np.append(True, high[1:] != high[:-1]))
    ends = np.append(starts[1:], high.size)
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        counts[start:end] = counts[start:end].sum() / (end - start)
    differs = (low != low[:1]) | (high != high[:1])
    num_first = int(np.argmax(differs)) if differs.any() else low.size
    if num_first:
        counts[:num_first] += cumulative[0] / num_first
    return low, high, counts


def equi_width(
    quantiles: Array,
    cumulative_counts: Array,
    finite_min: float,
    finite_max: float,
    num_buckets: int,
    num_pos_inf: float,
) -> statistics_pb2.Histogram:
    """Return TFDV's equal-width histogram, computed from quantiles. The arguments are those of TFDV's function.

    Args:
        quantiles: (quantiles,) rising.
        cumulative_counts: (quantiles,) rows up to each.
        finite_min: least finite value of the column.
        finite_max: greatest finite value.
        num_buckets: The number of buckets of the histogram.
        num_pos_inf: rows that are infinite.
    """
    arguments = (quantiles, cumulative_counts, finite_min, finite_max, num_buckets, num_pos_inf)
    if not (np.isfinite(finite_min) and np.isfinite(finite_max)):
        return _theirs(*arguments)
    inner, weights, num_neg_inf = quantiles_util._strip_infinities(
        quantiles, cumulative_counts, finite_max, num_pos_inf
    )
    low, high, counts = bin_weights(inner, weights)
    bounds = np.array([finite_min, finite_max])
    if finite_min != finite_max:
        bounds = np.linspace(finite_min, finite_max, num_buckets + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        widths = high - low
    if not (np.isfinite(bounds).all() and np.isfinite(widths).all()):  # numbers near the limit of their range
        return _theirs(*arguments)

    result = statistics_pb2.Histogram(type=statistics_pb2.Histogram.STANDARD)
    if num_neg_inf:
        result.buckets.add(low_value=-np.inf, high_value=-np.inf, sample_count=num_neg_inf)
    for left, right, count in zip(bounds[:-1], bounds[1:], _spread(low, high, counts, bounds), strict=True):
        result.buckets.add(low_value=left, high_value=right, sample_count=count)
    if num_pos_inf:
        result.buckets.add(low_value=np.inf, high_value=np.inf, sample_count=num_pos_inf)
    return result


def _spread(low: Array, high: Array, counts: Array, bounds: Array) -> Array:
    """Return the weight of each interval, (intervals,).

    The weight of a bin is spread evenly over it; a point belongs to the interval that ends there, or to the first if it
    starts there.
    """
    left, right = bounds[:-1, np.newaxis], bounds[1:, np.newaxis]
    is_point = low == high
    shared = np.clip(np.minimum(right, high) - np.maximum(left, low), 0, None)
    overlap = np.divide(shared, high - low, out=np.zeros_like(shared), where=~is_point)
    overlap[:, is_point] = ((left < low) & (high <= right))[:, is_point]
    overlap[0, is_point & (low == bounds[0])] = 1
    terms = overlap * counts
    return np.cumsum(terms, axis=1)[:, -1] if terms.shape[1] else np.zeros(len(terms))  # one by one, as TFDV adds

"""Histograms on arrays are those of TFDV, to the last bit."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_data_validation.utils import quantiles_util
from tfx_bsl import sketches

from kubetfx.components.data import histograms

NUM_QUANTILES = 1_000
NUMBERS = st.one_of(
    st.integers(-5, 5).map(float),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([0.0, -0.0, 1e-30, np.inf, -np.inf, 3e38, -3e38]),
)


def quantiles_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sketch = sketches.QuantilesSketch(0.01, len(values), 1)
    sketch.AddValues(pa.array(values))
    quantiles, weights = sketch.GetQuantilesAndCumulativeWeights(NUM_QUANTILES)
    return quantiles.flatten().to_numpy(zero_copy_only=False), weights.flatten().to_numpy(zero_copy_only=False)


def assert_same(values: np.ndarray) -> None:
    quantiles, weights = quantiles_of(values)
    for ours, theirs in zip(
        histograms.bin_weights(quantiles, weights), quantiles_util._get_bin_weights(quantiles, weights), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (np.inf, -np.inf)
    arguments = (quantiles, weights, low, high, 10, float(np.isposinf(values).sum()))
    theirs = quantiles_util.generate_equi_width_histogram(*arguments)
    assert histograms.equi_width(*arguments).SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


@settings(max_examples=50, deadline=None)
@given(values=st.lists(NUMBERS, min_size=1, max_size=60))
def test_of_any_numbers(values):
    assert_same(np.array(values, np.float64))


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=5_000),
        np.random.default_rng(0).integers(0, 7, 5_000).astype(float),
        np.repeat([1.0, 2.0, 2.5], [1, 4_000, 900]),
        np.append(np.random.default_rng(0).exponential(size=999), np.inf),
        np.append(np.full(9_999, -np.inf), 5.0),
        np.zeros(10),
    ],
    ids=["normal", "few values", "a spike", "an infinity", "nearly all infinite", "a constant"],
)
def test_of_many_numbers(values):
    assert_same(values)


def test_tfdv_has_its_own_again_afterwards():
    before = quantiles_util.generate_equi_width_histogram
    with histograms.on_arrays():
        assert quantiles_util.generate_equi_width_histogram is histograms.equi_width
    assert quantiles_util.generate_equi_width_histogram is before

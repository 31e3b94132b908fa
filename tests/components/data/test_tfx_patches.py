"""What we put in the place of functions of TFX, TFDV and tf.Transform: it finds the same, and is still needed."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_data_validation.statistics import stats_impl, stats_options
from tensorflow_data_validation.utils import quantiles_util
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.util import tfxio_utils
from tfx.proto import example_gen_pb2
from tfx_bsl import sketches

from kubetfx.components.data import histograms, tfx_patches

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


# Each is still needed


def seconds(function: Callable[[], Any]) -> float:
    """The least of three."""
    taken = []
    for _ in range(3):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken)


def test_tfdv_still_goes_through_quantiles_in_python():
    values = np.random.default_rng(0).normal(size=5_000)
    quantiles, weights = quantiles_of(values)
    arguments = (quantiles, weights, values.min(), values.max(), 10, 0.0)
    theirs = seconds(lambda: quantiles_util.generate_equi_width_histogram(*arguments))
    assert theirs > 3 * seconds(lambda: histograms.equi_width(*arguments))


def test_tfx_still_has_no_serialized_rows_of_parquet(tmp_path):
    pq.write_table(pa.table({"height": [1.5, 2.5]}), tmp_path / "data.parquet")
    schema = text_format.Parse('feature { name: "height" type: FLOAT }', schema_pb2.Schema())

    def columns() -> list[str]:
        reader = tfxio_utils.make_tfxio(
            [str(tmp_path / "*")],
            telemetry_descriptors=["test"],
            payload_format=example_gen_pb2.FORMAT_PARQUET,
            schema=schema,
            raw_record_column_name="raw",
        )
        return reader.ArrowSchema().names

    assert "raw" not in columns()
    with tfx_patches.parquet_read():
        assert "raw" in columns()


@pytest.mark.parametrize(
    ("patch", "module", "name"),
    [
        (tfx_patches.parquet_read, tfxio_utils, "make_tfxio"),
        (tfx_patches.histograms_on_arrays, quantiles_util, "_get_bin_weights"),
        (tfx_patches.histograms_on_arrays, quantiles_util, "generate_equi_width_histogram"),
    ],
)
def test_theirs_is_there_again_afterwards(patch, module, name):
    before = getattr(module, name)
    with patch():
        assert getattr(module, name) is not before
    assert getattr(module, name) is before


def top_values(blocks: list[pa.RecordBatch]) -> dict[str, float]:
    """Counts by value, from the merged states of a block each."""
    (generator,) = [
        found
        for found in stats_impl.get_generators(stats_options.StatsOptions(), in_memory=True)
        if "TopKUniques" in type(found).__name__
    ]
    states = [generator.add_input(generator.create_accumulator(), block) for block in blocks]
    found = generator.extract_output(generator.merge_accumulators(states))
    (feature,) = found.features
    return {bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}


def test_counts_of_many_values_are_exact_in_any_order():
    random = np.random.default_rng(0)
    values = [f"value {number}" for number in random.geometric(0.001, 60_000)]
    blocks = [
        pa.RecordBatch.from_arrays([pa.array([[value] for value in values[start : start + 20_000]])], ["x"])
        for start in range(0, 60_000, 20_000)
    ]
    counts = Counter(values)
    assert 1_024 < len(counts) < 16_384

    with tfx_patches.exact_top_values():
        found, other = top_values(blocks), top_values(blocks[::-1])

    assert len(found) == 1_000
    assert found == other
    assert found == {value: counts[value] for value in found}
    theirs = top_values(blocks)
    assert theirs != {value: counts[value] for value in theirs}, "TFDV is exact by itself now: exact_top_values may go"

"""Every temporary replacement of functions of TFX, TFDV and tf.Transform by our own.

tests/components/data/test_tfx_patches.py has a test for each, which fails when the patch is no longer needed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def parquet_read() -> Iterator[None]:
    """Let TFX's executors read our Parquet examples, as tf.Examples.

    TFX's own reader of Parquet hands on columns that TFDV refuses, and no serialized tf.Examples (decision 16).
    """
    from tfx.components.util import tfxio_utils

    from kubetfx.components.data import parquet_tfxio

    with _replaced(tfxio_utils, make_tfxio=parquet_tfxio.make_tfxio):
        yield


@contextlib.contextmanager
def histograms_on_arrays() -> Iterator[None]:
    """Let TFDV's generators compute their histograms on arrays within the context.

    TFDV goes through a thousand quantiles of each column in Python.
    """
    from tensorflow_data_validation.utils import quantiles_util

    from kubetfx.components.data import histograms

    with _replaced(
        quantiles_util, _get_bin_weights=histograms.bin_weights, generate_equi_width_histogram=histograms.equi_width
    ):
        yield


@contextlib.contextmanager
def exact_top_values() -> Iterator[None]:
    """Let TFDV's generators count up to 16,384 distinct values of a column exactly within the context.

    TFDV itself keeps 1,024; with more values its counts are approximate, and depend on the order of merging.
    """
    from tensorflow_data_validation.statistics import stats_impl

    with _replaced(stats_impl, _DEFAULT_MG_SKETCH_SIZE=stats_impl._DEFAULT_KMV_SKETCH_SIZE):
        yield


@contextlib.contextmanager
def _replaced(module: Any, **ours: Any) -> Iterator[None]:
    theirs = {name: getattr(module, name) for name in ours}
    try:
        for name, value in ours.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in theirs.items():
            setattr(module, name, value)

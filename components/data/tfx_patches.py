"""Everything in TFX, TFDV and tf.Transform that we put something of ours in the place of, while something lasts.

tests/components/data/test_tfx_patches.py has a test for each, which fails when the patch is no longer needed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def parquet_read() -> Iterator[None]:
    """While it lasts, TFX's executors read our Parquet examples, as tf.Examples.

    TFX's own reader of Parquet hands on columns that TFDV refuses, and no serialized tf.Examples (decision 16).
    """
    from tfx.components.util import tfxio_utils

    from kubetfx.components.data import parquet_tfxio

    with _replaced(tfxio_utils, make_tfxio=parquet_tfxio.make_tfxio):
        yield


@contextlib.contextmanager
def histograms_on_arrays() -> Iterator[None]:
    """While it lasts, TFDV's generators make their histograms on arrays.

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
    """While it lasts, TFDV makes generators that count the values of a column exactly where there are up to 16,384:
    as many as it tells apart. It keeps 1,024, and counts of more are off, and others for another order of merging.
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

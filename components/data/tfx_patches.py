"""Every function of TFX, TFDV and tf.Transform that we put one of ours in the place of, while something lasts.

tests/components/data/test_tfx_patches.py has a test for each, which fails when the patch is no longer needed.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def parquet_read() -> Iterator[None]:
    """While it lasts, TFX's executors read our Parquet examples, as tf.Examples. TFX's own reader of Parquet hands on
    columns that TFDV refuses, and no serialized tf.Examples (decision 16)."""
    from tfx.components.util import tfxio_utils

    from kubetfx.components.data import parquet_tfxio

    with _replaced(tfxio_utils, make_tfxio=parquet_tfxio.make_tfxio):
        yield


@contextlib.contextmanager
def histograms_on_arrays() -> Iterator[None]:
    """While it lasts, TFDV's generators make their histograms on arrays. TFDV goes through a thousand quantiles of each
    column in Python."""
    from tensorflow_data_validation.utils import quantiles_util

    from kubetfx.components.data import histograms

    with _replaced(
        quantiles_util, _get_bin_weights=histograms.bin_weights, generate_equi_width_histogram=histograms.equi_width
    ):
        yield


@contextlib.contextmanager
def sources_by_set() -> Iterator[None]:
    """While it lasts, tf.Transform finds the columns that an analyzer depends on by a set. It compares each with each,
    several times: a minute for two thousand columns."""
    from tensorflow_transform import graph_tools

    with _replaced(graph_tools, _retrieve_source_keys=source_keys):
        yield


def source_keys(sourced_tensors: Iterable[Any], structured_inputs: Mapping[str, Any]) -> set[str]:
    """Find the inputs that tensors depend on.

    Args:
        sourced_tensors: of a graph.
        structured_inputs: tensors, sparse ones among them, by name.

    Returns:
        The names of those inputs.
    """
    from tensorflow_transform import graph_tools, tf_utils

    sinks = [tensor.op for tensor in sourced_tensors]
    found = graph_tools.retrieve_sources(sinks, ignore_control_dependencies=True)
    sources = {tf_utils.hashable_tensor_or_op(source) for source in found}
    return {
        key
        for key, value in structured_inputs.items()
        if any(tf_utils.hashable_tensor_or_op(v) in sources for v in graph_tools._decompose_tensor_or_op(value))
    }


@contextlib.contextmanager
def _replaced(module: Any, **functions: Any) -> Iterator[None]:
    theirs = {name: getattr(module, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(module, name, function)
        yield
    finally:
        for name, function in theirs.items():
            setattr(module, name, function)

"""Parsing tf.Examples against tf.io.parse_example itself."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models.columns.column_type import MISSING_INTEGER
from kubetfx.models.parsing import parse_examples

DEFAULTS = {"height": math.nan, "width": math.nan, "zero": 0.0, "island": "", "year": MISSING_INTEGER, "hour": 7}


def spec_of(defaults: dict[str, float | str]) -> dict[str, tf.io.FixedLenFeature]:
    dtypes = {float: tf.float32, int: tf.int64, str: tf.string}
    return {name: tf.io.FixedLenFeature([1], dtypes[type(value)], value) for name, value in defaults.items()}


def examples() -> list[bytes]:
    whole, empty = tf.train.Example(), tf.train.Example()
    whole.features.feature["height"].float_list.value.append(1.5)
    whole.features.feature["island"].bytes_list.value.append("größe".encode())
    whole.features.feature["year"].int64_list.value.append(-(2**62))
    whole.features.feature["tags"].bytes_list.value.extend([b"a", b"b"])
    return [whole.SerializeToString(), empty.SerializeToString()]


def test_cells_and_defaults_are_those_of_tensorflow():
    spec = spec_of(DEFAULTS)
    ours, theirs = parse_examples(tf.constant(examples()), spec), tf.io.parse_example(examples(), spec)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)


def test_column_with_many_values_and_column_without_a_default_stay_as_they_are():
    spec = {"tags": tf.io.VarLenFeature(tf.string), "height": tf.io.FixedLenFeature([1], tf.float32)}
    assert parse_examples(tf.constant(examples()[:1]), spec)["tags"].values.numpy().tolist() == [b"a", b"b"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="height"):
        parse_examples(tf.constant(examples()), spec)


def test_operations_of_the_graph_are_as_many_whatever_the_columns():
    def operations(num_columns: int) -> int:
        spec = spec_of({f"column_{index}": math.nan for index in range(num_columns)})
        traced = tf.function(lambda serialized: parse_examples(serialized, spec)["column_0"])
        return len(traced.get_concrete_function(tf.TensorSpec([None], tf.string)).graph.get_operations())

    assert operations(100) == operations(3)

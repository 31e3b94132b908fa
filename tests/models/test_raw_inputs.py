"""Tensors of raw columns against what TensorFlow parses the same rows to as tf.Examples."""

import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from kubetfx.errors import DataError
from kubetfx.models.columns.column_type import MISSING_INTEGER
from kubetfx.models.examples import to_examples
from kubetfx.models.raw_inputs import RawInputs, is_usual, usual_spec

BLOCK = pa.RecordBatch.from_pydict(
    {
        "height": pa.array([0.1, None, 1e300, -(2.0**-140), float("inf")], pa.float64()),
        "narrow": pa.array([0.1, None, 3.0, 4.0, 5.0], pa.float32()),
        "year": pa.array([2**53 + 1, None, -(2**62), 4, 5], pa.int64()),
        "island": pa.array(["größe", None, "", "a", "größe"]),
        "empty": pa.nulls(5),
        "tags": pa.array(["x", None, "y", None, "z"]),
    }
)
SPEC = {
    "island": tf.io.FixedLenFeature([1], tf.string, ""),
    "height": tf.io.FixedLenFeature([1], tf.float32, math.nan),
    "year": tf.io.FixedLenFeature([1], tf.int64, MISSING_INTEGER),
    "narrow": tf.io.FixedLenFeature([1], tf.float32, 7.0),
    "empty": tf.io.FixedLenFeature([], tf.float32, math.nan),
    "tags": tf.io.VarLenFeature(tf.string),
}


def dense(tensor):
    return tf.sparse.to_dense(tensor).numpy() if isinstance(tensor, tf.SparseTensor) else np.asarray(tensor)


@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
def test_every_value_is_what_a_tf_example_gives(in_graph):
    inputs = RawInputs(SPEC)
    unpack = tf.function(inputs.unpack, input_signature=[inputs.signature]) if in_graph else inputs.unpack

    found = unpack(inputs.pack(BLOCK))

    expected = tf.io.parse_example(to_examples(BLOCK), SPEC)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(dense(found[name]), dense(tensor), err_msg=name)
        assert found[name].dtype == tensor.dtype


def test_operations_of_the_graph_are_as_many_whatever_the_columns():
    def operations(number: int) -> int:
        inputs = RawInputs(usual_spec({f"column {index}": "float32" for index in range(number)}))
        traced = tf.function(lambda packed: inputs.unpack(packed)["column 0"], input_signature=[inputs.signature])
        return len(traced.get_concrete_function().graph.get_operations())

    assert operations(100) == operations(3)


def test_columns_are_packed_by_type_in_the_order_of_the_spec():
    inputs = RawInputs(SPEC)

    assert inputs.columns == tuple(SPEC)
    assert {name: np.shape(array) for name, array in inputs.pack(BLOCK).items() if name != "sparse_0"} == {
        "texts": (5, 1),
        "numbers": (5, 3),
        "integers": (5, 1),
    }


def test_tensors_by_column_are_stacked_as_a_block_is_packed():
    inputs = RawInputs(usual_spec({"height": "float32", "year": "int64", "week": "int64", "island": "string"}))
    columns = {"island": tf.constant(["a", ""]), "year": tf.constant([2.0**53, math.nan], tf.float64)}

    packed = inputs.stack({**columns, "week": tf.constant([6.6, math.inf], tf.float64)})

    assert packed["texts"].numpy().tolist() == [[b"a"], [b""]]
    assert packed["integers"].numpy().tolist() == [[2**53, 7], [MISSING_INTEGER, MISSING_INTEGER]]
    assert packed["numbers"].numpy().tolist() == [[0.0], [0.0]]


def test_missing_cell_without_a_default_is_refused():
    inputs = RawInputs({"year": tf.io.FixedLenFeature([1], tf.int64)})

    with pytest.raises(DataError, match=r"'year' has rows without a value.*Received: .*default_value"):
        inputs.pack(BLOCK)


def test_column_without_any_value_is_of_the_type_that_the_schema_says():
    inputs = RawInputs({"empty": tf.io.FixedLenFeature([1], tf.string, "")})
    block = pa.RecordBatch.from_pydict({"empty": pa.nulls(3, pa.float64())})

    assert inputs.unpack(inputs.pack(block))["empty"].numpy().tolist() == [[b""], [b""], [b""]]


def test_column_of_another_type_than_the_schema_says_is_refused():
    inputs = RawInputs({"island": tf.io.FixedLenFeature([1], tf.int64, 0)})

    with pytest.raises(DataError, match=r"'island' is not of the type that the schema says.*Received: string.*int64"):
        inputs.pack(BLOCK)


def test_column_of_several_values_a_row_is_refused():
    with pytest.raises(DataError, match=r"the column 'pair' read in a way that kubetfx does not know\. Received"):
        RawInputs({"pair": tf.io.FixedLenFeature([2], tf.float32)})


def test_usual_spec_is_told_from_one_that_a_frozen_schema_changed():
    spec = usual_spec({"height": "float32", "year": "int64", "island": "string"})

    assert is_usual(spec)
    assert not is_usual(SPEC)
    assert not is_usual(spec | {"year": tf.io.FixedLenFeature([1], tf.int64, 0)})

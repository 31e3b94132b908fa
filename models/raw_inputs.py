"""From blocks of Arrow, tf.Examples or tensors by column to what a preprocessing_fn reads, one tensor for each type.

A block is packed into as few arrays as there are types, and unpacked by one operation per type, in a graph or outside
of it: neither grows with the columns. Every value is what parsing the same row as a tf.Example gives.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from kubetfx.errors import DataError
from kubetfx.models.columns.column_type import MISSING_INTEGER

Packed = dict[str, Any]

_NAMES = {tf.float32: "numbers", tf.int64: "integers", tf.string: "texts"}
_ARROW = {tf.float32: pa.float64(), tf.int64: pa.int64(), tf.string: pa.binary()}


_MISSING = {tf.float32: float("nan"), tf.int64: MISSING_INTEGER, tf.string: ""}


def usual_spec(dtypes: Mapping[str, str]) -> dict[str, tf.io.FixedLenFeature]:
    """Return the raw feature spec of columns as SchemaGen has them read: one value per row, none of them required.

    Args:
        dtypes: TensorFlow's name of the type, by column.
    """
    types = {name: tf.as_dtype(dtype) for name, dtype in dtypes.items()}
    return {name: tf.io.FixedLenFeature([1], dtype, _MISSING[dtype]) for name, dtype in types.items()}


def is_usual(spec: Mapping[str, Any]) -> bool:
    """Return whether a raw feature spec is what SchemaGen writes: a frozen schema may say something else.

    Args:
        spec: by column.
    """
    return all(
        isinstance(column, tf.io.FixedLenFeature)
        and list(column.shape) == [1]
        and column.default_value is not None
        and repr(_scalar(column.default_value)) == repr(_MISSING[tf.as_dtype(column.dtype)])
        for column in spec.values()
    )


class RawInputs:
    """The columns of a raw feature spec, as tensors."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        """Sort the columns by type.

        Args:
            spec: `tf.io.FixedLenFeature` of one value, or `VarLenFeature`, by column.

        Raises:
            DataError: a column is to have several values a row.
        """
        self.columns = tuple(spec)
        """Names of the columns to read."""
        self._dense: dict[tf.DType, dict[str, Any]] = {}
        self._sparse: dict[str, Any] = {}
        for name, column in spec.items():
            if isinstance(column, tf.io.VarLenFeature):
                self._sparse[name] = column
            elif isinstance(column, tf.io.FixedLenFeature) and np.prod(column.shape, dtype=int) == 1:
                self._dense.setdefault(tf.as_dtype(column.dtype), {})[name] = column
            else:
                raise DataError(
                    f"The schema has the column {name!r} read in a way that kubetfx does not know. Received: {column}. "
                    "Let it have one value per row (a dense tensor of the size 1), or several of which none is missing."
                )

    @property
    def signature(self) -> dict[str, tf.TypeSpec]:
        """Signature of what `pack` returns."""
        specs: dict[str, tf.TypeSpec] = {
            _NAMES[dtype]: tf.TensorSpec([None, len(columns)], dtype, _NAMES[dtype])
            for dtype, columns in self._dense.items()
        }
        for index, column in enumerate(self._sparse.values()):
            specs[f"sparse_{index}"] = tf.SparseTensorSpec([None, None], column.dtype)
        return specs

    def pack(self, block: pa.RecordBatch) -> Packed:
        """Pack the cells of a block.

        Args:
            block: it has all `columns`, in any order.

        Returns:
            (rows, columns) for each type; and a sparse tensor for each column that is one.

        Raises:
            DataError: a cell is missing of a column that must have none, or not of the type that the schema says.
        """
        packed: Packed = {_NAMES[dtype]: self._stack(block, dtype) for dtype in self._dense}
        for index, (name, column) in enumerate(self._sparse.items()):
            packed[f"sparse_{index}"] = _sparse(_cast(block.column(name), column.dtype, name), column.dtype)
        return packed

    def stack(self, columns: Mapping[str, Any]) -> Packed:
        """Pack tensors of columns, in a graph.

        Args:
            columns: each (batch,), or sparse. Whole numbers may come as float64, where NaN is a missing cell. One that
                is not there has 0 or "" in every row: no wanted feature depends on it.

        Returns:
            What `pack` returns.
        """
        num_rows = tf.shape(next(iter(columns.values())))[0]
        packed: Packed = {}
        for dtype, own in self._dense.items():
            given = [columns[name] for name in own if name in columns]
            nothing = tf.zeros([num_rows], given[0].dtype if given else dtype)
            cells = tf.stack([columns.get(name, nothing) for name in own], axis=1)
            packed[_NAMES[dtype]] = _rounded(cells) if cells.dtype != dtype else cells
        for index, (name, column) in enumerate(self._sparse.items()):
            packed[f"sparse_{index}"] = columns.get(name, _sparse(pa.nulls(0), column.dtype))
        return packed

    def unpack(self, packed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the tensors of a preprocessing_fn by column, in a graph or outside of one.

        Args:
            packed: of `pack` or `stack`.
        """
        tensors: dict[str, Any] = {}
        for dtype, columns in self._dense.items():
            parts = tf.split(packed[_NAMES[dtype]], len(columns), axis=1)
            for (name, column), part in zip(columns.items(), parts, strict=True):
                tensors[name] = part if list(column.shape) == [1] else tf.reshape(part, [-1, *column.shape])
        return tensors | {name: packed[f"sparse_{index}"] for index, name in enumerate(self._sparse)}

    def _stack(self, block: pa.RecordBatch, dtype: tf.DType) -> Any:
        columns = self._dense[dtype]
        if dtype == tf.string:
            return tf.stack([_text(block.column(name), column, name) for name, column in columns.items()], axis=1)
        cells = np.empty((block.num_rows, len(columns)), dtype.as_numpy_dtype)
        for index, (name, column) in enumerate(columns.items()):
            array = _cast(block.column(name), dtype, name)
            if array.null_count:
                array = pc.fill_null(array, pa.scalar(_default(column, name), array.type))
            with np.errstate(over="ignore"):  # a number that is too large for 32 bits is infinite
                cells[:, index] = array.to_numpy(zero_copy_only=False)
        return cells


def _rounded(cells: tf.Tensor) -> tf.Tensor:
    """Return whole numbers that came as float64 as int64, MISSING_INTEGER where they are NaN or infinite."""
    is_known = tf.math.is_finite(cells)
    return tf.where(is_known, tf.cast(tf.round(cells), tf.int64), tf.constant(MISSING_INTEGER, tf.int64))


def _text(array: pa.Array, column: Any, name: str) -> tf.Tensor:
    """Hand texts that occur often to TensorFlow once."""
    array = _cast(array, tf.string, name)
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(tf.compat.as_bytes(_default(column, name)), array.type))
    encoded = array.dictionary_encode()
    words = tf.constant(encoded.dictionary.to_numpy(zero_copy_only=False), tf.string)
    return tf.gather(words, encoded.indices.to_numpy())


def _sparse(array: pa.Array, dtype: tf.DType) -> tf.SparseTensor:
    rows = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    indices = np.stack([rows, np.zeros_like(rows)], axis=1)
    values = tf.constant(array.drop_null().to_numpy(zero_copy_only=False), dtype)
    return tf.SparseTensor(indices, values, [len(array), int(bool(len(rows)))])


def _cast(array: pa.Array, dtype: tf.DType, name: str) -> pa.Array:
    if array.null_count == len(array):  # a column without a value has a type by chance
        return pa.nulls(len(array), _ARROW[dtype])
    try:
        return array if array.type == _ARROW[dtype] else array.cast(_ARROW[dtype])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"The column {name!r} is not of the type that the schema says. Received: {array.type}, and in the schema "
            f"{dtype.name}: {error}. Freeze a newer schema (data.schema_file), or leave it out."
        ) from None


def _default(column: Any, name: str) -> Any:
    if column.default_value is None:
        raise DataError(
            f"The column {name!r} has rows without a value, and the schema has none for them. Received: {column}. "
            "Give it a default_value in the schema's tensor_representation, or fill the cells in."
        )
    return _scalar(column.default_value)


def _scalar(value: Any) -> Any:
    """Return the one value of a default, text as str."""
    value = np.asarray(value).reshape(-1)[0]
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value

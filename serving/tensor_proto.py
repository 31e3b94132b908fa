"""TensorProto and arrays, as Tensor::FromProto and Tensor::AsProtoField have it, and TensorFlow's words for types."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from kubetfx.arrays import Array
from kubetfx.serving.status import invalid_argument

_MAX_ELEMENTS = 2**28
"""Elements of a tensor, at most: a shape of a few bytes can ask for more than fits into memory."""

_VALUE_FIELDS: Mapping[int, tuple[str, Any]] = {
    types_pb2.DT_FLOAT: ("float_val", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64),
    types_pb2.DT_INT8: ("int_val", np.int8),
    types_pb2.DT_UINT8: ("int_val", np.uint8),
    types_pb2.DT_INT16: ("int_val", np.int16),
    types_pb2.DT_UINT16: ("int_val", np.uint16),
    types_pb2.DT_INT32: ("int_val", np.int32),
    types_pb2.DT_INT64: ("int64_val", np.int64),
    types_pb2.DT_UINT32: ("uint32_val", np.uint32),
    types_pb2.DT_UINT64: ("uint64_val", np.uint64),
    types_pb2.DT_BOOL: ("bool_val", np.bool_),
    types_pb2.DT_STRING: ("string_val", np.object_),
}
_DATA_TYPES = {np.dtype(dtype): (data_type, field) for data_type, (field, dtype) in _VALUE_FIELDS.items()}


def to_array(proto: tensor_pb2.TensorProto, alias: str) -> Array:
    """Read an array from a message.

    Args:
        proto: the message.
        alias: name of the input, for the error.

    Returns:
        The array, strings as objects. It may be read-only, and share the message's memory.

    Raises:
        ServingError: INVALID_ARGUMENT, the message does not describe a tensor.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if min(shape, default=0) < 0 or math.prod(shape) > _MAX_ELEMENTS or proto.tensor_shape.unknown_rank:
        raise invalid_argument(f"tensor parsing error: {alias}")
    value_field = _VALUE_FIELDS.get(proto.dtype)
    try:
        if value_field is None:
            return np.asarray(tf.make_ndarray(proto))
        return _to_array(proto, shape, *value_field)
    except (TypeError, ValueError, OverflowError, KeyError):
        raise invalid_argument(f"tensor parsing error: {alias}") from None


def _to_array(proto: tensor_pb2.TensorProto, shape: list[int], value_field: str, dtype: Any) -> Array:
    if proto.tensor_content and dtype is not np.object_:
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    values = getattr(proto, value_field)[:]  # a list, which NumPy reads several times as fast
    if value_field == "int_val" and dtype is not np.int32:
        array = np.array(values, np.int32).astype(dtype)
    else:
        array = np.array(values, dtype)
    size = math.prod(shape)
    if len(array) < size:  # the last value stands for all that are left out
        filled = np.empty(size, dtype)
        filled[: len(array)] = array
        filled[len(array) :] = array[-1] if len(array) else (b"" if dtype is np.object_ else 0)
        array = filled
    return array.reshape(shape)


def from_array(array: Array, proto: tensor_pb2.TensorProto) -> None:
    """Write an array into a message.

    Args:
        array: strings in it are objects.
        proto: the message, which is empty.
    """
    known = _DATA_TYPES.get(array.dtype)
    values = array.ravel()
    if known is None:
        proto.dtype, value_field, values = _in_parts(values)
    else:
        proto.dtype, value_field = known
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    if not array.shape:
        proto.tensor_shape.SetInParent()
    getattr(proto, value_field).extend(values.tolist())


def to_bytes(array: Array) -> bytes:
    """Serialise the message that `from_array` makes, several times as fast.

    Args:
        array: strings in it are objects of bytes.

    Returns:
        A serialised TensorProto. Numbers are in its `tensor_content`.
    """
    if array.dtype == object:
        strings = [value if type(value) is bytes else bytes(value) for value in array.ravel().tolist()]
        return _head_of(array.dtype, array.shape) + b"".join([field(8, value) for value in strings])
    return before_numbers(array.dtype, array.shape) + array.tobytes()


@functools.lru_cache(maxsize=4096)
def before_numbers(dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> bytes:
    """Serialise all of a TensorProto but the numbers, which come last and have no other head.

    Args:
        dtype: of the numbers.
        shape: of the tensor.

    Returns:
        What `to_bytes` begins with for every array of this type and shape.
    """
    return _head_of(dtype, shape) + field_head(4, dtype.itemsize * math.prod(shape))


@functools.lru_cache(maxsize=4096)
def _head_of(dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> bytes:
    """Return the type and shape of a TensorProto."""
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    serialized: bytes = proto.SerializeToString()
    return serialized


def field(number: int, content: bytes) -> bytes:
    """Serialise a field of text, bytes or a message.

    Args:
        number: The number of the field, up to 15.
        content: its bytes.

    Returns:
        The field's bytes.
    """
    return field_head(number, len(content)) + content


@functools.lru_cache(maxsize=4096)
def field_head(number: int, length: int) -> bytes:
    """Serialise what a field of text, bytes or a message begins with.

    Args:
        number: The number of the field, up to 15.
        length: The number of bytes of its content.

    Returns:
        Its tag and length.
    """
    if length < 128:
        return bytes((number << 3 | 2, length))
    return bytes((number << 3 | 2,)) + varint(length)


def varint(value: int) -> bytes:
    """Serialise a whole number.

    Args:
        value: 0 or more.

    Returns:
        Its bytes, seven bits in each.
    """
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _in_parts(values: Array) -> tuple[Any, str, Array]:
    """Return values whose field has not one element for each: bits of half precision, and parts of complex numbers."""
    data_type = tf.as_dtype(values.dtype).as_datatype_enum
    if data_type in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        return data_type, "half_val", values.view(np.uint16)
    if data_type == types_pb2.DT_COMPLEX64:
        return data_type, "scomplex_val", values.view(np.float32)
    if data_type == types_pb2.DT_COMPLEX128:
        return data_type, "dcomplex_val", values.view(np.float64)
    raise invalid_argument(f"Tensor type not supported: {dtype_name(data_type)}")


def dtype_name(dtype: int) -> str:
    """Return TensorFlow's DataTypeString, for example `float` for DT_FLOAT.

    Args:
        dtype: a DataType.
    """
    name: str = types_pb2.DataType.Name(dtype)
    return name.removeprefix("DT_").lower()


def array_dtype_name(array: Array) -> str:
    """Return the DataTypeString of an array, for example `float` for float32.

    Args:
        array: strings in it are objects.
    """
    return dtype_name(tf.as_dtype(array.dtype).as_datatype_enum)


def shape_string(shape: Sequence[int]) -> str:
    """Return a shape as TensorFlow's errors show it, for example `[2,3]`.

    Args:
        shape: sizes of the dimensions.
    """
    return f"[{','.join(map(str, shape))}]"

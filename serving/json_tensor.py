"""Arrays of a JSON request: the reading half of TensorFlow Serving's util/json_tensor.cc, errors included.

Strings are object arrays of bytes. What is valid and dense is read in a few passes in C, everything else by `_Careful`,
which says what is wrong as TensorFlow Serving does.
"""

import base64
import binascii
import enum
import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2

from kubetfx.arrays import Array
from kubetfx.serving.json_document import debug_string, json_type, parse_error
from kubetfx.serving.status import Code, ServingError, invalid_argument
from kubetfx.serving.tensor_proto import dtype_name, shape_string

_MAX_DIMENSIONS = 64
"""For a tensor: what NumPy has at most. TensorFlow has 254, which no network takes."""

_NUMBER = frozenset((float, int))
_INTEGER = frozenset((int,))

_JSON_TYPES: Mapping[int, frozenset[type]] = {
    types_pb2.DT_FLOAT: _NUMBER,
    types_pb2.DT_DOUBLE: _NUMBER,
    types_pb2.DT_INT8: _INTEGER,
    types_pb2.DT_UINT8: _INTEGER,
    types_pb2.DT_INT16: _INTEGER,
    types_pb2.DT_INT32: _INTEGER,
    types_pb2.DT_INT64: _INTEGER,
    types_pb2.DT_UINT32: _INTEGER,
    types_pb2.DT_UINT64: _INTEGER,
    types_pb2.DT_BOOL: frozenset((bool,)),
    types_pb2.DT_STRING: frozenset((str,)),
}
"""What a JSON value has to be, by tensor type. Types that are not here have no JSON form."""

_PARSED_AS: Mapping[int, Any] = {
    types_pb2.DT_FLOAT: np.float32,
    types_pb2.DT_DOUBLE: np.float64,
    types_pb2.DT_INT8: np.int32,
    types_pb2.DT_UINT8: np.int32,
    types_pb2.DT_INT16: np.int32,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_UINT64: np.uint64,
    types_pb2.DT_BOOL: np.bool_,
    types_pb2.DT_STRING: np.object_,
}
"""Small integers are read as 32 bits, as in TensorFlow Serving, and then cut to their width."""

_NARROW: Mapping[int, Any] = {
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_INT16: np.int16,
}


class RequestFormat(enum.Enum):
    """How a predict request lists its values, and so how the response does."""

    ROW = "instances"
    COLUMN = "inputs"


def signature_name(document: Mapping[str, Any]) -> str:
    """Read the name of the signature that a request asks for.

    Args:
        document: the request.

    Returns:
        The name; empty for the default.

    Raises:
        ServingError: INVALID_ARGUMENT, it is not a string.
    """
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise invalid_argument(
            f"JSON Value: {debug_string(document)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return name


def predict_inputs(document: Mapping[str, Any], dtypes: Mapping[str, int]) -> tuple[dict[str, Array], RequestFormat]:
    """Read the arrays of a predict request.

    Args:
        document: the request.
        dtypes: DataType of each input of the signature.

    Returns:
        An array by input, and the format of the request.

    Raises:
        ServingError: INVALID_ARGUMENT, with TensorFlow Serving's message.
    """
    if "instances" in document:
        instances = document["instances"]
        if "inputs" in document:
            raise invalid_argument(
                f"JSON Value: {debug_string(document)} Not formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist "
            )
        if type(instances) is not list:
            raise invalid_argument(f"JSON Value: {debug_string(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise invalid_argument(f"JSON Value: {debug_string(document)} No values in 'instances' array")
        return _from_instances(instances, dtypes), RequestFormat.ROW
    if "inputs" in document:
        return _from_inputs(document["inputs"], dtypes), RequestFormat.COLUMN
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def serialized_examples(document: Mapping[str, Any]) -> list[bytes]:
    """Read the tf.Examples of a classify or regress request.

    Args:
        document: the request.

    Returns:
        Serialized tf.Examples, the request's context merged into each.

    Raises:
        ServingError: INVALID_ARGUMENT, with TensorFlow Serving's message.
    """
    context = b""
    if "context" in document:
        context = _example(document["context"]).SerializeToString()
    if "examples" not in document:
        raise invalid_argument(
            f"JSON Value: {debug_string(document)} When method is classify, key 'examples' is expected and was not "
            "found"
        )
    examples = document["examples"]
    if type(examples) is not list:
        raise invalid_argument(f"JSON Value: {debug_string(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid_argument(f"JSON Value: {debug_string(document)} 'examples' value is an empty array")
    return [context + _example(example).SerializeToString() for example in examples]


def _from_instances(instances: list[Any], dtypes: Mapping[str, int]) -> dict[str, Array]:
    first = instances[0]
    if type(first) is not dict:
        if len(dtypes) > 1:
            raise invalid_argument(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((name, dtype),) = dtypes.items()
        array = _dense(instances, dtype)
        if array is not None:
            return {name: array}
    elif len(first) == len(dtypes):
        columns = _dense_columns(instances, dtypes)
        if columns is not None:
            return columns
    return _Careful(dtypes).instances(instances)


def _dense_columns(rows: list[Any], dtypes: Mapping[str, int]) -> dict[str, Array] | None:
    if set(map(type, rows)) != {dict} or len(set(map(len, rows))) != 1:
        return None
    columns = {}
    try:
        for name, dtype in dtypes.items():
            array = _dense([row[name] for row in rows], dtype)
            if array is None:
                return None
            columns[name] = array
    except KeyError:
        return None
    return columns


def _from_inputs(inputs: Any, dtypes: Mapping[str, int]) -> dict[str, Array]:
    careful = _Careful(dtypes)
    if type(inputs) is not dict or _is_base64(inputs):
        if len(dtypes) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((name, dtype),) = dtypes.items()
        return {name: _tensor(inputs, dtype, careful)}
    arrays = {}
    for name, dtype in dtypes.items():
        if name not in inputs:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _tensor(inputs[name], dtype, careful)
    return arrays


def _tensor(value: Any, dtype: int, careful: "_Careful") -> Array:
    array = _dense(value, dtype) if type(value) is list else None
    return careful.tensor(value, dtype) if array is None else array


def _dense(values: list[Any], dtype: int) -> Array | None:
    """Return the array of nested lists of plain values; None where `_Careful` has to read them."""
    accepted = _JSON_TYPES.get(dtype)
    if accepted is None:
        return None
    shape = [len(values)]
    types = set(map(type, values))
    while types == {list}:
        sizes = set(map(len, values))
        if len(sizes) != 1:
            return None
        shape.append(sizes.pop())
        values = list(chain.from_iterable(values))
        types = set(map(type, values))
    if not types <= accepted:
        return None
    try:
        return _array(list(map(str.encode, values)) if dtype == types_pb2.DT_STRING else values, shape, dtype)
    except (OverflowError, UnicodeEncodeError):
        return None


def _array(values: list[Any], shape: Sequence[int], dtype: int) -> Array:
    if len(shape) > _MAX_DIMENSIONS:
        raise invalid_argument(f"Too many dimensions in tensor. Received: {len(shape)}, at most {_MAX_DIMENSIONS}")
    if dtype == types_pb2.DT_FLOAT:
        with np.errstate(over="ignore"):  # a number that is too large for a float32 is infinite
            array = np.array(values, dtype=np.float32)
    else:
        array = np.array(values, dtype=_PARSED_AS[dtype])
        if dtype in _NARROW:
            array = array.astype(_NARROW[dtype])
    return array if len(shape) == 1 else array.reshape(shape)


class _Careful:
    """Reads value by value, as json_tensor.cc does: slower, takes {"b64": ...}, and names the first fault."""

    def __init__(self, dtypes: Mapping[str, int]) -> None:
        self._dtypes = dtypes
        self._shapes: dict[str, list[int]] = {}
        self._values: dict[str, list[Any]] = {}

    def instances(self, instances: list[Any]) -> dict[str, Array]:
        """Return arrays of the row format."""
        objects = _is_object(instances[0])
        for index, element in enumerate(instances):
            if objects:
                self._add_object(index, element)
            else:
                self._add_plain(index, element)
        return {
            name: _array(values, [len(instances), *self._shapes[name]], self._dtypes[name])
            for name, values in self._values.items()
        }

    def tensor(self, value: Any, dtype: int) -> Array:
        """Return an array of the column format."""
        shape = _shape(value)
        values: list[Any] = []
        _fill(value, 0, shape, dtype, values)
        return _array(values, shape, dtype) if shape else _array(values, [1], dtype).reshape(())

    def _add_object(self, index: int, element: Any) -> None:
        if not _is_object(element):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        for name, value in element.items():
            try:
                self._add(name, value)
            except ServingError as error:
                raise invalid_argument(
                    f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error}"
                ) from None
        if element.keys() != self._dtypes.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_string(element)} keys "
                f"must be equal to: {','.join(sorted(self._dtypes))}"
            )

    def _add_plain(self, index: int, element: Any) -> None:
        if _is_object(element):
            raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
        try:
            self._add(next(iter(self._dtypes)), element)
        except ServingError as error:
            raise invalid_argument(f"Failed to process element: {index} of 'instances' list. Error: {error}") from None

    def _add(self, name: str, value: Any) -> None:
        if name not in self._dtypes:
            raise invalid_argument(f"JSON object: does not have named input: {name}")
        shape = _shape(value)
        values: list[Any] = []
        _fill(value, 0, shape, self._dtypes[name], values)
        first = self._shapes.setdefault(name, shape)
        if math.prod(first) != len(values):
            raise invalid_argument(f"Expecting tensor size: {math.prod(first)} but got: {len(values)}")
        if first != shape:
            raise invalid_argument(f"Expecting shape {shape_string(first)} but got: {shape_string(shape)}")
        self._values.setdefault(name, []).extend(values)


def _shape(value: Any) -> list[int]:
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value: Any, level: int, shape: Sequence[int], dtype: int, values: list[Any]) -> None:
    if type(value) is not list:
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {debug_string(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        values.append(_value(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, values)


def _value(value: Any, dtype: int) -> Any:
    if type(value) is dict:
        if dtype == types_pb2.DT_STRING:
            return _decode_base64(value)
        raise _type_error(value, dtype)
    accepted = _JSON_TYPES.get(dtype)
    if accepted is None:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {debug_string(value)} to type: {dtype_name(dtype)}",
        )
    if type(value) not in accepted or (accepted is _INTEGER and not _fits(value, dtype)):
        raise _type_error(value, dtype)
    return _utf8(value) if type(value) is str else value


def _utf8(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise parse_error("The surrogate pair in string is invalid.", 0) from None


def _fits(value: int, dtype: int) -> bool:
    limits = np.iinfo(_PARSED_AS[dtype])
    return bool(limits.min <= value <= limits.max)


def _type_error(value: Any, dtype: int) -> ServingError:
    return invalid_argument(
        f"JSON Value: {debug_string(value)} Type: {json_type(value)} is not of expected type: {dtype_name(dtype)}"
    )


def _is_base64(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def _is_object(value: Any) -> bool:
    return type(value) is dict and not _is_base64(value)


def _decode_base64(value: dict[str, Any]) -> bytes:
    """Decode as absl::Base64Unescape does: white space is skipped, and the padding may be missing."""
    if not _is_base64(value):
        raise invalid_argument(f"JSON Value: {debug_string(value)} not formatted correctly for base64 data")
    text = re.sub(r"[ \t\r\n\v\f]+", "", value["b64"])
    unpadded = text.rstrip("=.")
    padding = -len(unpadded) % 4
    if len(text) - len(unpadded) not in (0, padding) or padding == 3:
        raise invalid_argument("Unable to base64 decode")
    try:
        return base64.b64decode(unpadded + "=" * padding, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument("Unable to base64 decode") from None


# tf.Example


def _example(document: Any) -> example_pb2.Example:
    if type(document) is not dict:
        raise invalid_argument(f"Example must be JSON object but got JSON {json_type(document)}")
    example = example_pb2.Example()
    for name, content in document.items():
        if not _is_utf8(name):
            raise parse_error("The surrogate pair in string is invalid.", 0)
        feature = example.features.feature[name]
        for value in content if type(content) is list else [content]:
            _add_to_feature(value, name, feature)
    return example


def _add_to_feature(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if type(value) is str:
        _feature_list(feature, "bytes_list", name).append(_utf8(value))
    elif type(value) is float:
        with np.errstate(over="ignore"):
            _feature_list(feature, "float_list", name).append(float(np.float32(value)))
    elif type(value) in (int, bool):
        values = _feature_list(feature, "int64_list", name)
        if value >= 2**63:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        values.append(int(value))
    elif _is_base64(value):
        _feature_list(feature, "bytes_list", name).append(_decode_base64(value))
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _feature_list(feature: feature_pb2.Feature, kind: str, name: str) -> Any:
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {present.removesuffix('_list')}"
        )
    return getattr(feature, kind).value

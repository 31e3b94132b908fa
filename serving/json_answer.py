"""The JSON of a response: the writing half of TensorFlow Serving's util/json_tensor.cc, errors included.

Strings come as object arrays of bytes.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson

from kubetfx.arrays import Array
from kubetfx.artifacts import BYTES_SUFFIX
from kubetfx.serving.json_tensor import RequestFormat
from kubetfx.serving.status import invalid_argument
from kubetfx.serving.tensor_proto import array_dtype_name
from kubetfx.tables import json_bytes

_WRITABLE = frozenset(np.dtype(name) for name in ("f4", "f8", "i1", "u1", "i2", "i4", "i8", "u4", "u8", "?", "O"))

_WRITE_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def predictions(outputs: Mapping[str, Array], request_format: RequestFormat) -> bytes:
    """Write the body of a predict response.

    Args:
        outputs: an array by output; strings as object arrays of bytes.
        request_format: format of the request.

    Returns:
        JSON in UTF-8. NaN and Infinity are written by name, as TensorFlow Serving does.

    Raises:
        ServingError: INVALID_ARGUMENT, a type that JSON has no form for, or, in the row format, outputs whose first
            dimensions differ.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if request_format is RequestFormat.COLUMN:
        return _write(outputs, lambda values: {"outputs": _named(values)})
    _check_batch(outputs)
    return _write(outputs, lambda values: {"predictions": _rows(values)})


def classifications(labels: Array | None, scores: Array | None, num_examples: int) -> bytes:
    """Write the body of a classify response.

    Args:
        labels: (num_examples, num_classes) object; None if the model has no labels.
        scores: (num_examples, num_classes) float32; None if the model has no scores.
        num_examples: examples of the request.

    Returns:
        JSON: a list of pairs of label and score per example.
    """
    shape = next((array.shape for array in (labels, scores) if array is not None), (num_examples, 0))
    texts: Any = np.full(shape, b"", dtype=object) if labels is None else labels
    numbers = np.zeros(shape, np.float32) if scores is None else scores
    return _write(
        {"labels": texts, "scores": numbers},
        lambda values: {
            "results": [
                list(map(list, zip(*pair, strict=True)))
                for pair in zip(values["labels"], map(list, values["scores"]), strict=True)
            ]
        },
    )


def regressions(values: Array) -> bytes:
    """Write the body of a regress response.

    Args:
        values: (num_examples,) float32.

    Returns:
        JSON: a list of numbers.
    """
    return _write({"results": values}, lambda written: {"results": written["results"]})


def error(message: str) -> bytes:
    """Write the body of a response that is not a success.

    Args:
        message: any text, lone surrogates included.

    Returns:
        JSON with the key `error`.
    """
    return orjson.dumps({"error": message.encode(errors="replace").decode()})


def _named(values: dict[str, Any]) -> Any:
    return values if len(values) > 1 else next(iter(values.values()))


def _rows(values: dict[str, Any]) -> list[Any]:
    if len(values) == 1:
        return list(next(iter(values.values())))
    names = tuple(values)
    return [dict(zip(names, row)) for row in zip(*values.values())]  # noqa: B905 strict takes time, lengths are checked


def _check_batch(outputs: Mapping[str, Array]) -> None:
    size = None
    for name, array in outputs.items():
        if not array.shape:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if size is not None and size != len(array):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)


def _write(outputs: Mapping[str, Array], arrange: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return JSON of arrays, NaN and Infinity by name.

    orjson writes float32 in the fewest digits that give it back, but NaN and Infinity as null: if there are such
    values, their arrays are spelled out.
    """
    body = orjson.dumps(
        arrange({name: _json_values(name, array) for name, array in outputs.items()}), option=_WRITE_OPTIONS
    )
    if b"null" in body and not all(_is_finite(array) for array in outputs.values()):
        values = {
            name: _json_values(name, array) if _is_finite(array) else _spelled(array) for name, array in outputs.items()
        }
        return orjson.dumps(arrange(values), option=_WRITE_OPTIONS)
    return body


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _json_values(name: str, array: Array) -> Any:
    if array.dtype not in _WRITABLE:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {array_dtype_name(array)}")
    if array.dtype != object:
        return np.ascontiguousarray(array) if array.shape else array[()]
    if name.endswith(BYTES_SUFFIX):
        return _map_nested(json_bytes.to_json, array.tolist())
    return _text_matrix(array) if array.ndim == 2 else _texts(array.tolist())


def _text_matrix(array: Array) -> list[list[Any]]:
    values = _texts(array.ravel().tolist())
    width = array.shape[1]
    return [values[start : start + width] for start in range(0, len(values), width)] if width else array.tolist()


def _texts(values: Any) -> Any:
    if type(values) is not list:
        return _text(values)
    if values and type(values[0]) is list:
        return [_texts(value) for value in values]
    try:
        return list(map(bytes.decode, values))
    except UnicodeDecodeError:
        return [_text(value) for value in values]


def _text(text: bytes) -> Any:
    try:
        return text.decode()
    except UnicodeDecodeError:  # TensorFlow Serving sends such bytes as they are
        quoted = json.dumps(text.decode(errors="surrogateescape"), ensure_ascii=False)
        return orjson.Fragment(quoted.encode(errors="surrogateescape"))


def _spelled(array: Array) -> Any:
    """Return values of a float array, those that are not finite by name."""
    names = {math.inf: b"Infinity", -math.inf: b"-Infinity"}

    def spell(value: Any) -> Any:
        return value if np.isfinite(value) else orjson.Fragment(names.get(float(value), b"NaN"))

    def nested(part: Any) -> Any:
        return [nested(item) for item in part] if isinstance(part, np.ndarray) else spell(part)

    return nested(array) if array.shape else spell(array[()])


def _map_nested(function: Callable[[bytes], Any], values: Any) -> Any:
    if type(values) is not list:
        return function(values)
    return [_map_nested(function, value) if type(value) is list else function(value) for value in values]

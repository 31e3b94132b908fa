"""Bytes in JSON: base64 in an object of its own, as TensorFlow Serving's REST API has them."""

import base64
from typing import Any

from kubetfx.errors import DataError


def to_json(content: bytes) -> dict[str, str]:
    """Return `{"b64": BASE64}`.

    Args:
        content: any bytes, for example those of a picture's file.
    """
    return {"b64": base64.b64encode(content).decode()}


def is_json(value: Any) -> bool:
    """Return whether a value of a JSON document is of the form that `to_json` makes.

    Args:
        value: A value of any type; whether the text in it is base64 is not checked.
    """
    return isinstance(value, dict) and list(value) == ["b64"]


def from_json(value: Any) -> bytes:
    """Return the bytes that `to_json` made an object of.

    Args:
        value: the object, as a JSON parser gives it.

    Raises:
        DataError: it is not such an object, or not base64.
    """
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, ValueError):
        raise DataError(f'Bytes are {{"b64": BASE64}} in JSON. Received: {str(value)[:60]}.') from None

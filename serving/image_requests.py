"""Pictures in JSON: base64, as TensorFlow Serving has it for names that end in _bytes."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from kubetfx.errors import DataError


def to_json(content: bytes) -> dict[str, str]:
    """Bytes as TensorFlow Serving's REST API takes them."""
    return {"b64": base64.b64encode(content).decode()}


def num_encoded_bytes(row: Mapping[str, Any]) -> int:
    """Of the pictures in a row, as `to_json` makes them."""
    return sum(len(value["b64"]) for value in row.values() if isinstance(value, dict) and "b64" in value)


def from_json(value: Any) -> bytes:
    """What `to_json` made.

    Raises:
        DataError: it is something else.
    """
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error, ValueError):
        shown = str(value)[:60]
        raise DataError(f'Bytes are {{"b64": BASE64}} in JSON. Received: {shown}.') from None

"""JSON documents as TensorFlow Serving's parser takes them and its messages quote them.

orjson reads what is plain JSON; the rest (NaN, Infinity, text that is not UTF-8, something behind the object) goes by
Python's own parser, and what neither reads is refused in RapidJSON's words.
"""

import codecs
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from kubetfx.serving.status import ServingError, invalid_argument

MAX_DEBUG_BYTES = 256
"""Where an error message cuts the JSON that it quotes."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a request's body is.

    NaN, Infinity and -Infinity are numbers; what follows the object is ignored; both as in TensorFlow Serving.

    Raises:
        ServingError: INVALID_ARGUMENT, the body is not JSON, or not an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_tolerantly(body)
    if type(document) is not dict:
        raise invalid_argument(f"JSON Value: {debug_string(document)} Is not object")
    return document


def debug_string(value: Any) -> str:
    """JSON as messages quote it: objects indented, arrays on one line, cut at the token that passes 256 bytes."""
    writer = _DebugWriter()
    writer.add(value, 0)
    return "".join(writer.parts)


class _DebugWriter:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self._size = 0

    def add(self, value: Any, depth: int) -> bool:
        if type(value) is dict:
            return self._add_object(value, depth)
        if type(value) is list:
            return self._add_array(value, depth)
        return self._put(_scalar(value))

    def _add_object(self, value: dict[str, Any], depth: int) -> bool:
        if not self._put("{"):
            return False
        indent = "    " * (depth + 1)
        for index, (name, item) in enumerate(value.items()):
            if not self._put(f"{',' if index else ''}\n{indent}{_scalar(name)}: ") or not self.add(item, depth + 1):
                return False
        return self._put(f"\n{'    ' * depth}}}" if value else "}")

    def _add_array(self, value: list[Any], depth: int) -> bool:
        if not self._put("["):
            return False
        for index, item in enumerate(value):
            if (index and not self._put(", ")) or not self.add(item, depth):
                return False
        return self._put("]")

    def _put(self, token: str) -> bool:
        if self._size >= MAX_DEBUG_BYTES:
            return False
        self.parts.append(token)
        self._size += len(token)
        return True


def _scalar(value: Any) -> str:
    return json.dumps(value[: 4 * MAX_DEBUG_BYTES] if type(value) is str else value, ensure_ascii=False)


def json_type(value: Any) -> str:
    """`Number` for 3: the name of a JSON value's type in messages."""
    names: Mapping[type, str] = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    if value is None or type(value) is bool:
        return {None: "Null", True: "True", False: "False"}[value]
    return names[type(value)]


def _parse_tolerantly(body: bytes) -> Any:
    if body.startswith(codecs.BOM_UTF8):
        body = body[len(codecs.BOM_UTF8) :]
    text = body.decode(
        errors="surrogateescape"
    )  # TensorFlow Serving takes strings for bytes, and doesn't look into them
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise parse_error("The document is empty.", len(body))
    try:
        document, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as failure:
        raise parse_error(_reason(failure), failure.pos) from None
    except RecursionError:
        raise parse_error("Nested too deeply.", 0) from None
    except OverflowError:
        raise parse_error("Number too big to be stored in double.", 0) from None
    return document


def parse_error(reason: str, offset: int) -> ServingError:
    """The error of a body that is not JSON."""
    return invalid_argument(f"JSON Parse error: {reason} at offset: {offset}")


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OverflowError
    return value


def _parse_int(text: str) -> int | float:
    if len(text) > 20:
        return _parse_float(text)
    value = int(text)
    return value if -(2**63) <= value < 2**64 else float(value)


_DECODER = json.JSONDecoder(parse_float=_parse_float, parse_int=_parse_int)


def _reason(failure: json.JSONDecodeError) -> str:
    """RapidJSON's words for what Python's parser found."""
    if failure.msg.startswith("Expecting ',' delimiter"):
        if _innermost_bracket(failure.doc[: failure.pos]) == "{":
            return "Missing a comma or } after an object member."
        return "Missing a comma or ] after an array element."
    words = {
        "Expecting property name": "Missing a name for object member.",
        "Illegal trailing comma before end of object": "Missing a name for object member.",
        "Expecting ':' delimiter": "Missing a colon after a name of object member.",
        "Unterminated string": "Missing a closing quotation mark in string.",
        "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
        "Invalid \\escape": "Invalid escape character in string.",
        "Invalid control character": "Invalid encoding in string.",
    }
    return next((reason for start, reason in words.items() if failure.msg.startswith(start)), "Invalid value.")


def _innermost_bracket(text: str) -> str:
    open_brackets: list[str] = []
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
        if token in "[{":
            open_brackets.append(token)
        elif token in "]}" and open_brackets:
            open_brackets.pop()
    return open_brackets[-1] if open_brackets else ""

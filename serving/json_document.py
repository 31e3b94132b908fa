"""JSON documents as TensorFlow Serving's parser takes them and its messages quote them.

orjson reads what is plain JSON; the rest (NaN, Infinity, text that is not UTF-8, something behind the object) goes by
Python's own parser, and what neither reads is refused in RapidJSON's words.
"""

import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from kubetfx.serving.status import ServingError, invalid_argument

_MAX_DEBUG_BYTES = 256
"""Length at which an error message cuts the JSON that it quotes."""


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a request's body.

    NaN, Infinity and -Infinity are numbers, and what follows the object is ignored, both as in TensorFlow Serving.

    Args:
        body: JSON in UTF-8.

    Returns:
        The object.

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
    """Return JSON as messages quote it: objects indented, arrays on one line, cut at the token that passes 256 bytes.

    Args:
        value: The value of a parsed document.
    """
    parts: list[str] = []
    size = 0
    for token in _tokens(value, 0):
        if size >= _MAX_DEBUG_BYTES:
            break
        parts.append(token)
        size += len(token)
    return "".join(parts)


def _tokens(value: Any, depth: int) -> Iterator[str]:
    if type(value) is dict:
        yield "{"
        for index, (name, item) in enumerate(value.items()):
            yield f"{',' if index else ''}\n{'    ' * (depth + 1)}{_scalar(name)}: "
            yield from _tokens(item, depth + 1)
        yield f"\n{'    ' * depth}}}" if value else "}"
    elif type(value) is list:
        yield "["
        for index, item in enumerate(value):
            if index:
                yield ", "
            yield from _tokens(item, depth)
        yield "]"
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    return json.dumps(value[: 4 * _MAX_DEBUG_BYTES] if type(value) is str else value, ensure_ascii=False)


def json_type(value: Any) -> str:
    """Return the name of a JSON value's type in RapidJSON's messages, for example `Number` for 3.

    Args:
        value: as Python's parsers give it.
    """
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
        document, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as failure:
        raise parse_error(_reason(failure), failure.pos) from None
    except RecursionError:
        raise parse_error("Nested too deeply.", 0) from None
    except OverflowError:
        raise parse_error("Number too big to be stored in double.", 0) from None
    if lone := _LONE_SURROGATE.search(text, start, end):
        offset = len(text[: lone.start("lone")].encode(errors="surrogateescape"))
        raise parse_error("The surrogate pair in string is invalid.", offset)
    return document


def parse_error(reason: str, offset: int) -> ServingError:
    """Return the error of a body that is not JSON.

    Args:
        reason: RapidJSON's words for it.
        offset: where it was found, in bytes.
    """
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


_LONE_SURROGATE = re.compile(
    r"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*"
    r"(?P<lone>\\u[dD](?:[c-fC-F]|[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])))"
)
"""Half of a pair of UTF-16, written as an escape that is not itself escaped."""
_DECODER = json.JSONDecoder(parse_float=_parse_float, parse_int=_parse_int)


def _reason(failure: json.JSONDecodeError) -> str:
    """Return RapidJSON's words for what Python's parser found."""
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

"""Parses a part of a package as the API server does: by protobuf's JSON, after yaml.v3 and Go's JSON."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault
from kubetfx.kubeflow.package_document import Place


def parse_fault(document: Any, message: Any, *, ignore_unknown: bool = False) -> Fault | None:
    """Return why a document is not the JSON of a protobuf message, None if it is.

    Args:
        document: to parse.
        message: of protobuf, which takes what is parsed.
        ignore_unknown: pass over fields that the message does not have.

    Returns:
        The place in the document, as far as protobuf says it, and the fault.
    """
    from google.protobuf import json_format

    try:
        json_format.ParseDict(document, message, ignore_unknown_fields=ignore_unknown)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:  # protobuf expects some sense
        return _placed(" ".join(str(error).split()), message.DESCRIPTOR.name)
    place = _empty_list(document, message)
    return (place, "a list, and a mapping is expected") if place is not None else None


def _placed(text: str, message: str) -> Fault:
    """Return what protobuf says, with the place that it names: `... at Message.field.map[key].field`."""
    found = re.search(rf'at "?{message}((?:\.\w+|\[[^\]]*\])+)', text)
    parts = re.findall(r"\.(\w+)|\[([^\]]*)\]", found[1]) if found else []
    place = tuple(name or (int(key) if key.isdigit() else key) for name, key in parts)
    return place, re.sub(r"Failed to parse \w+ field: ", "", text).rstrip(".")


def _empty_list(document: Any, message: Any, place: Place = ()) -> Place | None:
    """Return the place of an empty list where a message is expected, which Python's protobuf takes, and Go's does not.

    Args:
        document: that was parsed.
        message: what was made of it.
        place: of the document.
    """
    from google.protobuf.message import Message

    if message.DESCRIPTOR.full_name.startswith("google.protobuf."):
        return None
    if not isinstance(document, Mapping):
        return place
    for field in message.DESCRIPTOR.fields:
        value, parsed = document.get(field.json_name, document.get(field.name)), getattr(message, field.name)
        parts: list[tuple[Any, Any, Place]] = []
        if isinstance(parsed, Message):
            parts = [(value, parsed, (*place, field.json_name))] if value is not None else []
        elif isinstance(value, Mapping):
            parts = [(value[key], parsed[str(key)], (*place, field.json_name, str(key))) for key in value]
        elif isinstance(value, list):
            parts = [(value[i], parsed[i], (*place, field.json_name, i)) for i in range(len(value))]
        for part, made, where in parts:
            if isinstance(made, Message) and (found := _empty_list(part, made, where)) is not None:
                return found
    return None


def unlike_json(value: Any, place: Place = (), *, keys: bool = True) -> Iterator[Fault]:
    """Look for what no JSON has: `isPipelineSpec` of the API server's template.go takes it for no pipeline.

    Args:
        value: of a document.
        place: of the value.
        keys: look for keys that are not text, too.

    Yields:
        The place of each number that is none, and of each mapping with such a key.
    """
    if isinstance(value, float) and not math.isfinite(value):
        yield place, f"{value} is not a number that JSON has"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if keys and not isinstance(key, str):
                yield place, f"the key {key!r} is not text"
            yield from unlike_json(inner, (*place, str(key)), keys=keys)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from unlike_json(inner, (*place, index), keys=keys)

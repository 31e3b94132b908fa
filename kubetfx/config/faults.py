"""Errors of a configuration in plain words: pydantic's errors become one line per key."""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kubetfx.config.dotted_keys import sections_in
from kubetfx.config.section import nearest

_TYPE_IN_PATH = re.compile(r"(function-|literal\[|dict\[|tuple\[|str$|WorkspaceConfig$|Interval$)")
"""The parts of a path by which pydantic says which member of a union it tried."""


_WORDS_OF_YAML = {"valid tuple": "valid list, [A, B] for example", "valid dictionary": "valid mapping"}
"""Plain words for the names of Python's types in pydantic's messages."""


def describe_faults(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Describe what is wrong with a configuration.

    Args:
        error: The error that pydantic raised.
        root: The model that was validated; unknown keys are compared with its fields.

    Returns:
        One line per wrong key: its dotted path, what is wrong, and what was received.
    """
    return [_describe(dotted, faults, root) for dotted, faults in _by_path(error.errors()).items()]


def _by_path(errors: Sequence[ErrorDetails]) -> dict[str, list[ErrorDetails]]:
    """Return faults by dotted path.

    A value may be wrong in several ways; if a part of it is wrong, only that part is reported.
    """
    paths: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        location = tuple(part for part in error["loc"] if not _TYPE_IN_PATH.match(str(part)))
        paths.setdefault(".".join(map(str, location)), []).append({**error, "loc": location})
    return {path: faults for path, faults in paths.items() if not any(p.startswith(f"{path}.") for p in paths)}


def _describe(path: str, faults: Sequence[ErrorDetails], root: type[BaseModel]) -> str:
    fault = faults[0]
    location = fault["loc"]
    dotted = path or "the pipeline"
    if fault["type"] == "extra_forbidden":
        known = _fields_at(location[:-1], root)
        key = str(location[-1])
        return f"{dotted}: unknown key.{nearest(key, known)} Known here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{dotted}: is required."
    messages = (other["msg"].removeprefix("Value error, ") for other in faults)
    message = "; or ".join(text[0].lower() + text[1:] for text in messages)
    for ours, of_yaml in _WORDS_OF_YAML.items():
        message = message.replace(ours, of_yaml)
    if fault["type"] == "value_error":  # our own message, which says what was received
        message = message.removesuffix(".")
        return f"{message}." if message.startswith(dotted) else f"{dotted}: {message}."
    return f"{dotted}: {message}. Received: {fault['input']!r} ({kind_of(fault['input'])})."


def _fields_at(location: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    section = root
    for part in location:
        field = section.model_fields.get(str(part))
        inner = next(sections_in(field.annotation), None) if field else None
        section = inner or section
    return [field.alias or name for name, field in section.model_fields.items()]


def kind_of(value: object) -> str:
    """Return the kind of a YAML value for people, for example `a list`.

    Args:
        value: The value as the YAML parser returns it.
    """
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)

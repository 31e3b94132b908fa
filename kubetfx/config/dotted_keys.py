"""Dotted keys of a pipeline.yaml, such as `training.epochs`: which part of the tree each means, and setting values."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from kubetfx.errors import ConfigError

_KEY = re.compile(r'"[^"]+"|[^."=]+')
DOTTED = re.compile(rf"(?:{_KEY.pattern})(?:\.(?:{_KEY.pattern}))*")
"""A dotted key. A key that contains dots itself is in double quotes."""
OF_OVERRIDES = (
    "An override must have the form dotted.key=value. Received: {!r}. Try training.epochs=3; put a key that contains "
    "dots into double "
    'quotes, data.types."a.b"=text.'
)


def keys_of(dotted: str) -> list[str]:
    """Return the parts of a dotted key, without their quotes.

    Args:
        dotted: the key.
    """
    return [key[1:-1] if key.startswith('"') else key for key in _KEY.findall(dotted)]


def override(document: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a value in a document, and create missing sections on the way.

    Args:
        document: The document of sections by name, which is changed.
        dotted: The key.
        value: The new value.

    Raises:
        ConfigError: the key is malformed, or a key on the way holds a value that has no keys.
    """
    if not DOTTED.fullmatch(dotted):
        raise ConfigError(OF_OVERRIDES.format(dotted))
    *parents, last = keys_of(dotted)
    section = document
    for depth, key in enumerate(parents, start=1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            inner = ".".join(parents[:depth])
            raise ConfigError(f"{dotted} cannot be set: {inner} has no keys. Received: {inner} = {section!r}.")
    section[last] = value


def annotation_of(keys: Sequence[str], root: type[BaseModel]) -> Any:
    """Return the type of a key; None for an unknown key, or one within a mapping.

    Args:
        keys: as `keys_of` gives them.
        root: the section that they start at.
    """
    annotation: Any = root
    for key in keys:
        section = next(sections_in(annotation), None)
        field = section.model_fields.get(key) if section else None
        annotation = field.annotation if field else None
    return annotation


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the sections that a value can hold.

    Args:
        annotation: type of a key.

    Yields:
        The sections.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def leaves(root: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Find the keys that hold values.

    Args:
        root: a section.
        prefix: The prefix of its keys.

    Yields:
        Dotted keys, without those of whole sections.
    """
    for key, field in root.model_fields.items():
        inner = next(sections_in(field.annotation), None)
        if inner is None:
            yield f"{prefix}{key}"
        else:
            yield from leaves(inner, f"{prefix}{key}.")

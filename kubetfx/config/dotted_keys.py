"""Dotted keys of a pipeline.yaml, `training.epochs`: which part of the tree each means, and putting values in."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from kubetfx.errors import ConfigError

_KEY = re.compile(r'"[^"]+"|[^."=]+')
DOTTED = re.compile(rf"(?:{_KEY.pattern})(?:\.(?:{_KEY.pattern}))*")
"""A key with those around it. One that has dots itself is in double quotes."""
OF_OVERRIDES = (
    "An override is dotted.key=value. Received: {!r}. Try training.epochs=3; a key that has dots itself is in double "
    'quotes, data.types."a.b"=text.'
)


def keys_of(dotted: str) -> list[str]:
    """Return the keys that a dotted one is made of, without their quotes.

    Args:
        dotted: the key.
    """
    return [key[1:-1] if key.startswith('"') else key for key in _KEY.findall(dotted)]


def override(document: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a value into a document. Sections on the way to it are made.

    Args:
        document: The document of sections by name, which is changed.
        dotted: the key.
        value: replaces what is there.

    Raises:
        ConfigError: it is no dotted key, or one on the way to it has a value that has no keys.
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
    """Return the type of a key; None for one that is not known, or is within a mapping.

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
    """Find the sections that a value may be.

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
    """Find the keys that have values of their own.

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

"""YAML that keeps text as it was written.

YAML 1.1 takes `yes` for true, `007` for 7 and `2024-05-01` for a date. In pipeline.yaml the names of keys are text, and
so are the values of many keys: there, the written text is kept.
"""

import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

_MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`, which merges other mappings."""


class _Loader(yaml.SafeLoader):
    """Keeps keys as they are written, and refuses duplicates, of which YAML's own loader silently keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is not text", key_node.start_mark)
            if key_node.tag != _MERGE:
                key_node.tag = "tag:yaml.org,2002:str"
            if key_node.value in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key_node.value!r}", key_node.start_mark
                )
            keys.add(key_node.value)
        return node


class _TextLoader(_Loader):
    """Reads every value as text, except a missing one, which is None."""


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag == _MERGE or not first]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str, annotation: Any) -> Any:
    """Read YAML.

    Args:
        text: the YAML.
        annotation: type of what it holds, for example a model of pydantic. Scalars where only text is right are text.

    Returns:
        The document.

    Raises:
        yaml.YAMLError: it is not YAML, has a key twice, or holds itself.
    """
    try:
        texts = yaml.load(text, Loader=_TextLoader)
        _check_ends(texts)
        return _merged(yaml.load(text, Loader=_Loader), texts, annotation)
    except (ValueError, IndexError) as error:  # of Python's dates and numbers
        raise yaml.YAMLError(
            f"a value is not valid for its apparent type ({error}). If it is text, put it in quotes"
        ) from None
    except RecursionError:
        raise yaml.YAMLError("a part of it contains itself through an alias, or is nested too deeply") from None


def _check_ends(value: Any) -> None:
    """Raise RecursionError for a document that contains itself."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_ends(inner)


def in_one_line(value: Any) -> str:
    """Format a value as one line of YAML, for an error or a comment, with quotes where needed.

    Args:
        value: a text, or lists and mappings.

    Returns:
        The YAML, without a line end.
    """

    def dumped(style: str | None) -> str:
        text: str = yaml.safe_dump(
            value, allow_unicode=True, width=math.inf, default_flow_style=True, sort_keys=False, default_style=style
        )
        return text.removesuffix("\n...\n").strip()

    text = dumped(None)
    return text if len(text.splitlines()) <= 1 else dumped('"')  # only this keeps a line end within a text on one line


def _merged(typed: Any, texts: Any, annotation: Any) -> Any:
    """Return a document whose scalars are those of `texts` where the annotation takes only text."""
    kinds = _members(annotation)
    if isinstance(typed, dict) and isinstance(texts, dict):
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is not None:
            fields = section.model_fields
            return {
                key: _merged(value, texts[key], fields[key].annotation if key in fields else None)
                for key, value in typed.items()
            }
        values = next((get_args(kind)[1] for kind in kinds if get_origin(kind) in (dict, Mapping)), None)
        return {key: _merged(value, texts[key], values) for key, value in typed.items()}
    if isinstance(typed, list) and isinstance(texts, list):
        items = next((get_args(kind)[0] for kind in kinds if get_origin(kind) in (tuple, list)), None)
        if takes_only_text(items):  # there, `null` is a spelling of a missing value, not None
            return texts
        return [_merged(value, text, items) for value, text in zip(typed, texts, strict=True)]
    return texts if typed is not None and takes_only_text(annotation) else typed


def takes_only_text(annotation: Any) -> bool:
    """Return whether text is the only scalar that a type takes.

    Args:
        annotation: the type of a key.
    """
    scalars = [kind for kind in _members(annotation) if not _is_container(kind)]
    return bool(scalars) and all(kind is str or _is_literal_of_text(kind) for kind in scalars)


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union, without None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    return [] if annotation in (None, type(None)) else [annotation]


def _is_container(kind: Any) -> bool:
    is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
    return is_section or get_origin(kind) in (dict, Mapping, tuple, list)


def _is_literal_of_text(kind: Any) -> bool:
    return get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind))

"""Reads the YAML of a package as the API server of Kubeflow Pipelines does, with the place of each value.

The API server reads by Go's yaml.v3 (`NewV2SpecTemplate` in KFP 2.17.0, backend/src/apiserver/template/v2_template.go):
`yes` and `1:30` are text, `1e3` is a number, a date becomes the text of a time, and what unfolds without measure is
refused.
"""

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MOST_LEVELS = 200
"""yaml.v3 reads 10,000; a stack of Python holds fewer, and packages that compilers write have some 20."""
MOST_UNFOLDED = 400_000
"""Values of a document with all aliases replaced, from which yaml.v3 refuses what is mostly aliases
(`alias_ratio_range_low` in its decode.go)."""


class UnreadableError(Exception):
    """A file that yaml.v3, or this reader, does not read."""


@dataclass(frozen=True)
class Document:
    """A document of a file that is not empty."""

    value: Any
    node: yaml.Node


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - that of the base is for YAML 1.1


for _tag, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("timestamp", r"\d{4}-\d\d?-\d\d?(([Tt]|\s+)\d\d?:\d\d:\d\d(\.\d*)?(\s*(Z|[-+]\d\d?(:\d\d)?))?)?", "0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def _as_go_writes_it(loader: Any, node: yaml.ScalarNode) -> str:
    """Return a time as the text that it is in Go's JSON."""
    time = loader.construct_yaml_timestamp(node)
    if not isinstance(time, datetime.datetime):
        return f"{time.isoformat()}T00:00:00Z"
    return time.isoformat().removesuffix("+00:00") + ("" if time.utcoffset() else "Z")


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_go_writes_it)


def read_documents(text: str) -> list[Document]:
    """Read all documents of a file.

    Args:
        text: of the file.

    Returns:
        Those that are not empty.

    Raises:
        yaml.YAMLError: it is not YAML.
        UnreadableError: it is nested too deeply, or unfolds to more than yaml.v3 takes.
    """
    _check_depth(text)
    loader = _Loader(text)
    try:
        documents = []
        while loader.check_node():
            node = loader.get_node()
            pairs = _checked_mappings(node)
            value = loader.construct_document(node)
            for mapping, written in pairs:  # which `<<` has replaced
                mapping.value = written
            if value is not None:
                documents.append(Document(value, node))
        return documents
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Refuse what is nested too deeply, event by event: reading it as a whole would end the process."""
    depth = 0
    for event in yaml.parse(text, _SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_LEVELS:
                raise UnreadableError(
                    f"its values are nested more than {MOST_LEVELS} levels deep, at line {_line(event)}"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _checked_mappings(document: yaml.Node) -> list[tuple[yaml.MappingNode, list[Any]]]:
    """Return all mappings as they are written; refuse aliases that hold themselves, or that unfold to very much."""
    mappings = []
    sizes: dict[int, int] = {}
    begun: set[int] = set()
    waiting = [document]
    while waiting:
        node = waiting[-1]
        inner = list(_inner(node))
        if id(node) not in begun:
            begun.add(id(node))
            if isinstance(node, yaml.MappingNode):
                mappings.append((node, list(node.value)))
            for child in inner:
                if id(child) in begun and id(child) not in sizes:
                    raise UnreadableError(f"the anchor at line {_line(child)} holds an alias of itself")
            waiting += [child for child in inner if id(child) not in sizes]
        else:
            waiting.pop()
            sizes[id(node)] = 1 + sum(sizes[id(child)] for child in inner)
    if sizes[id(document)] > max(MOST_UNFOLDED, 2 * len(sizes)):
        raise UnreadableError(
            f"its aliases unfold {len(sizes):,} values to {sizes[id(document)]:,}, which the API server refuses as "
            "excessive aliasing"
        )
    return mappings


def _line(found: yaml.Node | yaml.Event) -> int:
    return found.start_mark.line + 1 if found.start_mark else 0


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value

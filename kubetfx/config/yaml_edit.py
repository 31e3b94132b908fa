"""Sets values in a pipeline.yaml that a person wrote, and keeps comments, order and style of everything else."""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.util import load_yaml_guess_indent

from kubetfx.config.dotted_keys import keys_of
from kubetfx.errors import ConfigError


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """Set values in YAML.

    Args:
        text: The text of the file.
        values: by dotted key. Sections that are not there are added at the end.

    Returns:
        The text with the values.

    Raises:
        ConfigError: a key on the way to one has a value that has no keys.
    """
    _, indent, offset = load_yaml_guess_indent(text)
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 10_000
    editor.allow_unicode = True
    nested = re.search(r"^[^\s#][^\n]*:[ \t]*(?:#[^\n]*)?\n(?:\s*#[^\n]*\n)*( +)[^\s#-]", text, re.MULTILINE)
    width = len(nested[1]) if nested else 2
    if offset is None:  # it has no block-style list
        indent, offset = width + 2, width
    editor.indent(mapping=width, sequence=max(indent or 0, offset + 2), offset=offset)
    document = editor.load(text)
    for dotted, value in values.items():
        *parents, last = keys_of(dotted)
        section = document
        for parent in parents:
            if section.get(parent) is None:
                section[parent] = CommentedMap()
            section = section[parent]
            if not isinstance(section, CommentedMap):
                raise ConfigError(f"{dotted} cannot be written: {parent} has no keys. Received: {section!r}.")
        section[last] = _in_one_line(value)
    written = StringIO()
    editor.dump(document, written)
    return written.getvalue()


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set values in a file atomically.

    Args:
        path: The path of the file.
        values: by dotted key.

    Raises:
        ConfigError: a key on the way to one has a value that has no keys, or the file cannot be written.
    """
    text = with_values(path.read_text(encoding="utf-8"), values)
    aside = path.with_name(f".{path.name}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.chmod(path.stat().st_mode)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error}. The best values were found and are kept.") from None


def _in_one_line(value: Any) -> Any:
    if isinstance(value, list | tuple):
        found = CommentedSeq([_in_one_line(inner) for inner in value])
        found.fa.set_flow_style()
        return found
    return value

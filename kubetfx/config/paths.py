"""Paths of a configuration become absolute, and defaults of paths are filled in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kubetfx.errors import ConfigError
from kubetfx.storage import is_url, locate

_NOT_A_PATH = ("imagenet", "none")
"""Values of `model.weights` that name no file."""


def with_absolute_paths(document: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    """Make the paths of a pipeline absolute, and fill in their defaults, before the sections are checked.

    Args:
        document: sections by name, each a dictionary or a `Section`. Values that are not text are left for the check.
        folder: where relative paths start.

    Returns:
        A copy of the document.

    Raises:
        ConfigError: a path is a URL where none can be, or a URL that cannot be read.
    """
    sections = dict(document)
    name = sections.get("name")
    if sections.get("workspace") is None and isinstance(name, str):
        sections["workspace"] = f".kubetfx/{name}"
    if isinstance(sections.get("workspace"), str):
        sections["workspace"] = _on_disk(sections["workspace"], "workspace", folder)
        serving = sections.get("serving")
        if _value(serving, "push_directory") is None and isinstance(serving, dict | BaseModel | None):
            model_name = _value(serving, "model_name") or name
            sections["serving"] = _put(serving or {}, "push_directory", f"{sections['workspace']}/pushed/{model_name}")
    if _value(sections.get("data"), "source") and not _value(sections["data"], "path") and "workspace" in sections:
        sections["data"] = _put(sections["data"], "path", f"{sections['workspace']}/source")
    _change(sections, "data", "path", lambda path, key: _anywhere(path, key, folder))
    _change(sections, "serving", "push_directory", lambda path, key: _anywhere(path, key, folder))
    for section, key in (("data", "schema_file"), ("training", "checkpoint_directory"), ("model", "weights")):
        _change(sections, section, key, lambda path, dotted: _on_disk(path, dotted, folder))
    return sections


def _change(sections: dict[str, Any], section: str, key: str, change: Callable[[str, str], str]) -> None:
    value = _value(sections.get(section), key)
    if isinstance(value, str) and value and value not in _NOT_A_PATH:
        sections[section] = _put(sections[section], key, change(value, f"{section}.{key}"))


def _value(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else getattr(section, key, None)


def _put(section: Any, key: str, value: str) -> Any:
    return {**section, key: value} if isinstance(section, dict) else section.model_copy(update={key: value})


def _on_disk(path: str, key: str, folder: Path) -> str:
    if is_url(path):
        raise ConfigError(f"{key}: a path of this machine's file system is needed. Received: {path}.")
    return str(folder / Path(path).expanduser())


def _anywhere(path: str, key: str, folder: Path) -> str:
    if not is_url(path):
        return _on_disk(path, key, folder)
    try:
        return str(locate(path))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}.") from None

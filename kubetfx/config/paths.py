"""Makes the paths of a configuration absolute, and fills in default paths."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kubetfx.config.word_files import read_words
from kubetfx.errors import ConfigError
from kubetfx.storage import is_url, is_web, locate

_NOT_A_PATH = ("imagenet", "none")
"""Values of `model.weights` that are not files."""


def with_absolute_paths(document: Mapping[str, Any], *, folder: Path) -> dict[str, Any]:
    """Make the paths of a pipeline absolute, and fill in their defaults, before the sections are checked.

    Args:
        document: sections by name, each a dictionary or a `Section`. Values that are not text are left for the check.
        folder: where relative paths start.

    Returns:
        A copy of the document.

    Raises:
        ConfigError: a path is a URL where none is allowed, or a URL is malformed.
    """
    sections = dict(document)
    name = sections.get("name")
    workspace = _workspace(sections.get("workspace"), name, folder)
    if workspace is not None:
        sections["workspace"] = workspace
        path, local = _value(workspace, "path"), _value(workspace, "local")
        serving = sections.get("serving")
        if _value(serving, "push_directory") is None and isinstance(serving, dict | BaseModel | None):
            model_name = _value(serving, "model_name") or name
            sections["serving"] = _put(serving or {}, "push_directory", f"{path}/pushed/{model_name}")
        if _value(sections.get("data"), "source") and not _value(sections["data"], "path"):
            sections["data"] = _put(sections["data"], "path", f"{local or path}/source")
    _change(sections, "data", "path", lambda path, key: path if is_web(path) else _anywhere(path, key, folder))
    _change(sections, "serving", "push_directory", lambda path, key: _anywhere(path, key, folder))
    endpoint = _value(sections.get("serving"), "endpoint")
    if isinstance(file := _value(endpoint, "models_config"), str) and file:
        path = _on_disk(file, "serving.endpoint.models_config", folder)
        sections["serving"] = _put(sections["serving"], "endpoint", _put(endpoint, "models_config", path))
    _change(sections, "monitoring", "requests", lambda path, key: _anywhere(path, key, folder))
    encoder = _value(sections.get("features"), "text_encoder")
    if isinstance(place := _value(encoder, "pretrained"), str) and place:
        path = _anywhere(place, "features.text_encoder.pretrained", folder)
        sections["features"] = _put(sections["features"], "text_encoder", _put(encoder, "pretrained", path))
    _read_words(sections, folder)
    for section, key in (("data", "schema_file"), ("training", "checkpoint_directory"), ("model", "weights")):
        _change(sections, section, key, lambda path, dotted: _on_disk(path, dotted, folder))
    return sections


def _read_words(sections: dict[str, Any], folder: Path) -> None:
    """Replace files of words by their content: a node or a package does not have the file."""
    for part, key, is_list in (("augmentation", "synonyms", True), ("cleaning", "contractions", False)):
        encoder = _value(sections.get("features"), "text_encoder")
        own = _value(encoder, part)
        file = _value(own, key)
        if isinstance(file, str) and file not in ("", "english"):
            dotted = f"features.text_encoder.{part}.{key}"
            table = read_words(_on_disk(file, dotted, folder), key=dotted)
            values = {word: others if is_list else " ".join(others) for word, others in table.items()}
            changed = _put(encoder, part, _put(own, key, values))
            sections["features"] = _put(sections["features"], "text_encoder", changed)


def _workspace(given: Any, name: Any, folder: Path) -> Any:
    """Return the section with absolute paths, given as a path or as a section.

    It is None if it is invalid, which the validation reports.
    """
    section = {"path": given} if given is None or isinstance(given, str) else given
    default = f".kubetfx/{name}" if isinstance(name, str) else None
    path, local = _value(section, "path"), _value(section, "local")
    if path is None:
        path = default
    if not isinstance(path, str) or not isinstance(section, dict | BaseModel):
        return None
    if is_url(path) and local is None:
        local = default
    if isinstance(local, str):
        section = _put(section, "local", _on_disk(local, "workspace.local", folder))
    return _put(section, "path", _anywhere(path, "workspace", folder))


def _change(sections: dict[str, Any], section: str, key: str, change: Callable[[str, str], str]) -> None:
    value = _value(sections.get(section), key)
    if isinstance(value, str) and value and value not in _NOT_A_PATH:
        sections[section] = _put(sections[section], key, change(value, f"{section}.{key}"))


def _value(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else getattr(section, key, None)


def _put(section: Any, key: str, value: Any) -> Any:
    return {**section, key: value} if isinstance(section, dict) else section.model_copy(update={key: value})


def _on_disk(path: str, key: str, folder: Path) -> str:
    if is_url(path):
        raise ConfigError(f"{key}: a path in this machine's file system is needed. Received: {path}.")
    if "\0" in path:
        raise ConfigError(f"{key}: no path has a NUL character. Received: {path!r}. Take it out.")
    return str(folder / os.path.expanduser(path))  # ~ of nobody is a name


def _anywhere(path: str, key: str, folder: Path) -> str:
    if not is_url(path):
        return _on_disk(path, key, folder)
    try:
        return str(locate(path))
    except ValueError as error:
        raise ConfigError(f"{key}: {error}.") from None

"""`${NAME}` in the texts of a pipeline.yaml: values of environment variables.

Most are replaced when the file is read. In the few keys that hold secrets, a reference stays a reference in the config,
in records of runs, in packages for Kubeflow, and in ML Metadata; it is resolved where the value is used. Decision 24
says why.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from kubetfx.errors import ConfigError
from kubetfx.storage import is_web

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?")
"""An escaped `${`; a reference with its default; or any other `${`, which is an error."""
_SECRET_KEYS = (
    "data.source_options",
    "beam.options",
    "beam.arguments",
    "tuning.storage",
    "tracking.mlflow",
    "tracking.token",
)
"""Keys for secrets."""
_LOOKED_UP_LATE = (*_SECRET_KEYS, "beam.endpoint", "beam.environment", "beam.image")
"""Keys whose references are resolved where they are used. So is `data.path` if it is a web address."""
_SECRET_NAME = re.compile(
    r"PASSW|PASSPHRASE|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|(?:^|_)(?:TOKEN|PRIVATE|PASS|PWD)(?:_|$)", re.IGNORECASE
)
"""Words in the name of a variable that must not be used in other keys, whose values are stored."""

_looked_up: dict[str, str] = {}
"""Values that this process has resolved, by their reference."""


def with_environment(document: dict[str, Any]) -> dict[str, Any]:
    """Replace references in a pipeline by values of environment variables, except in keys that hold secrets.

    Args:
        document: sections by name, as they were written.

    Returns:
        A copy, in which `$${` has become `${`.

    Raises:
        ConfigError: a variable is not set, or has the name of a secret and is used in a key that is stored. All are
            listed.
    """
    faults: list[str] = []

    def put(key: str, text: str) -> str:
        if key.startswith(_LOOKED_UP_LATE) or (key == "data.path" and is_web(text)):
            return text
        try:
            found = _replaced(text, key, os.environ.__getitem__)
            secrets = [name for name in names_in(text) if _SECRET_NAME.search(name)]
            if secrets or (key == "data.path" and found != text and is_web(found)):
                raise ConfigError(
                    f"{key}: the value would be stored in clear text. Received: {text}. A secret can be referred to in "
                    f"{', '.join(_SECRET_KEYS)}, and in data.path after https://; programs in pods get secrets "
                    "through kubeflow.every_component.secrets."
                )
            return found
        except ConfigError as error:
            faults.append(str(error))
            return text

    changed: dict[str, Any] = _mapped(document, "", put)
    if faults:
        raise ConfigError("Environment variables of the pipeline:", faults=faults)
    return changed


def resolved(value: Any, *, key: str) -> Any:
    """Resolve the references in the value of a key that holds secrets.

    Args:
        value: a text, or lists and dictionaries of texts and others.
        key: dotted, for errors.

    Returns:
        A copy with the values of the variables, which `redacted` replaces from then on.

    Raises:
        ConfigError: a variable is not set.
    """

    def look_up(name: str) -> str:
        found = os.environ[name]
        _looked_up[f"${{{name}}}"] = found
        return found

    return _mapped(value, key, lambda inner, text: _replaced(text, inner, look_up))


def names_in(value: Any) -> list[str]:
    """Return the names of the variables that a value refers to without a default.

    Args:
        value: a text, or lists and dictionaries of texts and others.
    """
    found: dict[str, None] = {}

    def note(_: str, text: str) -> str:
        found.update(dict.fromkeys(name for name, default in _REFERENCE.findall(text) if name and not default))
        return text

    _mapped(value, "", note)
    return list(found)


def redacted(text: str) -> str:
    """Return a text in which resolved values are replaced by their references.

    Args:
        text: for people, or for a log.
    """
    for reference, value in _secrets():
        text = text.replace(value, reference)
    return text


def redact_file(path: Path) -> None:
    """Replace resolved values in a file by their references.

    Args:
        path: The path of a log that is complete.
    """
    secrets = [(reference.encode(), value.encode()) for reference, value in _secrets()]
    content = path.read_bytes() if secrets and path.is_file() else b""
    if any(value in content for _, value in secrets):
        for reference, value in secrets:
            content = content.replace(value, reference)
        path.write_bytes(content)


def _secrets() -> Sequence[tuple[str, str]]:
    """Return references and values, also as URLs have them; the longest first: one may be part of another."""
    found = {spelled: ref for ref, value in _looked_up.items() for spelled in (value, quote(value), quote_plus(value))}
    return sorted(((ref, value) for value, ref in found.items() if len(value) > 3), key=lambda entry: -len(entry[1]))


def _mapped(value: Any, key: str, change: Callable[[str, str], str]) -> Any:
    """Return a copy of a value whose texts are changed, by their dotted keys."""
    if isinstance(value, str):
        return change(key, value) if "${" in value else value
    if isinstance(value, dict):
        return {name: _mapped(inner, f"{key}.{name}" if key else str(name), change) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(inner, f"{key}.{index}", change) for index, inner in enumerate(value))
    return value


def _replaced(text: str, key: str, look_up: Callable[[str], str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            raise ConfigError(
                f"{key}: `${{` must begin a reference to an environment variable, ${{NAME}} or ${{NAME:-default}}. "
                f"Received: "
                f"{text}. For the literal characters write $${{."
            )
        try:
            found = look_up(name)
            return default[2:] if default is not None and not found else found
        except KeyError:
            if default is not None:
                return default[2:]
            raise ConfigError(
                f"{key}: the environment variable {name} is not set. Received: {text}. Set it, or give a default: "
                f"${{{name}:-default}}."
            ) from None

    return _REFERENCE.sub(value, text)

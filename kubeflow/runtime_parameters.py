"""Turns TFX's RuntimeParameters in exec properties into parameters of a package, which a run may set."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfx.orchestration.data_types import RuntimeParameter

from kubetfx.errors import CompileError
from kubetfx.kubeflow.names import identifier
from kubetfx.kubeflow.task_spec import ParameterType

_PARAMETER_TYPES: Mapping[type, ParameterType] = {int: "int", float: "float", str: "str"}


@dataclass(frozen=True)
class RunParameter:
    """A parameter of the package that a run may set."""

    name: str
    type: ParameterType
    default: int | float | str | None
    """None: a run must give a value."""


def merge_parameters(into: dict[str, RunParameter], new: Mapping[str, RunParameter], *, node_id: str) -> None:
    """Add parameters that may be there already.

    Args:
        into: the parameters so far by name, which are added to.
        new: parameters to add, by name.
        node_id: id of the node that has them, for the error.

    Raises:
        CompileError: two of the same name differ.
    """
    for name, parameter in new.items():
        if into.setdefault(name, parameter) != parameter:
            raise CompileError(
                f"{node_id}: the RuntimeParameter {name!r} has another type or default elsewhere. "
                f"Received: {parameter.type} {parameter.default!r}, and {into[name].type} {into[name].default!r}. "
                "Give both the same, or different names."
            )


def take_parameters(value: Any, *, node_id: str) -> tuple[Any, list[tuple[tuple[str, ...], RunParameter]]]:
    """Replace each RuntimeParameter in an exec property by its default.

    Args:
        value: The value of the property: a RuntimeParameter, or the JSON text of a message with some in it, as TFX
            writes it.
        node_id: id of the node, for the error.

    Returns:
        The value with the defaults, and each parameter with its path: keys into the JSON document.

    Raises:
        CompileError: a parameter's name cannot be one of Kubeflow Pipelines.
    """
    found: list[tuple[tuple[str, ...], RuntimeParameter]] = []
    if isinstance(value, RuntimeParameter):
        found, value = [((), value)], value.default
    elif isinstance(value, str) and '"RuntimeParameter' in value.replace("\\", ""):
        document = _replace_parameters(_parsed(value), (), found)
        value = json.dumps(document) if found else value
    return value, [(path, _as_run_parameter(parameter, node_id=node_id)) for path, parameter in found]


def _parsed(text: str) -> Any:
    """Return the content of a JSON text; None for other text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _replace_parameters(
    document: Any, path: tuple[str, ...], found: list[tuple[tuple[str, ...], RuntimeParameter]]
) -> Any:
    parameter = _as_parameter(document)
    if parameter is not None:
        found.append((path, parameter))
        return parameter.default
    if isinstance(document, dict):
        return {key: _replace_parameters(inner, (*path, key), found) for key, inner in document.items()}
    if isinstance(document, list):
        return [_replace_parameters(inner, (*path, str(index)), found) for index, inner in enumerate(document)]
    return document


def _as_parameter(document: Any) -> RuntimeParameter | None:
    if isinstance(document, str) and document.startswith("{") and '"RuntimeParameter"' in document:
        document = _parsed(document)
    if not isinstance(document, dict) or document.get("__class__") != "RuntimeParameter":
        return None
    names: dict[Any, type] = {kind.__name__: kind for kind in _PARAMETER_TYPES}
    kind = names.get((document.get("ptype") or {}).get("__class__", ""))
    return RuntimeParameter(document["name"], kind, document["default"], document["description"])


def _as_run_parameter(parameter: RuntimeParameter, *, node_id: str) -> RunParameter:
    if not re.search("[A-Za-z0-9]", parameter.name):
        raise CompileError(
            f"{node_id}: a RuntimeParameter's name needs an ASCII letter or digit. Received: {parameter.name!r}. "
            "Give it another name."
        )
    default = parameter.default
    kind = parameter.ptype or (type(default) if default is not None else str)
    return RunParameter(identifier(parameter.name), _PARAMETER_TYPES[kind], default)

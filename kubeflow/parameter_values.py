"""Parses the values of a package's run parameters, by the types that the package declares."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kubetfx.config.section import nearest
from kubetfx.errors import UsageError
from kubetfx.kubeflow.package_document import Package


def parse_parameters(pairs: Sequence[str], package: Package) -> dict[str, Any]:
    """Parse the values of a run's parameters.

    Args:
        pairs: `name=value` each.
        package: declares the parameters and their types. Those without a default must be given.

    Returns:
        The values by name.

    Raises:
        UsageError: no such parameter, a value of another type, or one that is missing.
    """
    declared = package.parameters
    values = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise UsageError(f"`parameters` takes NAME=VALUE. Received: {pair}.")
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise UsageError(
                f"The pipeline has no parameter {name!r}.{nearest(name, list(declared))} Received: {pair}. "
                f"It has: {known}."
            )
        values[name] = _parse_value(name, text, str(declared[name].get("parameterType")))
    missing = [
        name
        for name, parameter in declared.items()
        if name not in values and "defaultValue" not in parameter and not parameter.get("isOptional")
    ]
    if missing:
        raise UsageError(
            f"The pipeline has parameters without a default. Received: no {', '.join(missing)}. "
            f"Give them in `parameters`: {', '.join(f'{name}=VALUE' for name in missing)}."
        )
    return values


def _parse_value(name: str, text: str, kind: str) -> Any:
    kinds: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
        "NUMBER_INTEGER": ("an integer", int),
        "NUMBER_DOUBLE": ("a number", (int, float)),
        "BOOLEAN": ("true or false", bool),
        "LIST": ("a list, as JSON", list),
        "STRUCT": ("an object, as JSON", dict),
    }
    if kind not in kinds:
        return text
    words, types = kinds[kind]
    try:
        value = json.loads(text.lower() if kind == "BOOLEAN" else text)
    except ValueError:
        value = None
    is_odd = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, types) or isinstance(value, bool) != (kind == "BOOLEAN") or is_odd:
        raise UsageError(f"Parameter {name!r} takes {words}. Received: {text!r}.")
    return value

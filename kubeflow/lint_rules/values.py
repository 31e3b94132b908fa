"""Rules about values that are in the package: constants and defaults, and the types that they are to have."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.package_document import Package, Place, mapping, mappings

_TYPES: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


@rule("parameter-default", "warning", "Give a value of the type that is declared, or declare another.")
def _default(package: Package) -> Iterator[Fault]:
    """Look for defaults of another type.

    The API server checks what a run gives, and nothing else (`validatePipelineJobInputs` in v2_template.go). The driver
    of a task checks what comes to it (`resolveInputs` in driver/resolve.go), and the launcher adds a container's
    defaults without a look (`addDefaultParams` in component/launcher_v2.go).
    """
    for component, spec in package.components.items():
        for name, parameter in mappings(mapping(spec, "inputDefinitions"), "parameters").items():
            value, kind = parameter.get("defaultValue"), str(parameter.get("parameterType"))
            if value is not None and not (_has_type(value, kind) and _is_whole(value, kind)):
                place = (*package.component_place(component), "inputDefinitions", "parameters", name, "defaultValue")
                yield place, f"{value!r} is not a {kind}, and nothing checks it: tasks get it as it is, or fail"


@rule("constant-type", "error", "Give a value of the type that the component declares.")
def _constant_type(package: Package) -> Iterator[Fault]:
    """Look for constants that the driver refuses.

    `handleParamTypeValidationAndConversion` and `ValidateLiteralParameter` in `resolveInputs` (KFP 2.17.0,
    backend/src/v2/driver/resolve.go).
    """
    for place, value, parameter in _constants(package):
        kind, literals = str(parameter.get("parameterType")), parameter.get("literals")
        if kind != "STRING" and not _has_type(value, kind):
            yield place, f"{_shown(value)} is not a {kind}: the task's driver fails"
        elif isinstance(literals, list) and literals and value not in literals:
            yield place, f"{_shown(value)} is not among the declared {_shown(literals)}: the task's driver fails"


@rule("constant-converted", "warning", "Give a value of the type that the component declares.")
def _constant_converted(package: Package) -> Iterator[Fault]:
    """Look for constants of which the driver makes a text, and for numbers that are not whole.

    `PbValueToText` in backend/src/v2/metadata/converter.go. The driver has one kind of number.
    """
    for place, value, parameter in _constants(package):
        kind = str(parameter.get("parameterType"))
        if kind == "STRING" and not isinstance(value, str):
            yield place, f"{_shown(value)} is not a text: the task gets its JSON as one"
        elif _has_type(value, kind) and not _is_whole(value, kind):
            yield place, f"{value} is not a whole number, and nothing checks it: the task gets it as it is"


def _constants(package: Package) -> Iterator[tuple[Place, Any, Mapping[str, Any]]]:
    """Go through the constants of tasks, with what their components declare; those with placeholders are not known."""
    for task in package.tasks():
        declared = mappings(mapping(package.component_of(task), "inputDefinitions"), "parameters")
        for name, source in mappings(mapping(task.spec, "inputs"), "parameters").items():
            value = mapping(source, "runtimeValue")
            if "constant" in value and name in declared and "{{$" not in str(value["constant"]):
                place = (*task.place, "inputs", "parameters", name, "runtimeValue", "constant")
                yield place, value["constant"], declared[name]


def _has_type(value: Any, kind: str) -> bool:
    """Return whether a value has a type of parameters, as far as protobuf tells types apart; True for another type."""
    return kind not in _TYPES or (isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "BOOLEAN"))


def _is_whole(value: Any, kind: str) -> bool:
    """Return False for a number that is to be whole, and is not."""
    return kind != "NUMBER_INTEGER" or not isinstance(value, float) or (math.isfinite(value) and value.is_integer())


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

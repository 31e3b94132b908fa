"""The expressions of a package, in Google's Common Expression Language, as the driver evaluates them.

Kubeflow Pipelines 2.17.0, backend/src/v2/expression/expression.go: a condition sees the fields of the ExecutorInput, a
selector those of the Value; both may call `parseJson`.
"""

import json
from collections.abc import Mapping
from typing import Any

import cel

from kubetfx.errors import CompileError
from kubetfx.kubeflow.emulation.parameter_text import as_text


def holds(condition: str, *, parameters: Mapping[str, Any], artifacts: Mapping[str, Any]) -> bool:
    """Return whether the condition of a trigger policy holds.

    Args:
        condition: such as `inputs.parameter_values['rows'] > 5`; an empty one holds.
        parameters: The parameters of the task, by name.
        artifacts: lists of RuntimeArtifacts of the task, by name.

    Raises:
        CompileError: the driver could not evaluate it.
    """
    if not condition:
        return True
    inputs = {
        "parameter_values": dict(parameters),
        "artifacts": {name: {"artifacts": list(found)} for name, found in artifacts.items()},
    }
    result = _evaluate(condition, {"inputs": inputs})
    if not isinstance(result, bool):
        raise CompileError(f"A condition is neither true nor false. Received: {condition} is {result!r}.")
    return result


def selected(value: Any, selector: str) -> Any:
    """Return the part of a parameter that a `parameterExpressionSelector` names.

    Args:
        value: The value of the parameter.
        selector: such as `parseJson(string_value)["rows"]`.

    Raises:
        CompileError: the driver could not evaluate it.
    """
    kinds = {bool: "bool_value", float: "number_value", list: "list_value", dict: "struct_value"}
    fields = {kinds[type(value)]: value} if type(value) in kinds else {}
    return _evaluate(selector, {**fields, "string_value": as_text(value)})


def _evaluate(expression: str, variables: Mapping[str, Any]) -> Any:
    context = cel.Context()
    for name, value in variables.items():
        context.add_variable(name, value)
    context.add_function("parseJson", json.loads)
    try:
        return cel.evaluate(expression, context)
    except Exception as error:
        raise CompileError(
            f"The driver cannot evaluate an expression. Received: {expression}: {type(error).__name__}: {error}."
        ) from error

"""Rules about when a task runs, how often it is tried, and how many iterations run at once."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.errors import CompileError
from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.package_document import Package, Place, Task, mapping


@rule("importer-condition", "error", "Put it into a DAG of its own, with the condition on that.")
def _importer_condition(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if "importer" in package.executor_of(task) and mapping(task.spec, "triggerPolicy").get("condition"):
            yield (*task.place, "triggerPolicy", "condition"), "a condition on an importer: the submission is refused"


_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)")
"""A macro of CEL, and the variable that it binds."""
_TYPES = {"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint", "google"}
_FUNCTIONS = _TYPES | {
    "contains",
    "duration",
    "dyn",
    "endsWith",
    "matches",
    "parseJson",
    "size",
    "startsWith",
    "timestamp",
}
"""Those of CEL's standard, without those of times, and the one that KFP adds."""


@rule("condition", "error", "Write it in CEL over the task's inputs: inputs.parameter_values['rows'] > 5.")
def _condition(package: Package) -> Iterator[Fault]:
    """Look for conditions that are not CEL, or about something else than the ExecutorInput.

    `Condition` in KFP 2.17.0, backend/src/v2/expression/expression.go.
    """
    import cel

    from kubetfx.kubeflow.emulation.expressions import holds

    for place, condition, _ in _conditions(package):
        try:
            program = cel.compile(condition)
        except ValueError as error:
            yield place, f"not an expression of CEL, so the task's driver fails: {_reason(error)}"
            continue
        variables = set(program.variables()) - _TYPES - set(_BOUND.findall(condition))
        functions = {name for name in program.functions() if name.isalpha() and not name.startswith("get")}
        unknown = sorted(variables - {"inputs", "outputs"}) + sorted(functions - _FUNCTIONS)
        if unknown:
            yield place, f"CEL sees `inputs` here, and no {', '.join(map(repr, unknown))}: the task's driver fails"
        elif not variables:
            try:
                holds(condition, parameters={}, artifacts={})
            except CompileError as error:
                yield place, f"the task's driver fails: {error}"


_INPUT = re.compile(r"inputs\.(parameter_values|artifacts)(?:\[\s*(?:'([^']+)'|\"([^\"]+)\")\s*\]|\.(\w+))")
_ASKS = re.compile(r"\bhas\s*\(|\bin\s+inputs\b")
"""Asks whether there is an input."""


@rule("condition-input", "error", "Pass it in the task's inputs.")
def _condition_input(package: Package) -> Iterator[Fault]:
    """Look for inputs that a task is not given.

    The driver leaves a container's optional parameters out if they have no value, and fills in a DAG's (`resolveInputs`
    in KFP 2.17.0, backend/src/v2/driver/resolve.go).
    """
    for place, condition, task in _conditions(package):
        if _ASKS.search(condition):
            continue
        for section, *names in _INPUT.findall(condition):
            name = "".join(names)
            if name not in _given(package, task, "artifacts" if section == "artifacts" else "parameters"):
                yield place, f"the task is not given {name!r}, which the condition is about: the driver fails"


@rule("retries", "error", "Give whole numbers from zero on.")
def _retries(package: Package) -> Iterator[Fault]:
    """Look for a factor that Argo cannot read.

    It takes whole numbers (`processNodeRetries` in Argo Workflows 4.0.5, workflow/controller/operator.go), and gets the
    number as it is written.
    """
    for task in package.tasks():
        factor = mapping(task.spec, "retryPolicy").get("backoffFactor")
        if isinstance(factor, float) and not factor.is_integer():
            yield (
                (*task.place, "retryPolicy", "backoffFactor"),
                f"Argo takes a whole number, and not {factor}: once the task fails, it ends with an error instead of "
                "another try",
            )


@rule("policy-ignored", "warning", "Give a number from 1 on, or leave it out.")
def _policy_ignored(package: Package) -> Iterator[Fault]:
    """Look for numbers without an effect.

    `processNodeRetries`, and `iteratorTask` in KFP 2.17.0, backend/src/v2/compiler/argocompiler/dag.go.
    """
    for task in package.tasks():
        retries = _number(mapping(task.spec, "retryPolicy").get("maxRetryCount"))
        if retries is not None and retries < 0:
            yield (*task.place, "retryPolicy", "maxRetryCount"), f"{retries} retries are none: it is tried once"
        limit = _number(mapping(task.spec, "iteratorPolicy").get("parallelismLimit"))
        place: Place = (*task.place, "iteratorPolicy", "parallelismLimit")
        if limit is not None and "parameterIterator" not in task.spec:
            yield place, "the task is not a loop, so nothing is limited"
        elif limit is not None and limit < 0:
            yield place, f"a limit of {limit} is dropped: all iterations run at once"


def _conditions(package: Package) -> Iterator[tuple[Place, str, Task]]:
    for task in package.tasks():
        condition = str(mapping(task.spec, "triggerPolicy").get("condition") or "")
        if condition:
            yield (*task.place, "triggerPolicy", "condition"), condition, task


def _given(package: Package, task: Task, section: str) -> set[str]:
    names = {*mapping(mapping(task.spec, "inputs"), section)}
    component = package.component_of(task)
    if "dag" in component and section == "parameters":
        declared = mapping(mapping(component, "inputDefinitions"), section).items()
        names |= {name for name, entry in declared if isinstance(entry, Mapping) and entry.get("isOptional")}
    return names


def _number(value: Any) -> int | None:
    """Return a whole number, or that in a text; the rule on malformed packages finds others."""
    return int(value) if re.fullmatch(r"-?\d+(\.0*)?", str(value)) else None


def _reason(error: ValueError) -> str:
    """Return what CEL's parser found first, without its drawing of the place."""
    found = re.search(r"ERROR: <input>:\d+:(\d+): (.*)", str(error))
    return f"{found[2].partition(' expecting ')[0]} at character {found[1]}" if found else str(error)

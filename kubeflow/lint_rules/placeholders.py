"""Rules about text in which Kubeflow Pipelines, or Argo Workflows below it, replaces something."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.package_document import Package, Place, Task, mapping, mappings, words

_TAG = re.compile(r"\{\{(?!\$)([^{}]*)\}\}")
"""A tag of Argo's, or text that looks like one."""

_ARGO_TAG = re.compile(r"\s*(=|(workflow|inputs|outputs|steps|tasks|pod|node|item|retries|lastRetry)\b)")

_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")

_REFERENCE = re.compile(r"\.(inputs|outputs)\.(parameters|artifacts)\['(.+?)'\](\.\w+)?")

_VALUE_PLACEHOLDERS = frozenset(
    {
        ".pipeline_job_name",
        ".pipeline_job_resource_name",
        ".pipeline_job_uuid",
        ".pipeline_task_name",
        ".pipeline_task_uuid",
        ".pipeline_job_create_time_utc",
        ".pipeline_job_schedule_time_utc",
    }
)
"""What the driver replaces in a task's constant, where it is the whole value."""

_MEMBERS = {
    ("inputs", "parameters"): {""},
    ("inputs", "artifacts"): {".uri", ".path"},
    ("outputs", "parameters"): {".output_file"},
    ("outputs", "artifacts"): {".uri", ".path"},
}


@rule("placeholder-parameter", "error", "Declare it in the component's inputDefinitions.")
def _unknown_parameter(package: Package) -> Iterator[Fault]:
    for name, place, text in _texts(package):
        known = mapping(mapping(package.components[name], "inputDefinitions"), "parameters")
        for wanted in re.findall(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}", text):
            if wanted not in known:
                yield place, f"the component has no parameter {wanted!r}: the driver fails"


@rule("placeholder", "warning", "Pass it as a parameter, or correct its name.")
def _placeholder(package: Package) -> Iterator[Fault]:
    for name, place, text in _texts(package):
        for inner in _PLACEHOLDER.findall(text):
            if inner and not _is_replaced(inner, package.components[name]):
                yield (
                    place,
                    f"{{{{${inner}}}}} is not a placeholder that KFP replaces here: the task gets the text itself",
                )
    for task in package.tasks():
        parameters = mapping(mapping(task.spec, "inputs"), "parameters")
        for place, text in _constants(task):
            for inner in _PLACEHOLDER.findall(text):
                if not _is_replaced_in_constant(inner, text, parameters):
                    yield (
                        place,
                        f"{{{{${inner}}}}} is not a placeholder that KFP replaces here: the task gets the text itself",
                    )


@rule("literal-braces", "warning", "Encode the text, for example as base64, and decode it there.")
def _literal_braces(package: Package) -> Iterator[Fault]:
    for _, place, text in _texts(package):
        is_source = "command" in place  # where the SDK puts Python code, which may hold braces of its own
        tags = [tag for tag in _TAG.findall(text) if not is_source or _ARGO_TAG.match(tag)]
        if tags:
            yield place, _braces(tags[0])
    for task in package.tasks():
        for place, text in _constants(task):
            if tags := _TAG.findall(text):
                yield place, _braces(tags[0])


def _texts(package: Package) -> Iterator[tuple[str, Place, str]]:
    """Yield component, place and text of all that placeholders are looked for in."""
    for name, component in package.components.items():
        label = str(component.get("executorLabel") or "")
        container = mapping(package.executors.get(label, {}), "container")
        place: Place = (*package.executor_place(label), "container")
        yield name, (*place, "image"), str(container.get("image") or "")
        for section in ("command", "args"):
            for index, word in enumerate(words(container, section)):
                yield name, (*place, section, index), word
        variables = container.get("env")
        for index, variable in enumerate(variables if isinstance(variables, list) else ()):
            if isinstance(variable, Mapping):
                yield name, (*place, "env", index), str(variable.get("value") or "")


def _constants(task: Task) -> Iterator[tuple[Place, str]]:
    for name, source in mappings(mapping(task.spec, "inputs"), "parameters").items():
        value = mapping(source, "runtimeValue")
        constant = value.get("constant", mapping(value, "constantValue").get("stringValue"))
        if isinstance(constant, str):
            yield (*task.place, "inputs", "parameters", name), constant


def _is_replaced(inner: str, component: Mapping[str, Any]) -> bool:
    reference = _REFERENCE.fullmatch(inner)
    if not reference:
        return False
    direction, section, key, member = reference.groups()
    if (direction, section) == ("inputs", "parameters") and not member:
        return True  # an unknown one is an error of its own
    declared = mapping(
        mapping(component, "inputDefinitions" if direction == "inputs" else "outputDefinitions"), section
    )
    return (member or "") in _MEMBERS[direction, section] and key in declared


def _is_replaced_in_constant(inner: str, text: str, parameters: Mapping[str, Any]) -> bool:
    if inner == ".workspace_path" or (inner in _VALUE_PLACEHOLDERS and text == f"{{{{${inner}}}}}"):
        return True
    reference = _REFERENCE.fullmatch(inner)
    return reference is not None and reference[1] == "inputs" and reference[3] in parameters


def _braces(tag: str) -> str:
    return f"{{{{{tag}}}}} is a tag to Argo Workflows, which KFP runs on: it may be replaced, or refused"

"""Rules about loops: what they go over, and what is collected from them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.lint_rules.task_graph import outputs_used, with_siblings
from kubetfx.kubeflow.package_document import Package, Task, component_ref, mapping, mappings


@rule("loop-items", "error", "Write a list in JSON: raw: '[1, 2]'.")
def _loop_items(package: Package) -> Iterator[Fault]:
    for task in _loops(package):
        raw = _items(task)
        if raw is not None and not isinstance(raw, list):
            yield (
                (*task.place, "parameterIterator", "items", "raw"),
                ("the items are not a list: the loop's driver fails"),
            )


@rule("loop-empty", "error", "Give it an item, or take the loop out, with what collects from it.")
def _loop_empty(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        collects = [name for name in siblings if any(used[1] == task.name for used in outputs_used(siblings[name]))]
        if task in _loops(package) and _items(task) == [] and collects:
            place = (*task.place, "parameterIterator", "items", "raw")
            yield place, f"there are no items: nothing runs, and the driver of {collects[0]!r}, which collects, fails"


@rule("loop-output", "warning", "Declare the input with isArtifactList: true.")
def _loop_output(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        declared = mappings(mapping(package.component_of(task), "inputDefinitions"), "artifacts")
        for place, producer, section, key in outputs_used(task):
            is_collected = producer in siblings and "parameterIterator" in siblings[producer].spec
            if section == "artifacts" and is_collected and not declared.get(str(place[-1]), {}).get("isArtifactList"):
                yield (
                    place,
                    f"{key!r} of the loop {producer!r} is a list, and the input is for one artifact: paths and URIs in "
                    "the container's arguments are those of the first",
                )


@rule("same-iterations", "error", "Give the task the loop's item, or switch its caching off.")
def _same_iterations(package: Package) -> Iterator[Fault]:
    for loop in _loops(package):
        name = component_ref(loop)
        dag = mapping(package.component_of(loop), "dag")
        inner = {task.name: task for task in package.tasks() if task.component_name == name}
        item = str(mapping(loop.spec, "parameterIterator").get("itemInput") or "")
        for key, output in mappings(mapping(dag, "outputs"), "artifacts").items():
            selectors = output.get("artifactSelectors")
            producers = [str(s.get("producerSubtask")) for s in selectors or () if isinstance(s, Mapping)]
            for producer in producers:
                if producer in inner and _is_same(inner, producer, item):
                    yield (
                        inner[producer].place,
                        f"does the same in each iteration of {loop.name!r}, so all take their output from one entry of "
                        f"the cache: the driver of what collects {key!r} fails, as ML Metadata takes an artifact once",
                    )


def _loops(package: Package) -> list[Task]:
    return [task for task in package.tasks() if "parameterIterator" in task.spec]


def _items(task: Task) -> Any:
    """Return the items that are in the package; None if they come from a parameter, and the text if it is not JSON."""
    raw = mapping(mapping(task.spec, "parameterIterator"), "items").get("raw")
    try:
        return None if raw is None else json.loads(str(raw))
    except ValueError:
        return raw


def _is_same(tasks: Mapping[str, Task], name: str, item: str, above: tuple[str, ...] = ()) -> bool:
    """Return whether a cached container in a loop has the same inputs in each iteration, as far as the package says."""
    task = tasks[name]
    if not mapping(task.spec, "cachingOptions").get("enableCache"):
        return False
    parameters = mappings(mapping(task.spec, "inputs"), "parameters").values()
    if any(source.get("componentInputParameter") == item or "{{$" in str(source) for source in parameters):
        return False
    producers = {used[1] for used in outputs_used(task)} & tasks.keys() - {*above, name}
    return all(_is_same(tasks, producer, item, (*above, name)) for producer in producers)

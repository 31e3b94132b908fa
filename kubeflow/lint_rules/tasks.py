"""Rules about tasks: what they are called, when they run, and what they wait for."""

import graphlib
import re
from collections.abc import Iterator

from kubetfx.kubeflow.lint_rules.containers import NO_CONTAINERS
from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.lint_rules.task_graph import (
    EXIT_STRATEGY,
    dependencies,
    is_exit_task,
    outputs_used,
    with_siblings,
)
from kubetfx.kubeflow.package_document import ROOT, Package, Task, component_ref, mapping, mappings

_TASK_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")

_MAX_NAME = 128
"""Characters that Argo Workflows allows."""


@rule("task-name", "error", "Name it with [a-z0-9-], beginning with a letter or digit.")
def _task_name(package: Package) -> Iterator[Fault]:
    dags = {name for name, component in package.components.items() if "dag" in component and name != ROOT}
    for place, name in [
        *((task.place, task.name) for task in package.tasks()),
        *((package.component_place(name), name) for name in dags),
    ]:
        if not _TASK_NAME.fullmatch(name):
            yield place, f"{name!r} becomes a name in an Argo workflow, which has letters, digits and hyphens only"
        elif len(f"{name}-driver") > _MAX_NAME:
            yield place, f"{name!r} is longer than the {_MAX_NAME} characters that Argo allows, `-driver` included"


@rule("task-name-case", "warning", "Name it with [a-z0-9-].")
def _task_name_case(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if _TASK_NAME.fullmatch(task.name) and task.name != task.name.lower():
            yield task.place, f"{task.name!r} has capitals: Argo takes them, but the kfp SDK never writes any"


@rule("driver-name", "error", "Let its name end otherwise than in -driver.")
def _driver_name(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        other = siblings.get(task.name.removesuffix("-driver"))
        if other is not None and other is not task and not is_exit_task(task) and _has_driver(package, other):
            yield task.place, f"{task.name!r} is also what KFP names the driver of {other.name!r}: Argo refuses the run"


@rule("artifact-iterator", "error", "Iterate over a list of parameters.")
def _iterator(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if "artifactIterator" in task.spec:
            yield (*task.place, "artifactIterator"), "KFP cannot iterate over artifacts: the submission is refused"


@rule("exit-handler", "error", "Let the exit task depend on a DAG that holds all others.")
def _exit_handler(package: Package) -> Iterator[Fault]:
    for name, component in package.components.items():
        tasks = mappings(mapping(component, "dag"), "tasks").values()
        if tasks and all(mapping(task, "triggerPolicy").get("strategy") == EXIT_STRATEGY for task in tasks):
            yield package.component_place(name), "a DAG of nothing but exit tasks is refused"
    for task in package.tasks():
        wants_status = any(
            "taskFinalStatus" in source for source in mappings(mapping(task.spec, "inputs"), "parameters").values()
        )
        if wants_status and not dependencies(task):
            yield task.place, "it takes a final status, and depends on no task whose status that would be"


@rule("skipped-upstream", "warning", "Put both under one condition, or use dsl.OneOf.")
def _skipped_upstream(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        producers = {name for _, name, _, _ in outputs_used(task)} | dependencies(task)
        for name in sorted(producers & set(siblings)):
            upstream = siblings[name]
            if mapping(upstream.spec, "triggerPolicy").get("condition") and not is_exit_task(task):
                yield task.place, f"it waits for the success of {name!r}: skipped by its condition, this never runs"


@rule("nested-in-itself", "error", "Let it run other components.")
def _nested_in_itself(package: Package) -> Iterator[Fault]:
    """Look for DAGs that hold themselves, so that drivers start drivers without an end.

    KFP's compiler passes over them (`dfs` in KFP 2.17.0, backend/src/v2/compiler/visitor.go).
    """
    graph: dict[str, set[str]] = {}
    for task in package.tasks():
        graph.setdefault(task.component_name, set()).add(component_ref(task))
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        names = error.args[1]
        yield package.component_place(names[0]), f"the component is inside of itself: {' <- '.join(names)}"


@rule("cycle", "error", "Take one of the dependencies out.")
def _cycle(package: Package) -> Iterator[Fault]:
    graphs: dict[str, dict[str, set[str]]] = {}
    for task in package.tasks():
        producers = {producer for _, producer, _, _ in outputs_used(task)}
        graphs.setdefault(task.component_name, {})[task.name] = producers | dependencies(task)
    for name, graph in graphs.items():
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            place = (*package.component_place(name), "dag", "tasks")
            yield place, f"tasks wait for each other: {' -> '.join(error.args[1])}"


def _has_driver(package: Package, task: Task) -> bool:
    """Return whether it is two Argo tasks, `NAME-driver` and `NAME`."""
    executor = package.executor_of(task)
    is_stub = mapping(executor, "container").get("image") in NO_CONTAINERS
    return not ("parameterIterator" in task.spec or "importer" in executor or is_stub or is_exit_task(task))

"""The tasks of a package as a graph: who is in one DAG with whom, and who takes what of whom."""

from collections.abc import Iterator, Mapping

from kubetfx.kubeflow.package_document import Package, Place, Task, mapping, mappings

EXIT_STRATEGY = "ALL_UPSTREAM_TASKS_COMPLETED"


def with_siblings(package: Package) -> Iterator[tuple[Task, Mapping[str, Task]]]:
    """Each task with all tasks of its DAG by name, itself included."""
    dags: dict[str, dict[str, Task]] = {}
    for task in package.tasks():
        dags.setdefault(task.component_name, {})[task.name] = task
    for siblings in dags.values():
        for task in siblings.values():
            yield task, siblings


def outputs_used(task: Task) -> Iterator[tuple[Place, str, str, str]]:
    """Place, producing task, `parameters` or `artifacts`, and key of each output of another task that a task takes."""
    for section, source, key in (
        ("parameters", "taskOutputParameter", "outputParameterKey"),
        ("artifacts", "taskOutputArtifact", "outputArtifactKey"),
    ):
        for name, value in mappings(mapping(task.spec, "inputs"), section).items():
            if output := mapping(value, source):
                place = (*task.place, "inputs", section, name)
                yield place, str(output.get("producerTask") or ""), section, str(output.get(key) or "")


def dependencies(task: Task) -> set[str]:
    """Names of the tasks that a task waits for, whether or not it takes something of them."""
    names = task.spec.get("dependentTasks")
    return {str(name) for name in names} if isinstance(names, list) else set()


def is_exit_task(task: Task) -> bool:
    """Whether it runs when those that it waits for have ended, however that was."""
    return mapping(task.spec, "triggerPolicy").get("strategy") == EXIT_STRATEGY

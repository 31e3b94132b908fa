"""The tasks of a package as a graph: those of one DAG, and which takes the outputs of which."""

from collections.abc import Iterator, Mapping

from kubetfx.kubeflow.package_document import Package, Place, Task, mapping, mappings

EXIT_STRATEGY = "ALL_UPSTREAM_TASKS_COMPLETED"
"""TriggerStrategy of exit handlers, in KFP's api/v2alpha1/pipeline_spec.proto."""


def with_siblings(package: Package) -> Iterator[tuple[Task, Mapping[str, Task]]]:
    """Go through the tasks of all DAGs.

    Args:
        package: with the DAGs.

    Yields:
        A task, and all tasks of its DAG by name, itself included.
    """
    dags: dict[str, dict[str, Task]] = {}
    for task in package.tasks():
        dags.setdefault(task.component_name, {})[task.name] = task
    for siblings in dags.values():
        for task in siblings.values():
            yield task, siblings


def outputs_used(task: Task) -> Iterator[tuple[Place, str, str, str]]:
    """Go through the outputs of other tasks that a task takes.

    Args:
        task: that takes them.

    Yields:
        Place of the input, name of the producing task, `parameters` or `artifacts`, and key of the output.
    """
    for section, source, key in (
        ("parameters", "taskOutputParameter", "outputParameterKey"),
        ("artifacts", "taskOutputArtifact", "outputArtifactKey"),
    ):
        for name, value in mappings(mapping(task.spec, "inputs"), section).items():
            if output := mapping(value, source):
                place = (*task.place, "inputs", section, name)
                yield place, str(output.get("producerTask") or ""), section, str(output.get(key) or "")


def dependencies(task: Task) -> set[str]:
    """Return the names of the tasks that a task waits for, whether or not it takes outputs of theirs.

    Args:
        task: that waits.
    """
    names = task.spec.get("dependentTasks")
    return {str(name) for name in names} if isinstance(names, list) else set()


def is_exit_task(task: Task) -> bool:
    """Return whether a task runs once those that it waits for have ended, whether or not they succeeded.

    Args:
        task: to look at.
    """
    return mapping(task.spec, "triggerPolicy").get("strategy") == EXIT_STRATEGY

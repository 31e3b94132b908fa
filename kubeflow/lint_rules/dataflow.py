"""Rules about what tasks take and hand out: outputs of other tasks, inputs of the DAG around, artifacts, constants."""

from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.lint_rules.task_graph import dependencies, outputs_used, with_siblings
from kubetfx.kubeflow.package_document import ROOT, Package, Place, Task, component_ref, mapping, mappings


@rule("unknown-task", "error", "Name a task of the same DAG; tasks are named as the keys of `tasks`.")
def _unknown_task(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        for name in sorted(dependencies(task)):
            if name not in siblings:
                yield (*task.place, "dependentTasks"), f"there is no task {name!r} to wait for in this DAG"
        for place, producer, _, _ in outputs_used(task):
            if producer not in siblings:
                yield place, f"there is no task {producer!r} in this DAG: the driver fails"
    for name, component in package.components.items():
        tasks = mappings(mapping(component, "dag"), "tasks")
        for place, producer in _outputs_handed_out(package, name):
            if producer not in tasks:
                yield place, f"there is no task {producer!r} in this DAG: the driver of what takes it fails"


@rule("unknown-output", "error", "Declare it under the producer's outputDefinitions.")
def _unknown_output(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        for place, producer, section, key in outputs_used(task):
            component = package.component_of(siblings[producer]) if producer in siblings else {}
            outputs = mapping(mapping(component, "outputDefinitions"), section)
            if component and key not in outputs:
                yield place, f"task {producer!r} has no output {key!r} among its {section}"


@rule(
    "artifact-twice", "error", "Declare one input for it, pass it once, and read it from there wherever it is needed."
)
def _artifact_twice(package: Package) -> Iterator[Fault]:
    for task, siblings in with_siblings(package):
        inputs: dict[tuple[Any, ...], str] = {}
        for name, source in mappings(mapping(task.spec, "inputs"), "artifacts").items():
            other = inputs.setdefault(_origin(package, siblings, source) or (task.place, name), name)
            if other != name:
                place = (*task.place, "inputs", "artifacts", name)
                yield (
                    place,
                    f"the artifact of the input {other!r} again: ML Metadata takes one input event per artifact and "
                    "execution, UNIQUE(artifact, execution, type), so the task's driver fails",
                )


@rule("dag-input", "error", "Declare it in that component's inputDefinitions, and pass it in its task.")
def _dag_input(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        for section, key in (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact")):
            for name, source in mappings(mapping(task.spec, "inputs"), section).items():
                wanted = source.get(key)
                if wanted and wanted not in _declared_inputs(package, task.component_name, section):
                    yield (
                        (*task.place, "inputs", section, name),
                        f"the DAG around it has no input {wanted!r} among its {section}: the driver fails",
                    )


@rule("dag-input-value", "error", "Pass it in the task's inputs, or give it a default.")
def _dag_input_not_given(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        component = package.component_of(task)
        inputs = mapping(mapping(component, "inputDefinitions"), "parameters") if "dag" in component else {}
        given = {*mapping(mapping(task.spec, "inputs"), "parameters")}
        given.add(str(mapping(task.spec, "parameterIterator").get("itemInput")))
        for name, parameter in inputs.items():
            if name not in given and "defaultValue" not in parameter and not parameter.get("isOptional"):
                yield task.place, f"its DAG takes a parameter {name!r}, which is not given and has no default"


@rule("constant-value", "error", "Write runtimeValue: {constant: ...}, as schema 2.1.0 has it.")
def _constant_value(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        parameters = mappings(mapping(task.spec, "inputs"), "parameters")
        names = [name for name, source in parameters.items() if mapping(source, "runtimeValue").keys() - {"constant"}]
        if names:
            yield (
                (*task.place, "inputs", "parameters"),
                f"values in a form of schema 2.0.0, which the driver cannot read: {', '.join(names)}",
            )


def _origin(package: Package, siblings: Mapping[str, Task], source: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells the artifact of an input from others in its DAG; empty for an input that names none."""
    if name := source.get("componentInputArtifact"):
        return ("input", str(name))
    output = mapping(source, "taskOutputArtifact")
    return _made_by(package, siblings, output.get("producerTask"), output.get("outputArtifactKey")) if output else ()


def _made_by(
    package: Package, siblings: Mapping[str, Task], producer: Any, key: Any, above: tuple[str, ...] = ()
) -> tuple[Any, ...]:
    """Return what tells an output from others.

    A DAG may hand out one artifact under two names, and importers of one place find one artifact unless they import
    again (findOrNewArtifactToImport in KFP's importer_launcher.go).
    """
    task = siblings.get(str(producer))
    if task is None:
        return str(producer), str(key)
    importer = mapping(package.executor_of(task), "importer")
    if importer and not importer.get("reimport"):
        return "imported", repr((importer, mapping(mapping(task.spec, "inputs"), "parameters")))
    dag = mapping(package.component_of(task), "dag")
    selectors = mappings(mapping(dag, "outputs"), "artifacts").get(str(key), {}).get("artifactSelectors")
    name = component_ref(task)
    if not isinstance(selectors, list) or name in above:
        return str(producer), str(key)
    inner = {other.name: other for other in package.tasks() if other.component_name == name}
    made = [
        _made_by(package, inner, one.get("producerSubtask"), one.get("outputArtifactKey"), (*above, name))
        for one in selectors
        if isinstance(one, Mapping)
    ]
    return str(producer), *made


def _outputs_handed_out(package: Package, component_name: str) -> Iterator[tuple[Place, str]]:
    """Yield place and producing task of what a DAG hands out to those around it. The root's goes to nobody."""
    outputs = mapping(mapping(package.components[component_name], "dag"), "outputs") if component_name != ROOT else {}
    for section in ("parameters", "artifacts"):
        for name, output in mappings(outputs, section).items():
            lists = (output.get("artifactSelectors"), mapping(output, "valueFromOneof").get("parameterSelectors"))
            selectors = [entry for entries in lists if isinstance(entries, list) for entry in entries]
            for selector in (mapping(output, "valueFromParameter"), *selectors):
                if isinstance(selector, Mapping) and selector:
                    place = (*package.component_place(component_name), "dag", "outputs", section, name)
                    yield place, str(selector.get("producerSubtask") or "")


def _declared_inputs(package: Package, component_name: str, section: str) -> Mapping[str, Any]:
    return mapping(mapping(package.components[component_name], "inputDefinitions"), section)

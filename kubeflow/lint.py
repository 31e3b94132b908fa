"""What open-source Kubeflow Pipelines would refuse or misread in a package, said before it is submitted.

Each rule is a function that looks for one fault; `RULES` lists them with what to do about it. They follow what KFP's
API server, its compiler to Argo Workflows, its driver and its launcher do (2.16).
"""

import graphlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from kubetfx.kubeflow.package_document import (
    ROOT,
    Package,
    Place,
    Task,
    component_ref,
    dotted,
    mapping,
    mappings,
    read_package,
)

Severity = Literal["error", "warning"]

SCHEMA_VERSION = "2.1.0"
TFX_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container"
EXIT_STRATEGY = "ALL_UPSTREAM_TASKS_COMPLETED"

Fault = tuple[Place, str]
"""Where it is, and what happens there."""


@dataclass(frozen=True)
class Finding:
    """One fault of a package."""

    rule: str
    severity: Severity
    """`error`: KFP refuses it, or the task fails. `warning`: KFP runs something else than what is written."""
    place: str
    """Dotted path into the document."""
    line: int | None
    """None in a file of one line."""
    what: str
    """What happens there."""
    remedy: str


@dataclass(frozen=True)
class Rule:
    """A fault to look for."""

    id: str
    severity: Severity
    check: Callable[[Package], Iterator[Fault]]
    remedy: str


def lint(path: str | Path) -> list[Finding]:
    """Say what open-source Kubeflow Pipelines would refuse or misread in a package, whoever made it.

    Args:
        path: of the package: YAML of one or two documents, a JSON job spec of TFX, or a PipelineVersion resource.

    Returns:
        The faults in the order of the file. In a package that is malformed no other faults are looked for.

    Raises:
        UsageError: the file cannot be read, or is no package.

    Example:
        >>> import kubetfx
        >>> kubetfx.lint("package.yaml")    # doctest: +SKIP
        []
    """
    package = read_package(Path(path))
    findings = list(_findings(MALFORMED, package))
    if not findings:
        findings = [finding for rule in RULES for finding in _findings(rule, package)]
    return sorted(findings, key=lambda finding: (finding.line or 0, finding.severity))


def _findings(rule: Rule, package: Package) -> Iterator[Finding]:
    for place, what in rule.check(package):
        yield Finding(rule.id, rule.severity, dotted(place), package.line(place), what, rule.remedy)


# The document as a whole


def _job_spec(package: Package) -> Iterator[Fault]:
    if package.wrapper is not None:
        yield (), "a job spec around the PipelineSpec: the API server looks for the PipelineSpec itself, and refuses"


def _runtime_config(package: Package) -> Iterator[Fault]:
    config = mapping(package.wrapper or {}, "runtimeConfig")
    root = config.get("gcsOutputDirectory")
    if root:
        yield ("runtimeConfig", "gcsOutputDirectory"), f"the pipeline root {root} is dropped: KFP uses its own"
    for key in ("parameters", "parameterValues"):
        if names := ", ".join(map(str, mapping(config, key))):
            yield ("runtimeConfig", key), f"the values of {names} are dropped"


def _default_root(package: Package) -> Iterator[Fault]:
    if root := package.spec.get("defaultPipelineRoot"):
        yield (*package.spec_place, "defaultPipelineRoot"), f"the pipeline root {root} is not read: KFP uses its own"


def _schema_version(package: Package) -> Iterator[Fault]:
    version = package.spec.get("schemaVersion")
    if version != SCHEMA_VERSION:
        yield (*package.spec_place, "schemaVersion"), f"schema version {version}: the API server takes 2.1.0 alone"


def _malformed(package: Package) -> Iterator[Fault]:
    from kfp.pipeline_spec import pipeline_spec_pb2

    if fault := _parse_fault(package.spec, pipeline_spec_pb2.PipelineSpec()):
        yield package.spec_place, f"no PipelineSpec: {fault}"
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    if fault := _parse_fault(package.spec.get("deploymentSpec") or {}, deployment, ignore_unknown=True):
        yield (*package.spec_place, "deploymentSpec"), f"no PipelineDeploymentConfig: {fault}"


def _ignored_field(package: Package) -> Iterator[Fault]:
    from kfp.pipeline_spec import pipeline_spec_pb2

    for label, executor in package.executors.items():
        if fault := _parse_fault(executor, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec()):
            yield package.executor_place(label), f"KFP knows no such field here, and drops it: {fault}"


def _pipeline_name(package: Package) -> Iterator[Fault]:
    if not re.search("[a-z0-9]", package.name):
        place = (*package.spec_place, "pipelineInfo", "name")
        yield place, f"the name {package.name!r} has no lower-case letter or digit: the API server refuses it"


def _no_root(package: Package) -> Iterator[Fault]:
    if not mappings(mapping(package.components[ROOT], "dag"), "tasks"):
        yield package.component_place(ROOT), "the root has no tasks, so there is nothing to run"


def _required_parameter(package: Package) -> Iterator[Fault]:
    for name, parameter in package.parameters.items():
        if parameter.get("defaultValue") is None and not parameter.get("isOptional"):
            place = (*package.component_place(ROOT), "inputDefinitions", "parameters", name)
            yield place, f"parameter {name} has no default: a run that does not give it is refused"


def _parameter_type(package: Package) -> Iterator[Fault]:
    for name, parameter in package.parameters.items():
        place = (*package.component_place(ROOT), "inputDefinitions", "parameters", name)
        kind = parameter.get("parameterType")
        if kind is None:
            yield place, f"parameter {name} has the type of schema 2.0.0 or none: a run that gives it is refused"
        elif kind == "TASK_FINAL_STATUS":
            yield place, f"parameter {name} is a final status, which the pipeline as a whole cannot have"


def _root_artifact(package: Package) -> Iterator[Fault]:
    taken = {
        source.get("componentInputArtifact")
        for task in package.tasks()
        if task.component_name == ROOT
        for source in mappings(mapping(task.spec, "inputs"), "artifacts").values()
    }
    for name, artifact in mappings(mapping(package.components[ROOT], "inputDefinitions"), "artifacts").items():
        if name in taken and not artifact.get("isOptional"):  # which KFP 2.16 fails at too, and later ones do not
            place = (*package.component_place(ROOT), "inputDefinitions", "artifacts", name)
            yield place, f"no run can be given the artifact {name}: the driver of the task that takes it fails"


# Components and executors


def _component_ref(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if component_ref(task) not in package.components:
            yield (*task.place, "componentRef"), f"there is no component {component_ref(task)!r}"


def _executor_label(package: Package) -> Iterator[Fault]:
    for name, component in package.components.items():
        label = component.get("executorLabel")
        if label and label not in package.executors:
            yield (*package.component_place(name), "executorLabel"), f"there is no executor {label!r}"
        elif not label and "dag" not in component and name != ROOT:
            yield package.component_place(name), "a component needs an executor or a DAG, and this has neither"


def _executor_kind(package: Package) -> Iterator[Fault]:
    for label, executor in package.executors.items():
        if not {"container", "importer"} & set(executor):
            kind = ", ".join(executor) or "empty"
            yield package.executor_place(label), f"KFP runs containers and importers, and refuses others: {kind}"


def _image(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if not container.get("image"):
            yield (*package.executor_place(label), "container"), "there is no image: no pod can be made"


_NO_CONTAINERS = frozenset({"argostub/createpvc", "argostub/deletepvc"})
"""Images that stand for what the driver does by itself."""


def _command(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if container.get("command") or container.get("image") in _NO_CONTAINERS:
            continue
        what = "the first argument is run as the program" if container.get("args") else "the launcher fails"
        place = (*package.executor_place(label), "container")
        yield place, f"there is no command, and KFP does not use the image's entrypoint: {what}"


def _tfx_entrypoint(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if any(word.startswith(TFX_ENTRYPOINT) for word in _words(container, "command")):
            yield (
                (*package.executor_place(label), "container", "command"),
                "TFX's entrypoint reads input artifacts' types, which KFP leaves blank, and imports a class for the "
                "output `executor-logs` that KFP adds: the task fails at its start",
            )


def _pre_cache_check(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if container.get("lifecycle"):
            yield (
                (*package.executor_place(label), "container", "lifecycle"),
                "preCacheCheck never runs: {SPAN} and {VERSION} stay as they are, and changed data under the same path "
                "is taken from the cache",
            )


_RESOURCE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def _accelerator(package: Package) -> Iterator[Fault]:
    for place, kind, _ in _accelerators(package):
        if kind and not kind.startswith("{{$") and not _RESOURCE_NAME.fullmatch(kind):
            yield place, f"{kind!r} becomes the name of the pod's resource limit, and Kubernetes has no such name"


def _accelerator_ignored(package: Package) -> Iterator[Fault]:
    for place, kind, count in _accelerators(package):
        if bool(kind) != bool(count):
            missing = "count" if kind else "type"
            yield place, f"an accelerator without a {missing} is left out: the task gets none"


def _artifact_type(package: Package) -> Iterator[Fault]:
    for name, component in package.components.items():
        foreign = [
            f"{key} is {title}"
            for section in ("inputDefinitions", "outputDefinitions")
            for key, artifact in mappings(mapping(component, section), "artifacts").items()
            if not _is_known_type(title := _title(mapping(artifact, "artifactType")))
        ]
        if foreign:
            what = f"{', '.join(foreign)}: KFP keeps the name alone, its UI shows nothing of it, its SDK refuses it"
            yield package.component_place(name), what


def _platform_executor(package: Package) -> Iterator[Fault]:
    for platform, spec in package.platforms.items():
        for label in mappings(mapping(spec, "deploymentSpec"), "executors"):
            if label not in package.executors:
                place = (*package.platforms_place, platform, "deploymentSpec", "executors", label)
                yield place, f"there is no executor {label!r}, so none of this reaches a pod"


def _platform_name(package: Package) -> Iterator[Fault]:
    for platform in package.platforms:
        if platform != "kubernetes":
            yield (*package.platforms_place, platform), "KFP reads the platform `kubernetes` alone, and drops this"


# Tasks


_TASK_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")
_MAX_NAME = 128
"""Characters that Argo Workflows allows."""


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


def _task_name_case(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if _TASK_NAME.fullmatch(task.name) and task.name != task.name.lower():
            yield task.place, f"{task.name!r} has capitals: Argo takes them, but the kfp SDK never writes any"


def _driver_name(package: Package) -> Iterator[Fault]:
    for task, siblings in _with_siblings(package):
        other = siblings.get(task.name.removesuffix("-driver"))
        if other is not None and other is not task and not _is_exit_task(task) and _has_driver(package, other):
            yield task.place, f"{task.name!r} is also what KFP names the driver of {other.name!r}: Argo refuses the run"


def _importer_condition(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if "importer" in package.executor_of(task) and mapping(task.spec, "triggerPolicy").get("condition"):
            yield (*task.place, "triggerPolicy", "condition"), "a condition on an importer: the submission is refused"


def _iterator(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if "artifactIterator" in task.spec:
            yield (*task.place, "artifactIterator"), "KFP cannot iterate over artifacts: the submission is refused"


def _unknown_task(package: Package) -> Iterator[Fault]:
    for task, siblings in _with_siblings(package):
        for name in sorted(_dependencies(task)):
            if name not in siblings:
                yield (*task.place, "dependentTasks"), f"there is no task {name!r} to wait for in this DAG"
        for place, producer, _, _ in _outputs_used(task):
            if producer not in siblings:
                yield place, f"there is no task {producer!r} in this DAG: the driver fails"
    for name, component in package.components.items():
        tasks = mappings(mapping(component, "dag"), "tasks")
        for place, producer in _outputs_handed_out(package, name):
            if producer not in tasks:
                yield place, f"there is no task {producer!r} in this DAG: the driver of what takes it fails"


def _unknown_output(package: Package) -> Iterator[Fault]:
    for task, siblings in _with_siblings(package):
        for place, producer, section, key in _outputs_used(task):
            component = package.component_of(siblings[producer]) if producer in siblings else {}
            outputs = mapping(mapping(component, "outputDefinitions"), section)
            if component and key not in outputs:
                yield place, f"task {producer!r} has no output {key!r} among its {section}"


def _artifact_twice(package: Package) -> Iterator[Fault]:
    for task, siblings in _with_siblings(package):
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


def _dag_input_not_given(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        component = package.component_of(task)
        inputs = mapping(mapping(component, "inputDefinitions"), "parameters") if "dag" in component else {}
        given = {*mapping(mapping(task.spec, "inputs"), "parameters")}
        given.add(str(mapping(task.spec, "parameterIterator").get("itemInput")))
        for name, parameter in inputs.items():
            if name not in given and "defaultValue" not in parameter and not parameter.get("isOptional"):
                yield task.place, f"its DAG takes a parameter {name!r}, which is not given and has no default"


_CONDITION_INPUT = re.compile(r"inputs\.(?:parameter_values|artifacts)\['(.+?)'\]")


def _condition_input(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        inputs = (mapping(task.spec, "inputs"), mapping(package.component_of(task), "inputDefinitions"))
        known = {
            name for found in inputs for section in ("parameters", "artifacts") for name in mapping(found, section)
        }
        for name in _CONDITION_INPUT.findall(str(mapping(task.spec, "triggerPolicy").get("condition") or "")):
            if name not in known:
                place = (*task.place, "triggerPolicy", "condition")
                yield place, f"the task has no input {name!r}, which the condition is about: the driver fails"


def _constant_value(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        parameters = mappings(mapping(task.spec, "inputs"), "parameters")
        names = [name for name, source in parameters.items() if mapping(source, "runtimeValue").keys() - {"constant"}]
        if names:
            yield (
                (*task.place, "inputs", "parameters"),
                f"values in a form of schema 2.0.0, which the driver cannot read: {', '.join(names)}",
            )


def _exit_handler(package: Package) -> Iterator[Fault]:
    for name, component in package.components.items():
        tasks = mappings(mapping(component, "dag"), "tasks").values()
        if tasks and all(mapping(task, "triggerPolicy").get("strategy") == EXIT_STRATEGY for task in tasks):
            yield package.component_place(name), "a DAG of nothing but exit tasks is refused"
    for task in package.tasks():
        wants_status = any(
            "taskFinalStatus" in source for source in mappings(mapping(task.spec, "inputs"), "parameters").values()
        )
        if wants_status and not _dependencies(task):
            yield task.place, "it takes a final status, and depends on no task whose status that would be"


def _skipped_upstream(package: Package) -> Iterator[Fault]:
    for task, siblings in _with_siblings(package):
        producers = {name for _, name, _, _ in _outputs_used(task)} | _dependencies(task)
        for name in sorted(producers & set(siblings)):
            upstream = siblings[name]
            if mapping(upstream.spec, "triggerPolicy").get("condition") and not _is_exit_task(task):
                yield task.place, f"it waits for the success of {name!r}: skipped by its condition, this never runs"


def _cycle(package: Package) -> Iterator[Fault]:
    graphs: dict[str, dict[str, set[str]]] = {}
    for task in package.tasks():
        producers = {producer for _, producer, _, _ in _outputs_used(task)}
        graphs.setdefault(task.component_name, {})[task.name] = producers | _dependencies(task)
    for name, graph in graphs.items():
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            place = (*package.component_place(name), "dag", "tasks")
            yield place, f"tasks wait for each other: {' -> '.join(error.args[1])}"


# Placeholders


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


def _unknown_parameter(package: Package) -> Iterator[Fault]:
    for name, place, text in _texts(package):
        known = mapping(mapping(package.components[name], "inputDefinitions"), "parameters")
        for wanted in re.findall(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}", text):
            if wanted not in known:
                yield place, f"the component has no parameter {wanted!r}: the driver fails"


def _placeholder(package: Package) -> Iterator[Fault]:
    for name, place, text in _texts(package):
        for inner in _PLACEHOLDER.findall(text):
            if inner and not _is_replaced(inner, package.components[name]):
                yield place, f"{{{{${inner}}}}} is nothing that KFP replaces here: the task gets it as it stands"
    for task in package.tasks():
        parameters = mapping(mapping(task.spec, "inputs"), "parameters")
        for place, text in _constants(task):
            for inner in _PLACEHOLDER.findall(text):
                if not _is_replaced_in_constant(inner, text, parameters):
                    yield place, f"{{{{${inner}}}}} is nothing that KFP replaces here: the task gets it as it stands"


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


MALFORMED = Rule(
    "malformed",
    "error",
    _malformed,
    "Mend the field, or take it out: the API server reads strictly. Then lint again: no other fault was looked for.",
)

RULES: tuple[Rule, ...] = (
    Rule(
        "job-spec",
        "error",
        _job_spec,
        "Submit what stands under pipelineSpec, as YAML, or compile with the kfp SDK or `kubetfx compile`.",
    ),
    Rule("runtime-config", "warning", _runtime_config, "Give parameters and pipeline root when the run is started."),
    Rule("pipeline-root", "warning", _default_root, "Give the root when the run is started, or set it in KFP."),
    Rule("schema-version", "error", _schema_version, "Compile with the kfp SDK 2, or with `kubetfx compile`."),
    MALFORMED,
    Rule(
        "ignored-field", "warning", _ignored_field, "Take it out, or write it as KFP's PipelineDeploymentConfig does."
    ),
    Rule("pipeline-name", "error", _pipeline_name, "Name the pipeline in lower case: my-pipeline."),
    Rule("empty", "error", _no_root, "Put a task into root.dag.tasks."),
    Rule("required-parameter", "warning", _required_parameter, "Give it a defaultValue, or a value with every run."),
    Rule("root-artifact", "error", _root_artifact, "Take its URI as a parameter, and let dsl.importer import it."),
    Rule("parameter-type", "error", _parameter_type, "Give it a parameterType: STRING, NUMBER_INTEGER, ..."),
    Rule("component", "error", _component_ref, "Name a component that stands under `components`."),
    Rule("executor", "error", _executor_label, "Name an executor that stands under deploymentSpec.executors."),
    Rule(
        "executor-kind",
        "error",
        _executor_kind,
        "Make it a container task: a resolver, for example, as one that looks up what is served now.",
    ),
    Rule("image", "error", _image, "Name the image."),
    Rule("command", "error", _command, "Write out the command; KFP starts it through its launcher."),
    Rule("tfx-entrypoint", "error", _tfx_entrypoint, "Compile with `kubetfx compile`, whose entrypoint copes with it."),
    Rule(
        "pre-cache-check",
        "warning",
        _pre_cache_check,
        "Resolve span and version in the container, and give the data's fingerprint as a parameter.",
    ),
    Rule("accelerator", "error", _accelerator, "Name it as the node's device plugin does: nvidia.com/gpu."),
    Rule("accelerator-ignored", "warning", _accelerator_ignored, "Give both: a type and a count."),
    Rule("artifact-type", "warning", _artifact_type, "Use system.Dataset, system.Model, system.Artifact, ..."),
    Rule("platform-executor", "warning", _platform_executor, "Use the label under deploymentSpec.executors."),
    Rule("platform", "warning", _platform_name, "Write it under platforms.kubernetes."),
    Rule("task-name", "error", _task_name, "Name it with [a-z0-9-], beginning with a letter or digit."),
    Rule("task-name-case", "warning", _task_name_case, "Name it with [a-z0-9-]."),
    Rule("driver-name", "error", _driver_name, "Let its name end otherwise than in -driver."),
    Rule(
        "importer-condition", "error", _importer_condition, "Put it into a DAG of its own, with the condition on that."
    ),
    Rule("condition-input", "error", _condition_input, "Pass it in the task's inputs."),
    Rule("artifact-iterator", "error", _iterator, "Iterate over a list of parameters."),
    Rule(
        "unknown-task", "error", _unknown_task, "Name a task of the same DAG; tasks are named as the keys of `tasks`."
    ),
    Rule("unknown-output", "error", _unknown_output, "Declare it under the producer's outputDefinitions."),
    Rule(
        "artifact-twice",
        "error",
        _artifact_twice,
        "Declare one input for it, pass it once, and read it from there wherever it is needed.",
    ),
    Rule("dag-input", "error", _dag_input, "Declare it in that component's inputDefinitions, and pass it in its task."),
    Rule("dag-input-value", "error", _dag_input_not_given, "Pass it in the task's inputs, or give it a default."),
    Rule("constant-value", "error", _constant_value, "Write runtimeValue: {constant: ...}, as schema 2.1.0 has it."),
    Rule("exit-handler", "error", _exit_handler, "Let the exit task depend on a DAG that holds all others."),
    Rule("skipped-upstream", "warning", _skipped_upstream, "Put both under one condition, or use dsl.OneOf."),
    Rule("cycle", "error", _cycle, "Take one of the dependencies out."),
    Rule("placeholder-parameter", "error", _unknown_parameter, "Declare it in the component's inputDefinitions."),
    Rule("placeholder", "warning", _placeholder, "Pass it as a parameter, or mend its name."),
    Rule("literal-braces", "warning", _literal_braces, "Encode the text, for example as base64, and decode it there."),
)


def _containers(package: Package) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for label, executor in package.executors.items():
        if isinstance(executor.get("container"), Mapping):
            yield label, executor["container"]


def _accelerators(package: Package) -> Iterator[tuple[Place, str, str]]:
    """Place, type and count, as the driver takes them."""
    for label, container in _containers(package):
        accelerator = mapping(mapping(container, "resources"), "accelerator")
        if accelerator:
            kind = str(accelerator.get("resourceType") or accelerator.get("type") or "")
            count = str(accelerator.get("resourceCount") or accelerator.get("count") or "")
            yield (*package.executor_place(label), "container", "resources", "accelerator"), kind, count


def _title(artifact_type: Mapping[str, Any]) -> str:
    """Name of an artifact's type, also where TFX gives the whole schema."""
    if title := artifact_type.get("schemaTitle"):
        return str(title)
    try:
        schema = yaml.safe_load(str(artifact_type.get("instanceSchema") or ""))
    except yaml.YAMLError:
        return "of a schema that is no YAML"
    return str(schema.get("title") or "without a name") if isinstance(schema, Mapping) else "without a name"


def _is_known_type(title: str) -> bool:
    namespace, _, name = title.partition(".")
    return namespace in {"system", "google"} and bool(name)


def _with_siblings(package: Package) -> Iterator[tuple[Task, Mapping[str, Task]]]:
    """Each task with all tasks of its DAG by name, itself included."""
    dags: dict[str, dict[str, Task]] = {}
    for task in package.tasks():
        dags.setdefault(task.component_name, {})[task.name] = task
    for siblings in dags.values():
        for task in siblings.values():
            yield task, siblings


def _outputs_used(task: Task) -> Iterator[tuple[Place, str, str, str]]:
    """Place, producing task, `parameters` or `artifacts`, and key of each output of another task that a task takes."""
    for section, source, key in (
        ("parameters", "taskOutputParameter", "outputParameterKey"),
        ("artifacts", "taskOutputArtifact", "outputArtifactKey"),
    ):
        for name, value in mappings(mapping(task.spec, "inputs"), section).items():
            if output := mapping(value, source):
                place = (*task.place, "inputs", section, name)
                yield place, str(output.get("producerTask") or ""), section, str(output.get(key) or "")


def _origin(package: Package, siblings: Mapping[str, Task], source: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the artifact of an input from others in its DAG; empty for an input that names none."""
    if name := source.get("componentInputArtifact"):
        return ("input", str(name))
    output = mapping(source, "taskOutputArtifact")
    return _made_by(package, siblings, output.get("producerTask"), output.get("outputArtifactKey")) if output else ()


def _made_by(
    package: Package, siblings: Mapping[str, Task], producer: Any, key: Any, above: tuple[str, ...] = ()
) -> tuple[Any, ...]:
    """What tells an output from others: a DAG may hand out one artifact under two names, and importers of one place
    find one artifact unless they import anew (findOrNewArtifactToImport in KFP's importer_launcher.go)."""
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
    """Place and producing task of what a DAG hands out to those around it. The root's goes to nobody."""
    outputs = mapping(mapping(package.components[component_name], "dag"), "outputs") if component_name != ROOT else {}
    for section in ("parameters", "artifacts"):
        for name, output in mappings(outputs, section).items():
            lists = (output.get("artifactSelectors"), mapping(output, "valueFromOneof").get("parameterSelectors"))
            selectors = [entry for entries in lists if isinstance(entries, list) for entry in entries]
            for selector in (mapping(output, "valueFromParameter"), *selectors):
                if isinstance(selector, Mapping) and selector:
                    place = (*package.component_place(component_name), "dag", "outputs", section, name)
                    yield place, str(selector.get("producerSubtask") or "")


def _has_driver(package: Package, task: Task) -> bool:
    """Whether it is two Argo tasks, `NAME-driver` and `NAME`."""
    executor = package.executor_of(task)
    is_stub = mapping(executor, "container").get("image") in _NO_CONTAINERS
    return not ("parameterIterator" in task.spec or "importer" in executor or is_stub or _is_exit_task(task))


def _dependencies(task: Task) -> set[str]:
    names = task.spec.get("dependentTasks")
    return {str(name) for name in names} if isinstance(names, list) else set()


def _is_exit_task(task: Task) -> bool:
    return mapping(task.spec, "triggerPolicy").get("strategy") == EXIT_STRATEGY


def _declared_inputs(package: Package, component_name: str, section: str) -> Mapping[str, Any]:
    return mapping(mapping(package.components[component_name], "inputDefinitions"), section)


def _texts(package: Package) -> Iterator[tuple[str, Place, str]]:
    """Component, place and text of all that placeholders are looked for in."""
    for name, component in package.components.items():
        label = str(component.get("executorLabel") or "")
        container = mapping(package.executors.get(label, {}), "container")
        place: Place = (*package.executor_place(label), "container")
        yield name, (*place, "image"), str(container.get("image") or "")
        for section in ("command", "args"):
            for index, word in enumerate(_words(container, section)):
                yield name, (*place, section, index), word
        variables = container.get("env")
        for index, variable in enumerate(variables if isinstance(variables, list) else ()):
            if isinstance(variable, Mapping):
                yield name, (*place, "env", index), str(variable.get("value") or "")


def _words(container: Mapping[str, Any], key: str) -> list[str]:
    words = container.get(key)
    return [str(word) for word in words] if isinstance(words, list) else []


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


def _parse_fault(document: Any, message: Any, *, ignore_unknown: bool = False) -> str | None:
    """Why a document is not the JSON of a protobuf message."""
    from google.protobuf import json_format

    try:
        json_format.ParseDict(document, message, ignore_unknown_fields=ignore_unknown)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:  # protobuf expects some sense
        return " ".join(str(error).split())
    return None

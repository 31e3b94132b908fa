"""Rules about components, and the containers and importers that they run."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.package_document import ROOT, Package, Place, component_ref, mapping, mappings, words

TFX_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container"
_FORMER_ENTRYPOINT = "kubeflow.entrypoint"
"""Module that the containers of kubetfx ran before its modules were those of one package (decision 13)."""


@rule("component", "error", "Name a component that is under `components`.")
def _component_ref(package: Package) -> Iterator[Fault]:
    for task in package.tasks():
        if component_ref(task) not in package.components:
            yield (*task.place, "componentRef"), f"there is no component {component_ref(task)!r}"


@rule("executor", "error", "Name an executor that is under deploymentSpec.executors.")
def _executor_label(package: Package) -> Iterator[Fault]:
    for name, component in package.components.items():
        label = component.get("executorLabel")
        if label and label not in package.executors:
            yield (*package.component_place(name), "executorLabel"), f"there is no executor {label!r}"
        elif not label and "dag" not in component and name != ROOT:
            yield package.component_place(name), "a component needs an executor or a DAG, and this has neither"


@rule(
    "executor-kind",
    "error",
    "Make it a container task: a resolver, for example, as one that looks up what is served now.",
)
def _executor_kind(package: Package) -> Iterator[Fault]:
    for label, executor in package.executors.items():
        if not {"container", "importer"} & set(executor):
            kind = ", ".join(executor) or "empty"
            yield package.executor_place(label), f"KFP runs containers and importers, and refuses others: {kind}"


@rule("image", "error", "Name the image.")
def _image(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if not container.get("image"):
            yield (*package.executor_place(label), "container"), "there is no image: no pod can be made"


NO_CONTAINERS = frozenset({"argostub/createpvc", "argostub/deletepvc"})
"""Images that are never pulled: KFP's driver does the work of these tasks itself (`dummyImages`)."""


@rule("command", "error", "Write out the command; KFP starts it through its launcher.")
def _command(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if container.get("command") or container.get("image") in NO_CONTAINERS:
            continue
        what = "the first argument is run as the program" if container.get("args") else "the launcher fails"
        place = (*package.executor_place(label), "container")
        yield place, f"there is no command, and KFP does not use the image's entrypoint: {what}"


@rule("tfx-entrypoint", "error", "Compile it with kubetfx, whose entrypoint copes with it.")
def _tfx_entrypoint(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        if any(word.startswith(TFX_ENTRYPOINT) for word in words(container, "command")):
            yield (
                (*package.executor_place(label), "container", "command"),
                "TFX's entrypoint reads input artifacts' types, which KFP leaves blank, and imports a class for the "
                "output `executor-logs` that KFP adds: the task fails at its start",
            )


@rule("former-entrypoint", "error", "Compile it again, with kubetfx, and build the image of the same kubetfx.")
def former_entrypoint(package: Package) -> Iterator[Fault]:
    """Look for tasks of a package that an earlier kubetfx compiled.

    Args:
        package: to look through.

    Yields:
        The place of each such command, and what happens there.
    """
    for label, container in _containers(package):
        if words(container, "command")[:3] == ["python", "-m", _FORMER_ENTRYPOINT]:
            yield (
                (*package.executor_place(label), "container", "command"),
                f"compiled by an earlier kubetfx: images of this one have no module {_FORMER_ENTRYPOINT}, and the task "
                "fails at its start",
            )


@rule(
    "pre-cache-check",
    "warning",
    "Resolve span and version in the container, and give the data's fingerprint as a parameter.",
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


@rule("accelerator", "error", "Name it as the node's device plugin does: nvidia.com/gpu.")
def _accelerator(package: Package) -> Iterator[Fault]:
    for place, kind, _ in _accelerators(package):
        if kind and not kind.startswith("{{$") and not _RESOURCE_NAME.fullmatch(kind):
            yield place, f"{kind!r} becomes the name of the pod's resource limit, and Kubernetes has no such name"


@rule("accelerator-ignored", "warning", "Give both: a type and a count.")
def _accelerator_ignored(package: Package) -> Iterator[Fault]:
    for place, kind, count in _accelerators(package):
        if bool(kind) != bool(count):
            missing = "count" if kind else "type"
            yield place, f"an accelerator without a {missing} is left out: the task gets none"


@rule("artifact-type", "warning", "Use system.Dataset, system.Model, system.Artifact, ...")
def _artifact_type(package: Package) -> Iterator[Fault]:
    for name, component in package.components.items():
        foreign = [
            f"{key} is {title}"
            for section in ("inputDefinitions", "outputDefinitions")
            for key, artifact in mappings(mapping(component, section), "artifacts").items()
            if not _is_known_type(title := _title(mapping(artifact, "artifactType")))
        ]
        if foreign:
            what = f"{', '.join(foreign)}: KFP keeps the name alone, its UI does not show it, and its SDK refuses it"
            yield package.component_place(name), what


@rule("platform-executor", "warning", "Use the label under deploymentSpec.executors.")
def _platform_executor(package: Package) -> Iterator[Fault]:
    for platform, spec in package.platforms.items():
        for label in mappings(mapping(spec, "deploymentSpec"), "executors"):
            if label not in package.executors:
                place = (*package.platforms_place, platform, "deploymentSpec", "executors", label)
                yield place, f"there is no executor {label!r}, so none of this reaches a pod"


_INT64 = 2**63


@rule("deadline-value", "error", "Give a whole number of seconds from 1 on.")
def _deadline_value(package: Package) -> Iterator[Fault]:
    """Look for deadlines that are not an int64 in protobuf's JSON.

    The driver parses the entry from it (KubernetesExecutorConfig in kubernetes_executor_config.proto).
    """
    for place, seconds in _deadlines(package):
        if _as_int64(seconds) is None:
            yield place, f"{seconds!r} is not a whole number of 64 bits: the task's driver fails"


@rule("deadline", "warning", "Give a number of seconds from 1 on, or leave it out.")
def _deadline(package: Package) -> Iterator[Fault]:
    """Look for deadlines that the driver drops: it takes those above zero (backend/src/v2/driver/k8s.go)."""
    for place, seconds in _deadlines(package):
        number = _as_int64(seconds)
        if number is not None and number <= 0:
            yield place, f"a deadline of {number} seconds is dropped: the task has none"


_QUANTITY = re.compile(r"\+?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
"""A quantity of Kubernetes, which the driver parses (resource.ParseQuantity); none below zero makes a pod."""
_RESOURCES = ("resourceCpuLimit", "resourceMemoryLimit", "resourceCpuRequest", "resourceMemoryRequest")
_FORMER_RESOURCES = ("cpuLimit", "memoryLimit", "cpuRequest", "memoryRequest")
"""Numbers of cores and of 10^9 bytes, as earlier SDKs wrote them."""


@rule("resource", "error", "Write a Kubernetes quantity from zero on: 500m, 2 or 16Gi.")
def _resource(package: Package) -> Iterator[Fault]:
    for label, container in _containers(package):
        resources = mapping(container, "resources")
        for key in (*_RESOURCES, *_FORMER_RESOURCES):
            text = str(resources.get(key, ""))
            if text and "{{$" not in text and not _QUANTITY.fullmatch(text):
                place = (*package.executor_place(label), "container", "resources", key)
                yield place, f"{text!r} is not a quantity that a pod can have: the task's driver or its pod fails"


@rule("platform", "warning", "Write it under platforms.kubernetes.")
def _platform_name(package: Package) -> Iterator[Fault]:
    for platform in package.platforms:
        if platform != "kubernetes":
            yield (*package.platforms_place, platform), "KFP reads the platform `kubernetes` alone, and drops this"


def _containers(package: Package) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for label, executor in package.executors.items():
        if isinstance(executor.get("container"), Mapping):
            yield label, executor["container"]


def _deadlines(package: Package) -> Iterator[tuple[Place, Any]]:
    executors = mappings(mapping(mapping(package.platforms, "kubernetes"), "deploymentSpec"), "executors")
    for label, entry in executors.items():
        if entry.get("activeDeadlineSeconds") is not None:
            place = (*package.platforms_place, "kubernetes", "deploymentSpec", "executors", label)
            yield (*place, "activeDeadlineSeconds"), entry["activeDeadlineSeconds"]


def _as_int64(value: Any) -> int | None:
    """Return a whole number or its text as a number, None for another value."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_whole and -_INT64 <= value < _INT64 else None


def _accelerators(package: Package) -> Iterator[tuple[Place, str, str]]:
    """Yield place, type and count of accelerators, as the driver takes them."""
    for label, container in _containers(package):
        accelerator = mapping(mapping(container, "resources"), "accelerator")
        if accelerator:
            kind = str(accelerator.get("resourceType") or accelerator.get("type") or "")
            count = str(accelerator.get("resourceCount") or accelerator.get("count") or "")
            yield (*package.executor_place(label), "container", "resources", "accelerator"), kind, count


def _title(artifact_type: Mapping[str, Any]) -> str:
    """Return the name of an artifact's type, also where TFX gives the whole schema."""
    if title := artifact_type.get("schemaTitle"):
        return str(title)
    try:
        schema = yaml.safe_load(str(artifact_type.get("instanceSchema") or ""))
    except yaml.YAMLError:
        return "of a schema that is not YAML"
    return str(schema.get("title") or "without a name") if isinstance(schema, Mapping) else "without a name"


def _is_known_type(title: str) -> bool:
    namespace, _, name = title.partition(".")
    return namespace in {"system", "google"} and bool(name)

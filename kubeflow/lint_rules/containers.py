"""Rules about components, and the containers and importers that they run."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.package_document import ROOT, Package, component_ref, mapping, mappings, words

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
    for label, container in containers(package):
        if not container.get("image"):
            yield (*package.executor_place(label), "container"), "there is no image: no pod can be made"


NO_CONTAINERS = frozenset({"argostub/createpvc", "argostub/deletepvc"})
"""Images that are never pulled: KFP's driver does the work of these tasks itself (`dummyImages`)."""


@rule("command", "error", "Write out the command; KFP starts it through its launcher.")
def _command(package: Package) -> Iterator[Fault]:
    for label, container in containers(package):
        if container.get("command") or container.get("image") in NO_CONTAINERS:
            continue
        what = "the first argument is run as the program" if container.get("args") else "the launcher fails"
        place = (*package.executor_place(label), "container")
        yield place, f"there is no command, and KFP does not use the image's entrypoint: {what}"


@rule("tfx-entrypoint", "error", "Compile it with kubetfx, whose entrypoint copes with it.")
def _tfx_entrypoint(package: Package) -> Iterator[Fault]:
    for label, container in containers(package):
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
    for label, container in containers(package):
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
    for label, container in containers(package):
        if container.get("lifecycle"):
            yield (
                (*package.executor_place(label), "container", "lifecycle"),
                "preCacheCheck never runs: {SPAN} and {VERSION} stay as they are, and changed data under the same path "
                "is taken from the cache",
            )


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


def containers(package: Package) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Go through the containers.

    Args:
        package: with the executors.

    Yields:
        The label of an executor, and its container.
    """
    for label, executor in package.executors.items():
        if isinstance(executor.get("container"), Mapping):
            yield label, executor["container"]


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

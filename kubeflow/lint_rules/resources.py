"""Rules about what pods are to have of a node: processors, memory, accelerators.

The driver makes them of the container's `resources` (`initPodSpecPatch` in KFP 2.17.0, in
backend/src/v2/driver/driver.go).
"""

import re
from collections.abc import Iterator
from typing import Any

from kubetfx.kubeflow.lint_rules.containers import containers
from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.package_document import Package, Place, mapping, mappings

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


_QUANTITY = re.compile(r"\+?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
"""A quantity of Kubernetes (`ParseQuantity` in k8s.io/apimachinery/pkg/api/resource); none below zero makes a pod."""
_WHOLE = re.compile(r"\+?\d+")
_FORMER = {
    "resourceCpuLimit": "cpuLimit",
    "resourceMemoryLimit": "memoryLimit",
    "resourceCpuRequest": "cpuRequest",
    "resourceMemoryRequest": "memoryRequest",
}
"""Numbers of cores and of 10^9 bytes, as earlier SDKs wrote them, by the field that goes before them."""
_CHANNEL = re.compile(r"\$.inputs.parameters\['(.+?)'\]")


@rule("resource", "error", "Write a Kubernetes quantity from zero on: 500m, 2 or 16Gi.")
def _resource(package: Package) -> Iterator[Fault]:
    """Look for what is not a quantity, as `getPodResource` reads it: the former field only where the other is empty."""
    for label, container in containers(package):
        resources = mapping(container, "resources")
        place = (*package.executor_place(label), "container", "resources")
        for key, former in _FORMER.items():
            text, number = str(resources.get(key) or ""), resources.get(former)
            if text and not _CHANNEL.search(text) and not _QUANTITY.fullmatch(text):
                yield (
                    (*place, key),
                    f"{text!r} is not a quantity that a pod can have: the task's driver or its pod fails",
                )
            elif not text and isinstance(number, int | float) and number < 0:
                yield (*place, former), f"{number} is not a quantity that a pod can have: its pod is refused"
    for place, kind, count in _accelerators(package):
        if kind and count and not _CHANNEL.search(count) and not _WHOLE.fullmatch(count):
            yield place, f"{count!r} is not a whole number of {kind}: the task's driver or its pod fails"


@rule("resource-parameter", "error", "Give it a parameter whose parameterType is STRING.")
def _resource_parameter(package: Package) -> Iterator[Fault]:
    """Look for parameters that are not text.

    `resolvePodSpecInputRuntimeParameter` (backend/src/v2/driver/resolve.go) reads an empty text of them.
    """
    for label, container in containers(package):
        resources = mapping(container, "resources")
        accelerator = mapping(resources, "accelerator")
        place = (*package.executor_place(label), "container", "resources")
        texts: list[tuple[Place, Any]] = [((*place, key), resources.get(key)) for key in _FORMER]
        texts += [((*place, "accelerator", key), accelerator.get(key)) for key in ("resourceType", "resourceCount")]
        for component in package.components.values():
            declared = mappings(mapping(component, "inputDefinitions"), "parameters")
            for where, text in texts if component.get("executorLabel") == label else ():
                found = _CHANNEL.search(str(text or ""))
                if found and found[1] not in declared:
                    yield where, f"the component has no parameter {found[1]!r}: the driver fails"
                elif found and (kind := declared[found[1]].get("parameterType")) not in (None, "STRING"):
                    yield where, f"the parameter {found[1]!r} is a {kind}, of which the driver reads an empty text"


def _accelerators(package: Package) -> Iterator[tuple[Place, str, str]]:
    """Yield place, type and count of accelerators, as the driver takes them."""
    for label, container in containers(package):
        accelerator = mapping(mapping(container, "resources"), "accelerator")
        if accelerator:
            kind = str(accelerator.get("resourceType") or accelerator.get("type") or "")
            count = str(accelerator.get("resourceCount") or accelerator.get("count") or "")
            yield (*package.executor_place(label), "container", "resources", "accelerator"), kind, count

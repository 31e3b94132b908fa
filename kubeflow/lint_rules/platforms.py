"""Rules about the platform document: what it sets of the pods, and for how long a task may run.

The API server reads it in `NewV2SpecTemplate` (KFP 2.17.0, backend/src/apiserver/template/v2_template.go), and each
task's driver its entry as a KubernetesExecutorConfig (`parseExecConfigJson` in backend/src/v2/cmd/driver/main.go).
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.lint_rules.strict_parsing import parse_fault, unlike_json
from kubetfx.kubeflow.package_document import Package, Place, mapping, mappings


@rule("document", "error", "Take it out, or put it into the one document with `platforms`.")
def _document(package: Package) -> Iterator[Fault]:
    """Look for documents that end the reading of the file."""
    is_there = False
    for number, value in _others(package):
        if not isinstance(value, Mapping):
            kind = type(value).__name__
            yield (), f"document {number} is a {kind} and not a mapping: the API server refuses the file"
        elif _has_kubernetes(value):
            if is_there:
                yield (), f"document {number} sets `platforms.kubernetes` again: the API server refuses the file"
            is_there = True


@rule("unread-document", "warning", "Write it as KFP's PlatformSpec does, or take it out.")
def _unread_document(package: Package) -> Iterator[Fault]:
    """Look for documents that `IsPlatformSpecWithKubernetesConfig` finds to be none, which are dropped in silence."""
    for number, value in _others(package):
        if isinstance(value, Mapping) and "platforms" not in value:
            yield (), f"document {number} is neither a pipeline nor `platforms`: KFP drops it"
        elif isinstance(value, Mapping) and (fault := _platform_fault(value)):
            place, what = fault
            yield place or ("platforms",), f"document {number} is not a PlatformSpec, and KFP drops all of it: {what}"


@rule("platform", "warning", "Write it under platforms.kubernetes.")
def _platform_name(package: Package) -> Iterator[Fault]:
    for platform in package.platforms:
        if platform != "kubernetes":
            yield (*package.platforms_place, platform), "KFP reads the platform `kubernetes` alone, and drops this"


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
    """Look for deadlines that are not an int64 in protobuf's JSON (kubernetes_executor_config.proto)."""
    for place, seconds in _deadlines(package):
        if _as_int64(seconds) is None:
            yield place, f"{seconds!r} is not a whole number of 64 bits: the task's driver fails"


@rule("deadline", "warning", "Give a number of seconds from 1 on, or leave it out.")
def _deadline(package: Package) -> Iterator[Fault]:
    """Look for deadlines that are dropped, as they are not above zero.

    Those of a task in `extendPodSpecPatch` (backend/src/v2/driver/k8s.go), that of the pipeline in
    `buildActiveDeadlineSeconds` (backend/src/v2/compiler/argocompiler/argo.go).
    """
    for place, seconds in _deadlines(package):
        number = _as_int64(seconds)
        if number is not None and number <= 0:
            yield place, f"a deadline of {number} seconds is dropped: the task has none"
    config = mapping(mapping(package.platforms, "kubernetes"), "pipelineConfig")
    seconds = _as_int64(config.get("activeDeadlineSeconds"))
    if seconds is not None and seconds <= 0:
        place = (*package.platforms_place, "kubernetes", "pipelineConfig", "activeDeadlineSeconds")
        yield place, f"a deadline of {seconds} seconds is dropped: the pipeline has none"


def _others(package: Package) -> Iterator[tuple[int, Any]]:
    """Go through the documents beside the pipeline. A file of Kubernetes resources may have any."""
    yield from () if package.spec_place else package.others


def _has_kubernetes(document: Mapping[str, Any]) -> bool:
    return "kubernetes" in mapping(document, "platforms") and not _platform_fault(document)


def _platform_fault(document: Mapping[str, Any]) -> Fault | None:
    """Return why it is not a PlatformSpec, None if it is one. A later KFP may know more of a pipeline's config."""
    from kfp.pipeline_spec import pipeline_spec_pb2

    for fault in unlike_json(document, keys=False):
        return fault
    platforms = document.get("platforms")
    known = document
    if isinstance(platforms, Mapping):
        entries = {
            name: {key: value for key, value in spec.items() if key != "pipelineConfig"}
            if isinstance(spec, Mapping)
            else spec
            for name, spec in platforms.items()
        }
        known = {**document, "platforms": entries}
    return parse_fault(known, pipeline_spec_pb2.PlatformSpec()) or parse_fault(
        document, pipeline_spec_pb2.PlatformSpec(), ignore_unknown=True
    )


def _deadlines(package: Package) -> Iterator[tuple[Place, Any]]:
    executors = mappings(mapping(mapping(package.platforms, "kubernetes"), "deploymentSpec"), "executors")
    for label, entry in executors.items():
        if entry.get("activeDeadlineSeconds") is not None:
            place = (*package.platforms_place, "kubernetes", "deploymentSpec", "executors", label)
            yield (*place, "activeDeadlineSeconds"), entry["activeDeadlineSeconds"]


def _as_int64(value: Any) -> int | None:
    """Return a whole number, or the JSON of one in a text, as protobuf reads it; None for another value."""
    if isinstance(value, str) and value == value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    number = int(value)
    return number if number == value and -_INT64 <= number < _INT64 else None

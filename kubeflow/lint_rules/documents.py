"""Rules about a package as a whole: its schema, its name, and what a run can give it."""

import json
import re
from collections.abc import Iterator

import yaml

from kubetfx.kubeflow.lint_rules.rule import Fault, rule
from kubetfx.kubeflow.lint_rules.strict_parsing import parse_fault, unlike_json
from kubetfx.kubeflow.package_document import ROOT, Package, Place, mapping, mappings

_SCHEMA_VERSION = "2.1.0"


@rule(
    "job-spec",
    "error",
    "Submit what is under pipelineSpec, as YAML, or compile it with the kfp SDK or kubetfx.",
)
def _job_spec(package: Package) -> Iterator[Fault]:
    if package.wrapper is not None:
        yield (), "a job spec around the PipelineSpec: the API server looks for the PipelineSpec itself, and refuses"


_ETCD_BYTES = 1_500_000
"""Kubernetes keeps an object in etcd, whose `--max-request-bytes` is 1.5 MiB unless an administrator sets another."""


@rule("size", "warning", "Give large values as artifacts or from a bucket, and not inside of the package.")
def _size(package: Package) -> Iterator[Fault]:
    """Look for packages of which Argo's workflow, which has all their texts in it, becomes too large."""
    size = len(json.dumps(package.spec, default=str))
    if size > _ETCD_BYTES:
        what = f"{size:,} bytes of JSON: Argo's workflow of it is about as long, and Kubernetes takes objects of 1.5 MB"
        yield package.spec_place, what


@rule("runtime-config", "warning", "Give parameters and pipeline root when the run is started.")
def _runtime_config(package: Package) -> Iterator[Fault]:
    config = mapping(package.wrapper or {}, "runtimeConfig")
    root = config.get("gcsOutputDirectory")
    if root:
        yield ("runtimeConfig", "gcsOutputDirectory"), f"the pipeline root {root} is dropped: KFP uses its own"
    for key in ("parameters", "parameterValues"):
        if names := ", ".join(map(str, mapping(config, key))):
            yield ("runtimeConfig", key), f"the values of {names} are dropped"


@rule("pipeline-root", "warning", "Give the root when the run is started, or set it in KFP.")
def _default_root(package: Package) -> Iterator[Fault]:
    if root := package.spec.get("defaultPipelineRoot"):
        yield (*package.spec_place, "defaultPipelineRoot"), f"the pipeline root {root} is not read: KFP uses its own"


@rule("schema-version", "error", "Compile it with the kfp SDK 2, or with kubetfx.")
def _schema_version(package: Package) -> Iterator[Fault]:
    version = package.spec.get("schemaVersion")
    if version != _SCHEMA_VERSION:
        yield (*package.spec_place, "schemaVersion"), f"schema version {version}: the API server takes 2.1.0 alone"


@rule(
    "malformed",
    "error",
    "Correct the field, or take it out: the API server reads strictly. Then lint again: no other fault was looked for.",
)
def malformed(package: Package) -> Iterator[Fault]:
    """Parse a package as strictly as the API server does.

    Args:
        package: to look through.

    Yields:
        What cannot be parsed.
    """
    from kfp.pipeline_spec import pipeline_spec_pb2

    faults = list(unlike_json(package.spec, package.spec_place))
    if faults:
        yield from ((place, f"{what}: the API server finds no pipeline in the file") for place, what in faults)
        return
    if fault := parse_fault(package.spec, pipeline_spec_pb2.PipelineSpec()):
        yield (*package.spec_place, *fault[0]), f"no PipelineSpec: {fault[1]}"
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    if fault := parse_fault(package.spec.get("deploymentSpec") or {}, deployment, ignore_unknown=True):
        yield (*package.spec_place, "deploymentSpec", *fault[0]), f"no PipelineDeploymentConfig: {fault[1]}"


@rule("ignored-field", "warning", "Take it out, or write it as KFP's PipelineDeploymentConfig does.")
def _ignored_field(package: Package) -> Iterator[Fault]:
    from kfp.pipeline_spec import pipeline_spec_pb2

    for label, executor in package.executors.items():
        if fault := parse_fault(executor, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec()):
            yield package.executor_place(label), f"KFP knows no such field here, and drops it: {fault[1]}"


@rule("pipeline-name", "error", "Name the pipeline in lower case: my-pipeline.")
def _pipeline_name(package: Package) -> Iterator[Fault]:
    if not re.search("[a-z0-9]", package.name):
        place = (*package.spec_place, "pipelineInfo", "name")
        yield place, f"the name {package.name!r} has no lower-case letter or digit: the API server refuses it"


@rule("empty", "error", "Put a task into root.dag.tasks.")
def _no_root(package: Package) -> Iterator[Fault]:
    if not mappings(mapping(package.components[ROOT], "dag"), "tasks"):
        yield package.component_place(ROOT), "the root has no tasks, so there is nothing to run"


@rule("required-parameter", "warning", "Give it a defaultValue, or a value with every run.")
def _required_parameter(package: Package) -> Iterator[Fault]:
    for name, parameter in package.parameters.items():
        if parameter.get("defaultValue") is None and not parameter.get("isOptional"):
            place = (*package.component_place(ROOT), "inputDefinitions", "parameters", name)
            yield place, f"parameter {name} has no default: a run that does not give it is refused"


@rule("parameter-type", "error", "Give it a parameterType: STRING, NUMBER_INTEGER, ...")
def _parameter_type(package: Package) -> Iterator[Fault]:
    for name, parameter in package.parameters.items():
        place = (*package.component_place(ROOT), "inputDefinitions", "parameters", name)
        kind = parameter.get("parameterType")
        if kind is None:
            yield place, f"parameter {name} has the type of schema 2.0.0 or none: a run that gives it is refused"
        elif kind == "TASK_FINAL_STATUS":
            yield place, f"parameter {name} is a final status, which the pipeline as a whole cannot have"


@rule("repeated-key", "error", "Take one of the two out.")
def _repeated_key(package: Package) -> Iterator[Fault]:
    """Look for keys that a mapping has twice.

    yaml.v3 refuses them (`mapping key already defined`, from the decoder in `NewV2SpecTemplate` of v2_template.go);
    this reader takes the last.
    """
    seen: set[int] = set()
    for document in package.nodes:
        yield from _repeated(document, (), seen)


@rule("root-artifact", "error", "Take its URI as a parameter, and let dsl.importer import it.")
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


def _repeated(node: yaml.Node, place: Place, seen: set[int]) -> Iterator[Fault]:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            yield from _repeated(inner, (*place, index), seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, inner in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys and key.value != "<<":
                    yield (*place, key.value), f"the key {key.value!r} is there twice: the API server refuses the file"
                keys.add(key.value)
                yield from _repeated(inner, (*place, key.value), seen)

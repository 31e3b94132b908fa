"""Rules about a package as a whole: its schema, its name, and what a run can give it."""

import re
from collections.abc import Iterator
from typing import Any

from kubetfx.kubeflow.lint_rules.rule import Fault, Rule
from kubetfx.kubeflow.package_document import ROOT, Package, mapping, mappings

SCHEMA_VERSION = "2.1.0"


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
)


def _parse_fault(document: Any, message: Any, *, ignore_unknown: bool = False) -> str | None:
    """Why a document is not the JSON of a protobuf message."""
    from google.protobuf import json_format

    try:
        json_format.ParseDict(document, message, ignore_unknown_fields=ignore_unknown)
    except (json_format.ParseError, AttributeError, TypeError, ValueError) as error:  # protobuf expects some sense
        return " ".join(str(error).split())
    return None

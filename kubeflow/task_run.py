"""Runs the TFX nodes of a task in the container: artifacts, driver, executor, predicates, pages.

Executors get local paths; properties that leave the task have the launcher's URIs in their place. The documents are
read and written by kubeflow/executor_io.py.
"""

import contextlib
import copy
import json
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types.value_artifact import ValueArtifact

from kubetfx.errors import KubetfxError
from kubetfx.kubeflow import visualizations
from kubetfx.kubeflow.executor_io import ExecutorInput, clear_outputs, write_output
from kubetfx.kubeflow.task_spec import COPY, DRIVER_OUTPUT, ITEM, Node, OutputSlot, Override, Property, TaskSpec
from kubetfx.pipeline.spared_imports import uncollected

_BEGINS = "%s begins, %.2f s after the start of the process, which has used the CPU for %.2f s."

_TFX_ARTIFACT = "tfx_artifact"
"""Key of metadata: TFX's artifact as a single JSON text, since KFP makes doubles of numbers."""

_TFX_TYPE = "tfx_type"
_EMPTY = "empty"
"""Key of metadata that marks an output channel without artifacts."""

_MAX_SCALAR_LENGTH = 256
"""Characters. Longer properties do not help people who look at metadata."""

_MAX_PROPERTIES_BYTES = 16_384
"""For one artifact. A task gets those of all its inputs in one argument, and Linux takes 131,072 bytes in one."""

_CASTS = {"int": int, "float": float, "str": str}
_FINAL_STATES = {"COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED", "CANCELED": "CANCELLED"}
"""ML Metadata's words for how a pipeline ended, in the words of PipelineTaskFinalStatus, which components expect.
Versions of Kubeflow Pipelines with ML Metadata give exit handlers the former, later ones the latter."""
_OWN_METADATA = frozenset({_TFX_ARTIFACT, _TFX_TYPE, _EMPTY, "display_name"})

Artifacts = dict[str, list[types.Artifact]]


def run_task(spec: TaskSpec, executor_input: ExecutorInput) -> None:
    """Run a task, and write its ExecutorOutput.

    Args:
        spec: describes the task.
        executor_input: as the launcher gives it.

    Raises:
        KubetfxError: a node failed for a reason that its user can remove. Other exceptions are passed on.
    """
    clear_outputs(executor_input, spec.written_slots)
    with tempfile.TemporaryDirectory(prefix="kubetfx-") as folder:
        _TaskRun(spec, executor_input, Path(folder)).run()


class _TaskRun:
    """A task that is running."""

    def __init__(self, spec: TaskSpec, executor_input: ExecutorInput, folder: Path) -> None:
        self._spec = spec
        self._input = executor_input
        self._folder = folder
        self._artifacts: Artifacts = {slot: self._input_artifacts(slot, path) for slot, path in spec.inputs.items()}
        self._runs: dict[str, visualizations.NodeRun] = {}

    def run(self) -> None:
        self._embed_modules()
        if self._spec.role == "driver":
            (node,) = self._spec.nodes
            outputs = {key: [_new_artifact(self._spec.outputs[slot])] for key, slot in node.outputs.items()}
            inputs = self._node_inputs(node)
            chosen = _run_driver(node, inputs, outputs, self._properties(node, inputs))
            text = json.dumps(json_format.MessageToDict(chosen), sort_keys=True)
            write_output(self._input, metadata={}, parameters={DRIVER_OUTPUT: text})
            return
        for node in self._spec.nodes:
            self._run_node(node)
        parameters = {name: self._holds(predicate) for name, predicate in self._spec.conditions.items()}
        metadata = {slot: self._metadata(slot) for slot in self._spec.outputs}
        metadata |= {slot: self._draw(slot) for slot in self._spec.pages}
        write_output(self._input, metadata=metadata, parameters=parameters)

    def _embed_modules(self) -> None:
        if self._spec.modules:
            for name, source in self._spec.modules.items():
                (self._folder / f"{name}.py").write_text(source, encoding="utf-8")
            sys.path.append(str(self._folder))

    def _run_node(self, node: Node) -> None:
        inputs = self._node_inputs(node)
        outputs: Artifacts = {}
        for key, slot in node.outputs.items():
            artifact = _new_artifact(self._spec.outputs[slot])
            place = self._input.outputs[slot].path
            place.mkdir(parents=True, exist_ok=True)
            artifact.uri = str(place / "value" if isinstance(artifact, ValueArtifact) else place)
            outputs[key] = [artifact]
        properties = self._properties(node, inputs)
        if node.driver_parameter:
            chosen = json.loads(self._input.parameters[node.driver_parameter])
            _apply(json_format.ParseDict(chosen, driver_output_pb2.DriverOutput()), outputs, properties)
        elif node.driver:
            _apply(_run_driver(node, inputs, outputs, properties), outputs, properties)
        taken = {key: copy.deepcopy(artifacts) for key, artifacts in inputs.items()}  # no two keys share an object
        result = self._execute(node, taken, outputs, properties)
        if result is not None and result.execution_result.code:
            raise KubetfxError(f"{node.id}: {result.execution_result.result_message}")
        for key, slot in node.outputs.items():
            self._artifacts[slot] = outputs.get(key, [])
            if len(self._artifacts[slot]) > 1:
                raise KubetfxError(
                    f"{node.id}: wrote several artifacts to {key!r}, and Kubeflow Pipelines keeps one. Received: "
                    f"{len(self._artifacts[slot])}. Write one, with several files."
                )
        self._runs[node.id] = visualizations.NodeRun(
            id=node.id, executor=node.executor, inputs=inputs, outputs=outputs, properties=properties
        )

    def _execute(self, node: Node, inputs: Artifacts, outputs: Artifacts, properties: dict[str, Any]) -> Any:
        executor_class = _executor_class(node)
        base: dict[str, Any] = {
            "tmp_dir": str(self._folder),
            "unique_id": node.id,
            "executor_output_uri": str(self._folder / f"{node.id}.output.pb"),
            "stateful_working_dir": str(self._folder / f"{node.id}.working"),
        }
        with contextlib.ExitStack() as stack:
            if node.beam_arguments is not None:
                from kubetfx.kubeflow.engine_session import session_of  # light nodes do without what it imports

                session = stack.enter_context(session_of(node, self._spec, self._input, folder=self._folder))
                base["beam_pipeline_args"] = session.arguments
                base["make_beam_pipeline_fn"] = session.pipelines(session.arguments)
            executor = executor_class(executor_class.Context(**base))
            logging.info(_BEGINS, node.id, _process_age_seconds(), time.process_time())
            return executor.Do(inputs, outputs, properties)

    def _node_inputs(self, node: Node) -> Artifacts:
        inputs = {
            key: [artifact for slot in slots for artifact in self._artifacts[slot]]
            for key, slots in node.inputs.items()
        }
        if node.each:
            index = json.loads(self._input.parameters[ITEM])[COPY]
            for key in node.each:
                if index >= len(inputs[key]):
                    raise KubetfxError(
                        f"{node.id}: the loop has more iterations than there are artifacts. Received: "
                        f"{len(inputs[key])} artifacts for {key!r}, and none for iteration {index}. Let each component "
                        "whose outputs the ForEach goes over write one."
                    )
                inputs[key] = [inputs[key][index]]
        return inputs

    def _input_artifacts(self, slot: str, type_path: str) -> list[types.Artifact]:
        """Return the artifacts of an input channel. The launcher does not make folders for artifacts without files."""
        found = []
        for entry in self._input.inputs.get(slot, ()):
            if entry.metadata.get(_EMPTY):
                continue
            artifact = pkgutil.resolve_name(type_path)()
            if _TFX_ARTIFACT in entry.metadata:
                stored = json_format.Parse(entry.metadata[_TFX_ARTIFACT], metadata_store_pb2.Artifact())
                artifact.mlmd_artifact.MergeFrom(stored)
            if not entry.path.exists():
                entry.path.mkdir(parents=True)
            artifact.uri = str(entry.path)
            if isinstance(artifact, ValueArtifact):
                artifact.uri = str(entry.path / "value")
                artifact.read()  # TFX hands the value that was read to a function component
            found.append(artifact)
        return found

    def _properties(self, node: Node, inputs: Artifacts) -> dict[str, Any]:
        properties = {name: self._property(prop) for name, prop in node.properties.items() if prop.placeholder is None}
        for name, module in node.module_files.items():
            properties[name] = str(self._folder / f"{module}.py")
        for name, prop in node.properties.items():
            if prop.placeholder is not None:
                properties[name] = _resolve(prop.placeholder, inputs, properties)
        return properties

    def _property(self, prop: Property) -> Any:
        value = prop.value
        for override in prop.overrides:
            given = self._input.parameters[override.parameter]
            if override.item is not None:
                given = json.loads(given)[override.item]
            else:
                given = _CASTS[override.type](_as_text(given, override))
            value = _put(value, override.path, given) if override.path else given
        if prop.message:
            return json_format.Parse(value, pkgutil.resolve_name(prop.message)())
        return value

    def _holds(self, predicate: str) -> str:
        """Return whether a predicate holds, as text; it does not if it is about an output that stayed empty."""
        if any(not self._artifacts.get(slot) for slot in _slots_of(json.loads(predicate))):
            return "false"
        return "true" if _resolve(predicate, self._artifacts, {}) else "false"

    def _metadata(self, slot: str) -> dict[str, Any]:
        artifacts = self._artifacts[slot]
        if not artifacts:
            self._input.outputs[slot].path.mkdir(parents=True, exist_ok=True)
            return {_EMPTY: "true", _TFX_TYPE: pkgutil.resolve_name(self._spec.outputs[slot].type).TYPE_NAME}
        stored = copy.deepcopy(artifacts[0].mlmd_artifact)
        for name in ("uri", "id", "type_id", "type"):
            stored.ClearField(name)
        for values in (stored.properties, stored.custom_properties):
            for value in values.values():
                if value.HasField("string_value"):
                    value.string_value = self._with_uris(value.string_value)
        text = json.dumps(json_format.MessageToDict(stored, preserving_proto_field_name=True))
        if len(text) > _MAX_PROPERTIES_BYTES:
            raise KubetfxError(
                f"The properties of the output {slot!r} are more than later tasks can be told in their arguments. "
                f"Received: {len(text):,} bytes, and {_MAX_PROPERTIES_BYTES:,} are the most. Write them into a file of "
                "the artifact."
            )
        metadata: dict[str, Any] = {_TFX_TYPE: artifacts[0].type_name, _TFX_ARTIFACT: text}
        for values in (stored.properties, stored.custom_properties):
            for name, value in values.items():
                scalar = getattr(value, value.WhichOneof("value") or "string_value")
                is_short = isinstance(scalar, int | float | str) and 0 < len(str(scalar)) <= _MAX_SCALAR_LENGTH
                if is_short and name not in _OWN_METADATA:
                    metadata[name] = scalar
        return metadata

    def _with_uris(self, text: str) -> str:
        """Return the text of a property with the URI of each artifact instead of its path in this container."""
        for artifact in sorted(self._input.artifacts, key=lambda entry: len(entry.uri), reverse=True):
            text = text.replace(str(artifact.path), artifact.uri)
        return text

    def _draw(self, slot: str) -> dict[str, Any]:
        """Draw a page, and return its metadata. The task does not fail because a page cannot be drawn."""
        page = self._spec.pages[slot]
        output = self._input.outputs[slot]
        try:
            content = visualizations.draw(page.kind, self._runs[page.node])
        except Exception as error:
            logging.exception("The page %s of %s cannot be drawn.", page.kind, page.node)
            content = visualizations.failed(page.kind, error)
        if isinstance(content, str):
            output.path.parent.mkdir(parents=True, exist_ok=True)
            output.path.write_text(content, encoding="utf-8")
            return {}
        return content


def _process_age_seconds() -> float:
    """Return the time since the start of the process: what a task costs before its node begins."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def _executor_class(node: Node) -> Any:
    try:
        with uncollected():
            return pkgutil.resolve_name(node.executor)
    except (ImportError, AttributeError) as error:
        logging.exception("%s cannot be imported.", node.executor)
        raise KubetfxError(
            f"{node.id}: what the node runs cannot be imported in the image. Received: {node.executor}: "
            f"{type(error).__name__}: {error}. Install its module, and what that imports, in the image that "
            "kubeflow.image names."
        ) from error


def _new_artifact(slot: OutputSlot) -> types.Artifact:
    artifact = pkgutil.resolve_name(slot.type)()
    for name, value in slot.properties.items():
        setattr(artifact, name, value)
    for name, value in slot.custom_properties.items():
        setter = artifact.set_int_custom_property if isinstance(value, int) else artifact.set_string_custom_property
        setter(name, value)
    return artifact


def _run_driver(
    node: Node, inputs: Artifacts, outputs: Artifacts, properties: Mapping[str, Any]
) -> driver_output_pb2.DriverOutput:
    assert node.driver is not None
    driver = pkgutil.resolve_name(node.driver)(None)  # there is no ML Metadata
    info = data_types.ExecutionInfo(
        input_dict=inputs, output_dict=copy.deepcopy(outputs), exec_properties=dict(properties)
    )
    chosen = driver.run(info)
    for entry in chosen.output_artifacts.values():
        for artifact in entry.artifacts:
            artifact.ClearField("uri")
    return chosen


def _apply(chosen: driver_output_pb2.DriverOutput, outputs: Artifacts, properties: dict[str, Any]) -> None:
    for name, value in chosen.exec_properties.items():
        properties[name] = getattr(value, value.WhichOneof("value"))
    for key, entry in chosen.output_artifacts.items():
        for artifact, proto in zip(outputs[key], entry.artifacts, strict=False):
            for target, values in (
                (artifact.mlmd_artifact.properties, proto.properties),
                (artifact.mlmd_artifact.custom_properties, proto.custom_properties),
            ):
                for name, value in values.items():
                    target[name].CopyFrom(value)


def _resolve(placeholder: str, artifacts: Artifacts, properties: Mapping[str, Any]) -> Any:
    from tfx.dsl.compiler import placeholder_utils
    from tfx.proto.orchestration import placeholder_pb2

    expression = json_format.Parse(placeholder, placeholder_pb2.PlaceholderExpression())
    info = data_types.ExecutionInfo(input_dict=artifacts, exec_properties=dict(properties))
    return placeholder_utils.resolve_placeholder_expression(
        expression, placeholder_utils.ResolutionContext(exec_info=info)
    )


def _slots_of(expression: Any) -> set[str]:
    """Return the slots in a placeholder expression. Operators also have a `key`, which names an artifact's property."""
    if isinstance(expression, list):
        return {slot for inner in expression for slot in _slots_of(inner)}
    if not isinstance(expression, dict):
        return set()
    slots = {expression["placeholder"]["key"]} if "placeholder" in expression else set()
    return slots | {slot for inner in expression.values() for slot in _slots_of(inner)}


def _as_text(value: Any, override: Override) -> Any:
    """Return the value of a parameter as text where text is asked for.

    A final status is a document, and becomes JSON.
    """
    if isinstance(value, dict) and "state" in value:
        value = {**value, "state": _FINAL_STATES.get(value["state"], value["state"])}
    return json.dumps(value) if override.type == "str" and not isinstance(value, str) else value


def _put(value: Any, path: tuple[str, ...], given: Any) -> str:
    """Return a JSON text with one of its values replaced."""
    document = json.loads(value)
    inner = document
    for key in path[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    last: Any = int(path[-1]) if isinstance(inner, list) else path[-1]
    inner[last] = given
    return json.dumps(document)

"""Describes a TFX node for a container: classes by import path, exec properties, channels.

What cannot be done in a cluster is a CompileError that names the node. kubeflow/task_plan.py makes tasks of nodes.
"""

import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from tfx import types
from tfx.components.example_gen import driver as example_gen_driver
from tfx.dsl.components.base import base_beam_executor, base_driver, executor_spec
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import REIMPORT_OPTION_KEY, Importer
from tfx.dsl.components.common.manual_node import ManualNode
from tfx.dsl.components.common.resolver import RESOLVER_STRATEGY_CLASS, Resolver
from tfx.dsl.control_flow import for_each
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.placeholder import placeholder as ph
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.types import channel as tfx_channel
from tfx.types import channel_utils
from tfx.types.resolved_channel import ResolvedChannel

from kubetfx.errors import CompileError
from kubetfx.kubeflow.runtime_parameters import RunParameter, merge_parameters, take_parameters
from kubetfx.kubeflow.task_spec import Override, Property

_PUSH_DIRECTORY = "push_directory"
"""Exec property of our nodes that look at, or change, what is served."""
_PUSH_PROPERTIES = (_PUSH_DIRECTORY, "push_destination")
"""Exec properties that say where a Pusher, ours or TFX's, pushes to."""

_MODULE_FILE = "module_file"

_INFRA_VALIDATOR = "tfx.components.infra_validator.executor"
_INPUT_TYPES = (tfx_channel.OutputChannel, tfx_channel.UnionChannel)


@dataclass(frozen=True)
class NodeDescription:
    """A TFX node in terms that a container understands."""

    id: str
    executor: str
    driver: str | None
    beam_arguments: tuple[str, ...] | None
    inputs: dict[str, tuple[types.OutputChannel, ...]]
    """By input key."""
    outputs: dict[str, types.OutputChannel]
    properties: dict[str, Property]
    each: tuple[str, ...] = ()
    """Input keys that a ForEach goes over."""
    module_files: dict[str, str] = field(default_factory=dict)
    """Name of a module by exec property."""
    modules: dict[str, str] = field(default_factory=dict)
    """Source by name of module."""
    parameters: dict[str, RunParameter] = field(default_factory=dict)
    looks_outside: bool = False
    """Whether it depends on something besides its inputs: on what is served, or on what an Importer imports again."""
    final_status: str | None = None
    """Exec property of an exit handler that receives how the pipeline ended."""

    @property
    def is_example_gen(self) -> bool:
        """Whether its driver chooses the data, which must be known before the cache is asked."""
        return self.driver is not None and issubclass(pkgutil.resolve_name(self.driver), example_gen_driver.Driver)


def describe(
    node: BaseNode, *, nodes: Iterable[BaseNode], name_of: Callable[[str], str] = lambda node_id: node_id
) -> NodeDescription:
    """Describe a node.

    Args:
        node: a component, a Resolver or an Importer.
        nodes: all nodes of the pipeline. The Pusher among them says where a Resolver looks.
        name_of: returns the name of a node by its id: one for all copies of a fan-out.

    Returns:
        The description.

    Raises:
        CompileError: the node needs something that Kubeflow Pipelines does not have.
    """
    if isinstance(node, tfx_pipeline.Pipeline):
        raise CompileError(
            f"{node.id}: a pipeline inside a pipeline cannot be a task. Put its components into the outer one."
        )
    if isinstance(node, ManualNode):
        raise CompileError(
            f"{node.id}: a task of Kubeflow Pipelines cannot wait for a person. Received: ManualNode. Take it out, and "
            "make what comes after it a pipeline of its own."
        )
    if isinstance(node, Importer):
        return _importer(node)
    if isinstance(node, Resolver):
        return _resolver(node, nodes, name_of)
    return _component(node, name_of)


def passed_channels(node: BaseNode) -> dict[str, types.BaseChannel] | None:
    """Return the channels of this run that a Resolver for the latest artifacts passes on as they are.

    Args:
        node: any node.

    Returns:
        The channels by output key; None for every other node.
    """
    if not isinstance(node, Resolver):
        return None
    strategy = node.exec_properties.get(RESOLVER_STRATEGY_CLASS)
    of_this_run = all(isinstance(channel, tfx_channel.OutputChannel) for channel in node.raw_inputs.values())
    return node.raw_inputs if strategy in (None, LatestArtifactStrategy) and of_this_run else None


def looped_channel(variable: Any) -> types.BaseChannel | None:
    """Return the channel over whose artifacts a ForEach goes.

    Args:
        variable: what the ForEach gives to its component.

    Returns:
        The channel; None for anything else, such as what a resolver function finds in ML Metadata.
    """
    if not isinstance(variable, ResolvedChannel) or variable.for_each_context is None:
        return None
    call = variable.invocation
    if call is None or call.function is not for_each._for_each_impl:
        return None
    channel: types.BaseChannel = call.args[0].wrapped
    return channel


def _import_path(cls: type, *, node_id: str, what: str) -> str:
    """Return the path that a class can be imported by; an error if it is defined in a script or inside a function."""
    path = f"{cls.__module__}.{cls.__qualname__}"
    try:
        found = None if cls.__module__ == "__main__" else pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not cls:
        raise CompileError(
            f"{node_id}: the {what} cannot be imported in a container. Received: {path}. "
            "Define it at the top level of a module that the image holds."
        )
    return path


def artifact_path(artifact_class: type[types.Artifact], *, node_id: str) -> str:
    """Return the import path of an artifact class, or of its base if `annotate_as` has derived it.

    Args:
        artifact_class: of a channel.
        node_id: id of the node that has such an artifact, for the error.

    Raises:
        CompileError: it is defined in a script or inside a function.
    """
    if artifact_class.TYPE_ANNOTATION and "_" in artifact_class.__name__ and artifact_class.__base__ is not None:
        try:
            return _import_path(artifact_class, node_id=node_id, what="artifact class")
        except CompileError:
            return _import_path(artifact_class.__base__, node_id=node_id, what="artifact class")
    return _import_path(artifact_class, node_id=node_id, what="artifact class")


def _single_channels(channel: types.BaseChannel, *, node_id: str, key: str) -> tuple[types.OutputChannel, ...]:
    """Return the outputs of nodes that a channel consists of.

    It is an error if it asks ML Metadata, which a cluster lacks.
    """
    if (whole := looped_channel(channel)) is not None:
        return _single_channels(whole, node_id=node_id, key=key)
    if not isinstance(channel, _INPUT_TYPES):
        raise CompileError(
            f"{node_id}: the input {key!r} is looked up in ML Metadata, which Kubeflow Pipelines does not have. "
            f"Received: {type(channel).__name__} of {channel.type_name}. Take it from a node of this pipeline, or name "
            "its place with an Importer."
        )
    if isinstance(channel, tfx_channel.UnionChannel):
        return tuple(part for inner in channel.channels for part in _single_channels(inner, node_id=node_id, key=key))
    return (channel,)


def encode_predicate(predicate: ph.Placeholder, key_of: Callable[[types.BaseChannel], str]) -> str:
    """Return a TFX placeholder expression as JSON.

    Args:
        predicate: the expression.
        key_of: returns the key of each channel in it.
    """
    wrapped = [part for part in predicate.traverse() if isinstance(part, ph.ChannelWrappedPlaceholder)]
    keys = [part.key for part in wrapped]
    for part in wrapped:
        part.set_key(None)  # which the pipeline's definition may have set: a key cannot be replaced
        part.set_key(key_of(part.channel))
    try:
        return json.dumps(json_format.MessageToDict(predicate.encode()), sort_keys=True)
    finally:
        for part, key in zip(wrapped, keys, strict=True):
            part.set_key(None)
            part.set_key(key)


def _component(node: Any, name_of: Callable[[str], str]) -> NodeDescription:
    spec = node.executor_spec
    if not isinstance(spec, executor_spec.ExecutorClassSpec):
        raise CompileError(
            f"{node.id}: its executor is a container of its own, which does not know TFX's artifacts. Received: "
            f"{type(spec).__name__}. Write it as a Python function component that the image holds."
        )
    if spec.executor_class.__module__ == _INFRA_VALIDATOR:
        raise CompileError(
            f"{node.id}: starts a server by Docker, or on a volume that holds the pipeline root, and a task of "
            "Kubeflow Pipelines has neither. Received: InfraValidator. Take it out; `serving.endpoint` of kubetfx's "
            "Pusher asks a real server after the push."
        )
    inputs = {key: _single_channels(channel, node_id=node.id, key=key) for key, channel in sorted(node.inputs.items())}
    properties, parameters, final_status = _properties(node, inputs, name_of)
    module_files, modules = _module_files(node)
    return NodeDescription(
        id=node.id,
        executor=_import_path(spec.executor_class, node_id=node.id, what="executor"),
        driver=_driver(node),
        beam_arguments=_beam_arguments(node),
        inputs=inputs,
        outputs=dict(sorted(node.outputs.items())),
        properties=properties,
        each=tuple(key for key, channel in sorted(node.inputs.items()) if looped_channel(channel) is not None),
        module_files=module_files,
        modules=modules,
        parameters=parameters,
        looks_outside=_PUSH_DIRECTORY in properties,
        final_status=final_status,
    )


def _importer(node: Importer) -> NodeDescription:
    properties, parameters, _ = _properties(node, {}, str, only=("artifact_uri",))
    return NodeDescription(
        id=node.id,
        executor="kubetfx.kubeflow.system_nodes.ImporterExecutor",
        driver=None,
        beam_arguments=None,
        inputs={},
        outputs=dict(node.outputs),
        properties=properties,
        parameters=parameters,
        looks_outside=bool(node.exec_properties.get(REIMPORT_OPTION_KEY)),
    )


def _resolver(node: Resolver, nodes: Iterable[BaseNode], name_of: Callable[[str], str]) -> NodeDescription:
    strategy = node.exec_properties.get(RESOLVER_STRATEGY_CLASS)
    if strategy is not LatestBlessedModelStrategy:
        name = strategy.__name__ if strategy else "no strategy"
        raise CompileError(
            f"{node.id}: a cluster has no ML Metadata to resolve from. Received: {name}. Use "
            "LatestBlessedModelStrategy, which finds the model that is served now, or an Importer with a fixed place."
        )
    pusher = next((n for n in nodes if any(n.exec_properties.get(name) for name in _PUSH_PROPERTIES)), None)
    if pusher is None:
        raise CompileError(
            f"{node.id}: the latest blessed model is the newest version where the Pusher pushes to, and the pipeline "
            "has no Pusher with a push_destination. Add one, or take the model from an Importer."
        )
    inputs: dict[str, tuple[types.OutputChannel, ...]] = {}
    properties, parameters, _ = _properties(pusher, inputs, name_of, only=_PUSH_PROPERTIES)
    return NodeDescription(
        id=node.id,
        executor="kubetfx.kubeflow.system_nodes.LatestPushedModelExecutor",
        driver=None,
        beam_arguments=None,
        inputs=inputs,
        outputs=dict(sorted(node.outputs.items())),
        properties=properties,
        parameters=parameters,
        looks_outside=True,
    )


def _driver(node: Any) -> str | None:
    driver = node.driver_class
    if driver is None or driver is base_driver.BaseDriver:
        return None
    if not hasattr(driver, "run"):
        raise CompileError(
            f"{node.id}: its driver {driver.__name__} decides with the help of ML Metadata, which Kubeflow Pipelines "
            "does not have. Give the driver a method run(execution_info), as TFX's ExampleGen has it."
        )
    return _import_path(driver, node_id=node.id, what="driver")


def _beam_arguments(node: Any) -> tuple[str, ...] | None:
    if not issubclass(node.executor_spec.executor_class, base_beam_executor.BaseBeamExecutor):
        return None
    arguments = getattr(node.executor_spec, "beam_pipeline_args", [])
    for argument in arguments:
        if not isinstance(argument, str):
            raise CompileError(
                f"{node.id}: a Beam argument is a placeholder, which only TFX's own runners resolve. "
                f"Received: {argument!r}. Write it out."
            )
    return tuple(arguments)


def _properties(
    node: Any,
    inputs: dict[str, tuple[types.OutputChannel, ...]],
    name_of: Callable[[str], str],
    *,
    only: tuple[str, ...] | None = None,
) -> tuple[dict[str, Property], dict[str, RunParameter], str | None]:
    """Return exec properties, the parameters of the run that they take, and the name of the one for the final status.

    The channels of dynamic properties are added to `inputs`.
    """
    properties: dict[str, Property] = {}
    parameters: dict[str, RunParameter] = {}
    final_status = None
    for name, value in sorted(node.exec_properties.items()):
        if value is None or (only is not None and name not in only):
            continue
        if isinstance(value, FinalStatusStr):
            final_status = name
            properties[name] = Property(value="")
        elif isinstance(value, ph.Placeholder):
            properties[name] = _dynamic_property(node.id, name, value, inputs, name_of)
        elif isinstance(value, Message):
            path = _import_path(type(value), node_id=node.id, what=f"message of the exec property {name!r}")
            text = json_format.MessageToJson(value, preserving_proto_field_name=True, indent=None, sort_keys=True)
            properties[name] = Property(value=text, message=path)
        else:
            document, found = take_parameters(value, node_id=node.id)
            overrides = tuple(Override(parameter=p.name, type=p.type, path=path) for path, p in found)
            for _, parameter in found:
                merge_parameters(parameters, {parameter.name: parameter}, node_id=node.id)
            properties[name] = Property(value=_plain(document, node_id=node.id, name=name), overrides=overrides)
    return properties, parameters, final_status


def _dynamic_property(
    node_id: str,
    name: str,
    value: ph.Placeholder,
    inputs: dict[str, tuple[types.OutputChannel, ...]],
    name_of: Callable[[str], str],
) -> Property:
    keys = {channels: key for key, channels in inputs.items()}

    def key_of(channel: types.BaseChannel) -> str:
        channels = _single_channels(channel, node_id=node_id, key=name)
        if channels not in keys:
            (source,) = channels
            keys[channels] = f"_{name_of(source.producer_component_id)}.{source.output_key}"
            inputs[keys[channels]] = channels
        return keys[channels]

    return Property(placeholder=encode_predicate(value, key_of))


def _plain(value: Any, *, node_id: str, name: str) -> Any:
    try:
        json.dumps(value)
    except TypeError:
        raise CompileError(
            f"{node_id}: the exec property {name!r} cannot be written as JSON. Received: {type(value).__name__}. "
            "Use numbers, text, lists and mappings."
        ) from None
    return value


def _module_files(node: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Name and source of the module_file if it is on this machine; any other path is one in the image."""
    path = node.exec_properties.get(_MODULE_FILE)
    if not isinstance(path, str) or not Path(path).is_file():
        return {}, {}
    name = Path(path).stem
    return {_MODULE_FILE: name}, {name: Path(path).read_text(encoding="utf-8")}


def channels_of(predicate: ph.Placeholder, *, node_id: str) -> Iterator[types.OutputChannel]:
    """Yield the outputs that a predicate is about.

    Args:
        predicate: of a Cond.
        node_id: id of a node under it, for the error.

    Raises:
        CompileError: one of them is looked up in ML Metadata.
    """
    for channel in channel_utils.get_dependent_channels(predicate):
        yield from _single_channels(channel, node_id=node_id, key="Cond")

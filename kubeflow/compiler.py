"""A TFX pipeline, any TFX pipeline, as a package of Kubeflow Pipelines v2: one container task a node.

The package is written by the kfp SDK. What each container does stands in its argument (kubeflow/task_spec.py), what its
pod is like comes from the config (kubeflow/platform.py), and how a node is described is kubeflow/tfx_node.py's.
"""

import hashlib
import inspect
import json
import pkgutil
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.compiler import Compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.graph_component import GraphComponent
from tfx import types
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.context_managers.dsl_context import DslContext
from tfx.dsl.experimental.conditionals.conditional import CondContext
from tfx.orchestration.pipeline import Pipeline

from kubetfx.config.kubeflow import KubeflowConfig
from kubetfx.config.section import nearest
from kubetfx.errors import CompileError
from kubetfx.kubeflow import platform, visualizations
from kubetfx.kubeflow.package_document import digest
from kubetfx.kubeflow.task_spec import DRIVER_OUTPUT, Node, OutputSlot, Override, Page, Property, TaskSpec
from kubetfx.kubeflow.tfx_node import (
    NodeDescription,
    RunParameter,
    artifact_path,
    channels_of,
    describe,
    encode_predicate,
    identifier,
    merge_parameters,
    passed_channels,
)
from kubetfx.run_record import FUSED

COMMAND = ("python", "-m", "kubetfx.kubeflow.entrypoint")
MAX_ARGUMENT_BYTES = 120 * 1024
"""Linux starts no process with an argument of 128 KiB. The driver of Kubeflow Pipelines gets the whole container as one
argument in JSON, so this is the length of a task's description in JSON; the rest is for image, resources and
environment."""

MAX_NAME = 80
"""Characters of a task's name. Argo Workflows takes 128, and what is made of it is longer: `resolve-NAME-2-driver`."""

_TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str}
_ARTIFACTS: Mapping[str, type] = {
    "Dataset": dsl.Dataset,
    "Model": dsl.Model,
    "Metrics": dsl.Metrics,
    "ClassificationMetrics": dsl.ClassificationMetrics,
    "HTML": dsl.HTML,
    "Markdown": dsl.Markdown,
    "Artifact": dsl.Artifact,
}


@dataclass(frozen=True)
class RunParameterTarget:
    """A parameter of the run, and the place in a node's exec properties that it is put over."""

    parameter: RunParameter
    node_id: str
    property: str
    path: tuple[str, ...] = ()
    """Keys into the JSON document that the property is."""


@dataclass(frozen=True)
class Extras:
    """What a package has that the TFX pipeline does not say."""

    parameters: Sequence[RunParameterTarget] = ()
    exit_handler: BaseNode | None = None
    """A function component that runs when all others have ended, however that was."""
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Source of modules that the image lacks, by name, by the node that imports them."""
    code: str = ""
    """Digest of the code that the tasks run."""


@dataclass
class _Task:
    """A task on its way into the package."""

    name: str
    title: str
    spec: TaskSpec
    node_ids: tuple[str, ...]
    components: tuple[str, ...] = ()
    """Nodes whose entries in the config its pod has; none: what holds for each."""
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    """Input slot by node and output key. An artifact is one input, however many nodes and keys read it: ML Metadata
    keeps one INPUT event per artifact and execution, and refuses the task otherwise."""
    slots: dict[tuple[str, str], str] = field(default_factory=dict)
    """Output slot by node and output key."""
    parameters: dict[str, RunParameter] = field(default_factory=dict)
    """Parameters of the run that it takes."""
    driver: "_Task | None" = None
    """Task whose DRIVER_OUTPUT it takes."""
    after: set[str] = field(default_factory=set)
    """Nodes that must have run."""
    contexts: tuple[CondContext, ...] = ()
    """Conditions, the outermost first."""
    final_status: str | None = None
    handle: Any = None
    """The kfp SDK's task, once there is one."""

    def needs(self) -> set[str]:
        """Ids of the nodes whose tasks come before."""
        return {node for node, _ in self.sources} | self.after


def compile_pipeline(pipeline: Pipeline, config: KubeflowConfig, extras: Extras | None = None) -> GraphComponent:
    """Compile a TFX pipeline.

    Args:
        pipeline: any TFX pipeline whose components' modules the image holds.
        config: image, and what each component's pod is like; components that `resources` and `fuse` name must be there.
        extras: run parameters, exit handler, embedded modules.

    Returns:
        The pipeline as the kfp SDK has it, for write_package.

    Raises:
        CompileError: a node cannot be expressed; names it and says what to do.
    """
    return _Compilation(pipeline, config, extras or Extras()).graph()


def write_package(graph: GraphComponent, path: Path, *, kubernetes_manifest: bool = False) -> None:
    """Write a package as YAML.

    Args:
        graph: what compile_pipeline returned.
        path: file to write, ending in .yaml.
        kubernetes_manifest: write it as the Kubernetes resources Pipeline and PipelineVersion, for GitOps. A version
            cannot be changed, so its name ends in the package's digest, as those that `kubetfx submit` uploads.
    """
    if not kubernetes_manifest:
        Compiler().compile(graph, str(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package.yaml"
        Compiler().compile(graph, str(package))
        version = f"{graph.pipeline_spec.pipeline_info.name}-{digest(package)}"
    options = KubernetesManifestOptions(
        pipeline_version_name=version, pipeline_version_display_name=version, include_pipeline_manifest=True
    )
    Compiler().compile(graph, str(path), kubernetes_manifest_format=True, kubernetes_manifest_options=options)


class _Compilation:
    """One pipeline on its way to a package."""

    def __init__(self, pipeline: Pipeline, config: KubeflowConfig, extras: Extras) -> None:
        if not pipeline._finalized:  # the registry of conditions is filled then
            pipeline.finalize()
        self._name = pipeline.id
        self._slug = re.sub(r"[^a-z0-9-]+", "-", pipeline.id.lower()).strip("-")
        if not self._slug:
            raise CompileError(
                "The pipeline's name needs an ASCII letter or digit, of which its name in Kubeflow Pipelines is made. "
                f"Received: {pipeline.id!r}. Give it another name."
            )
        self._config = config
        self._extras = extras
        self._registry = pipeline.dsl_context_registry
        self._nodes = [node for node in pipeline.components if passed_channels(node) is None]
        self._passed = {
            (node.id, key): channel
            for node in pipeline.components
            for key, channel in (passed_channels(node) or {}).items()
        }
        self._check_names()
        self._contexts_of = {node.id: self._cond_contexts(node) for node in self._nodes}
        self._descriptions = {node.id: describe(node, nodes=pipeline.components) for node in self._nodes}
        for description in self._descriptions.values():
            if description.final_status:
                raise CompileError(
                    f"{description.id}: takes the final status of the pipeline, which is there when all tasks have "
                    f"ended. Received: {description.final_status}=FinalStatusStr. Take it out of the pipeline's "
                    "components, and pass it as Extras(exit_handler=...)."
                )
        self._parameters: dict[str, RunParameter] = {}
        self._put_run_parameters()
        handed_on = {node.id for node in pipeline.components} - {node.id for node in self._nodes}
        self._upstream = {node.id: _upstream(node, past=handed_on) for node in self._nodes}
        self._tasks = self._make_tasks()
        self._by_node = {node_id: task for task in self._tasks for node_id in task.node_ids}
        self._conditions: dict[CondContext, tuple[_Task, str]] = {}
        for task in list(self._tasks):
            for context in task.contexts:
                if context not in self._conditions:
                    self._conditions[context] = self._evaluate(context, task)
        self._exit_task = self._make_exit_task()

    def graph(self) -> GraphComponent:
        """The pipeline of the kfp SDK."""
        parameters = sorted(self._parameters.values(), key=lambda p: (p.default is not None, p.name))
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    p.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=_TYPES[p.type],
                    default=inspect.Parameter.empty if p.default is None else p.default,
                )
                for p in parameters
            ]
        )

        def build(*arguments: Any, **keywords: Any) -> None:
            bound = {**dict(zip((p.name for p in parameters), arguments, strict=False)), **keywords}
            if self._exit_task is None:
                self._emit(self._tasks, (), bound)
                return
            self._start(self._exit_task, bound)
            with dsl.ExitHandler(self._exit_task.handle, name="pipeline"):
                self._emit(self._tasks, (), bound)

        build.__signature__ = signature  # type: ignore[attr-defined]
        build.__name__ = identifier(self._name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.simplefilter("ignore", category=DeprecationWarning)
            return dsl.pipeline(name=self._slug, display_name=self._name)(build)

    def _check_names(self) -> None:
        nodes = [node.id for node in self._nodes]
        handlers = [self._extras.exit_handler.id] if self._extras.exit_handler else []
        fused = [name for group in self._config.fused_groups for name in group]
        for section, names, known in (
            ("resources", list(self._config.resources), [*nodes, *handlers]),
            ("fuse", fused, nodes),
        ):
            for name in names:
                if name not in known:
                    raise CompileError(
                        f"kubeflow.{section}: the pipeline has no component {name!r}.{nearest(name, known)} "
                        f"Known: {', '.join(known)}."
                    )

    def _put_run_parameters(self) -> None:
        for description in self._descriptions.values():
            merge_parameters(self._parameters, description.parameters, node_id=description.id)
        for target in self._extras.parameters:
            description = self._descriptions[target.node_id]
            merge_parameters(self._parameters, {target.parameter.name: target.parameter}, node_id=target.node_id)
            description.parameters[target.parameter.name] = target.parameter
            old = description.properties[target.property]
            override = Override(parameter=target.parameter.name, type=target.parameter.type, path=target.path)
            description.properties[target.property] = old.model_copy(update={"overrides": (*old.overrides, override)})

    def _make_tasks(self) -> list[_Task]:
        groups = {name: group for group in self._config.fused_groups for name in group}
        tasks: list[_Task] = []
        done: set[str] = set()
        for node in self._nodes:
            if node.id in done:
                continue
            ids = [other.id for other in self._nodes if other.id in groups.get(node.id, (node.id,))]
            done.update(ids)
            task = self._make_task([self._descriptions[node_id] for node_id in ids])
            if task.driver:
                tasks.append(task.driver)
            tasks.append(task)
        names = {task.name for task in tasks}
        for task in tasks:  # Kubeflow Pipelines gives each task a driver, and names it after the task
            if task.name.removesuffix("_driver") in names - {task.name}:
                task.name = _unique(f"{task.name}_task", names)
        return tasks

    def _make_task(self, descriptions: Sequence[NodeDescription]) -> _Task:
        is_fused = len(descriptions) > 1
        ids = tuple(description.id for description in descriptions)
        task = _Task(
            name=_task_name(ids),
            title=FUSED.join(ids),
            spec=TaskSpec(code=self._extras.code),
            node_ids=ids,
            components=ids,
            contexts=self._contexts(ids),
        )
        taken = {name for description in descriptions for name in description.parameters}
        nodes, inputs, outputs, pages = [], {}, {}, {}
        for description in descriptions:
            prefix = f"{_snake(description.id)}_" if is_fused else ""
            node_inputs: dict[str, tuple[str, ...]] = {}
            for key, channels in description.inputs.items():
                slots = []
                for channel in channels:
                    source = self._source(channel, node_id=description.id)
                    slot = task.slots.get(source) or task.sources.get(source)  # written or read by the task already
                    if slot is None:
                        name = _slot_name(source) if is_fused else identifier(key.lstrip("_"))
                        task.sources[source] = slot = _unique(name, taken)
                        inputs[slot] = artifact_path(channel.type, node_id=description.id)
                    slots.append(slot)
                node_inputs[key] = tuple(dict.fromkeys(slots))  # a union has each artifact once, as TFX resolves it
            node_outputs = {}
            for key, channel in description.outputs.items():
                slot = _unique(prefix + identifier(key), taken)
                task.slots[description.id, key] = node_outputs[key] = slot
                outputs[slot] = OutputSlot(
                    type=artifact_path(channel.type, node_id=description.id),
                    properties=channel.additional_properties or {},
                    custom_properties=channel.additional_custom_properties or {},
                )
            types_of = {key: channel.type.TYPE_NAME for key, channel in description.outputs.items()}
            task_property = description.properties.get("task", Property()).value
            for kind in visualizations.kinds_of(description.executor, types_of, task=task_property):
                pages[_unique(prefix + kind, taken)] = Page(kind=kind, node=description.id)
            task.parameters.update(description.parameters)
            task.spec.modules.update({**self._extras.modules.get(description.id, {}), **description.modules})
            task.after |= self._upstream[description.id] - set(ids)
            nodes.append(_node(description, node_inputs, node_outputs))
        task.after = {node_id for node_id in task.after if node_id in self._descriptions}
        task.spec = task.spec.model_copy(
            update={"nodes": tuple(nodes), "inputs": inputs, "outputs": outputs, "pages": pages}
        )
        if not is_fused and descriptions[0].is_example_gen:
            _check_parameter_name_is_free(DRIVER_OUTPUT, descriptions[0])
            self._split_driver_off(task, descriptions[0])
        return task

    def _split_driver_off(self, task: _Task, description: NodeDescription) -> None:
        """A task that is never cached finds the newest data; what it finds is part of the key that the data's task is
        cached by."""
        (node,) = task.spec.nodes
        task.driver = _Task(
            name=f"resolve_{task.name}",
            title=f"{description.id} driver",
            spec=TaskSpec(role="driver", nodes=(node,), inputs=task.spec.inputs, outputs=task.spec.outputs),
            node_ids=(),
            components=task.components,
            sources=dict(task.sources),
            parameters=dict(task.parameters),
            after=set(task.after),
            contexts=task.contexts,
        )
        taken_over = node.model_copy(update={"driver_parameter": DRIVER_OUTPUT})
        task.spec = task.spec.model_copy(update={"nodes": (taken_over,)})

    def _source(self, channel: types.OutputChannel, *, node_id: str) -> tuple[str, str]:
        """Node and output key that a channel comes from, past the resolvers that hand it on."""
        source = (channel.producer_component_id, channel.output_key)
        while source in self._passed:
            channel = self._passed[source]
            source = (channel.producer_component_id, channel.output_key)
        if source[0] not in self._descriptions:
            raise CompileError(
                f"{node_id}: takes {source[1]!r} of {source[0]!r}, which is not in the pipeline. "
                f"Add {source[0]!r} to the pipeline's components."
            )
        return source

    def _cond_contexts(self, node: BaseNode) -> tuple[CondContext, ...]:
        contexts: Iterable[DslContext] = self._registry.get_contexts(node)
        for context in contexts:
            if not isinstance(context, CondContext):
                raise CompileError(
                    f"{node.id}: stands in a {type(context).__name__.removesuffix('Context')}, and only Cond can "
                    "be expressed. Take the node out of it."
                )
        return tuple(contexts)

    def _contexts(self, ids: Sequence[str]) -> tuple[CondContext, ...]:
        found = {self._contexts_of[node_id] for node_id in ids}
        if len(found) > 1:
            raise CompileError(f"kubeflow.fuse: {', '.join(ids)} stand under different conditions. Don't fuse them.")
        return found.pop()

    def _evaluate(self, context: CondContext, task: _Task) -> tuple[_Task, str]:
        """The task and the output parameter that say whether a condition holds.

        That is the task whose outputs it is about; a task of its own where it is about those of several.
        """
        node_id = task.components[0]
        channels = list(channels_of(context.predicate, node_id=node_id))
        sources = [self._source(channel, node_id=node_id) for channel in channels]
        producers = {id(self._by_node[source[0]]): self._by_node[source[0]] for source in sources}
        if len(producers) == 1:
            (owner,) = producers.values()
            slot_of = {source: owner.slots[source] for source in sources}
        else:
            number = 1 + sum(t.name.startswith("predicate_") for t in self._tasks)
            named: set[str] = set()
            slot_of = {source: _unique(_slot_name(source), named) for source in dict.fromkeys(sources)}
            owner = _Task(
                name=f"predicate_{number}",
                title=f"Predicate {number}",
                spec=TaskSpec(
                    inputs={
                        slot_of[source]: artifact_path(channel.type, node_id=node_id)
                        for source, channel in zip(sources, channels, strict=True)
                    },
                    code=self._extras.code,
                ),
                node_ids=(),
                sources=dict(slot_of),
                contexts=tuple(c for c in context.ancestors if isinstance(c, CondContext)),
            )
            self._tasks.append(owner)
        taken = {*owner.parameters, *owner.spec.inputs, *owner.spec.outputs, *owner.spec.pages, *owner.spec.conditions}
        parameter = _unique(f"condition_{len(owner.spec.conditions) + 1}", taken)
        owner.spec.conditions[parameter] = encode_predicate(
            context.predicate, lambda channel: slot_of[self._source(channel, node_id=node_id)]
        )
        return owner, parameter

    def _make_exit_task(self) -> _Task | None:
        handler = self._extras.exit_handler
        if handler is None:
            return None
        description = describe(handler, nodes=self._nodes)
        if description.inputs:
            raise CompileError(
                f"{handler.id}: an exit handler takes no artifacts. Pass it values and the final status."
            )
        if description.outputs:
            raise CompileError(
                f"{handler.id}: an exit handler has no outputs, as no task comes after it. Received: "
                f"{', '.join(description.outputs)}. Let it return nothing."
            )
        merge_parameters(self._parameters, description.parameters, node_id=handler.id)
        if description.final_status:
            _check_parameter_name_is_free(description.final_status, description)
            override = Override(parameter=description.final_status, type="str")
            description.properties[description.final_status] = Property(value="", overrides=(override,))
        return _Task(
            name=_task_name((handler.id,)),
            title=handler.id,
            spec=TaskSpec(nodes=(_node(description, {}, {}),), code=self._extras.code),
            node_ids=(handler.id,),
            components=(handler.id,),
            parameters=dict(description.parameters),
            final_status=description.final_status,
        )

    def _emit(self, tasks: Sequence[_Task], scope: tuple[CondContext, ...], arguments: Mapping[str, Any]) -> None:
        """Start tasks under the conditions `scope`, and in groups those under further ones, each when what it needs is
        there."""
        units: dict[Any, list[_Task]] = {}
        for task in tasks:
            inner = task.contexts[len(scope) :]
            units.setdefault(inner[0] if inner else id(task), []).append(task)
        while units:
            ready = next((key for key, unit in units.items() if self._is_ready(key, unit)), None)
            if ready is None:
                names = ", ".join(task.title for unit in units.values() for task in unit)
                raise CompileError(
                    f"{names}: wait for each other once nodes share a task or a condition. Fuse neighbours only, and "
                    "let nothing outside a condition stand between its nodes."
                )
            unit = units.pop(ready)
            if not isinstance(ready, CondContext):
                self._start(unit[0], arguments)
                continue
            owner, parameter = self._conditions[ready]
            with dsl.If(owner.handle.outputs[parameter] == "true", name=f"{owner.name} {parameter}"):
                self._emit(unit, (*scope, ready), arguments)

    def _is_ready(self, key: Any, unit: Sequence[_Task]) -> bool:
        inside = {node_id for task in unit for node_id in task.node_ids}
        needs = {node_id for task in unit for node_id in task.needs()} - inside
        owners = [self._conditions[context][0] for task in unit for context in task.contexts]
        drivers = [task.driver for task in unit if task.driver]
        return all(self._by_node[node_id].handle for node_id in needs) and all(
            other.handle or other in unit for other in (*owners, *drivers)
        )

    def _start(self, task: _Task, arguments: Mapping[str, Any]) -> None:
        keywords: dict[str, Any] = {name: arguments[name] for name in task.parameters}
        for (node_id, key), slot in task.sources.items():
            producer = self._by_node[node_id]
            self._check_reachable(task, producer)
            keywords[slot] = producer.handle.outputs[producer.slots[node_id, key]]
        if task.driver:
            keywords[DRIVER_OUTPUT] = task.driver.handle.outputs[DRIVER_OUTPUT]
        task.handle = _container_component(task, self._config.image)(**keywords)
        task.handle.set_display_name(task.title)
        sources = {node_id for node_id, _ in task.sources}
        for node_id in sorted(task.after - sources):
            self._check_reachable(task, self._by_node[node_id])
            task.handle.after(self._by_node[node_id].handle)
        merged = platform.merged_config(self._config, task.components)
        if task.spec.role == "driver":  # it only looks for files
            merged = merged.model_copy(update={"gpu": None})
        platform.apply(task.handle, merged, config=self._config)
        task.handle.set_caching_options(self._is_cached(task, merged.cache))

    def _check_reachable(self, task: _Task, producer: _Task) -> None:
        if producer.contexts != task.contexts[: len(producer.contexts)]:
            raise CompileError(
                f"{task.title}: takes what {producer.title} makes, which is under a condition that it is not under, so "
                f"it may not be there. Put {task.title} under the same Cond."
            )

    def _is_cached(self, task: _Task, setting: bool | None) -> bool:
        """Drivers look at what the cache's key knows nothing of: those that were not split off keep the task out of
        it."""
        if task.spec.role == "driver" or task is self._exit_task:
            return False
        if setting is not None:
            return setting
        has_driver = any(node.driver and not node.driver_parameter for node in task.spec.nodes)
        return not has_driver and not any(self._descriptions[node_id].looks_outside for node_id in task.node_ids)


def _upstream(node: BaseNode, *, past: set[str]) -> set[str]:
    """Ids of the nodes that come before; for a node of `past`, those that come before it."""
    return {
        node_id
        for upstream in node.upstream_nodes
        for node_id in (_upstream(upstream, past=past) if upstream.id in past else (upstream.id,))
    }


def _check_parameter_name_is_free(name: str, description: NodeDescription) -> None:
    if name in description.parameters:
        raise CompileError(
            f"{description.id}: the RuntimeParameter {name!r} has a name that its task needs for another input. "
            "Give it another name."
        )


def _node(description: NodeDescription, inputs: dict[str, tuple[str, ...]], outputs: dict[str, str]) -> Node:
    return Node(
        id=description.id,
        executor=description.executor,
        driver=description.driver,
        beam_arguments=description.beam_arguments,
        inputs=inputs,
        outputs=outputs,
        properties=description.properties,
        module_files=description.module_files,
    )


def _container_component(task: _Task, image: str) -> Callable[..., Any]:
    """The task as a container component of the kfp SDK, which reads its interface from a function's signature."""
    inputs: dict[str, Any] = {p.name: _TYPES[p.type] for p in task.parameters.values()}
    if task.driver:
        inputs[DRIVER_OUTPUT] = str
    if task.final_status:
        inputs[task.final_status] = dsl.PipelineTaskFinalStatus
    inputs |= {slot: dsl.Input[_system_type(path)] for slot, path in task.spec.inputs.items()}
    outputs: dict[str, Any] = {}
    if task.spec.role == "driver":
        outputs[DRIVER_OUTPUT] = dsl.OutputPath(str)
    else:
        outputs |= {slot: dsl.Output[_system_type(output.type)] for slot, output in task.spec.outputs.items()}
        for slot, page in task.spec.pages.items():
            outputs[slot] = dsl.Output[_ARTIFACTS[visualizations.system_type(page.kind)]]
        outputs |= {name: dsl.OutputPath(str) for name in task.spec.conditions}

    argument = _checked_argument(task)

    def build(*arguments: Any) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image=image,
            command=list(COMMAND),
            args=["--task", argument, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
        )

    build.__name__ = task.name
    build.__doc__ = None
    build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
            for name, annotation in {**inputs, **outputs}.items()
        ]
    )
    return dsl.container_component(build)


def _checked_argument(task: _Task) -> str:
    """The argument that describes a task.

    Raises:
        CompileError: it is so long that no process can be started with it.
    """
    argument = task.spec.to_argument()
    length = _length_in_json(argument)
    if length > MAX_ARGUMENT_BYTES:
        parts = {f"module {name}": _length_in_json(source) for name, source in task.spec.modules.items()}
        for node in task.spec.nodes:
            for name, value in node.properties.items():
                parts[f"{node.id}.{name}"] = _length_in_json(value.model_dump_json())
        longest = sorted(parts.items(), key=lambda part: part[1], reverse=True)[:3]
        raise CompileError(
            f"{task.title}: what the task does is too long for an argument of a container. Received: {length:,} bytes, "
            f"more than {MAX_ARGUMENT_BYTES:,}; the longest are "
            f"{', '.join(f'{name} with {size:,}' for name, size in longest)}. Install long modules in the image and "
            "name them by their import path, and take components out of kubeflow.fuse."
        )
    return argument


def _length_in_json(text: str) -> int:
    """Bytes of a text in the JSON that Go writes, which escapes what has a meaning in HTML."""
    return len(json.dumps(text, ensure_ascii=False).encode()) + 5 * sum(map(text.count, "<>&"))


def _system_type(path: str) -> type:
    """Type of Kubeflow Pipelines for a TFX artifact class: what TFX itself annotates it with."""
    annotation = pkgutil.resolve_name(path).TYPE_ANNOTATION
    name = annotation.__name__ if annotation else "Artifact"
    return _ARTIFACTS.get(name, dsl.Artifact)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _slot_name(source: tuple[str, str]) -> str:
    """Name of an input that several nodes may read: what makes it, and under which key."""
    node_id, key = source
    return identifier(f"{_snake(node_id)}_{key}")


def _task_name(ids: Sequence[str]) -> str:
    """A name that Kubeflow Pipelines takes, made of the ids of the task's nodes."""
    name = identifier("_".join(_snake(node_id) for node_id in ids))
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:MAX_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate

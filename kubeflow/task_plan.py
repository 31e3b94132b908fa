"""Plans the tasks of a package: which nodes share one, where the inputs of each come from, and under which conditions.

kubeflow/tfx_node.py describes the nodes; kubeflow/compiler.py makes the kfp SDK's pipeline from the plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.experimental.conditionals.conditional import CondContext
from tfx.orchestration.pipeline import Pipeline

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.config.section import nearest
from kubetfx.errors import CompileError
from kubetfx.kubeflow import visualizations
from kubetfx.kubeflow.names import identifier, slot_name, snake_case, task_name, unique
from kubetfx.kubeflow.parallel_loops import Contexts, FoldedNodes, Source
from kubetfx.kubeflow.runtime_parameters import RunParameter, merge_parameters
from kubetfx.kubeflow.task_spec import DRIVER_OUTPUT, ITEM, Node, OutputSlot, Override, Page, Property, TaskSpec
from kubetfx.kubeflow.tfx_node import NodeDescription, artifact_path, channels_of, describe, encode_predicate
from kubetfx.pipeline.fan_out import Loop
from kubetfx.run_record import FUSED


@dataclass(frozen=True)
class RunParameterTarget:
    """A parameter of the run, and the part of a node's exec properties that it replaces."""

    parameter: RunParameter
    node_id: str
    property: str
    path: tuple[str, ...] = ()
    """Keys into the JSON document in the property; empty for the whole property."""


@dataclass(frozen=True)
class Extras:
    """What a package has besides the TFX pipeline."""

    parameters: Sequence[RunParameterTarget] = ()
    exit_handler: BaseNode | None = None
    """A function component that runs when all others have ended, whether or not they succeeded."""
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Modules that the image lacks: source by name of the module, by id of the node that imports it."""
    code: str = ""
    """Digest of the code that the tasks run."""


@dataclass
class PlannedTask:
    """A task of the package."""

    name: str
    title: str
    spec: TaskSpec
    node_ids: tuple[str, ...]
    components: tuple[str, ...] = ()
    """Nodes whose entries in the config say what its pod is like; none: what the config says for every component."""
    sources: dict[Source, str] = field(default_factory=dict)
    """Input slot by node and output key. An artifact is a single input, however many nodes and keys read it: ML
    Metadata keeps one INPUT event per artifact and execution, and refuses the task otherwise."""
    lists: set[str] = field(default_factory=set)
    """Input slots that take a list: what a loop around the producer, and not around this task, made."""
    slots: dict[Source, str] = field(default_factory=dict)
    """Output slot by node and output key."""
    parameters: dict[str, RunParameter] = field(default_factory=dict)
    """Parameters of the run that it takes, by name."""
    driver: "PlannedTask | None" = None
    """Task whose DRIVER_OUTPUT it takes."""
    after: set[str] = field(default_factory=set)
    """Nodes that run before."""
    contexts: Contexts = ()
    """Conditions and loops, the outermost first."""
    final_status: str | None = None
    handle: Any = None
    """The kfp SDK's task, once there is one."""

    def needs(self) -> set[str]:
        """Return the names of the nodes whose tasks come before."""
        return {node for node, _ in self.sources} | self.after

    @property
    def loop(self) -> Loop | None:
        """The loop that it is in."""
        return next((context for context in self.contexts if isinstance(context, Loop)), None)

    def collects(self, contexts: Contexts, *, what: str) -> bool:
        """Return whether it takes a list of what a task makes, one artifact per iteration of a loop.

        Args:
            contexts: conditions and loops around the producer.
            what: it takes, for the error.

        Raises:
            CompileError: the producer is under a condition that this task is not under.
        """
        rest = contexts[len([True for one, other in zip(contexts, self.contexts, strict=False) if one is other]) :]
        if any(not isinstance(context, Loop) for context in rest):
            raise CompileError(
                f"{self.title}: takes {what}, which is under a condition that it is not under, so it may not be there. "
                f"Put {self.title} under the same Cond."
            )
        return bool(rest)


class TaskPlan:
    """The tasks that a TFX pipeline becomes, the conditions that they are under, and what a run may set."""

    def __init__(self, pipeline: Pipeline, config: KubeflowConfig, extras: Extras) -> None:
        """Plan.

        Args:
            pipeline: any TFX pipeline.
            config: says which components share a task.
            extras: run parameters, exit handler and embedded modules.

        Raises:
            CompileError: a node cannot be expressed; names it and says what to do.
        """
        if not pipeline._finalized:  # the registry of conditions is filled then
            pipeline.finalize()
        self._config = config
        self._extras = extras
        self._nodes = pipeline.components
        self.folded = FoldedNodes(pipeline)
        self._descriptions = dict(self.folded.descriptions)
        handler = self._take_exit_handler()
        self._check_names(handler)
        self.parameters: dict[str, RunParameter] = {}
        self._put_run_parameters()
        self.tasks = self._make_tasks()
        self.by_node = {node_id: task for task in self.tasks for node_id in task.node_ids}
        self.conditions: dict[CondContext, tuple[PlannedTask, str]] = {}
        for task in list(self.tasks):
            for context in task.contexts:
                if isinstance(context, CondContext) and context not in self.conditions:
                    self.conditions[context] = self._evaluate(context, task)
        self.exit_task = self._make_exit_task(handler) if handler else None

    def looks_outside(self, task: PlannedTask) -> bool:
        """Return whether a node of a task depends on something that is not among its inputs.

        Args:
            task: A task of this plan.
        """
        return any(self._descriptions[node_id].looks_outside for node_id in task.node_ids)

    def _take_exit_handler(self) -> NodeDescription | None:
        """Return the exit handler: a component that takes the final status, or the one that was handed over."""
        found = [description for description in self._descriptions.values() if description.final_status]
        for description in found:
            del self._descriptions[description.id]
            if self.folded.contexts[description.id]:
                raise CompileError(
                    f"{description.id}: takes the final status of the pipeline, so it runs when all other tasks have "
                    f"ended. Received: {description.final_status}=FinalStatusStr under a Cond, a ForEach or a fan_out. "
                    "Take it out of there."
                )
        if self._extras.exit_handler:
            found.append(describe(self._extras.exit_handler, nodes=self._nodes))
        if len(found) > 1:
            ids = ", ".join(description.id for description in found)
            raise CompileError(f"A pipeline has one exit handler. Received: {ids}. Let one of them do it all.")
        return found[0] if found else None

    def _check_names(self, handler: NodeDescription | None) -> None:
        nodes = list(self._descriptions)
        handlers = [handler.id] if handler else []
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
            merge_parameters(self.parameters, description.parameters, node_id=description.id)
        for target in self._extras.parameters:
            description = self._descriptions[target.node_id]
            merge_parameters(self.parameters, {target.parameter.name: target.parameter}, node_id=target.node_id)
            description.parameters[target.parameter.name] = target.parameter
            old = description.properties[target.property]
            override = Override(parameter=target.parameter.name, type=target.parameter.type, path=target.path)
            description.properties[target.property] = old.model_copy(update={"overrides": (*old.overrides, override)})

    def _make_tasks(self) -> list[PlannedTask]:
        groups = {name: group for group in self._config.fused_groups for name in group}
        tasks: list[PlannedTask] = []
        done: set[str] = set()
        for name in self._descriptions:
            if name in done:
                continue
            ids = [other for other in self._descriptions if other in groups.get(name, (name,))]
            done.update(ids)
            task = self._make_task([self._descriptions[node_id] for node_id in ids])
            if task.driver:
                tasks.append(task.driver)
            tasks.append(task)
        names = {task.name for task in tasks}
        for task in tasks:  # the driver that KFP starts for a task is called NAME-driver
            if task.name.removesuffix("_driver") in names - {task.name}:
                task.name = unique(f"{task.name}_task", names)
        return tasks

    def _make_task(self, descriptions: Sequence[NodeDescription]) -> PlannedTask:
        is_fused = len(descriptions) > 1
        ids = tuple(description.id for description in descriptions)
        task = PlannedTask(
            name=task_name(ids),
            title=FUSED.join(ids),
            spec=TaskSpec(code=self._extras.code),
            node_ids=ids,
            components=ids,
            contexts=self._contexts(ids),
        )
        taken = {name for description in descriptions for name in description.parameters}
        if task.loop:
            taken.add(ITEM)
        nodes, inputs, outputs, pages = [], {}, {}, {}
        for description in descriptions:
            prefix = f"{snake_case(description.id)}_" if is_fused else ""
            node_inputs: dict[str, tuple[str, ...]] = {}
            for key, channels in description.inputs.items():
                slots = []
                sources = self.folded.sources(channels, reader=description.id, within=task.contexts)
                for source, channel in sources.items():
                    slot = task.slots.get(source) or task.sources.get(source)  # the task writes or reads it already
                    if slot is None:
                        name = slot_name(source) if is_fused else identifier(key.lstrip("_"))
                        task.sources[source] = slot = unique(name, taken)
                        inputs[slot] = artifact_path(channel.type, node_id=description.id)
                        if task.collects(self.folded.contexts[source[0]], what=f"what {source[0]} makes"):
                            task.lists.add(slot)
                    slots.append(slot)
                node_inputs[key] = tuple(slots)
            node_outputs = {}
            for key, channel in description.outputs.items():
                slot = unique(prefix + identifier(key), taken)
                task.slots[description.id, key] = node_outputs[key] = slot
                outputs[slot] = OutputSlot(
                    type=artifact_path(channel.type, node_id=description.id),
                    properties=channel.additional_properties or {},
                    custom_properties=channel.additional_custom_properties or {},
                )
            types_of = {key: channel.type.TYPE_NAME for key, channel in description.outputs.items()}
            task_property = description.properties.get("task", Property()).value
            for kind in visualizations.kinds_of(description.executor, types_of, task=task_property):
                pages[unique(prefix + kind, taken)] = Page(kind=kind, node=description.id)
            task.parameters.update(description.parameters)
            task.spec.modules.update({**self._extras.modules.get(description.id, {}), **description.modules})
            task.after |= self.folded.upstream[description.id] - set(ids)
            nodes.append(_node(description, node_inputs, node_outputs))
        task.after = {node_id for node_id in task.after if node_id in self._descriptions}
        task.spec = task.spec.model_copy(
            update={"nodes": tuple(nodes), "inputs": inputs, "outputs": outputs, "pages": pages}
        )
        if not is_fused and descriptions[0].is_example_gen:
            _check_parameter_name_is_free(DRIVER_OUTPUT, descriptions[0])
            self._split_driver_off(task, descriptions[0])
        return task

    def _split_driver_off(self, task: PlannedTask, description: NodeDescription) -> None:
        """Let a task of its own, which is never cached, look for the newest data.

        What it finds is an input of the task that reads the data, and so part of the key that this is cached by.
        """
        (node,) = task.spec.nodes
        task.driver = PlannedTask(
            name=f"resolve_{task.name}",
            title=f"{description.id} driver",
            spec=TaskSpec(
                role="driver",
                nodes=(node,),
                inputs=task.spec.inputs,
                outputs=task.spec.outputs,
                modules=task.spec.modules,
            ),
            node_ids=(),
            components=task.components,
            sources=dict(task.sources),
            lists=set(task.lists),
            parameters=dict(task.parameters),
            after=set(task.after),
            contexts=task.contexts,
        )
        taken_over = node.model_copy(update={"driver_parameter": DRIVER_OUTPUT})
        task.spec = task.spec.model_copy(update={"nodes": (taken_over,)})

    def _contexts(self, ids: Sequence[str]) -> Contexts:
        found = {self.folded.contexts[name] for name in ids}
        if len(found) > 1:
            raise CompileError(
                f"kubeflow.fuse: {', '.join(ids)} are under different conditions, or not all copies of one fan_out. "
                "Don't fuse them."
            )
        return found.pop()

    def _evaluate(self, context: CondContext, task: PlannedTask) -> tuple[PlannedTask, str]:
        """Return the task and the output parameter that say whether a condition holds.

        This is the task whose outputs the condition is about, or a new task if it is about the outputs of several.
        """
        node_id = task.components[0]
        around = task.contexts[: task.contexts.index(context)]
        channels = channels_of(context.predicate, node_id=node_id)
        sources = self.folded.sources(channels, reader=node_id, within=around)
        for name, key in sources:
            if any(isinstance(c, Loop) and c not in around for c in self.folded.contexts[name]):
                raise CompileError(
                    f"{node_id}: is under a condition about {key!r} of {name}, of which each copy of a fan_out has its "
                    "own. Put the Cond into the function that makes a copy, or let a component decide that takes the "
                    "outputs of all."
                )
        producers = {id(self.by_node[source[0]]): self.by_node[source[0]] for source in sources}
        if len(producers) == 1:
            (owner,) = producers.values()
            slot_of = {source: owner.slots[source] for source in sources}
        else:
            number = 1 + sum(t.name.startswith("predicate_") for t in self.tasks)
            named: set[str] = set()
            slot_of = {source: unique(slot_name(source), named) for source in sources}
            owner = PlannedTask(
                name=f"predicate_{number}",
                title=f"Predicate {number}",
                spec=TaskSpec(
                    inputs={
                        slot_of[source]: artifact_path(channel.type, node_id=node_id)
                        for source, channel in sources.items()
                    },
                    code=self._extras.code,
                ),
                node_ids=(),
                sources=dict(slot_of),
                contexts=around,
            )
            self.tasks.append(owner)
        taken = {*owner.parameters, *owner.spec.inputs, *owner.spec.outputs, *owner.spec.pages, *owner.spec.conditions}
        parameter = unique(f"condition_{len(owner.spec.conditions) + 1}", taken)
        owner.spec.conditions[parameter] = encode_predicate(
            context.predicate,
            lambda channel: slot_of[next(iter(self.folded.sources([channel], reader=node_id, within=around)))],
        )
        return owner, parameter

    def _make_exit_task(self, description: NodeDescription) -> PlannedTask:
        if description.inputs:
            raise CompileError(
                f"{description.id}: an exit handler takes no artifacts. Pass it values and the final status."
            )
        if description.outputs:
            raise CompileError(
                f"{description.id}: an exit handler has no outputs, as no task comes after it. Received: "
                f"{', '.join(description.outputs)}. Let it return nothing."
            )
        merge_parameters(self.parameters, description.parameters, node_id=description.id)
        if description.final_status:
            _check_parameter_name_is_free(description.final_status, description)
            override = Override(parameter=description.final_status, type="str")
            description.properties[description.final_status] = Property(value="", overrides=(override,))
        return PlannedTask(
            name=task_name((description.id,)),
            title=description.id,
            spec=TaskSpec(nodes=(_node(description, {}, {}),), code=self._extras.code),
            node_ids=(description.id,),
            components=(description.id,),
            parameters=dict(description.parameters),
            final_status=description.final_status,
        )


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
        each=description.each,
        outputs=outputs,
        properties=description.properties,
        module_files=description.module_files,
    )

"""Folds the copies of a fan-out into one node.

What they have in common is described once, and what they differ in are the items of a parallel loop. A ForEach of TFX
is a loop too: it joins the loop that made its artifacts, or has an item per artifact.

Each task of the loop takes its item as one parameter, a JSON object. The object always has the number of the copy, so
that no two iterations have the same inputs: else the second would take its outputs from the cache of the first, and ML
Metadata would refuse a task that collects them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.control_flow.for_each_internal import ForEachContext
from tfx.dsl.experimental.conditionals.conditional import CondContext
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import BaseChannel, OutputChannel

from kubetfx.errors import CompileError
from kubetfx.kubeflow.names import unique
from kubetfx.kubeflow.task_spec import COPY, ITEM, Override, escaped
from kubetfx.kubeflow.tfx_node import (
    NodeDescription,
    artifact_path,
    describe,
    encode_predicate,
    looped_channel,
    passed_channels,
)
from kubetfx.pipeline.fan_out import Copy, CopyContext, Loop, copies_in

Source = tuple[str, str]
"""Name of a node, which stands for all of its copies, and key of its output."""
Contexts = tuple[CondContext | Loop, ...]
"""Conditions and loops around a node, the outermost first."""

_OWN = "its own copy"


class FoldedNodes:
    """The nodes of a pipeline, of which the copies of a fan-out count as one."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Describe the nodes.

        Args:
            pipeline: any TFX pipeline, finalized.

        Raises:
            CompileError: a node cannot be expressed, or copies differ in more than values of exec properties.
        """
        self._registry = pipeline.dsl_context_registry
        self._copies: Mapping[str, Copy] = copies_in(pipeline)
        self._passed = {
            (node.id, key): channel
            for node in pipeline.components
            for key, channel in (passed_channels(node) or {}).items()
        }
        self._handed_on = {node_id for node_id, _ in self._passed}
        self._nodes = self._by_name(pipeline.components)
        self._items: dict[Loop, list[dict[str, Any]]] = {}
        self.contexts: dict[str, Contexts] = {}
        """By name of the node."""
        self.descriptions: dict[str, NodeDescription] = {}
        """By name of the node."""
        for name, nodes in self._nodes.items():  # producers first
            found = [describe(node, nodes=pipeline.components, name_of=self.name) for node in nodes]
            self.contexts[name], each = self._contexts(nodes[0], found[0])
            self.descriptions[name] = replace(self._folded(name, found), id=name, each=each)
        self.upstream = {name: set(self._upstream(nodes[0])) for name, nodes in self._nodes.items()}
        """Names of the nodes that come before."""

    def name(self, node_id: str) -> str:
        """Return the name that stands for all copies of a node.

        Args:
            node_id: The id of a node; one that is not a copy has its id as its name.
        """
        return self._copies[node_id].name if node_id in self._copies else node_id

    def sources(
        self, channels: Iterable[OutputChannel], *, reader: str, within: Contexts
    ) -> dict[Source, OutputChannel]:
        """Return what channels are outputs of; the channels of all copies are one output, which a list is made of.

        Args:
            channels: that the reader takes.
            reader: name of the node.
            within: conditions and loops around the reader.

        Returns:
            A channel by source, in the order of the channels.

        Raises:
            CompileError: a node is not in the pipeline, or the reader takes outputs of some copies alone.
        """
        found: dict[Source, OutputChannel] = {}
        numbers: dict[Source, set[int]] = {}
        for channel in channels:
            source, copy = self._source(channel, reader=reader)
            found.setdefault(source, channel)
            if copy is not None and copy.loop not in within:
                numbers.setdefault(source, set()).add(copy.index)
        for (name, key), indices in numbers.items():
            size = self._copies[self._nodes[name][0].id].loop.size
            if len(indices) < size:
                raise CompileError(
                    f"{reader}: takes {key!r} of some of the {size} copies of {name}. Received: those of copy "
                    f"{', '.join(map(str, sorted(indices)))}. Take the outputs of all, as fan_out returns them, and "
                    "choose among them in the component."
                )
        return found

    def item_texts(self, loop: Loop) -> list[str]:
        """Return the items of a loop as the loop's tasks receive them.

        Args:
            loop: of this pipeline.
        """
        return [escaped(json.dumps(item, separators=(",", ":"), ensure_ascii=False)) for item in self._items[loop]]

    def _by_name(self, nodes: Iterable[BaseNode]) -> dict[str, list[BaseNode]]:
        by_name: dict[str, list[BaseNode]] = {}
        for node in (node for node in nodes if node.id not in self._handed_on):
            by_name.setdefault(self.name(node.id), []).append(node)
        for name, found in by_name.items():
            loops = {self._copies[node.id].loop if node.id in self._copies else None for node in found}
            if len(loops) > 1:
                ids = ", ".join(sorted(node.id for node in found))
                raise CompileError(
                    f"{name}: is the name of a component, and also of the copies of another. Received: {ids}. Give one "
                    "of them another name by with_id."
                )
            if loop := next(iter(loops)):
                found.sort(key=lambda node: self._copies[node.id].index)
                if len(found) < loop.size:
                    ids = ", ".join(node.id for node in found)
                    raise CompileError(
                        f"{name}: some copies of it are not in the pipeline. Received: {ids}, of {loop.size}. Put all "
                        "into the pipeline's components: the `components` of what fan_out returns."
                    )
        return by_name

    def _contexts(self, node: BaseNode, description: NodeDescription) -> tuple[Contexts, tuple[str, ...]]:
        """Return the conditions and loops around a node, and the inputs of which each iteration takes one artifact."""
        found: list[CondContext | Loop] = []
        each: tuple[str, ...] = ()
        for context in self._registry.get_contexts(node):
            if isinstance(context, CopyContext):
                found.append(context.loop)
            elif isinstance(context, CondContext):
                found.append(context)
            elif isinstance(context, ForEachContext):
                loop, each = self._for_each(context, description, tuple(found))
                found += [loop] if loop else []
            else:
                raise CompileError(
                    f"{node.id}: is in a {type(context).__name__.removesuffix('Context')}, and only Cond, ForEach and "
                    "fan_out can be expressed. Take the node out of it."
                )
        if ITEM in description.parameters and any(isinstance(context, Loop) for context in found):
            raise CompileError(
                f"{description.id}: the RuntimeParameter {ITEM!r} has a name that a task in a loop needs for another "
                "input. Give it another name."
            )
        return tuple(found), each

    def _for_each(
        self, context: ForEachContext, description: NodeDescription, within: Contexts
    ) -> tuple[Loop | None, tuple[str, ...]]:
        """Return the loop that a ForEach is, and the inputs of which each iteration takes one artifact."""
        reader = description.id
        if looped_channel(context.loop_variable) is None:
            raise CompileError(
                f"{reader}: is in a ForEach over what a resolver function finds in ML Metadata, which Kubeflow "
                "Pipelines does not have. Let it go over a channel: an output, or the union of several."
            )
        if any(isinstance(other, Loop) for other in within):
            raise CompileError(
                f"{reader}: is in a ForEach inside of a fan_out, and loops in loops are not made. Let the function of "
                "fan_out make the component without ForEach."
            )
        keys = description.each
        over = [
            self.sources(channels, reader=reader, within=within)
            for key, channels in description.inputs.items()
            if key in keys
        ]
        if not over:
            return None, ()  # it takes nothing of the loop, and runs once
        sources = list(over[0])
        found = self._loops(sources)
        others = {
            loop
            for key, channels in description.inputs.items()
            if key not in keys
            for loop in self._loops(self.sources(channels, reader=reader, within=within))
        }
        if len(found) == 1:
            loop = found[0]
            is_beside = self.contexts[sources[0][0]][: len(within) + 1] == (*within, loop)
            if loop is None or (is_beside and loop not in others):
                return loop, ()
        size = sum(loop.size if loop else 1 for loop in found)
        loop = Loop(size, None)
        self._items[loop] = [{COPY: index} for index in range(size)]
        return loop, keys

    def _loops(self, sources: Iterable[Source]) -> list[Loop | None]:
        """Return the loop that makes each of several outputs."""
        return [
            next((context for context in reversed(self.contexts[name]) if isinstance(context, Loop)), None)
            for name, _ in sources
        ]

    def _source(self, channel: OutputChannel, *, reader: str) -> tuple[Source, Copy | None]:
        """Return what a channel is an output of; a resolver that passes it on does not count."""
        node_id, key = channel.producer_component_id, channel.output_key
        while (node_id, key) in self._passed:
            channel = self._passed[node_id, key]
            node_id, key = channel.producer_component_id, channel.output_key
        name = self.name(node_id)
        if name not in self._nodes:
            raise CompileError(
                f"{reader}: takes {key!r} of {node_id!r}, which is not in the pipeline. Add {node_id!r} to the "
                "pipeline's components."
            )
        return (name, key), self._copies.get(node_id)

    def _upstream(self, node: BaseNode) -> Iterable[str]:
        for upstream in node.upstream_nodes:
            if upstream.id in self._handed_on:
                yield from self._upstream(upstream)
            else:
                yield self.name(upstream.id)

    def _folded(self, name: str, copies: Sequence[NodeDescription]) -> NodeDescription:
        """Return one description for all copies, whose properties take from the loop's item what they differ in."""
        first = copies[0]
        if first.id not in self._copies:
            return first
        interfaces = [self._interface(description) for description in copies]
        for index, other in enumerate(interfaces):
            for what in dict.fromkeys((*interfaces[0], *other)):
                if interfaces[0].get(what) != other.get(what):
                    raise CompileError(
                        f"{name}: the copies of a fan_out may differ in values of exec properties alone. Received: "
                        f"{what} is {interfaces[0].get(what)} in copy 0, and {other.get(what)} in copy {index}. Let "
                        "the component find out by its item what to do."
                    )
        loop = self._copies[first.id].loop
        items = self._items.setdefault(loop, [{COPY: index} for index in range(loop.size)])
        for key, prop in first.properties.items():
            values = [description.properties[key].value for description in copies]
            if any(value != prop.value for value in values):
                entry = unique(key if key not in items[0] else f"{name}.{key}", set(items[0]))
                for item, value in zip(items, values, strict=True):
                    item[entry] = value
                override = Override(parameter=ITEM, type="str", item=entry)
                first.properties[key] = prop.model_copy(
                    update={"value": None, "overrides": (override, *prop.overrides)}
                )
        return first

    def _interface(self, description: NodeDescription) -> dict[str, Any]:
        """Return what is to be the same in all copies, by what it is called in an error."""
        (node,) = (n for n in self._nodes[self.name(description.id)] if n.id == description.id)
        own = self._copies[node.id]

        def origin(channel: BaseChannel) -> str:
            (name, key), copy = self._source(channel, reader=node.id)
            if copy is None:
                return f"{name}.{key}"
            number = _OWN if (copy.loop, copy.index) == (own.loop, own.index) else f"copy {copy.index}"
            return f"{name}.{key} of {number}"

        conditions = [c for c in self._registry.get_contexts(node) if isinstance(c, CondContext)]
        return {
            "the executor": description.executor,
            "the driver": description.driver,
            "the list of Beam arguments": description.beam_arguments,
            "the list of modules": description.module_files,
            "the source of modules": description.modules,
            "the list of RuntimeParameters": description.parameters,
            "the list of conditions": [encode_predicate(c.predicate, origin) for c in conditions],
            **{f"the input {key!r}": [origin(c) for c in found] for key, found in description.inputs.items()},
            **{
                f"the output {key!r}": (
                    artifact_path(channel.type, node_id=node.id),
                    channel.additional_properties,
                    channel.additional_custom_properties,
                )
                for key, channel in description.outputs.items()
            },
            **{
                f"the exec property {key!r}": prop.model_dump(exclude={"value"})
                for key, prop in description.properties.items()
            },
        }

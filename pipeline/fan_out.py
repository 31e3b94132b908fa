"""Components that run once per item, in parallel: `fan_out` makes a copy for each, which any runner of TFX runs.

The copies are nodes like all others: each has its own executions, cache entries and outputs. Their DSL context marks
them as a group, and the compiler for Kubeflow Pipelines makes one parallel loop of them
(kubeflow/parallel_loops.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.context_managers import dsl_context_registry
from tfx.dsl.context_managers.dsl_context import DslContext
from tfx.dsl.context_managers.dsl_context_manager import DslContextManager
from tfx.orchestration.pipeline import Pipeline
from tfx.types.channel import BaseChannel
from tfx.types.channel_utils import union

from kubetfx.errors import UsageError

_EXAMPLE = "Let it return a component, or a dictionary of channels: lambda fold: Train(examples=examples, fold=fold)."


@dataclass(frozen=True, eq=False)
class Loop:
    """The common properties of the copies of one `fan_out`."""

    size: int
    """Number of copies."""
    at_once: int | None
    """Maximum number of copies that run at the same time. None: no limit."""


class CopyContext(DslContext):
    """The DSL context of one copy.

    Args:
        loop: of all copies.
        index: of this copy, from 0.
    """

    def __init__(self, loop: Loop, index: int) -> None:
        self.loop = loop
        self.index = index
        self.names: dict[BaseNode, str] = {}
        """Ids of its nodes without the index."""

    def on_context_exit(self, containing_nodes: Sequence[BaseNode]) -> None:
        """Give the nodes ids that no other copy has.

        Args:
            containing_nodes: of this copy.
        """
        self.names = {node: node.id for node in containing_nodes}
        for node in containing_nodes:
            node.with_id(f"{node.id}.{self.index}")


class _Copy(DslContextManager[None]):
    """Nodes that are made while this is entered are of one copy."""

    def __init__(self, loop: Loop, index: int) -> None:
        super().__init__()
        self._loop, self._index = loop, index

    def create_context(self) -> CopyContext:
        return CopyContext(self._loop, self._index)

    def enter(self, context: DslContext) -> None:
        return None


@dataclass(frozen=True)
class FanOut:
    """The copies that `fan_out` made."""

    components: list[BaseNode]
    """All of them, to be components of the pipeline."""
    outputs: dict[str, BaseChannel]
    """By key, a channel with the artifact of each copy, in the order of the items."""


def fan_out(
    make: Callable[[Any], BaseNode | Mapping[str, BaseChannel]],
    items: int | Sequence[Any],
    *,
    at_once: int | None = None,
) -> FanOut:
    """Run components once per item, in parallel, and collect their outputs.

    On Kubeflow Pipelines the copies are the iterations of one parallel loop. On this machine they run in turn. A copy
    may have several components, which take each other's outputs.

    Args:
        make: makes the components of one copy from an item, and returns the last of them, or a dictionary with those
            of their outputs that are to be collected. The copies may only differ in exec properties.
        items: what the copies are made from, or their number: then each is made from its index.
        at_once: number of copies that run at the same time. Default: as many as the cluster has room for.

    Returns:
        The copies, whose ids end in `.0`, `.1` and so on, and their outputs.

    Raises:
        UsageError: there are no items, the copies have different outputs, or this is inside another `fan_out`.

    Example:
        >>> folds = kubetfx.fan_out(lambda fold: Train(examples=examples, fold=fold), 5, at_once=2)
        >>> mean = Mean(scores=folds.outputs["score"])
        >>> pipeline = Pipeline("folds", components=[example_gen, *folds.components, mean])
    """
    items = _checked_items(items)
    if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1):
        raise UsageError(
            f"fan_out: at_once is a number of copies from 1. Received: {at_once!r}. Leave it out, or give 2."
        )
    registry = dsl_context_registry.get()
    if any(isinstance(context, CopyContext) for context in registry.active_contexts):
        raise UsageError(
            "fan_out: a copy cannot fan out again. Received: a fan_out inside of another. Make one with an item for "
            "each pair: itertools.product(range(5), range(3))."
        )
    loop = Loop(len(items), at_once)
    components: list[BaseNode] = []
    collected: list[Mapping[str, BaseChannel]] = []
    for index, item in enumerate(items):
        copy = _Copy(loop, index)
        with copy:
            made = make(item)
            components += registry.get_nodes(registry.peek_context())
        collected.append(_outputs(made))
    return FanOut(components, _united(collected))


@dataclass(frozen=True)
class Copy:
    """What a node is a copy of."""

    name: str
    """Its id without the index: the same for all copies."""
    index: int
    loop: Loop


def copies_in(pipeline: Pipeline) -> dict[str, Copy]:
    """Return what each node is a copy of.

    Args:
        pipeline: any TFX pipeline.

    Returns:
        By id of the node; without nodes that no `fan_out` has made.
    """
    registry = pipeline.dsl_context_registry
    return {
        node.id: Copy(context.names[node], context.index, context.loop)
        for context in registry.all_contexts
        if isinstance(context, CopyContext)
        for node in registry.get_nodes(context)
    }


def distinct_nodes(pipeline: Pipeline) -> dict[str, BaseNode]:
    """Return the nodes of a pipeline; of several copies the first.

    Args:
        pipeline: any TFX pipeline.

    Returns:
        By the name that stands for all copies.
    """
    copies = copies_in(pipeline)
    return {
        copies[node.id].name if node.id in copies else node.id: node
        for node in pipeline.components
        if node.id not in copies or copies[node.id].index == 0
    }


def _checked_items(items: int | Sequence[Any]) -> Sequence[Any]:
    if isinstance(items, int) and not isinstance(items, bool):
        items = range(items)
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise UsageError(f"fan_out: items are a list or a number. Received: {items!r}. Give a list, or 5.")
    if not items:
        raise UsageError(
            f"fan_out: there is nothing to make copies from. Received: {items!r}. Give at least one item, or leave the "
            "components out of the pipeline."
        )
    return items


def _outputs(made: BaseNode | Mapping[str, BaseChannel]) -> Mapping[str, BaseChannel]:
    found = made.outputs if isinstance(made, BaseNode) else made
    if not isinstance(found, Mapping) or not all(isinstance(channel, BaseChannel) for channel in found.values()):
        raise UsageError(f"fan_out: there are no outputs in what the function made. Received: {made!r}. {_EXAMPLE}")
    return found


def _united(collected: Sequence[Mapping[str, BaseChannel]]) -> dict[str, BaseChannel]:
    keys = [set(outputs) for outputs in collected]
    if other := next((found for found in keys if found != keys[0]), None):
        raise UsageError(
            f"fan_out: all copies have the same outputs. Received: {', '.join(sorted(keys[0])) or 'none'}, and "
            f"{', '.join(sorted(other)) or 'none'}. Make the same components from each item."
        )
    return {key: union([outputs[key] for outputs in collected]) for key in collected[0]}

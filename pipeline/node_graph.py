"""The nodes of a pipeline and what each needs, for orchestrators that start a process for each."""

from dataclasses import dataclass

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.pipeline.final_status import is_exit_handler
from kubetfx.pipeline.local_runner import compile_tfx


@dataclass(frozen=True)
class GraphNode:
    """A node of the pipeline."""

    node_id: str
    upstream: tuple[str, ...]
    """Nodes that it has to wait for, without those that another of them waits for."""
    is_exit_handler: bool
    """Whether it runs when all others have ended, however they did."""


def graph_of(config: PipelineConfig) -> list[GraphNode]:
    """Return the nodes of a config's pipeline as `kubetfx.run` runs them.

    Args:
        config: The config of the pipeline. Modules of the user's must be importable.

    Returns:
        The nodes, in an order in which they can run.

    Raises:
        ConfigError: the frozen schema or a module of the user's cannot be read, or the definition makes no pipeline.
        UsageError: there is a pipeline inside of the pipeline.
    """
    from kubetfx.pipeline.chosen_definition import pipeline_of

    nodes = [node.pipeline_node for node in compile_tfx(pipeline_of(config)).nodes]
    upstream = {node.node_info.id: set(node.upstream_nodes) for node in nodes}
    before: dict[str, set[str]] = {}  # everything that has ended when a node begins
    for name, needed in upstream.items():
        before[name] = needed.union(*(before[other] for other in needed))
    handlers = {node.node_info.id for node in nodes if is_exit_handler(node)}
    others = [name for name in upstream if name not in handlers]
    lasts = [name for name in others if not any(name in upstream[other] for other in others)]

    def waits_for(name: str) -> list[str]:
        if name in handlers:
            return lasts
        skipped = set().union(*(before[other] for other in upstream[name]))
        return [other for other in upstream if other in upstream[name] - skipped]

    return [
        GraphNode(name, tuple(waits_for(name)), name in handlers)
        for name in (*others, *(name for name in upstream if name in handlers))
    ]

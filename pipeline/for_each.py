"""Runs a node once per artifact where TFX's ForEach goes over several, which TFX's own launcher does not do.

Each iteration is a node with the artifacts as its fixed inputs, and a context of its own in ML Metadata, by which its
execution differs from the others'. All are executions of the one node, so that later nodes take all of their outputs.
"""

import copy
from collections.abc import Callable
from typing import Any

_CONTEXT = "for_each"
"""Type of the context in ML Metadata."""
_OPERATION = "tfx.internal.Unnest"
"""What TFX compiles a ForEach over a channel to."""


def iterations(node: Any, connect: Callable[[], Any], *, run_id: str) -> dict[str, Any]:
    """Return what a node is run as.

    Args:
        node: PipelineNode of a compiled pipeline.
        connect: returns TFX's connection to ML Metadata, where the nodes before it have left their outputs.
        run_id: The id of the run.

    Returns:
        PipelineNodes by the id to show: a node per artifact if a ForEach goes over several, the node itself otherwise.
    """
    operations = (
        entry.op_node.op_type for graph in node.inputs.input_graphs.values() for entry in graph.nodes.values()
    )
    node_id = str(node.node_info.id)
    if _OPERATION not in operations:
        return {node_id: node}
    from tfx.orchestration.portable import inputs_utils
    from tfx.orchestration.portable.input_resolution.exceptions import InputResolutionError

    with connect() as handle:
        try:
            resolved = inputs_utils.resolve_input_artifacts(pipeline_node=node, metadata_handle=handle)
        except InputResolutionError:
            return {node_id: node}  # the launcher says what is missing
    if len(resolved) < 2:
        return {node_id: node}
    return {
        f"{node_id}.{index}": _with_inputs(node, inputs, name=f"{run_id}.{node_id}.{index}")
        for index, inputs in enumerate(resolved)
    }


def _with_inputs(node: Any, inputs: Any, *, name: str) -> Any:
    result = copy.deepcopy(node)
    for key, artifacts in inputs.items():
        spec = result.inputs.inputs[key]
        spec.Clear()
        spec.static_inputs.artifact_ids.extend(artifact.id for artifact in artifacts)
    result.inputs.input_graphs.clear()
    context = result.contexts.contexts.add()
    context.type.name = _CONTEXT
    context.name.field_value.string_value = name
    return result

"""Exit handlers in a pipeline that runs on this machine: components that take TFX's FinalStatusStr.

They run when all other nodes have ended, successfully or not, and receive the final status of the pipeline.
"""

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # importing TFX takes seconds
    from tfx.orchestration.pipeline import Pipeline

_MARK = "<final status>"
"""Value of the property in a compiled pipeline, where it is a text like any other."""
_MODULE = "tfx.orchestration.kubeflow.decorators"
"""Has FinalStatusStr; whoever makes one has imported it."""


def mark(pipeline: "Pipeline") -> None:
    """Mark the final status, so that it can be found in the compiled pipeline.

    Args:
        pipeline: to be compiled; the values of the properties change, and not that they are a FinalStatusStr.
    """
    if (module := sys.modules.get(_MODULE)) is None:
        return
    for node in pipeline.components:
        for name, value in node.exec_properties.items():
            if isinstance(value, module.FinalStatusStr):
                node.exec_properties[name] = module.FinalStatusStr(_MARK)


def is_exit_handler(node: Any) -> bool:
    """Return whether a node runs when all others have ended.

    Args:
        node: PipelineNode of a compiled pipeline that was marked.
    """
    return any(value.field_value.string_value == _MARK for value in node.parameters.parameters.values())


def tell(node: Any, *, state: Literal["SUCCEEDED", "FAILED"], run_id: str, pipeline: str) -> None:
    """Give an exit handler the final status of the pipeline, in the format of Kubeflow Pipelines.

    Args:
        node: PipelineNode, which is changed.
        state: The state of the pipeline.
        run_id: The id of the run.
        pipeline: its name.
    """
    status = {
        "state": state,
        "pipelineJobResourceName": run_id,
        "pipelineTaskName": pipeline,
        "error": {},
    }
    for value in node.parameters.parameters.values():
        if value.field_value.string_value == _MARK:
            value.field_value.string_value = json.dumps(status)
    node.execution_options.caching_options.enable_cache = False

"""A planned task as a container component of the kfp SDK: its interface, and the one argument that describes it."""

import inspect
import json
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from kubetfx.errors import CompileError
from kubetfx.kubeflow import visualizations
from kubetfx.kubeflow.task_plan import PlannedTask
from kubetfx.kubeflow.task_spec import DRIVER_OUTPUT, ITEM

_COMMAND = ("python", "-m", "kubetfx.kubeflow.entrypoint")

MAX_ARGUMENT_BYTES = 120 * 1024
"""Linux starts no process with an argument of 128 KiB (MAX_ARG_STRLEN). The driver of Kubeflow Pipelines gets the whole
container as one argument in JSON: this is for the task's description in it, and 8 KiB are left for image, resources and
environment."""

PARAMETER_TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str}

_ARTIFACTS: Mapping[str, type] = {
    "Dataset": dsl.Dataset,
    "Model": dsl.Model,
    "Metrics": dsl.Metrics,
    "ClassificationMetrics": dsl.ClassificationMetrics,
    "HTML": dsl.HTML,
    "Markdown": dsl.Markdown,
    "Artifact": dsl.Artifact,
}


def container_component(task: PlannedTask, image: str) -> Callable[..., Any]:
    """Make a container component of the kfp SDK, which reads a component's interface from a function's signature.

    Args:
        task: that the container runs.
        image: The image of the container.

    Returns:
        The component: a function of the task's inputs that makes a task of the kfp SDK.

    Raises:
        CompileError: the task's description is too long for an argument.
    """
    inputs: dict[str, Any] = {p.name: PARAMETER_TYPES[p.type] for p in task.parameters.values()}
    if task.driver:
        inputs[DRIVER_OUTPUT] = str
    if task.final_status:
        inputs[task.final_status] = dsl.PipelineTaskFinalStatus
    if task.loop and task.spec.nodes:
        inputs[ITEM] = str
    inputs |= {
        slot: dsl.Input[list[system]] if slot in task.lists else dsl.Input[system]  # type: ignore[valid-type]  # known at run time
        for slot, system in ((slot, _system_type(path)) for slot, path in task.spec.inputs.items())
    }
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
            command=list(_COMMAND),
            args=["--task", argument, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
        )

    build.__name__ = task.name
    build.__doc__ = None
    build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # the SDK reads it
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
            for name, annotation in {**inputs, **outputs}.items()
        ]
    )
    component: Callable[..., Any] = dsl.container_component(build)
    return component


def _checked_argument(task: PlannedTask) -> str:
    argument = task.spec.to_argument()
    length = length_in_json(argument)
    if length > MAX_ARGUMENT_BYTES:
        parts = {f"module {name}": length_in_json(source) for name, source in task.spec.modules.items()}
        for node in task.spec.nodes:
            for name, value in node.properties.items():
                parts[f"{node.id}.{name}"] = length_in_json(value.model_dump_json())
        longest = sorted(parts.items(), key=lambda part: part[1], reverse=True)[:3]
        raise CompileError(
            f"{task.title}: what the task does is too long for an argument of a container. Received: {length:,} bytes, "
            f"more than {MAX_ARGUMENT_BYTES:,}; the longest are "
            f"{', '.join(f'{name} with {size:,}' for name, size in longest)}. Install long modules in the image and "
            "name them by their import path, and take components out of kubeflow.fuse."
        )
    return argument


def length_in_json(text: str) -> int:
    """Return the bytes of a text in JSON as Go's encoding/json writes it, which escapes `<`, `>` and `&`.

    Args:
        text: any.
    """
    return len(json.dumps(text, ensure_ascii=False).encode()) + 5 * sum(map(text.count, "<>&"))


def _system_type(path: str) -> type:
    """Return the type of Kubeflow Pipelines for a TFX artifact class: the one that TFX annotates it with."""
    annotation = pkgutil.resolve_name(path).TYPE_ANNOTATION
    name = annotation.__name__ if annotation else "Artifact"
    return _ARTIFACTS.get(name, dsl.Artifact)

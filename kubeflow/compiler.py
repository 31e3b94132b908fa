"""Compiles any TFX pipeline to a package of Kubeflow Pipelines v2: one container task per node.

The kfp SDK writes the package. kubeflow/task_plan.py decides which tasks there are, a container's argument says what it
does (kubeflow/task_spec.py), and the config what its pod is like (kubeflow/platform.py).
"""

import inspect
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.compiler import Compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_channel import PipelineArtifactChannel
from tfx.dsl.experimental.conditionals.conditional import CondContext
from tfx.orchestration.pipeline import Pipeline

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.errors import CompileError
from kubetfx.kubeflow import platform
from kubetfx.kubeflow.container_component import (
    MAX_ARGUMENT_BYTES,
    PARAMETER_TYPES,
    container_component,
    length_in_json,
)
from kubetfx.kubeflow.names import identifier
from kubetfx.kubeflow.package_document import digest
from kubetfx.kubeflow.parallel_loops import Contexts
from kubetfx.kubeflow.task_plan import Extras, PlannedTask, TaskPlan
from kubetfx.kubeflow.task_spec import DRIVER_OUTPUT, ITEM
from kubetfx.pipeline.fan_out import Loop


def compile_pipeline(pipeline: Pipeline, config: KubeflowConfig, extras: Extras | None = None) -> GraphComponent:
    """Compile a TFX pipeline.

    Args:
        pipeline: any TFX pipeline whose components' modules are in the image.
        config: the image, and each component's pod. The components that `resources` and `fuse` name must be there.
        extras: run parameters, exit handler and embedded modules.

    Returns:
        The kfp SDK's pipeline, for `write_package`.

    Raises:
        CompileError: a node cannot be expressed; names it and says what to do.
    """
    return _Graph(pipeline.id, TaskPlan(pipeline, config, extras or Extras()), config).graph()


def write_package(graph: GraphComponent, path: Path, *, kubernetes_manifest: bool = False) -> None:
    """Write a package as YAML.

    Args:
        graph: what compile_pipeline returned.
        path: file to write, ending in .yaml.
        kubernetes_manifest: write the Kubernetes resources Pipeline and PipelineVersion, for GitOps. A version cannot
            be changed, so its name ends in the package's digest, as the names that `kubetfx submit` gives.
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


class _Collected(dsl.Collected, PipelineArtifactChannel):
    """Artifacts of a loop, as a channel that the kfp SDK can pass into a group too: it takes its own for parameters."""

    def __init__(self, output: PipelineArtifactChannel) -> None:
        self.output = output
        self.is_artifact_channel = True
        PipelineArtifactChannel.__init__(
            self, output.name, channel_type=output.channel_type, task_name=output.task_name, is_artifact_list=True
        )


class _Graph:
    """Makes the kfp SDK's pipeline from a plan."""

    def __init__(self, name: str, plan: TaskPlan, config: KubeflowConfig) -> None:
        self._name = name
        self._slug = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
        if not self._slug:
            raise CompileError(
                "The pipeline's name needs an ASCII letter or digit, of which its name in Kubeflow Pipelines is made. "
                f"Received: {name!r}. Give it another name."
            )
        self._plan = plan
        self._config = config

    def graph(self) -> GraphComponent:
        """Return the kfp SDK's pipeline."""
        parameters = sorted(self._plan.parameters.values(), key=lambda p: (p.default is not None, p.name))
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    p.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=PARAMETER_TYPES[p.type],
                    default=inspect.Parameter.empty if p.default is None else p.default,
                )
                for p in parameters
            ]
        )

        def build(*arguments: Any, **keywords: Any) -> None:
            bound = {**dict(zip((p.name for p in parameters), arguments, strict=False)), **keywords}
            if self._plan.exit_task is None:
                self._emit(self._plan.tasks, (), bound)
                return
            self._start(self._plan.exit_task, bound)
            with dsl.ExitHandler(self._plan.exit_task.handle, name="pipeline"):
                self._emit(self._plan.tasks, (), bound)

        build.__signature__ = signature  # type: ignore[attr-defined]  # the SDK reads it
        build.__name__ = identifier(self._name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.simplefilter("ignore", category=DeprecationWarning)
            return dsl.pipeline(name=self._slug, display_name=self._name)(build)

    def _emit(self, tasks: Sequence[PlannedTask], scope: Contexts, arguments: Mapping[str, Any]) -> None:
        """Start the tasks under the conditions and loops `scope`, producers first.

        Those under further ones are started as groups.
        """
        units: dict[Any, list[PlannedTask]] = {}
        for task in tasks:
            inner = task.contexts[len(scope) :]
            units.setdefault(inner[0] if inner else id(task), []).append(task)
        while units:
            ready = next((key for key, unit in units.items() if self._is_ready(key, unit)), None)
            if ready is None:
                names = ", ".join(task.title for unit in units.values() for task in unit)
                raise CompileError(
                    f"{names}: wait for each other once nodes share a task, a condition or a loop. Fuse neighbours "
                    "only, and let no node outside of a condition or a fan_out come between nodes inside of it."
                )
            unit = units.pop(ready)
            if isinstance(ready, Loop):
                # The group has no name of its own: a driver that is given no name of the task looks it up by this one.
                with dsl.ParallelFor(self._items(ready, unit), parallelism=ready.at_once) as item:
                    self._emit(unit, (*scope, ready), {**arguments, ITEM: item})
                continue
            if not isinstance(ready, CondContext):
                self._start(unit[0], arguments)
                continue
            owner, parameter = self._plan.conditions[ready]
            with dsl.If(owner.handle.outputs[parameter] == "true", name=f"{owner.name} {parameter}"):
                self._emit(unit, (*scope, ready), arguments)

    def _items(self, loop: Loop, tasks: Sequence[PlannedTask]) -> list[str]:
        texts = self._plan.folded.item_texts(loop)
        length = sum(map(length_in_json, texts))
        if length > MAX_ARGUMENT_BYTES:
            raise CompileError(
                f"{', '.join(task.title for task in tasks)}: what the copies of a fan_out differ in is too long for an "
                f"argument of the driver. Received: {length:,} bytes for {len(texts)} copies, more than "
                f"{MAX_ARGUMENT_BYTES:,}. Let the copies differ in short values, such as a number, by which the "
                "component finds the rest."
            )
        return texts

    def _is_ready(self, key: Any, unit: Sequence[PlannedTask]) -> bool:
        inside = {node_id for task in unit for node_id in task.node_ids}
        needs = {node_id for task in unit for node_id in task.needs()} - inside
        conditions = [c for task in unit for c in task.contexts if isinstance(c, CondContext)]
        owners = [self._plan.conditions[context][0] for context in conditions]
        drivers = [task.driver for task in unit if task.driver]
        return all(self._plan.by_node[node_id].handle for node_id in needs) and all(
            other.handle or other in unit for other in (*owners, *drivers)
        )

    def _start(self, task: PlannedTask, arguments: Mapping[str, Any]) -> None:
        keywords: dict[str, Any] = {name: arguments[name] for name in task.parameters}
        for (node_id, key), slot in task.sources.items():
            producer = self._plan.by_node[node_id]
            output = producer.handle.outputs[producer.slots[node_id, key]]
            is_list = task.collects(producer.contexts, what=f"what {producer.title} makes")
            keywords[slot] = _Collected(output) if is_list else output
        if task.loop and task.spec.nodes:
            keywords[ITEM] = arguments[ITEM]
        if task.driver:
            keywords[DRIVER_OUTPUT] = task.driver.handle.outputs[DRIVER_OUTPUT]
        task.handle = container_component(task, self._config.image)(**keywords)
        task.handle.set_display_name(task.title)
        sources = {node_id for node_id, _ in task.sources}
        for node_id in sorted(task.after - sources):
            producer = self._plan.by_node[node_id]
            task.collects(producer.contexts, what=f"what {producer.title} makes")
            task.handle.after(producer.handle)
        merged = platform.merged_config(self._config, task.components)
        if task.spec.role == "driver":  # it only looks for files
            merged = merged.model_copy(update={"gpu": None})
        platform.apply(task.handle, merged, config=self._config)
        task.handle.set_caching_options(self._is_cached(task, merged.cache))

    def _is_cached(self, task: PlannedTask, setting: bool | None) -> bool:
        """Return whether a task is cached: by default not with a driver, which looks at more than the cache's key."""
        if task.spec.role == "driver" or task is self._plan.exit_task:
            return False
        if setting is not None:
            return setting
        has_driver = any(node.driver and not node.driver_parameter for node in task.spec.nodes)
        return not has_driver and not self._plan.looks_outside(task)

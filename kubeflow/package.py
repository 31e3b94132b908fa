"""Compiles a config to a package: its TFX pipeline, its run parameters, and the user's modules."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from kfp.dsl.graph_component import GraphComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.pipeline import Pipeline

from kubetfx.code_digest import code_digest
from kubetfx.config.kubeflow_section import WARM_START_MODEL
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.engine.arguments import engine_of
from kubetfx.engine.shared_places import why_refused
from kubetfx.errors import ConfigError, UsageError
from kubetfx.kubeflow import user_modules
from kubetfx.kubeflow.compiler import compile_pipeline, write_package
from kubetfx.kubeflow.pod_paths import check_workers
from kubetfx.kubeflow.runtime_parameters import RunParameter
from kubetfx.kubeflow.task_plan import Extras, RunParameterTarget
from kubetfx.kubeflow.training_jobs import GPUS
from kubetfx.pipeline.chosen_definition import pipeline_of
from kubetfx.pipeline.fan_out import distinct_nodes
from kubetfx.pipeline.placement import with_engine
from kubetfx.user_code import check_imports, importable

Defaults = dict[str, int | float | str | None]
"""Defaults of run parameters by name; None for a parameter that every run has to give."""


def compile_config(
    config: PipelineConfig, *, pipeline: Pipeline | None = None, retrain_gate: bool = False
) -> tuple[GraphComponent, Defaults]:
    """Compile what a config describes.

    If the config gives the Trainer a GPU, the Trainer must find one, unless `training.require_gpu` says otherwise.
    Where workers of the training are pods of their own, it is they that have the GPUs.

    Args:
        config: The config of the pipeline.
        pipeline: to compile. Default: what the config describes.
        retrain_gate: Whether the first task decides if there is a reason for the others.

    Returns:
        The kfp SDK's pipeline, and the run parameters.

    Raises:
        ConfigError: the frozen schema or a module of the user's cannot be read, or a component that the config names is
            not in the pipeline, or workers of the training would share no volume.
        CompileError: the pipeline cannot be expressed.
    """
    trainer = config.kubeflow.of_component("Trainer")
    if config.training.require_gpu is None and trainer.gpu:
        training = config.training.model_copy(update={"require_gpu": True})
        config = config.model_copy(update={"training": training})
    check_workers(config)
    config = _with_workers(config)
    with importable(config.folder):
        check_imports(config.own_modules)
        pipeline = with_engine(pipeline or pipeline_of(config, in_cluster=True, retrain_gate=retrain_gate), config)
        nodes = distinct_nodes(pipeline)
        _check_engine(config, pipeline.components)
        _check_names(config, nodes)
        targets = [target for target in _run_parameters(config) if _is_there(target, nodes)]
        extras = Extras(parameters=targets, modules=_modules(config, nodes), code=code_digest())
        graph = compile_pipeline(pipeline, config.kubeflow, extras)
    return graph, {target.parameter.name: target.parameter.default for target in targets}


def _check_engine(config: PipelineConfig, nodes: Iterable[BaseNode]) -> None:
    """Refuse executors that hand the paths of their pod to workers who do not see them."""
    engine = engine_of(config.beam.command_line)
    if not engine.is_remote:
        return
    for node in nodes:
        spec = node.executor_spec
        if isinstance(spec, BeamExecutorSpec) and (
            why := why_refused(node.id, spec.class_path, engine, unseen="those of its pod")
        ):
            raise ConfigError(
                f"{why}. Leave `beam` out of the package, or run the pipeline itself in the cluster, in a workspace "
                "that the workers mount."
            )


def compile_to_file(
    config: PipelineConfig,
    path: Path,
    *,
    kubernetes_manifest: bool = False,
    pipeline: Pipeline | None = None,
    retrain_gate: bool = False,
) -> Defaults:
    """Compile what a config describes, and write it.

    Args:
        config: The config of the pipeline.
        path: file to write, ending in .yaml.
        kubernetes_manifest: write the resources Pipeline and PipelineVersion, for GitOps.
        pipeline: to compile. Default: what the config describes.
        retrain_gate: Whether the first task decides if there is a reason for the others.

    Returns:
        The run parameters.

    Raises:
        ConfigError: the frozen schema or a module of the user's cannot be read.
        UsageError: the file cannot be written.
        CompileError: the pipeline cannot be expressed.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"A package is a YAML file. Received: {path}. Give it a name that ends in .yaml.")
    graph, parameters = compile_config(config, pipeline=pipeline, retrain_gate=retrain_gate)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_package(graph, path, kubernetes_manifest=kubernetes_manifest)
    except OSError as error:
        raise UsageError(f"The package cannot be written. Received: {path} ({error.strerror}).") from None
    return parameters


def _with_workers(config: PipelineConfig) -> PipelineConfig:
    """Return the config in which the Trainer's task only knows of the GPUs that it asks for its workers' pods."""
    distribution = config.training.distribution
    if distribution is None or distribution.launcher == "processes":
        return config
    trainer = config.kubeflow.of_component("Trainer")
    if trainer.gpu is None or not distribution.is_in_cluster:
        return config
    own = config.kubeflow.resources["Trainer"]
    gpus = json.dumps({trainer.gpu.resource: str(trainer.gpu.count)})
    task = own.model_copy(update={"gpu": None, "env": {**own.env, GPUS: gpus}})
    kubeflow = config.kubeflow.model_copy(update={"resources": {**config.kubeflow.resources, "Trainer": task}})
    return config.model_copy(update={"kubeflow": kubeflow})


_USERS_OF_PUSHED = (WARM_START_MODEL, "ServedModelResolver", "Pusher", "RetrainGate", "RetrainEnd")
"""Components that look into the push directory, where the pipeline has them."""


def _run_parameters(config: PipelineConfig) -> list[RunParameterTarget]:
    """Return what a run may set: where the data is, where to push, and for how long to train."""
    data_path = RunParameter("data_path", "str", config.data.path)
    push_directory = RunParameter("push_directory", "str", config.serving.push_directory)
    epochs = RunParameter("epochs", "int", config.training.epochs)
    of_data = [
        RunParameterTarget(data_path, config.example_gen, "input_base"),
        RunParameterTarget(data_path, "RetrainGate", "data", ("path",)),
    ]
    return [
        *([] if config.data.source else of_data),
        *(
            RunParameterTarget(epochs, name, "custom_config", ("training", "epochs"))
            for name in ("Trainer", "FoldTrainer", "Tuner")
        ),
        *(RunParameterTarget(push_directory, name, "push_directory") for name in _USERS_OF_PUSHED),
    ]


def _check_names(config: PipelineConfig, nodes: Mapping[str, BaseNode]) -> None:
    """Check that the components that `kubeflow` names are in a pipeline of the user's."""
    if config.definition is None:
        return
    fused = [name for group in config.kubeflow.fused_groups for name in group if config.kubeflow.fuse != "light"]
    for section, names in (("resources", config.kubeflow.resources), ("fuse", fused)):
        for name in names:
            if name not in nodes:
                raise ConfigError(
                    f"kubeflow.{section}: there is no component {name!r}.{nearest(name, list(nodes))} "
                    f"The components of {config.definition}: {', '.join(nodes)}"
                )


def _is_there(target: RunParameterTarget, nodes: Mapping[str, BaseNode]) -> bool:
    """Return whether the pipeline has the component, and the component the property, that a run parameter is for."""
    return target.node_id in nodes and target.property in nodes[target.node_id].exec_properties


def _modules(config: PipelineConfig, nodes: Mapping[str, BaseNode]) -> dict[str, dict[str, str]]:
    """Return the sources of the user's own modules, which the image lacks, by the node that imports them."""
    modules: dict[str, dict[str, str]] = {}
    for key, module in config.own_modules.items():
        sources = user_modules.sources_of(module, key=key)
        for name, node in nodes.items():
            if user_modules.imports(node, sources):
                modules[name] = {**modules.get(name, {}), **sources}
    return modules

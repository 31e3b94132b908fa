"""The package of one pipeline.yaml: its TFX pipeline, its run parameters, and the user's module."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from kfp.dsl.graph_component import GraphComponent

from kubeflow.compiler import Extras, RunParameterTarget, compile_pipeline, write_package
from kubeflow.tfx_node import RunParameter, checked_source
from pipeline.config import DEFAULT_MODULE, PipelineConfig
from pipeline.definition import code_digest, create_pipeline
from pipeline.errors import ConfigError, UsageError


@dataclass(frozen=True)
class CompiledPipeline:
    """A compiled pipeline."""

    graph: GraphComponent
    parameters: dict[str, int | float | str | None]
    """Run parameters with their defaults."""


def compile_config(config: PipelineConfig) -> CompiledPipeline:
    """Compile what a config describes.

    A GPU that the config gives the Trainer is one that it must find, unless `training.require_gpu` says otherwise.

    Raises:
        ConfigError: the frozen schema or the user's module cannot be read.
        CompileError: the pipeline cannot be expressed.
    """
    trainer = config.kubeflow.of_component("Trainer")
    if config.training.require_gpu is None and trainer.gpu:
        training = config.training.model_copy(update={"require_gpu": True})
        config = config.model_copy(update={"training": training})
    targets = run_parameters(config)
    modules = dict.fromkeys(("Transform", "Trainer"), _modules(config))
    extras = Extras(parameters=targets, modules=modules, code=code_digest())
    graph = compile_pipeline(create_pipeline(config), config.kubeflow, extras)
    return CompiledPipeline(graph, {target.parameter.name: target.parameter.default for target in targets})


def compile_to_file(config: PipelineConfig, path: Path, *, kubernetes_manifest: bool = False) -> CompiledPipeline:
    """Compile what a config describes, and write it.

    Args:
        config: the config.
        path: file to write, ending in .yaml.
        kubernetes_manifest: as the resources Pipeline and PipelineVersion, for GitOps.

    Raises:
        ConfigError: the frozen schema or the user's module cannot be read.
        UsageError: the file cannot be written.
        CompileError: the pipeline cannot be expressed.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"A package is a YAML file. Received: --output {path}. Give it a name that ends in .yaml.")
    package = compile_config(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_package(package.graph, path, kubernetes_manifest=kubernetes_manifest)
    except OSError as error:
        raise UsageError(f"The package cannot be written. Received: --output {path} ({error.strerror}).") from None
    return package


def run_parameters(config: PipelineConfig) -> list[RunParameterTarget]:
    """What a run may set: where the data is, where to push, and for how long to train."""
    data_path = RunParameter("data_path", "str", config.data.path)
    push_directory = RunParameter("push_directory", "str", config.serving.push_directory)
    epochs = RunParameter("epochs", "int", config.training.epochs)
    return [
        RunParameterTarget(data_path, config.example_gen, "input_base"),
        RunParameterTarget(epochs, "Trainer", "custom_config", ("training", "epochs")),
        RunParameterTarget(push_directory, "ServedModelResolver", "push_directory"),
        RunParameterTarget(push_directory, "Pusher", "push_directory"),
    ]


def _modules(config: PipelineConfig) -> dict[str, str]:
    """The user's own module and its neighbours, where they stand beside pipeline.yaml: the image lacks them."""
    module = config.model.module
    if module is None or module == DEFAULT_MODULE or "." in module:
        return {}
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"model.module cannot be imported. Received: {module}. Put it beside pipeline.yaml.")
    if "site-packages" in Path(spec.origin).parts:
        return {}
    return {
        file.stem: checked_source(file, node_id="Trainer") for file in sorted(Path(spec.origin).parent.glob("*.py"))
    }

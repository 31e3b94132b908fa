"""The package of one pipeline.yaml: its TFX pipeline, its run parameters, and the user's module."""

import ast
import importlib.util
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kfp.dsl.graph_component import GraphComponent

from kubetfx.config.kubeflow import TaskConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, UsageError
from kubetfx.kubeflow.compiler import Extras, RunParameterTarget, compile_pipeline, write_package
from kubetfx.kubeflow.tfx_node import RunParameter
from kubetfx.pipeline.code_digest import code_digest
from kubetfx.pipeline.definition import create_pipeline

_NETWORK = ("Transform", "Trainer")
"""Components that import the user's own network."""
_METRICS = ("Evaluator", "Report")
"""Components that import the user's own metrics."""


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
    modules: dict[str, dict[str, str]] = {}
    for key, module in config.own_modules.items():
        for component in _NETWORK if key == "model.module" else _METRICS:
            modules.setdefault(component, {}).update(_modules(key, module))
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


def unseen_paths(config: PipelineConfig, *, given: Collection[str] = ()) -> list[str]:
    """What to say about places that are on this machine alone, as far as the config tells: no volume of the pod holds
    them.

    Args:
        config: the config.
        given: run parameters that a run has values for, so that the config's are not asked for.
    """
    trainer = ("Trainer",)
    places = [
        ("data.path", config.data.path, (config.example_gen,), "data_path"),
        ("serving.push_directory", config.serving.push_directory, ("ServedModelResolver", "Pusher"), "push_directory"),
        ("model.weights", config.model.weights if config.model.backbone else None, trainer, None),
        ("training.checkpoint_directory", config.training.checkpoint_directory, trainer, None),
    ]
    lines = []
    for key, path, components, parameter in places:
        if path is None or parameter in given or not path.startswith("/"):
            continue
        blind = [name for name in components if not _is_mounted(path, config.kubeflow.of_component(name))]
        if blind:
            instead = f", or give each run --param {parameter}=PLACE" if parameter else ""
            lines.append(
                f"{key} is no bucket, and on no volume of {' and '.join(blind)}: the pods see nothing of this machine. "
                f"Received: {path}. Mount a claim (kubeflow.every_component.volumes){instead}."
            )
    return lines


def _is_mounted(path: str, task: TaskConfig) -> bool:
    return any(PurePosixPath(path).is_relative_to(volume.mount_path) for volume in task.volumes)


def _modules(key: str, module: str) -> dict[str, str]:
    """A module of the user's own and the neighbours that it imports, where it stands beside pipeline.yaml: the image
    lacks them.

    Args:
        key: of the config that names it.
        module: its import path.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of the package around it
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"{key} cannot be imported. Received: {module}. Put it beside pipeline.yaml.")
    path = Path(spec.origin)
    is_ours = path.is_relative_to(Path(__file__).parents[1])
    if is_ours or {"site-packages", "dist-packages"} & set(path.parts):
        return {}
    if "." in module or spec.submodule_search_locations is not None:
        raise ConfigError(
            f"{key}: a package cannot travel to a container, only a module can. Received: {module} in "
            f"{path.parent}. Install the package here and in the image, or make it one file beside pipeline.yaml."
        )
    return _with_neighbours(path, key)


def _with_neighbours(path: Path, key: str) -> dict[str, str]:
    """Source of a module and of those beside it that it imports, and those that they import, by name."""
    sources: dict[str, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        source = file.read_text(encoding="utf-8")
        sources[file.stem] = source
        for name in _imported_names(source, file, key):
            neighbour = file.with_name(f"{name}.py")
            if file.with_name(name).joinpath("__init__.py").is_file():
                raise ConfigError(
                    f"{key}: a package cannot travel to a container, only a module can. Received: {file}, which "
                    f"imports the package {name} beside it. Install the package here and in the image, or make it one "
                    "file."
                )
            if neighbour.is_file() and name not in sources:
                waiting.append(neighbour)
    return dict(sorted(sources.items()))


def _imported_names(source: str, path: Path, key: str) -> set[str]:
    """Top-level names that a module imports, wherever in it."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ConfigError(f"{key} is no Python. Received: {path}, line {error.lineno}: {error.msg}.") from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names

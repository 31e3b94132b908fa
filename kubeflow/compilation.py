"""`kubetfx.compile`: a config, or a TFX pipeline, becomes a package for open-source Kubeflow Pipelines v2."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubetfx.config.kubeflow_section import TaskConfig
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.references import names_in
from kubetfx.engine import arguments as engine_arguments
from kubetfx.errors import ConfigError
from kubetfx.kubeflow.pod_paths import check_workers
from kubetfx.pipeline.spared_imports import imports_without_beam
from kubetfx.redirection import logged_to
from kubetfx.user_code import check_imports, found_file_of, importable

if TYPE_CHECKING:  # importing TFX takes seconds
    from tfx.orchestration.pipeline import Pipeline


def compile(
    config: ConfigSource,
    path: str | Path,
    *,
    kubernetes_manifest: bool = False,
    pipeline: "Pipeline | None" = None,
    retrain_gate: bool = False,
) -> dict[str, Any]:
    """Write the package that Kubeflow Pipelines runs, one container task per component.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        path: file to write, ending in .yaml.
        kubernetes_manifest: write the resources Pipeline and PipelineVersion, for GitOps.
        pipeline: a TFX pipeline of your own. Default: what the config describes.
        retrain_gate: for a recurring run: its first task decides whether there is a reason for the others, as the
            section `retrain` says.

    Returns:
        The run parameters of the package, with their defaults.

    Raises:
        ConfigError: the config is wrong, has no section `retrain` for a gate, or names a module or a file that cannot
            be read, a variable of the environment that no pod will have, an option that Beam does not have, or a
            component of others for an engine whose workers do not see its pod.
        UsageError: the file cannot be written.
        CompileError: the pipeline cannot be expressed as a package.

    Example:
        >>> import kubetfx
        >>> sorted(kubetfx.compile("examples/penguins/pipeline.yaml", "package.yaml"))
        ['data_path', 'epochs', 'push_directory']
    """
    config = as_config(config)
    check(config, retrain_gate=retrain_gate)
    # TensorFlow and the kfp SDK print when they are imported. No node runs here, so Beam is not needed.
    with logged_to(Path(os.devnull)), imports_without_beam():
        from kubetfx.kubeflow.package import compile_to_file

        return compile_to_file(
            config, Path(path), kubernetes_manifest=kubernetes_manifest, pipeline=pipeline, retrain_gate=retrain_gate
        )


def check(config: PipelineConfig, *, retrain_gate: bool = False) -> None:
    """Refuse what can be refused before the pipeline is made, without TFX.

    Args:
        config: The config of the pipeline.
        retrain_gate: whether the first task decides if there is a reason to run.

    Raises:
        ConfigError: see the message.
    """
    if retrain_gate and (config.retrain is None or config.definition is not None):
        received = "no section retrain" if config.retrain is None else f"definition: {config.definition}"
        raise ConfigError(
            "`retrain_gate` is a task before those of kubetfx's own pipeline, which does what the section `retrain` "
            f"says. Received: {received}. Leave the gate out, or "
            "add the section, for example retrain: {on: [new_span]}."
        )
    _check_variables(config)
    engine_arguments.check(config.beam, looks_up=False)
    check_workers(config)
    with importable(config.folder):
        for module in config.own_modules.values():
            found_file_of(module)
        check_imports(config.own_modules)


def _check_variables(config: PipelineConfig) -> None:
    """Refuse references to environment variables that the pods will not have."""
    of_data = config.kubeflow.of_component(config.example_gen)
    tracker = config.kubeflow.of_component("Tracker")
    used = [
        ("data.path", config.data.path, of_data),
        ("data.source_options", config.data.source_options, of_data),
        ("tuning.storage", config.tuning and config.tuning.storage, config.kubeflow.of_component("Tuner")),
        ("beam", config.beam.command_line, config.kubeflow.every_component),
        ("tracking", config.tracking and [config.tracking.mlflow, config.tracking.token], tracker),
    ]
    for key, value, task in used:
        if absent := [name for name in names_in(value) if name not in _variables(task)]:
            raise ConfigError(
                f"{key}: the pods will not have the environment variable {absent[0]}. Received: ${{{absent[0]}}}. Give "
                "them a Secret that has it: kubeflow.every_component.secrets: "
                f"[{{name: SECRET, env: {{KEY: {absent[0]}}}}}]; or a default, ${{{absent[0]}:-}}, if the image has it."
            )


def _variables(task: TaskConfig) -> set[str]:
    held = (*task.secrets, *task.config_maps)
    return {*task.env, *(variable for source in held for variable in source.env.values())}

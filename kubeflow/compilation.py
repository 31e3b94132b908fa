"""`kubetfx.compile`: a config, or a TFX pipeline, becomes a package for open-source Kubeflow Pipelines v2."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.pipeline.spared_imports import imports_without_beam
from kubetfx.redirection import logged_to

if TYPE_CHECKING:  # importing TFX takes seconds
    from tfx.orchestration.pipeline import Pipeline


def compile(
    config: ConfigSource,
    path: str | Path,
    *,
    kubernetes_manifest: bool = False,
    pipeline: "Pipeline | None" = None,
) -> dict[str, Any]:
    """Write the package that Kubeflow Pipelines runs, one container task per component.

    Args:
        config: of the pipeline, or what `load_config` takes.
        path: file to write, ending in .yaml.
        kubernetes_manifest: write the resources Pipeline and PipelineVersion, for GitOps.
        pipeline: a TFX pipeline of your own. Default: what the config describes.

    Returns:
        The run parameters of the package, with their defaults.

    Raises:
        ConfigError: the config is wrong, or names a module or a file that cannot be read.
        UsageError: the file cannot be written.
        CompileError: the pipeline cannot be expressed as a package.

    Example:
        >>> import kubetfx
        >>> sorted(kubetfx.compile("examples/penguins/pipeline.yaml", "package.yaml"))
        ['data_path', 'epochs', 'push_directory']
    """
    config = as_config(config)
    # TensorFlow and the kfp SDK print when they are imported. No node runs here, so Beam is not needed.
    with logged_to(Path(os.devnull)), imports_without_beam():
        from kubetfx.kubeflow.package import compile_to_file

        return compile_to_file(config, Path(path), kubernetes_manifest=kubernetes_manifest, pipeline=pipeline)

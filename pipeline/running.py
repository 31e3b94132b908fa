"""`kubetfx.run`: the data is checked, then a runner runs the pipeline."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.section import nearest
from kubetfx.errors import ConfigError
from kubetfx.progress import Progress, silent, without_empty_lines
from kubetfx.user_code import importable, load_object

if TYPE_CHECKING:  # importing TFX takes seconds
    from tfx.orchestration.pipeline import Pipeline

    from kubetfx.pipeline.node_runner import NodeRun
    from kubetfx.pipeline.run_result import RunResult
    from kubetfx.pipeline.runner import Runner

_RUNNERS = {
    "local": "kubetfx.pipeline.local_runner:LocalRunner",
    "kfp-local": "kubetfx.kubeflow.local:PackageRunner",
    "kfp-docker": "kubetfx.kubeflow.local:DockerRunner",
}
"""What runs a pipeline, by name: nodes in this process; the tasks of its package for Kubeflow Pipelines, each in a
process or in its image."""


def run(
    config: ConfigSource,
    *,
    on: str = "local",
    pipeline: "Pipeline | None" = None,
    until: str | None = None,
    progress: Progress = silent,
    command: Sequence[str] = (),
) -> "RunResult":
    """Run a pipeline on this machine; nodes whose inputs did not change are taken from the cache.

    While a node runs, what this process writes to its standard output and error goes to the log of the node.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        on: `local`: nodes run in this process. `kfp-local`: the pipeline is compiled for Kubeflow Pipelines, and its
            tasks run here, each in a process. `kfp-docker`: each in its image. Or `module:class`, a runner of your own
            with the `__init__` and the `run` of `kubetfx.pipeline.runner.Runner`.
        pipeline: a TFX pipeline of your own. Default: what the config describes.
        until: id of the last node, of a run on `local`: this one and those that it needs run. Default: all.
        progress: is given each event as it happens: `print`, `kubetfx.progress.Console()`, or a function of yours.
        command: that started the run, for its record.

    Returns:
        How it ended. A missed threshold is not an error: `blessed` is False, and nothing was pushed.

    Raises:
        ConfigError: the config is wrong, or names columns that the data does not have.
        DataError: the data cannot be read, or its label cannot be learned.
        UsageError: another run is using the workspace, a place cannot be written, or there is no node `until`.
        AnomaliesError: the data has anomalies that the config says to stop at.
        NodeFailedError: a node failed; the next run resumes there.

    Example:
        >>> import kubetfx
        >>> run = kubetfx.run("examples/penguins/pipeline.yaml")
        >>> run.blessed, run.metrics["accuracy"] > 0.95
        (True, True)
    """
    config, progress = as_config(config), without_empty_lines(progress)

    from kubetfx.pipeline import preflight

    with importable(config.folder):
        make_runner = _runner(on)
        preflight.check_and_tell(config, progress)
        only = {} if until is None else {"until": until}
        return make_runner(config, pipeline=pipeline, progress=progress, command=command, **only).run()


def run_node(
    config: ConfigSource,
    node: str,
    *,
    run_id: str,
    pipeline: "Pipeline | None" = None,
    progress: Progress = silent,
    command: Sequence[str] = (),
    log_to: TextIO | None = None,
) -> "NodeRun":
    """Run one node of a pipeline in this process, for an orchestrator that starts a process for each.

    The nodes of a run have its id, and one config. One that is unchanged is taken from the cache, and one that has
    ended in this run does not run again. Nodes that do not need each other may run at the same time.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        node: its id, such as `Trainer`.
        run_id: The id of the run, of letters, digits and `_.~:+-`. The first node begins the run.
        pipeline: a TFX pipeline of your own, that has the node. Default: what the config describes.
        progress: is given each event as it happens.
        command: that started the node, for the record of the run.
        log_to: is also written what goes to the log of the node. Default: the log alone is.

    Returns:
        How the node ended, and, of the node with which the run is over, how the run did.

    Raises:
        ConfigError: the config is wrong, or is not the one with which the run began.
        DataError: the data cannot be read, or its label cannot be learned.
        UsageError: there is no such node, what it needs has not run in this run, or another run is using the
            workspace.
        AnomaliesError: the data has anomalies that the config says to stop at.
        NodeFailedError: the node failed; when it is started again, it runs again.

    Example:
        >>> import kubetfx
        >>> print(kubetfx.run_node("examples/penguins/pipeline.yaml", "TableExampleGen", run_id="doc-1").state)
        cached
    """
    config, progress = as_config(config), without_empty_lines(progress)

    from kubetfx.pipeline.node_runner import NodeRunner

    runner = NodeRunner(
        config, node, run_id=run_id, pipeline=pipeline, progress=progress, command=command, log_to=log_to
    )
    return runner.run_one()


def _runner(on: str) -> "type[Runner]":
    if on not in _RUNNERS and ":" not in on:
        raise ConfigError(
            f"on: there is no runner {on!r}.{nearest(on, list(_RUNNERS))} Known: {', '.join(_RUNNERS)}; or your own, "
            "as module:class."
        )
    runner: type[Runner] = load_object(_RUNNERS.get(on, on), key="on")
    return runner

"""`kubetfx.submit`: a config or a package becomes a run on Kubeflow Pipelines."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubetfx.config.loading import as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.kubeflow.compilation import compile
from kubetfx.kubeflow.kfp_client import (
    Connection,
    FollowOptions,
    KubeflowClient,
    PipelineVersion,
    RunOptions,
    default_run_name,
    parse_parameters,
    refuse_broken,
)
from kubetfx.kubeflow.package_document import Package, is_package
from kubetfx.progress import Begin, End, Message, Progress, silent

Source = PipelineConfig | str | Path | Mapping[str, Any]


def submit(
    config: Source,
    *,
    host: str | None = None,
    connection: Connection | None = None,
    parameters: Sequence[str] | Mapping[str, Any] = (),
    options: RunOptions = RunOptions(),  # noqa: B008 - it is frozen
    wait: bool = True,
    poll_seconds: float = 2.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Upload a pipeline to Kubeflow Pipelines, start a run, and follow it.

    Args:
        config: of the pipeline, what `load_config` takes, or the path of a compiled package.
        host: URL of Kubeflow Pipelines. Default: KF_PIPELINES_ENDPOINT, then the service in the cluster around, then
            the cluster of kubectl's context.
        connection: in place of `host`, where a namespace, credentials or a certificate are needed as well.
        parameters: run parameters, as a mapping or as texts `name=value`.
        options: name of the run, experiment, pipeline root, and the service account of the pods.
        wait: follow the run to its end.
        poll_seconds: time between two looks at the run.
        progress: is given each event as it happens.

    Returns:
        `run_id`, `name`, `link`, `state`, `pipeline_id`, `version_id`, and for a run that was followed its tasks.

    Raises:
        ConfigError: the config is wrong.
        CompileError: the pipeline cannot be expressed as a package.
        UsageError: the package has faults that Kubeflow Pipelines refuses, or a parameter that it does not have.
        KubeflowError: Kubeflow Pipelines cannot be reached, or refuses what it is asked.
        RunFailedError: the run failed, or was cancelled.
        RunLeftError: interrupted; the run goes on.

    Example:
        >>> import kubetfx
        >>> kubetfx.submit("pipeline.yaml", host="http://localhost:8080", wait=False)["link"]    # doctest: +SKIP
        'http://localhost:8080/#/runs/details/5f0c...'
    """
    with package_of(config, parameters=parameters, progress=progress) as (package, configured_account):
        values = {**options.parameters, **parse_parameters(_as_texts(parameters), package)}
        client, version = upload(package, connection or Connection(host), progress)
        account = options.service_account or configured_account
        settled = replace(options, parameters=values, service_account=account)
        run = client.start(version, run_name=options.name or default_run_name(package), options=settled)
        progress(End())
        progress(Message(f"{run.name}: {run.link}"))
        document: dict[str, Any] = {"run_id": run.run_id, "name": run.name, "link": run.link, "state": "PENDING"}
        if wait:
            document = client.follow(run, package, options=FollowOptions(poll_seconds), progress=progress)
            progress(Message(f"Succeeded: {run.link}", style="green"))
    return {**document, "pipeline_id": version.pipeline_id, "version_id": version.version_id}


@contextlib.contextmanager
def package_of(
    source: Source, *, parameters: Sequence[str] | Mapping[str, Any] = (), progress: Progress = silent
) -> Iterator[tuple[Package, str | None]]:
    """The package that a config compiles to, with the service account that the config names; or the one that was given.

    A package cannot hold a service account: Kubeflow Pipelines takes it with each run.

    Args:
        source: a config, what `load_config` takes, or the path of a package.
        parameters: that a run is going to have, so that the places in the config are not asked for.
        progress: is told which places pods cannot see.

    Raises:
        UsageError: the package has faults that Kubeflow Pipelines refuses.
    """
    if isinstance(source, str | Path) and is_package(Path(source)):
        yield refuse_broken(Path(source)), None
        return
    config = as_config(source)
    progress(Begin("Compiling"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compile(config, path)
        progress(End())

        from kubetfx.kubeflow.package import unseen_paths

        for line in unseen_paths(config, given=[text.partition("=")[0] for text in _as_texts(parameters)]):
            progress(Message(line, style="yellow"))
        yield refuse_broken(path), config.kubeflow.service_account


def upload(package: Package, connection: Connection, progress: Progress) -> tuple[KubeflowClient, PipelineVersion]:
    """Upload a package, unless Kubeflow Pipelines has this very version of it.

    Raises:
        KubeflowError: Kubeflow Pipelines cannot be reached, or refuses it.
    """
    progress(Begin("Uploading"))
    client = KubeflowClient(connection)
    version = client.upload(package)
    progress(End())
    state = "uploaded" if version.is_new else "as it was"
    progress(Message(f"Pipeline {package.name}, version {version.name}: {state}"))
    return client, version


def _as_texts(parameters: Sequence[str] | Mapping[str, Any]) -> Sequence[str]:
    return [f"{name}={value}" for name, value in parameters.items()] if isinstance(parameters, Mapping) else parameters

"""`kubetfx.submit`: runs a config or a package on Kubeflow Pipelines, once or on a schedule."""

import contextlib
import datetime
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.errors import UsageError
from kubetfx.kubeflow.compilation import compile
from kubetfx.kubeflow.cron import to_kfp
from kubetfx.kubeflow.kfp_connection import Connection, OpenConnection
from kubetfx.kubeflow.kfp_runs import FollowOptions, RunOptions, follow, start
from kubetfx.kubeflow.lint import lint
from kubetfx.kubeflow.package_document import Package, is_package, read_package
from kubetfx.kubeflow.parameter_values import parse_parameters
from kubetfx.kubeflow.pipeline_versions import PipelineVersion, upload
from kubetfx.kubeflow.recurring_runs import Schedule, Times
from kubetfx.kubeflow.recurring_runs import schedule as create_schedule
from kubetfx.progress import Begin, End, Message, Progress, silent


def submit(
    config: ConfigSource,
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
        config: The config of the pipeline, what `load_config` takes, or the path of a compiled package.
        host: URL of Kubeflow Pipelines. Default: KF_PIPELINES_ENDPOINT, then the service in the cluster around, then
            the cluster of kubectl's context.
        connection: instead of `host`, where a namespace, credentials or a certificate are needed as well.
        parameters: run parameters, as a mapping or as texts `name=value`.
        options: name of the run, experiment, pipeline root, and the service account of the pods.
        wait: follow the run to its end.
        poll_seconds: time between two questions for the state of the run.
        progress: is given each event as it happens.

    Returns:
        `run_id`, `name`, `link`, `state`, `pipeline_id`, `version_id`, and for a run that was followed its tasks.

    Raises:
        ConfigError: the config is wrong.
        CompileError: the pipeline cannot be expressed as a package.
        UsageError: the package has faults that Kubeflow Pipelines refuses, or it does not have one of the parameters.
        KubeflowError: Kubeflow Pipelines cannot be reached, or refuses what it is asked.
        RunFailedError: the run failed, or was cancelled.
        RunLeftError: interrupted; the run goes on.

    Example:
        >>> import kubetfx
        >>> kubetfx.submit("pipeline.yaml", host="http://localhost:8080", wait=False)["link"]  # doctest: +SKIP
        'http://localhost:8080/#/runs/details/5f0c...'
    """
    with _package_of(config, parameters=parameters, progress=progress) as (package, configured_account):
        settled = _settled(options, parameters, package, configured_account)
        with _connected(connection or Connection(host), progress) as kfp:
            version = _upload(kfp, package, progress)
            progress(Begin("Starting the run"))
            run = start(kfp, version, run_name=options.name or _default_run_name(package), options=settled)
            progress(End())
            progress(Message(f"{run.name}: {run.link}"))
            document: dict[str, Any] = {"run_id": run.run_id, "name": run.name, "link": run.link, "state": "PENDING"}
            if wait:
                document = follow(kfp, run, package, options=FollowOptions(poll_seconds), progress=progress)
                progress(Message(f"Succeeded: {run.link}", style="green"))
    return {**document, "pipeline_id": version.pipeline_id, "version_id": version.version_id}


def schedule(
    config: ConfigSource,
    times: Times | str,
    *,
    connection: Connection = Connection(),  # noqa: B008 - it is frozen
    parameters: Sequence[str] | Mapping[str, Any] = (),
    options: RunOptions = RunOptions(),  # noqa: B008 - it is frozen
    progress: Progress = silent,
) -> Schedule:
    """Upload a pipeline to Kubeflow Pipelines, and run it repeatedly; a schedule of the same name is replaced.

    With the section `retrain` the first task of each run decides whether there is a reason for the others.

    Args:
        config: The config of the pipeline, what `load_config` takes, or the path of a compiled package.
        times: at which runs are started, or their cron alone: minute, hour, day, month, weekday; or six fields, with
            seconds in front.
        connection: where Kubeflow Pipelines is, and who asks.
        parameters: run parameters, as a mapping or as texts `name=value`.
        options: name of the schedule (default: the pipeline's), experiment, pipeline root, and the service account of
            the pods.
        progress: is given each event as it happens.

    Returns:
        The schedule, and whether it was created, updated or there already.

    Raises:
        ConfigError: the config is wrong.
        CompileError: the pipeline cannot be expressed as a package.
        UsageError: the package has faults that Kubeflow Pipelines refuses, it does not have one of the parameters, or
            `times` is not a schedule.
        KubeflowError: Kubeflow Pipelines cannot be reached, or refuses what it is asked.
    """
    times = times if isinstance(times, Times) else Times(times)
    times = replace(times, cron=to_kfp(times.cron))
    _check_period(times)
    with _package_of(config, parameters=parameters, recurring=True, progress=progress) as (package, configured_account):
        settled = _settled(options, parameters, package, configured_account)
        with _connected(connection, progress) as kfp:
            version = _upload(kfp, package, progress)
            progress(Begin("Scheduling"))
            name = options.name or package.name
            made = create_schedule(kfp, version, name=name, times=times, options=settled)
            progress(End())
    return made


def _check_period(times: Times) -> None:
    for name, time in (("start", times.start), ("end", times.end)):
        if time is not None and time.tzinfo is None:
            raise UsageError(
                f"The {name} of a schedule is a point in time. Received: {time.isoformat()}, without an offset from "
                f"UTC. Write {time.isoformat()}Z, or {time.isoformat()}+02:00."
            )
        try:
            _ = time and time.astimezone(datetime.UTC)
        except OverflowError:
            raise UsageError(
                f"The {name} of a schedule is in the years 1 to 9999, of UTC too. Received: {time}. Leave it out for "
                f"a schedule without {'a start' if name == 'start' else 'an end'}."
            ) from None
    now = datetime.datetime.now(datetime.UTC)
    if times.end is not None and times.end <= max(times.start or now, now):
        after = "its start" if times.start and times.start > now else "now"
        raise UsageError(f"The end of a schedule comes after {after}. Received: {times.end.isoformat()}.")


@contextlib.contextmanager
def _package_of(
    source: ConfigSource,
    *,
    parameters: Sequence[str] | Mapping[str, Any] = (),
    recurring: bool = False,
    progress: Progress = silent,
) -> Iterator[tuple[Package, str | None]]:
    """Provide the package that was given, or that a config compiles to, and the service account that the config names.

    A package cannot hold a service account: Kubeflow Pipelines takes it with each run.
    """
    if isinstance(source, str | Path) and is_package(Path(source)):
        yield _unbroken(Path(source), progress), None
        return
    config = as_config(source)
    progress(Begin("Compiling"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        retrain_gate = recurring and config.retrain is not None and config.definition is None
        compile(config, path, retrain_gate=retrain_gate)
        progress(End())

        from kubetfx.kubeflow.pod_paths import unseen_paths

        given = [text.partition("=")[0] for text in _as_texts(parameters)]
        for line in unseen_paths(config, given=given, retrain_gate=retrain_gate):
            progress(Message(line, style="yellow"))
        yield _unbroken(path, progress), config.kubeflow.service_account


def _settled(
    options: RunOptions, parameters: Sequence[str] | Mapping[str, Any], package: Package, account: str | None
) -> RunOptions:
    """Return the options with the parameters' values, and with the config's service account unless they name one."""
    values = {**options.parameters, **parse_parameters(_as_texts(parameters), package)}
    return replace(options, parameters=values, service_account=options.service_account or account)


@contextlib.contextmanager
def _connected(connection: Connection, progress: Progress) -> Iterator[OpenConnection]:
    progress(Begin("Connecting to Kubeflow Pipelines"))
    with OpenConnection(connection) as kfp:
        yield kfp


def _upload(kfp: OpenConnection, package: Package, progress: Progress) -> PipelineVersion:
    progress(Begin("Uploading the package"))
    version = upload(kfp, package)
    progress(End())
    state = "uploaded" if version.is_new else "as it was"
    progress(Message(f"Pipeline {package.name}, version {version.name}: {state}"))
    if version.caution:
        progress(Message(version.caution, style="yellow"))
    return version


def _unbroken(path: Path, progress: Progress) -> Package:
    """Read a package, and refuse what Kubeflow Pipelines would refuse."""
    progress(Begin("Checking the package"))
    errors = [finding for finding in lint(path) if finding.severity == "error"]
    if errors:
        shown = "\n".join(f"  {finding.place}: {finding.what}. {finding.remedy}" for finding in errors[:10])
        raise UsageError(
            f"Kubeflow Pipelines would refuse this package. Received: {path}, {len(errors)} faults:\n{shown}"
        )
    package = read_package(path)
    if package.spec_place:
        raise UsageError(
            f"Kubernetes takes this, and the API of Kubeflow Pipelines does not. Received: {path}, a PipelineVersion. "
            f"Compile it as a package and not as a Kubernetes manifest, or apply it: kubectl apply -f {path}"
        )
    return package


def _default_run_name(package: Package) -> str:
    """Return the pipeline's name and the time, by the second."""
    return f"{package.name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"


def _as_texts(parameters: Sequence[str] | Mapping[str, Any]) -> Sequence[str]:
    return [f"{name}={value}" for name, value in parameters.items()] if isinstance(parameters, Mapping) else parameters

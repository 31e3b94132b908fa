"""Runs that are on Kubeflow Pipelines already: their tasks, the logs of these, and another try of a run that failed."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kfp_server_api
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from kubetfx.config.section import nearest
from kubetfx.errors import KubeflowError, UsageError
from kubetfx.kubeflow.kfp_connection import Connection, OpenConnection
from kubetfx.kubeflow.kfp_runs import FollowOptions, Run, error_of, follow
from kubetfx.kubeflow.lint_rules.strict_parsing import parse_fault
from kubetfx.kubeflow.package_document import Package, dotted
from kubetfx.kubeflow.run_logs import read_log
from kubetfx.kubeflow.run_progress import FINAL_STATES, TaskStatus, planned_tasks, progress
from kubetfx.progress import Begin, End, Message, Progress, silent


@dataclass(frozen=True)
class TaskLog:
    """The log of a task."""

    task: str
    state: str
    pod: str
    text: str


def log_of(run_id: str, task: str | None = None, *, connection: Connection, report: Progress = silent) -> TaskLog:
    """Return the log of a task's container.

    Args:
        run_id: The id of the run.
        task: as the progress of a run shows it. None: the task that failed.
        connection: where Kubeflow Pipelines is, and who asks.
        report: is given each event as it happens.

    Returns:
        The log, as far as the container has written it.

    Raises:
        UsageError: the run has no such task, the task no container, or no task has one.
        KubeflowError: Kubeflow Pipelines cannot be reached, refuses, or has no log of it any more.
    """
    report(Begin("Connecting to Kubeflow Pipelines"))
    with OpenConnection(connection) as kfp:
        found, package = _find(kfp, run_id)
        details = (found.run_details.task_details if found.run_details else None) or []
        statuses = progress(
            planned_tasks(package), details, now=found.created_at or datetime.datetime.now(datetime.UTC)
        )
        if not any(status.pod_name for status in statuses):
            raise UsageError(
                f"No task of this run has a log, as none has a pod. Received: {run_id}, {found.state}. See the run: "
                f"{kfp.link(f'runs/details/{quote(run_id)}')}{error_of(found)}"
            )
        chosen = _chosen(statuses, task, run_id)
        if not chosen.pod_name:
            raise UsageError(
                f"{chosen.node_id} has no container whose log could be shown. Received: a task that is "
                f"{chosen.state}. Ask for a task that ran: {_with_pods(statuses)}."
            )
        report(Begin("Reading the log"))
        text = read_log(kfp, run_id, chosen.pod_name)
        report(End())
    return TaskLog(chosen.node_id, chosen.state, chosen.pod_name, text)


def retry(
    run_id: str,
    *,
    connection: Connection,
    wait: bool = True,
    poll_seconds: float = 2.0,
    report: Progress = silent,
) -> dict[str, Any]:
    """Let a run that failed, or was cancelled, go on: tasks that succeeded stay, the others run again.

    Args:
        run_id: The id of the run.
        connection: where Kubeflow Pipelines is, and who asks.
        wait: follow the run to its end.
        poll_seconds: time between two questions for the state of the run.
        report: is given each event as it happens.

    Returns:
        `run_id`, `name`, `link`, `state`, and for a run that was followed its tasks.

    Raises:
        UsageError: the run succeeded, or is not over.
        KubeflowError: Kubeflow Pipelines cannot be reached, or refuses what it is asked.
        RunFailedError: the run failed again, or was cancelled.
        RunLeftError: interrupted; the run goes on.
    """
    report(Begin("Connecting to Kubeflow Pipelines"))
    with OpenConnection(connection) as kfp:
        found, package = _find(kfp, run_id)
        if found.state not in FINAL_STATES - {"SUCCEEDED", "SKIPPED"}:
            what = "is not over" if found.state not in FINAL_STATES else "has nothing to run again"
            raise UsageError(f"This run {what}. Received: {run_id}, {found.state}. Only a run that failed is retried.")
        report(Begin("Retrying the run"))
        with kfp.explained("retry the run"):
            kfp.api._run_api.run_service_retry_run(run_id)
        run = Run(run_id, found.display_name, kfp.link(f"runs/details/{run_id}"))
        report(End())
        report(Message(f"{run.name}: {run.link}"))
        document: dict[str, Any] = {"run_id": run_id, "name": run.name, "link": run.link, "state": "RUNNING"}
        if wait:
            document = follow(kfp, run, package, options=FollowOptions(poll_seconds), progress=report)
            report(Message(f"Succeeded: {run.link}", style="green"))
    return document


def _find(kfp: OpenConnection, run_id: str) -> tuple[Any, Package]:
    """Return a run, and the package that it runs."""
    with kfp.explained(f"find the run {run_id}"):
        run = _look_up(kfp, run_id)
        reference = run.pipeline_version_reference
        spec = run.pipeline_spec
        if reference is not None and reference.pipeline_version_id:
            version = kfp.api.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
            spec = version.pipeline_spec
    if not isinstance(spec, dict):
        raise KubeflowError(
            f"Kubeflow Pipelines no longer has the pipeline of the run. Received: {run_id}, without a package. See it: "
            f"{kfp.link(f'runs/details/{quote(run_id)}')}"
        )
    spec = spec.get("pipeline_spec", spec)
    if fault := parse_fault(spec, PipelineSpec(), ignore_unknown=True):
        place, words = fault
        raise KubeflowError(
            f"Kubeflow Pipelines has something else than a package for the run. Received: {run_id}, "
            f"{dotted(place) or 'pipeline_spec'}: {words}. See it: {kfp.link(f'runs/details/{quote(run_id)}')}"
        )
    return run, Package(Path(f"{run_id}.yaml"), spec)


def _look_up(kfp: OpenConnection, run_id: str) -> Any:
    try:
        return kfp.api.get_run(run_id)
    except kfp_server_api.ApiException as error:
        if error.status == 404 and '"code"' in str(error.body):  # the API server's own answer, not a missing page
            raise UsageError(
                f"Kubeflow Pipelines at {kfp.host} has no such run. Received: {run_id}. The id is at the end of the "
                "run's link."
            ) from None
        raise


def _chosen(statuses: list[TaskStatus], task: str | None, run_id: str) -> TaskStatus:
    if task is None:
        failed = [status for status in statuses if status.state == "failed"]
        if failed:
            return failed[0]
        raise UsageError(
            f"No task of the run failed, so there is none whose log is asked for. Received: {run_id}. Name a task: "
            f"{_with_pods(statuses)}."
        )
    for status in statuses:
        if task in (status.node_id, status.key):
            return status
    known = [status.node_id for status in statuses]
    raise UsageError(f"The run has no task {task!r}.{nearest(task, known)} Known: {', '.join(known)}.")


def _with_pods(statuses: list[TaskStatus]) -> str:
    return ", ".join(status.node_id for status in statuses if status.pod_name)

"""Starting a run on Kubeflow Pipelines, and following it to its end."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from kubetfx.errors import KubeflowError, RunFailedError, RunLeftError
from kubetfx.kubeflow import kfp_errors
from kubetfx.kubeflow.kfp_connection import OpenConnection, quiet
from kubetfx.kubeflow.package_document import Package
from kubetfx.kubeflow.pipeline_versions import PipelineVersion
from kubetfx.kubeflow.run_logs import tail_of
from kubetfx.kubeflow.run_progress import (
    FINAL_STATES,
    UNFINISHED_STATES,
    RunView,
    TaskStatus,
    as_document,
    planned_tasks,
)
from kubetfx.progress import End, Progress, silent

_LOOKS_WITHOUT_STATE = 5


@dataclass(frozen=True)
class RunOptions:
    """How a run is started."""

    experiment: str = "Default"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Values by name, as `parse_parameters` gives them."""
    pipeline_root: str | None = None
    """Where artifacts go. None: the default of KFP."""
    service_account: str | None = None
    """The Kubernetes service account of the pods. None: the default of KFP."""
    name: str | None = None
    """Name of the run. None: the pipeline's name and the time."""


@dataclass(frozen=True)
class FollowOptions:
    """How a run is followed."""

    poll_seconds: float = 2.0
    """Time between two questions for its state."""
    retry_seconds: float = 900.0
    """Time to go on asking a server that does not answer."""


@dataclass(frozen=True)
class Run:
    """A run that was started."""

    run_id: str
    name: str
    link: str
    """In the UI."""


def start(kfp: OpenConnection, version: PipelineVersion, *, run_name: str, options: RunOptions) -> Run:
    """Start a run.

    Args:
        kfp: an open connection.
        version: The version of the pipeline, which was uploaded.
        run_name: to show.
        options: experiment, parameters, pipeline root and service account.

    Returns:
        The run.

    Raises:
        KubeflowError: Kubeflow Pipelines refuses, or cannot be reached.
    """
    with kfp.explained("start the run"), quiet():
        run = kfp.api.run_pipeline(
            kfp.experiment_id(options.experiment),
            run_name,
            params=dict(options.parameters),
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            pipeline_root=options.pipeline_root,
            service_account=options.service_account,
        )
    return Run(run.run_id, run_name, kfp.link(f"runs/details/{run.run_id}"))


def follow(
    kfp: OpenConnection, run: Run, package: Package, *, options: FollowOptions, progress: Progress = silent
) -> dict[str, Any]:
    """Show a run's progress until it is over.

    Args:
        kfp: an open connection.
        run: to follow.
        package: that it runs, whose tasks are shown.
        options: how often to look, and how long to retry.
        progress: is given an event per task that ends.

    Returns:
        `run_id`, `name`, `link`, `state`, and `tasks`: each with `id`, `state`, `seconds` and `pod`.

    Raises:
        RunFailedError: it failed, or was cancelled.
        RunLeftError: interrupted, or the server was out of reach for too long; the run goes on.
    """
    view = RunView(planned_tasks(package), progress)
    try:
        found = _follow(kfp, run, view, options=options)
    except KeyboardInterrupt:
        raise RunLeftError(
            f"No longer following the run, which goes on: {run.link}\n  To cancel it: {_cancel_command(kfp, run)}",
            run=_document(run, "RUNNING", view.statuses),
        ) from None
    except KubeflowError as error:
        raise RunLeftError(
            f"No longer following the run, which goes on: {run.link}\n  {error}",
            run=_document(run, "RUNNING", view.statuses),
        ) from error
    finally:
        progress(End())
    document = _document(run, str(found.state), view.statuses)
    if found.state != "SUCCEEDED":
        raise RunFailedError(_why(kfp, run, found, view.statuses), run=document)
    return document


def _follow(kfp: OpenConnection, run: Run, view: RunView, *, options: FollowOptions) -> Any:
    """Return the run, which is over."""
    looks_without_state = 0
    while True:
        details = _look(kfp, run, view, options=options)
        view.show((details.run_details.task_details if details.run_details else None) or [], state=details.state)
        if details.state in FINAL_STATES:
            return details
        looks_without_state = 0 if details.state in UNFINISHED_STATES else looks_without_state + 1
        if looks_without_state == _LOOKS_WITHOUT_STATE:  # a run that was just made may not have one
            view.is_in_strange_state(details.state, run.link)
        time.sleep(options.poll_seconds)


def _look(kfp: OpenConnection, run: Run, view: RunView, *, options: FollowOptions) -> Any:
    def say(retry: RetryCallState) -> None:
        if retry.attempt_number > 1:  # a single failure is not worth a message
            view.is_out_of_reach(kfp_errors.in_short(retry.outcome.exception() if retry.outcome else None))

    retrying = Retrying(
        retry=retry_if_exception(kfp_errors.is_transient),
        stop=stop_after_delay(options.retry_seconds),
        wait=wait_exponential_jitter(initial=options.poll_seconds, max=30, jitter=options.poll_seconds),
        before_sleep=say,
        reraise=True,
    )
    with kfp.explained("look at the run"):
        return retrying(kfp.api.get_run, run.run_id)


def _cancel_command(kfp: OpenConnection, run: Run) -> str:
    token = " -H 'Authorization: Bearer TOKEN'" if kfp.token else ""
    cookies = " -H 'Cookie: COOKIES'" if kfp.cookies else ""
    return f"curl -X POST{token}{cookies} {kfp.host}/apis/v2beta1/runs/{run.run_id}:terminate"


def error_of(found: Any) -> str:
    """Return what Kubeflow Pipelines says of a run that failed as a whole, as a line of its own; empty if nothing.

    Args:
        found: The run, as the API answers it.
    """
    words = " ".join(str((found.error and found.error.message) or "").split())
    return f"\n  Kubeflow Pipelines says: {words[:2000]}" if words else ""


def _why(kfp: OpenConnection, run: Run, found: Any, statuses: Sequence[TaskStatus]) -> str:
    if found.state == "CANCELED":
        return f"The run was cancelled.\n  See it: {run.link}"
    failed = [status for status in statuses if status.state == "failed"]
    if not failed:
        return f"The run ended as {found.state}, and no task of it failed.\n  See why: {run.link}{error_of(found)}"
    task = failed[0]
    lines = [f"{task.node_id} failed on Kubeflow."]
    if task.pod_name and (tail := tail_of(kfp, run.run_id, task.pod_name)):
        lines += ["The end of its log:", *(f"  {line}" for line in tail)]
    lines.append(f"Its log: {run.link}, the task {task.node_id}, Logs")
    if task.pod_name:
        lines.append(f"Or: kubectl logs -n {kfp.namespace or 'kubeflow'} {task.pod_name} -c main")
    return "\n  ".join(lines)


def _document(run: Run, state: str, statuses: Sequence[TaskStatus]) -> dict[str, Any]:
    return {"run_id": run.run_id, "name": run.name, "link": run.link, "state": state, "tasks": as_document(statuses)}

"""Schedules: the recurring runs of Kubeflow Pipelines."""

import datetime
from dataclasses import dataclass
from typing import Any

from kubetfx.kubeflow.kfp_connection import PAGE_SIZE, OpenConnection, all_pages, named, quiet
from kubetfx.kubeflow.kfp_runs import RunOptions
from kubetfx.kubeflow.pipeline_versions import PipelineVersion


@dataclass(frozen=True)
class Times:
    """When a recurring run starts runs.

    Kubeflow Pipelines has no time zone per schedule: its scheduler's is that of CRON_SCHEDULE_TIMEZONE
    (backend/src/crd/controller/scheduledworkflow/util/const.go), UTC unless its administrator chose another.
    """

    cron: str
    """As `kubetfx.kubeflow.cron.to_kfp` returns it."""
    start: datetime.datetime | None = None
    """The first run is not before. None: now."""
    end: datetime.datetime | None = None
    """The last run is not after. None: it never ends."""
    catch_up: bool = False
    """Whether runs that were missed, while the scheduler was down or the schedule disabled, are started one by one."""
    max_concurrency: int = 1
    """Runs at the same time, 1 to 10."""


@dataclass(frozen=True)
class Schedule:
    """A recurring run."""

    recurring_run_id: str
    name: str
    cron: str
    link: str
    change: str
    """`created`, `updated` or `unchanged`."""
    is_enabled: bool


def schedule(
    kfp: OpenConnection,
    version: PipelineVersion,
    *,
    name: str,
    times: Times,
    options: RunOptions,
) -> Schedule:
    """Create a recurring run, or replace the one of that name, as KFP cannot change one.

    Args:
        kfp: an open connection.
        version: to run.
        name: The name of the recurring run, in its experiment.
        times: at which runs are started.
        options: how each run is started.

    Returns:
        The schedule, and whether it was created, updated or there already.

    Raises:
        KubeflowError: Kubeflow Pipelines refuses, or cannot be reached.
    """
    with kfp.explained("schedule the pipeline"), quiet():
        experiment_id = kfp.experiment_id(options.experiment)
        before = _recurring_runs(kfp, experiment_id, name)
        if len(before) == 1 and _is_as_wanted(before[0], version, times, options):
            return _as_schedule(kfp, before[0], times.cron, "unchanged")
        created = kfp.api.create_recurring_run(
            experiment_id,
            name,
            cron_expression=times.cron,
            start_time=_text(times.start),
            end_time=_text(times.end),
            max_concurrency=str(times.max_concurrency),  # an int64, which is text in protobuf's JSON
            no_catchup=not times.catch_up,
            params=dict(options.parameters),
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            enabled=not before or any(found.mode != "DISABLE" for found in before),
            pipeline_root=options.pipeline_root,
            service_account=options.service_account,
        )
        for found in before:  # after the creation, so that there is a schedule at any time
            kfp.api.delete_recurring_run(found.recurring_run_id)
    return _as_schedule(kfp, created, times.cron, "updated" if before else "created")


def _recurring_runs(kfp: OpenConnection, experiment_id: str, name: str) -> list[Any]:
    """Return the recurring runs of a name. `kfp.Client` keeps the namespace from the API if there is an experiment."""
    where = {"namespace": kfp.api_namespace} if kfp.api_namespace else {}
    return all_pages(
        lambda token: kfp.api._recurring_run_api.recurring_run_service_list_recurring_runs(
            page_token=token, page_size=PAGE_SIZE, experiment_id=experiment_id, filter=named(name), **where
        ),
        "recurring_runs",
    )


def _as_schedule(kfp: OpenConnection, recurring_run: Any, cron: str, change: str) -> Schedule:
    identifier = recurring_run.recurring_run_id
    link = kfp.link(f"recurringrun/details/{identifier}")
    return Schedule(
        identifier, recurring_run.display_name, cron, link, change, is_enabled=recurring_run.mode != "DISABLE"
    )


def _text(time: datetime.datetime | None) -> str | None:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time else None


def _is_as_wanted(found: Any, version: PipelineVersion, times: Times, options: RunOptions) -> bool:
    reference = found.pipeline_version_reference
    schedule = found.trigger.cron_schedule if found.trigger else None
    config = found.runtime_config
    return (
        schedule is not None
        and schedule.cron == times.cron
        and (_text(schedule.start_time), _text(schedule.end_time)) == (_text(times.start), _text(times.end))
        and bool(found.no_catchup) is not times.catch_up
        and reference is not None
        and reference.pipeline_version_id == version.version_id
        and ((config.parameters if config else None) or {}) == dict(options.parameters)
        and ((config.pipeline_root if config else None) or None) == options.pipeline_root
        and options.service_account in (None, found.service_account)
        and str(found.max_concurrency) == str(times.max_concurrency)
    )

"""Sends runs of this machine to MLflow; `kubetfx.track` sends waiting runs by hand."""

from pathlib import Path

from kubetfx.artifacts import SERVING_MODEL
from kubetfx.components.tracking import mlflow_sender, tracking_queue
from kubetfx.components.tracking.tracking_queue import Sending
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import UsageError
from kubetfx.run_record import RunRecord, run_folder

TRACKER = "Tracker"
"""Id of the task that sends a run on Kubeflow, also on a package's run on this machine."""


def queue_of(config: PipelineConfig) -> Path:
    """Return the folder where runs wait.

    Args:
        config: The config of the pipeline.
    """
    return config.workspace_path / tracking_queue.FOLDER


def send_run(config: PipelineConfig, record: RunRecord) -> Sending | None:
    """Queue a finished run, and send waiting runs. The run is over whether or not that succeeds.

    Args:
        config: The config of the pipeline.
        record: The record of the run, whose report is written.

    Returns:
        What became of it; None where there is nothing to send.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    if config.tracking is None or TRACKER in record.planned_nodes:
        return None
    folder = queue_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    if any(node.state != "cached" for node in record.nodes):
        _write(config, record, folder)
    if not mlflow_sender.waiting(folder):
        return None
    return tracking_queue.send(folder, config.tracking, wait_seconds=config.tracking.wait_seconds)


def track(config: ConfigSource, *, folder: Path | None = None) -> Sending:
    """Send the runs that wait for MLflow, and wait until they are sent.

    Args:
        config: The config of the pipeline, or what `load_config` takes. It has the section `tracking`.
        folder: where runs wait. Default: in the workspace.

    Returns:
        The runs that were sent, and those that were not, with the reason.

    Raises:
        UsageError: the config has no section `tracking`, or there is no such folder.

    Example:
        >>> import kubetfx
        >>> kubetfx.track("pipeline.yaml").sent  # doctest: +SKIP
        {'20261130-094142-29571b': 'http://localhost:5000/#/experiments/1/runs/...'}
    """
    config = as_config(config)
    if config.tracking is None:
        raise UsageError(
            "There is no server to send runs to. Received: no tracking in the config. Add it: tracking: {mlflow: URL}."
        )
    place = folder or queue_of(config)
    if not place.is_dir():
        if folder is not None:
            raise UsageError(f"There is no such folder. Received: {folder}. Name one with runs that wait.")
        return Sending({}, (), None)
    return tracking_queue.send(place, config.tracking)


def _write(config: PipelineConfig, record: RunRecord, folder: Path) -> None:
    from kubetfx.components.report import run_report
    from kubetfx.components.report.facts import Facts, Settings
    from kubetfx.components.tracking.tracked_run import TrackedRun, write

    assert config.tracking is not None
    facts = run_report.facts_of(config, record) or Facts(settings=Settings.of(config))
    write(
        folder,
        TrackedRun(
            run_id=record.run_id,
            name=record.name,
            state=record.state,
            started_at=record.started_at,
            ended_at=record.ended_at or record.started_at,
            experiment=config.tracking.experiment or config.name,
            model_name=config.model_name,
            facts=facts,
            config=record.config,
            files=run_folder(config.workspace_path, record.run_id),
            is_registered=config.tracking.is_registered,
            saved_model=_saved_model(record),
            code=record.code,
            error=record.error,
            version=record.pushed_version or record.waiting_version,
        ),
    )


def _saved_model(record: RunRecord) -> Path | None:
    """Return the model that the run trained, or pushed.

    One that it found in the cache was sent by the run that trained it.
    """
    for name in ("FoldEnsemble", "Trainer"):
        folder, node = record.output(name, "model"), record.node(name)
        if folder and node and (node.state == "done" or record.state in ("pushed", "waiting_for_approval")):
            saved_model = folder / SERVING_MODEL
            return saved_model if saved_model.is_dir() else None
    return None

"""Tracker: sends a run on Kubeflow to MLflow at the end; on one machine the runner does this.

It never fails a run, whose model is already served. What could not be sent stays in its artifact, from where it can be
sent by hand.
"""

import hashlib
from pathlib import Path
from typing import Any

from absl import logging
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact

from kubetfx import run_record
from kubetfx.code_state import code_of
from kubetfx.components.declaration import Artifacts, Component, parameter
from kubetfx.components.report import facts
from kubetfx.components.report.component import RunReport
from kubetfx.components.tracking import tracking_queue
from kubetfx.components.tracking.tracked_run import TrackedRun, write
from kubetfx.config.tracking_section import TrackingConfig
from kubetfx.provenance import unpacked


class TrackedRuns(Artifact):
    """A folder with what could not be sent; empty where all was."""

    TYPE_NAME = "TrackedRuns"


class Executor(base_executor.BaseExecutor):
    """Writes the run in the form for MLflow, and sends it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        tracking = parameter(exec_properties, "tracking", TrackingConfig)
        assert tracking is not None  # else there is no such component
        folder = Path(artifact_utils.get_single_uri(output_dict["tracked_runs"]))
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, _run(input_dict, exec_properties, tracking))
        sending = tracking_queue.send(folder, tracking)
        for url in sending.sent.values():
            output = artifact_utils.get_single_instance(output_dict["tracked_runs"])
            output.set_string_custom_property("url", url)
        log = logging.warning if sending.problem else logging.info
        log("%s", sending)


def _run(inputs: Artifacts, properties: dict[str, Any], tracking: TrackingConfig) -> TrackedRun:
    report = Path(artifact_utils.get_single_uri(inputs["report"]))
    found = facts.read(report)
    assert found is not None  # Report writes them in any case
    now = run_record.now()
    pushed = artifact_utils.get_single_instance(inputs["pushed_model"]) if inputs.get("pushed_model") else None
    version = next(
        (
            int(number)
            for name in ("pushed_version", "waiting_version")
            if pushed and (number := pushed.get_string_custom_property(name))
        ),
        None,
    )
    digest = hashlib.sha256(found.model_dump_json().encode()).hexdigest()  # a task that is tried again is the same run
    state = "waiting_for_approval" if version and not (found.push and found.push.version) else "pushed"
    return TrackedRun(
        run_id=f"kubeflow-{digest[:16]}",
        name=found.settings.name,
        state=state if version else "not_blessed",
        started_at=now,
        ended_at=now,
        experiment=tracking.experiment or found.settings.name,
        model_name=found.settings.model_name,
        facts=found,
        config=unpacked(properties["config"]) or {},
        files=report,
        is_registered=tracking.is_registered,
        saved_model=_saved_model(inputs),
        code=code_of(None),
        version=version,
    )


def _saved_model(inputs: Artifacts) -> Path | None:
    from kubetfx.components.served_model_resolver import saved_model_path

    path = saved_model_path(inputs["model"])
    return path if path.is_dir() else None


class Tracker(Component):
    """A run on a server of MLflow."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {
        "report": RunReport,
        "model": standard_artifacts.Model,
        "pushed_model": standard_artifacts.PushedModel,
    }
    OUTPUTS = {"tracked_runs": TrackedRuns}
    PARAMETERS = {"tracking": TrackingConfig, "config": str}
    OPTIONAL = ("pushed_model",)

"""Pusher: copies a blessed model atomically to a new version in the push directory.

With `serving.endpoint`, the push is valid only when that server's answers with the version match the Evaluator's
offline predictions: components/push/push_verification.py. With `serving.canary` it then gets a label, and with
`serving.approval` it waits for a person first.
"""

import contextlib
import json
import math
from pathlib import Path, PurePath
from typing import Any

from absl import logging
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import EVALUATION, GOLDEN_ROWS, PROVENANCE, PUSHED_GOLDEN_ROWS
from kubetfx.code_state import code_of, libraries
from kubetfx.components.declaration import Artifacts, Component, parameter
from kubetfx.components.push import labels, push_directory
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.config.serving_section import CanaryConfig, EndpointConfig
from kubetfx.errors import PushError
from kubetfx.provenance import provenance_of, read_origin, unpacked
from kubetfx.run_record import RECORD, run_folder
from kubetfx.storage import Location, locate

NOT_BLESSED = 0
"""Value of the `version` property when there is nothing to push."""


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Chooses the version before the cache is asked.

    A model that is already served keeps its version, so that pushing it again is a cache hit. Any other model gets an
    unused number, so that it is not a cache hit.
    """

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Set `version`."""
        inputs = execution_info.input_dict
        output = driver_output_pb2.DriverOutput()
        if not model_utils.is_model_blessed(artifact_utils.get_single_instance(inputs["model_blessing"])):
            output.exec_properties["version"].int_value = NOT_BLESSED
            return output
        directory = locate(execution_info.exec_properties["push_directory"])
        waiting = push_directory.waiting_versions(directory)
        newest = max([*push_directory.versions(directory), *waiting], default=None)
        record = push_directory.read_record(directory, newest) if newest is not None else None
        if newest and record and record.model_digest == push_directory.model_digest(saved_model_path(inputs["model"])):
            output.exec_properties["version"].int_value = newest
            is_waiting = newest in waiting
        else:
            output.exec_properties["version"].int_value = push_directory.next_version(directory)
            is_waiting = bool(execution_info.exec_properties.get("needs_approval"))
        output.exec_properties["is_waiting"].int_value = int(is_waiting)  # once approved, the output differs
        return output


class Executor(base_executor.BaseExecutor):
    """Copies the model to its version."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component. The output channel stays empty if the model is not blessed.

        Raises:
            PushError: the version could not be written, is one that was rolled back, or did not pass verification;
                what is served is unchanged.
        """
        version = exec_properties["version"]
        if version == NOT_BLESSED:
            logging.info("The model is not blessed, so it is not pushed.")
            output_dict["pushed_model"].clear()
            return
        directory = locate(exec_properties["push_directory"])
        evaluation = Path(artifact_utils.get_single_uri(input_dict["evaluation"]))
        push = _Push(directory, version, exec_properties, run_id=_run_id(self))
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if push.is_waiting(saved_model_path(input_dict["model"]), evaluation):
            pushed_model.set_string_custom_property("waiting_version", str(version))
            logging.info("Version %d waits for approval, out of the sight of servers.", version)
            return
        served = push.verify(evaluation)
        if keep := exec_properties.get("keep_versions"):
            protected = served | labels.protected_versions(directory)
            removed = push_directory.prune(directory, keep=keep, protected=protected)
            logging.info("Versions removed because newer ones are kept: %s.", removed or "none")
        pushed_model.set_string_custom_property(
            "pushed_destination", str(push_directory.version_path(directory, version))
        )
        pushed_model.set_string_custom_property("pushed_version", str(version))
        logging.info("Pushed version %d to %s.", version, directory)


class _Push:
    """The push of one version."""

    def __init__(
        self, directory: Location, version: int, exec_properties: dict[str, Any], *, run_id: str | None
    ) -> None:
        self._directory = directory
        self._version = version
        self._properties = exec_properties
        self._run_id = run_id
        self._endpoint = parameter(exec_properties, "endpoint", EndpointConfig)

    def is_waiting(self, saved_model: Path, evaluation: Path) -> bool:
        """Add the version to the directory if it is missing, and return whether it waits for approval."""
        if self._version in push_directory.waiting_versions(self._directory):
            return True
        newest = max(push_directory.versions(self._directory), default=None)
        if newest == self._version:  # it exists already, and only the cache lost it
            return False
        _refuse_what_was_rolled_back(saved_model, self._directory)
        needs_approval = bool(self._properties.get("needs_approval"))
        if self._endpoint and not needs_approval:
            newest = _withdraw_what_is_pending(self._directory, newest)
        push_directory.push(
            saved_model,
            self._directory,
            version=self._version,
            replaced_version=labels.served_version(self._directory),
            metrics=_read_metrics(evaluation),
            to_be_verified=self._endpoint is not None,
            needs_approval=needs_approval,
            added=self._added(evaluation),
        )
        return needs_approval

    def verify(self, evaluation: Path) -> set[int]:
        """Verify the version on the server, and return the server's versions; None without a server."""
        if self._endpoint is None:
            return set()
        from kubetfx.components.evaluation import golden
        from kubetfx.components.push.verified_push import verification

        canary = parameter(self._properties, "canary", CanaryConfig)
        by = f"run {self._run_id}" if self._run_id else "a run"
        verified = verification(self._endpoint, self._properties["model_name"], self._directory, canary=canary, by=by)
        with contextlib.ExitStack() as stack:
            if canary is not None:
                stack.enter_context(labels.locked(self._directory, wait_seconds=self._endpoint.timeout_seconds))
            return verified.verify(self._version, lambda: golden.read(evaluation))

    def _added(self, evaluation: Path) -> dict[PurePath, str]:
        """Return the files to add to the version."""
        workspace, record = _run_of(evaluation, self._run_id)
        found = provenance_of(
            record,
            code=code_of(None),
            libraries=libraries(),
            data=read_origin(evaluation),
            workspace=workspace,
            config=unpacked(self._properties.get("config")),
        )
        golden_rows = evaluation / GOLDEN_ROWS
        added: dict[PurePath, str] = {PROVENANCE: found.model_dump_json(indent=1)}
        if golden_rows.is_file():
            added[PUSHED_GOLDEN_ROWS] = golden_rows.read_text(encoding="utf-8")
        return added


def _run_id(executor: base_executor.BaseExecutor) -> str | None:
    """Return the id of the run; None on Kubeflow, where it is unknown."""
    return getattr(getattr(executor, "_context", None), "_pipeline_run_id", None)


def _run_of(evaluation: Path, run_id: str | None) -> tuple[Path | None, dict[str, Any] | None]:
    """Return the workspace of an artifact and the record of its run, or None."""
    for workspace in evaluation.parents if run_id else ():
        path = run_folder(workspace, run_id or "") / RECORD
        if path.is_file():
            return workspace, json.loads(path.read_text(encoding="utf-8"))
    return None, None


def _withdraw_what_is_pending(directory: Location, newest: int | None) -> int | None:
    """Remove a version whose push was killed before verification, and return the newest remaining one."""
    record = push_directory.read_record(directory, newest) if newest else None
    if newest is None or record is None or not record.is_pending:
        return newest
    logging.warning("Version %d was never verified, and is withdrawn.", newest)
    push_directory.remove(directory, newest)
    return max(push_directory.versions(directory), default=None)


def _read_metrics(evaluation: Path) -> dict[str, float]:
    metrics = json.loads((evaluation / EVALUATION).read_text(encoding="utf-8"))["metrics"]
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _refuse_what_was_rolled_back(saved_model: Path, directory: Location) -> None:
    digest = push_directory.model_digest(saved_model)
    for version in push_directory.rolled_back_versions(directory):
        record = push_directory.read_record(directory, version)
        if record and record.model_digest == digest:
            raise PushError(
                f"This very model is version {version}, which was rolled back, so it is not pushed again. Change the "
                f"data or the config; or bring it back by rolling back to version {version}."
            )


class Pusher(Component):
    """Pushes what the Evaluator blessed."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver
    INPUTS = {
        "model": standard_artifacts.Model,
        "model_blessing": standard_artifacts.ModelBlessing,
        "evaluation": standard_artifacts.ModelEvaluation,
    }
    OUTPUTS = {"pushed_model": standard_artifacts.PushedModel}
    PARAMETERS = {
        "push_directory": str,
        "model_name": str,
        "endpoint": EndpointConfig,
        "keep_versions": int,
        "canary": CanaryConfig,
        "needs_approval": int,
        "config": str,
    }
    OPTIONAL = ("endpoint", "keep_versions", "canary", "needs_approval", "config")

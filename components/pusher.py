"""Pusher: a blessed model becomes a new version in the push directory, whole or not at all.

Where a server is named (`serving.endpoint`), the push is good only when that server answers with the version as the
Evaluator predicted offline: components/push/push_verification.py.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import EVALUATION
from kubetfx.components.declaration import Artifacts, Component, parameter
from kubetfx.components.push import push_directory
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.config.serving_section import EndpointConfig
from kubetfx.errors import PushError
from kubetfx.storage import Location, locate

if TYPE_CHECKING:  # it imports the clients of the server
    from kubetfx.components.push.push_verification import Verification

NOT_BLESSED = 0
"""Value of the `version` property when there is nothing to push."""


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Chooses the version before the cache is asked.

    The version of a model that is served already is the one that it has, so that pushing it again is a cache hit.
    Anything else gets a number that was never used, so that it is not: the model was not pushed yet, or is no longer
    there.
    """

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Set `version`."""
        inputs = execution_info.input_dict
        output = driver_output_pb2.DriverOutput()
        if not model_utils.is_model_blessed(artifact_utils.get_single_instance(inputs["model_blessing"])):
            output.exec_properties["version"].int_value = NOT_BLESSED
            return output
        directory = locate(execution_info.exec_properties["push_directory"])
        newest = max(push_directory.versions(directory), default=None)
        record = push_directory.read_record(directory, newest) if newest is not None else None
        if newest and record and record.model_digest == push_directory.model_digest(saved_model_path(inputs["model"])):
            output.exec_properties["version"].int_value = newest
        else:
            output.exec_properties["version"].int_value = push_directory.next_version(directory)
        return output


class Executor(base_executor.BaseExecutor):
    """Copies the model to its version."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component. A model that is not blessed leaves the output channel empty.

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
        saved_model = saved_model_path(input_dict["model"])
        evaluation = Path(artifact_utils.get_single_uri(input_dict["evaluation"]))
        verification = _verification(exec_properties)
        newest = max(push_directory.versions(directory), default=None)
        if newest != version:  # else it is there already, and only the cache lost it
            _refuse_what_was_rolled_back(saved_model, directory)
            if verification:
                newest = _withdraw_what_is_pending(directory, newest)
            push_directory.push(
                saved_model,
                directory,
                version=version,
                replaced_version=newest,
                metrics=_read_metrics(evaluation),
                to_be_verified=verification is not None,
            )
        served = verification.verify(version, evaluation) if verification else set()
        if keep := exec_properties.get("keep_versions"):
            removed = push_directory.prune(directory, keep=keep, protected=served)
            logging.info("Versions removed because newer ones are kept: %s.", removed or "none")
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        pushed_model.set_string_custom_property(
            "pushed_destination", str(push_directory.version_path(directory, version))
        )
        pushed_model.set_string_custom_property("pushed_version", str(version))
        logging.info("Pushed version %d to %s.", version, directory)


def _verification(exec_properties: dict[str, Any]) -> "Verification | None":
    endpoint = parameter(exec_properties, "endpoint", EndpointConfig)
    if endpoint is None:
        return None
    from kubetfx.components.push.push_verification import Verification

    return Verification(endpoint, exec_properties["model_name"], locate(exec_properties["push_directory"]))


def _withdraw_what_is_pending(directory: Location, newest: int | None) -> int | None:
    """Remove a version whose push was killed before it was verified; the newest that is left."""
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
    PARAMETERS = {"push_directory": str, "model_name": str, "endpoint": EndpointConfig, "keep_versions": int}
    OPTIONAL = ("endpoint", "keep_versions")

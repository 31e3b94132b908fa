"""The baseline of the evaluation: the currently served model.

It is the stable version, or the newest without labels. It is found in the push directory rather than in ML Metadata,
which a cluster does not have (docs/decisions/0004-baseline.md).
"""

from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.push import labels, push_directory
from kubetfx.storage import Location, locate

NO_VERSION = 0
"""Value of the `served_version` property when nothing is served."""


def baseline_version(directory: Location, *, candidate: Path | None) -> int | None:
    """Return the version to compare a candidate with; None if there is none.

    It is the served version. If that is the candidate itself, it is the version that the candidate replaced, so that a
    run that changes nothing is evaluated as before.

    Args:
        directory: where versions are pushed.
        candidate: folder of its SavedModel; None: there is none yet.
    """
    served = labels.served_version(directory)
    newest = max([*push_directory.versions(directory), *push_directory.waiting_versions(directory)], default=None)
    if newest is None:
        return None
    record = push_directory.read_record(directory, newest) if candidate else None
    if record and candidate and record.model_digest == push_directory.model_digest(candidate):
        return record.replaced_version
    return served


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Resolves the version before the cache is asked, so that the version is part of the cache's key."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Set `served_version`."""
        directory = locate(execution_info.exec_properties["push_directory"])
        candidates = execution_info.input_dict.get("model")
        version = baseline_version(directory, candidate=saved_model_path(candidates) if candidates else None)
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["served_version"].int_value = version or NO_VERSION
        return output


class Executor(base_executor.BaseExecutor):
    """Copies the served version into the run's artifacts, where it stays after serving moves on."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component. Without a served version the output channel stays empty."""
        version = exec_properties["served_version"]
        directory = locate(exec_properties["push_directory"])
        if version == NO_VERSION or version not in push_directory.versions(directory):
            logging.info("No version is served: there is no baseline.")
            output_dict["served_model"].clear()
            return
        served_model = artifact_utils.get_single_instance(output_dict["served_model"])
        served_model.set_int_custom_property("version", version)
        push_directory.copy_version(directory, version, Path(path_utils.serving_model_dir(served_model.uri)))
        logging.info("Baseline: version %d.", version)


def saved_model_path(models: list[types.Artifact]) -> Path:
    """Return the folder of the SavedModel in a model artifact.

    Args:
        models: a list of the one artifact.
    """
    return Path(path_utils.serving_model_path(artifact_utils.get_single_uri(models)))


class ServedModelResolver(Component):
    """The model that is served now, if there is one: what a candidate is compared with, or a training starts from."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver
    INPUTS = {"model": standard_artifacts.Model}
    OUTPUTS = {"served_model": standard_artifacts.Model}
    PARAMETERS = {"push_directory": str}
    OPTIONAL = ("model",)

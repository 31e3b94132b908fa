"""Pusher: a blessed model becomes a new version in the push directory, whole or not at all."""

from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_component, base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import push_directory
from components.served_model_resolver import saved_model_path

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
        directory = Path(execution_info.exec_properties["push_directory"])
        newest = max(push_directory.versions(directory), default=None)
        record = push_directory.read_record(directory, newest) if newest is not None else None
        if record and record.model_digest == push_directory.model_digest(saved_model_path(inputs["model"])):
            output.exec_properties["version"].int_value = record.version
        else:
            output.exec_properties["version"].int_value = push_directory.next_version(directory)
        return output


class Executor(base_executor.BaseExecutor):
    """Copies the model to its version."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component. A model that is not blessed leaves the output channel empty.

        Raises:
            PushError: the version could not be written; what is served is unchanged.
        """
        version = exec_properties["version"]
        if version == NOT_BLESSED:
            logging.info("The model is not blessed, so it is not pushed.")
            output_dict["pushed_model"].clear()
            return
        directory = Path(exec_properties["push_directory"])
        newest = max(push_directory.versions(directory), default=None)
        if newest != version:  # else it is there already, and only the cache lost it
            saved_model = saved_model_path(input_dict["model"])
            push_directory.push(saved_model, directory, version=version, replaced_version=newest)
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        pushed_model.set_string_custom_property(
            "pushed_destination", str(push_directory.version_path(directory, version))
        )
        pushed_model.set_string_custom_property("pushed_version", str(version))
        logging.info("Pushed version %d to %s.", version, directory)


class PusherSpec(component_spec.ComponentSpec):
    """Channels and properties of Pusher."""

    PARAMETERS = {"push_directory": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Pusher(base_component.BaseComponent):
    """Pushes what the Evaluator blessed."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, model: types.BaseChannel, model_blessing: types.BaseChannel, *, push_directory: str) -> None:
        super().__init__(
            PusherSpec(
                model=model,
                model_blessing=model_blessing,
                push_directory=push_directory,
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )

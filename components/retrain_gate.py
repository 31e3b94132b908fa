"""RetrainGate and RetrainEnd: a recurring run on Kubeflow first decides whether there is a reason to run.

The memory of earlier runs is in the push directory, since nothing else outlives a run's pods. Only one run is active at
a time, so a run that has not ended when the next one decides has failed.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from absl import logging
from tfx.dsl.components.base import base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from kubetfx.artifacts import DECISION
from kubetfx.components.data.retraining import Memory, decide, utc_now
from kubetfx.components.declaration import Artifacts, Component, parameter
from kubetfx.components.report.component import RunReport
from kubetfx.config.data_section import DataConfig
from kubetfx.config.retrain_section import RetrainConfig
from kubetfx.storage import Location, locate

RETRAIN = "retrain"
"""Custom property of a decision: 1 where there is a reason for a run."""


class RetrainDecision(Artifact):
    """A folder with decision.txt: the reason for a run, or against it."""

    TYPE_NAME = "RetrainDecision"


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Sets the time, so that decisions are not cached."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Set `now`."""
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["now"].string_value = utc_now().isoformat()
        return output


class GateExecutor(base_executor.BaseExecutor):
    """Decides, and records the start of a run."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        retrain = parameter(exec_properties, "retrain", RetrainConfig)
        data = parameter(exec_properties, "data", DataConfig)
        assert retrain is not None
        assert data is not None
        folder, now = _place(exec_properties)
        memory = Memory.read(folder)
        decision = decide(retrain, data, memory, now, drift=tuple)
        logging.info("%s", decision.why)
        (artifact,) = output_dict["decision"]
        artifact.set_int_custom_property(RETRAIN, int(decision.retrain))
        place = Path(artifact_utils.get_single_uri(output_dict["decision"]))
        place.mkdir(parents=True, exist_ok=True)
        (place / DECISION).write_text(decision.why, encoding="utf-8")
        if decision.retrain:
            memory.begun(decision.spans, now).write(folder)


class EndExecutor(base_executor.BaseExecutor):
    """Records the end of the run."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        folder, now = _place(exec_properties)
        Memory.read(folder).ended(0, now).write(folder)


def _place(exec_properties: dict[str, Any]) -> tuple[Location, datetime]:
    """Return where the memory is, and the time."""
    folder = locate(exec_properties["push_directory"])
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    return folder, datetime.fromisoformat(exec_properties["now"]).astimezone(UTC)


class RetrainGate(Component):
    """Whether there is a reason for the run."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(GateExecutor)
    DRIVER_CLASS = Driver
    OUTPUTS = {"decision": RetrainDecision}
    PARAMETERS = {"retrain": RetrainConfig, "data": DataConfig, "push_directory": str}


class RetrainEnd(Component):
    """Records the end of the run."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(EndExecutor)
    DRIVER_CLASS = Driver
    INPUTS = {"report": RunReport}
    PARAMETERS = {"push_directory": str}

"""Report: the result of a run as facts, one HTML file, metrics for programs and a model card.

It comes after Pusher and never fails a run: a part that cannot be made is left out with its reason.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.artifact import Artifact

from kubetfx.artifacts import CARD, METRICS_FILE, REPORT
from kubetfx.components.cross_validation import CrossValidationResult
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.report import card, facts, previous, render
from kubetfx.components.report import metrics_document as metrics
from kubetfx.components.report.collect import Sources, collect


class RunReport(Artifact):
    """A folder with facts.json, report.html, metrics.json and model_card.md."""

    TYPE_NAME = "RunReport"


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Finds the previous run with other data before the cache is asked, so that it is part of the cache's key."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Set `previous_statistics`, `previous_run` and `previous_missing_because`."""
        statistics = artifact_utils.get_single_uri(execution_info.input_dict["statistics"])
        found = previous.find(Path(statistics))
        output = driver_output_pb2.DriverOutput()
        output.exec_properties["previous_statistics"].string_value = str(found.statistics or "")
        output.exec_properties["previous_run"].string_value = found.run_id
        output.exec_properties["previous_missing_because"].string_value = found.missing_because
        return output


class Executor(base_executor.BaseExecutor):
    """Collects the facts and renders them."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        settings = facts.Settings.model_validate_json(exec_properties["settings"])
        found = collect(_sources(input_dict, exec_properties), settings)
        folder = Path(artifact_utils.get_single_uri(output_dict["report"]))
        folder.mkdir(parents=True, exist_ok=True)
        facts.write(found, folder)
        files: dict[str, Callable[[], str]] = {
            REPORT: lambda: render.report(found),
            CARD: lambda: card.markdown(found),
            METRICS_FILE: lambda: metrics.document(found).model_dump_json(indent=1),
        }
        for name, make in files.items():
            try:
                (folder / name).write_text(make(), encoding="utf-8")
            except Exception:  # the model is served by now
                logging.exception("%s cannot be made.", name)


def _sources(inputs: dict[str, list[types.Artifact]], properties: dict[str, Any]) -> Sources:
    def folder(key: str) -> Path | None:
        return Path(artifact_utils.get_single_uri(inputs[key])) if inputs.get(key) else None

    examples = artifact_utils.get_single_instance(inputs["examples"])
    served = artifact_utils.get_single_instance(inputs["served_model"]) if inputs.get("served_model") else None
    pushed = artifact_utils.get_single_instance(inputs["pushed_model"]) if inputs.get("pushed_model") else None
    if pushed and not pushed.get_string_custom_property("pushed_version"):  # it waits for approval
        pushed = None
    return Sources(
        statistics=folder("statistics"),
        schema=folder("schema"),
        anomalies=folder("anomalies"),
        examples=folder("examples"),
        examples_properties=custom_properties(examples),
        model=folder("model"),
        evaluation=folder("evaluation"),
        cross_validation=folder("cross_validation"),
        tuning=folder("tuning"),
        served_version=served.get_int_custom_property("version") if served else None,
        pushed_version=int(pushed.get_string_custom_property("pushed_version")) if pushed else None,
        pushed_destination=pushed.get_string_custom_property("pushed_destination") if pushed else None,
        previous=previous.Previous(
            run_id=properties.get("previous_run", ""),
            statistics=Path(earlier) if (earlier := properties.get("previous_statistics")) else None,
            missing_because=properties.get("previous_missing_because", ""),
        ),
    )


def custom_properties(artifact: types.Artifact) -> dict[str, Any]:
    """Return the custom properties of an artifact by name.

    Args:
        artifact: of a run.
    """
    values = artifact.mlmd_artifact.custom_properties
    return {name: getattr(value, value.WhichOneof("value") or "string_value") for name, value in values.items()}


class Report(Component):
    """The report of the run."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver
    INPUTS = {
        "examples": standard_artifacts.Examples,
        "statistics": standard_artifacts.ExampleStatistics,
        "schema": standard_artifacts.Schema,
        "anomalies": standard_artifacts.ExampleAnomalies,
        "model": standard_artifacts.Model,
        "evaluation": standard_artifacts.ModelEvaluation,
        "served_model": standard_artifacts.Model,
        "pushed_model": standard_artifacts.PushedModel,
        "cross_validation": CrossValidationResult,
        "tuning": standard_artifacts.TunerResults,
    }
    OUTPUTS = {"report": RunReport}
    PARAMETERS = {"settings": facts.Settings}
    OPTIONAL = ("served_model", "pushed_model", "cross_validation", "tuning")

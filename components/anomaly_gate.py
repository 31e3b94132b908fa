"""The gate that TFX lacks: anomalies that ExampleValidator found stop the pipeline.

The gate passes the schema on, and all later nodes take the schema from the gate, so that nothing can bypass it.
"""

import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from absl import logging
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import ANOMALIES, SCHEMA
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.config.data_section import AnomalyAction, CheckKey, ValidationConfig
from kubetfx.errors import AnomaliesError

DATASET = "the whole table"
KINDS: Mapping[anomalies_pb2.AnomalyInfo.Type, CheckKey] = {
    anomalies_pb2.AnomalyInfo.CUSTOM_VALIDATION: "leakage",
    anomalies_pb2.AnomalyInfo.FEATURE_COVERAGE_TOO_LOW: "text",
}
"""The key of `validation` that sets the action for an anomaly, by the type of its reason; for other types it is
`on_anomaly`.
"""


@dataclass(frozen=True)
class Anomaly:
    """One way in which a column of a split departs from the schema."""

    split: str
    feature: str
    problem: str
    action: AnomalyAction
    key: CheckKey | None = None
    """Key of `validation` that sets the action: for leakage of the label, for copies of training rows, or for texts
    unlike those in training. None: `on_anomaly`.
    """

    @property
    def setting_to_pass(self) -> str:
        """The setting that turns the anomaly into a warning."""
        if self.key:
            return f"validation.{self.key}: warn"
        if self.feature == DATASET:
            return "validation.on_anomaly: warn"
        setting = yaml.safe_dump({self.feature: "warn"}, default_flow_style=True, allow_unicode=True, width=math.inf)
        return f"validation.features: {setting.strip()}"

    def __str__(self) -> str:
        return f"{self.feature} ({self.split}): {self.problem}"


def read_anomalies(folders: Mapping[str, Path], config: ValidationConfig) -> list[Anomaly]:
    """Return the anomalies that ExampleValidator found, with the configured action for each.

    Args:
        folders: folder of SchemaDiff.pb by split.
        config: the `validation` section. TFDV's warnings never stop the pipeline.
    """
    return [
        anomaly
        for split, folder in folders.items()
        for anomaly in _anomalies_of_split(split, (folder / ANOMALIES).read_bytes(), config)
    ]


def _anomalies_of_split(split: str, content: bytes, config: ValidationConfig) -> Iterable[Anomaly]:
    document = anomalies_pb2.Anomalies.FromString(content)
    infos = list(document.anomaly_info.items())
    if document.HasField("dataset_anomaly_info"):
        infos.append((DATASET, document.dataset_anomaly_info))
    for key, info in sorted(infos):
        feature = ".".join(info.path.step) or key  # TFDV's key of a name with a dot has quotes in it
        reasons = [f"{reason.short_description}: {reason.description}".rstrip(": ") for reason in info.reason]
        named = next((KINDS[reason.type] for reason in info.reason if reason.type in KINDS), None)
        action = _action(feature, info, config, named)
        yield Anomaly(split, feature, " ".join(reasons) or info.description, action, named)


def _action(
    feature: str,
    info: anomalies_pb2.AnomalyInfo,
    config: ValidationConfig,
    key: CheckKey | None,
) -> AnomalyAction:
    if key:
        said = config.leakage if key == "leakage" else config.text
        return config.features.get(feature, "ignore" if said == "off" else said)
    action = config.features.get(feature, config.on_anomaly)
    return "warn" if action == "stop" and info.severity == anomalies_pb2.AnomalyInfo.WARNING else action


class Executor(base_executor.BaseExecutor):
    """Logs anomalies whose action is a warning, and raises an error for those whose action is `stop`."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component.

        Raises:
            AnomaliesError: there are anomalies whose action is `stop`; its message lists them.
        """
        anomalies_artifact = artifact_utils.get_single_instance(input_dict["anomalies"])
        splits = artifact_utils.decode_split_names(anomalies_artifact.split_names)
        folders = {split: Path(artifact_utils.get_split_uri([anomalies_artifact], split)) for split in splits}
        config = ValidationConfig.model_validate_json(exec_properties["validation"])
        schema_folder = Path(artifact_utils.get_single_uri(input_dict["schema"]))
        anomalies = read_anomalies(folders, config)
        for anomaly in anomalies:
            if anomaly.action == "warn":
                logging.warning("Anomaly: %s", anomaly)
        stopping = [anomaly for anomaly in anomalies if anomaly.action == "stop"]
        if stopping:
            raise AnomaliesError(
                f"The data has {'an anomaly' if len(stopping) == 1 else f'{len(stopping)} anomalies'}:\n"
                + "\n".join(f"  {anomaly}" for anomaly in stopping)
                + f"\nCorrect the data; or let it pass: {_setting_to_pass(stopping)}"
                + f"; or edit a copy of {schema_folder / SCHEMA} and name it as data.schema_file."
                * (not all(anomaly.key for anomaly in stopping))
            )
        shutil.copytree(
            schema_folder, artifact_utils.get_single_uri(output_dict["approved_schema"]), dirs_exist_ok=True
        )


def _setting_to_pass(anomalies: list[Anomaly]) -> str:
    """Return the settings that let the first anomaly of each kind pass; a column is preferred over the whole table."""
    ranked = sorted(anomalies, key=lambda anomaly: (anomaly.key or "", anomaly.feature == DATASET, anomaly.feature))
    kinds = {anomaly.key or "": anomaly.setting_to_pass for anomaly in reversed(ranked)}
    return "; ".join(kinds[kind] for kind in sorted(kinds))


class AnomalyGate(Component):
    """Passes the schema on if the data fits it well enough."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {"anomalies": standard_artifacts.ExampleAnomalies, "schema": standard_artifacts.Schema}
    OUTPUTS = {"approved_schema": standard_artifacts.Schema}
    PARAMETERS = {"validation": ValidationConfig}

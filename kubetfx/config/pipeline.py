"""All of pipeline.yaml as one frozen tree.

Values are checked here as far as they can be without the data; `pipeline/preflight.py` checks them against the data.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator

from kubetfx.artifact_store import ArtifactStore
from kubetfx.config import tunable_keys
from kubetfx.config.beam_section import BeamConfig
from kubetfx.config.data_section import DataConfig, FeaturesConfig, ValidationConfig
from kubetfx.config.dotted_keys import override
from kubetfx.config.evaluation_section import EvaluationConfig, problem_of
from kubetfx.config.faults import describe_faults
from kubetfx.config.kubeflow_section import COMPONENTS, KubeflowConfig
from kubetfx.config.metric_catalogue import CATALOGUE, CROSS_VALIDATED_PREFIX, is_reference, names_for
from kubetfx.config.model_section import DEFAULT_MODULE, ModelConfig
from kubetfx.config.monitoring_section import MonitoringConfig
from kubetfx.config.paths import with_absolute_paths
from kubetfx.config.report_section import CardConfig, ReportConfig
from kubetfx.config.retrain_section import RetrainConfig
from kubetfx.config.section import Name, Section, nearest
from kubetfx.config.serving_section import ServingConfig
from kubetfx.config.tracking_section import TrackingConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.config.tuning_section import TuningConfig
from kubetfx.config.workspace_section import WorkspaceConfig
from kubetfx.errors import ConfigError
from kubetfx.storage import Location, is_web, locate

_NAME_IMAGES = "Name the column of images, features.image: [COLUMN]; or give a folder of images, data.format: images"


class PipelineConfig(Section):
    """All of pipeline.yaml, in Python: `PipelineConfig(name="houses", data={"path": "houses.csv", "label": "price"})`.

    Sections are dictionaries or objects (`DataConfig(...)`). Relative paths start at the working directory.
    """

    name: Name
    """Name of the pipeline, of its workspace, and by default of the served model."""
    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig | None = None
    """A search for better settings. None: the model is trained with the settings in the file."""
    validation: ValidationConfig = ValidationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    card: CardConfig = CardConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    tracking: TrackingConfig | None = None
    """An MLflow server to which runs are sent. None: runs are kept in the workspace only."""
    beam: BeamConfig = BeamConfig()
    definition: str | None = None
    """Your own function instead of kubetfx.pipeline.definition:create_pipeline, as `module:function`: it takes the
    config and returns a TFX pipeline. The module is installed, or beside pipeline.yaml."""
    retrain: RetrainConfig | None = None
    """When `kubetfx watch` runs the pipeline again."""
    kubeflow: KubeflowConfig = KubeflowConfig()
    workspace: str | WorkspaceConfig = WorkspaceConfig()
    """Folder of artifacts, metadata and logs, by default .kubetfx/NAME beside pipeline.yaml; or a place in a bucket for
    the artifacts; or `{path, local, keep}`."""

    _folder: Path = PrivateAttr()

    def __init__(self, folder: Path | None = None, /, **sections: Any) -> None:
        """Check the sections, and make their paths absolute.

        Args:
            folder: Where relative paths start, and where the user's modules are found. Default: the working
                directory.
            sections: The sections by name, as in pipeline.yaml.

        Raises:
            ConfigError: the sections are not valid. All errors are listed.
        """
        folder = (folder or Path.cwd()).resolve()
        try:
            super().__init__(**with_absolute_paths(sections, folder=folder))
        except ValidationError as error:
            raise ConfigError("The pipeline is not valid:", faults=describe_faults(error, type(self))) from None
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The folder of pipeline.yaml, or the working directory if the config was made in Python.

        The user's modules are found here.
        """
        return self._folder

    @model_validator(mode="before")
    @classmethod
    def _images_need_no_kind(cls, document: Any) -> Any:
        """Complete the config: `data.format: images` implies `model.kind: image`."""
        if not isinstance(document, dict):
            return document
        data, model = document.get("data"), document.get("model", {})
        is_image = data.get("format") == "images" if isinstance(data, dict) else getattr(data, "format", "") == "images"
        return {**document, "model": {"kind": "image", **model}} if is_image and isinstance(model, dict) else document

    @field_validator("evaluation")
    @classmethod
    def _metrics_fit_the_task(cls, evaluation: EvaluationConfig, info: ValidationInfo) -> EvaluationConfig:
        model = info.data.get("model")
        if model is None:  # already reported as an error
            return evaluation
        has_images = _has_images(info.data.get("data"), info.data.get("features"))
        of_rows = names_for(model.task, sees_images=has_images)
        if "robustness" in evaluation.changed and not has_images:
            raise ValueError(f"evaluation.robustness is for images. {_NAME_IMAGES}")
        if "robustness" in evaluation.changed and model.task != "classification":
            raise ValueError(
                "evaluation.robustness measures lost accuracy, which a regression "
                f"does not have. Received: model.task: {model.task}"
            )
        for section, names in {"metrics": evaluation.metrics, **evaluation.bounds}.items():
            known = of_rows if section.startswith("slices.") else (*of_rows, *evaluation.robustness.metrics)
            if section == "thresholds" and evaluation.cross_validation:
                known = (*known, *(f"{CROSS_VALIDATED_PREFIX}{name}" for name in of_rows))
            for metric in names:
                if metric not in known and not is_reference(metric):
                    raise ValueError(
                        f"evaluation.{section}: unknown metric {metric!r} for {model.task}."
                        f"{nearest(metric, known)} Known: {', '.join(known)}; and your own as module:attribute"
                    )
        return evaluation

    @model_validator(mode="after")
    def _calibration_has_rows_of_its_own(self) -> Self:
        if not self.evaluation.calibrate:
            return self
        if self.model.task != "classification":
            raise ValueError(
                "evaluation.calibrate applies to probabilities, which a regression does not have. Received: "
                "model.task: "
                f"{self.model.task}. Leave evaluation.calibrate out"
            )
        splits = self.data.splits
        if not splits.validation:
            received, remedy = "data.splits.validation: 0", "Give it a share, 0.1 for example"
            if splits.files:
                received, remedy = "data.splits.files without validation", "Name a file for it"
            raise ValueError(
                "evaluation.calibrate needs a validation split, since the eval split judges the result. "
                f"Received: {received}. {remedy}, or leave evaluation.calibrate out"
            )
        return self

    @field_validator("monitoring")
    @classmethod
    def _monitored_metrics_are_known(cls, monitoring: MonitoringConfig, info: ValidationInfo) -> MonitoringConfig:
        model = info.data.get("model")
        if model is None:  # already reported as an error
            return monitoring
        has_images = _has_images(info.data.get("data"), info.data.get("features"))
        known = names_for(model.task, sees_images=has_images)
        for metric, bounds in monitoring.quality.items():
            if metric not in known and not is_reference(metric):
                raise ValueError(
                    f"monitoring.quality: unknown metric {metric!r} for {model.task}.{nearest(metric, known)} "
                    f"Known: {', '.join(known)}; and your own as module:attribute"
                )
            if metric in CATALOGUE and (problem := problem_of(bounds, CATALOGUE[metric])):
                raise ValueError(f"monitoring.quality.{metric}: {problem}")
        return monitoring

    @field_validator("kubeflow")
    @classmethod
    def _components_are_known(cls, kubeflow: KubeflowConfig, info: ValidationInfo) -> KubeflowConfig:
        if info.data.get("definition") is not None:  # its components are not known yet
            return kubeflow
        fused = [name for group in kubeflow.fused_groups for name in group]
        for section, names in (("resources", kubeflow.resources), ("fuse", fused)):
            for name in names:
                if name not in COMPONENTS:
                    raise ValueError(
                        f"kubeflow.{section}: unknown component {name!r}.{nearest(name, COMPONENTS)} "
                        f"Known: {', '.join(COMPONENTS)}"
                    )
        return kubeflow

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> Self:
        named = {f"features.{key}": names for key, names in self.features.by_role.items()} | {
            "data.drop": self.data.drop
        }
        if also := [key for key, names in named.items() if self.data.label in names]:
            raise ValueError(f"data.label {self.data.label!r} is also in {' and '.join(also)}")
        return self

    @model_validator(mode="after")
    def _ensemble_of_folds_has_folds(self) -> Self:
        folds = self.evaluation.cross_validation
        if self.model.ensemble != "folds":
            return self
        if folds is None:
            raise ValueError(
                "model.ensemble: folds averages the models of cross-validation. Received: no "
                "evaluation.cross_validation. Add the section, {folds: 5} for example, or give a number of networks"
            )
        if (time := folds.time_column(self.data.splits)) is not None:
            raise ValueError(
                "model.ensemble: folds averages models that each know almost all rows, but the models of folds "
                f"by time know only older rows. Received: folds by the column {time!r}. Give a number of networks, "
                "such as model.ensemble: 5, or make folds by a group"
            )
        return self

    @model_validator(mode="after")
    def _own_training_is_of_a_network(self) -> Self:
        for key in ("loss", "callbacks"):
            if self.model.kind in ("trees", "auto") and key in self.training.changed:
                raise ValueError(
                    f"training.{key} applies to networks only. Received: model.kind: {self.model.kind}. "
                    f"Set model.kind: network, or leave training.{key} out"
                )
        return self

    @model_validator(mode="after")
    def _weights_are_of_a_network(self) -> Self:
        if self.serving.weights != "float32" and self.model.kind == "trees":
            raise ValueError(
                f"serving.weights rounds the weights of a network, and the thresholds of trees need all their digits. "
                f"Received: "
                f"serving.weights: {self.serving.weights}, model.kind: trees. Leave serving.weights out, or set "
                "model.kind: network"
            )
        return self

    @model_validator(mode="after")
    def _retraining_can_look(self) -> Self:
        if self.retrain and "new_span" in self.retrain.on and self.data.source:
            raise ValueError(
                "retrain: `on: [new_span]` watches files, and data.source is a function. Received: "
                f"data.source: {self.data.source}. Use on: [schedule], every: 1d for example"
            )
        if self.retrain and "new_span" in self.retrain.on and is_web(self.data.path):
            raise ValueError(
                "retrain: `on: [new_span]` watches files, and a web address does not say what is new. "
                f"Received: data.path: {self.data.path}. Use on: [schedule], every: 1d for example"
            )
        if self.retrain and "drift" in self.retrain.on and self.monitoring.requests is None:
            raise ValueError(
                "retrain: `on: [drift]` needs a log of requests. Received: no monitoring.requests. Name its "
                "folder, for example monitoring: {requests: requests}"
            )
        return self

    @model_validator(mode="after")
    def _warm_start_is_of_a_network(self) -> Self:
        if self.training.warm_start is None:
            return self
        received = "model.kind: trees" if self.model.kind == "trees" else None
        if self.model.ensemble == "folds":
            received = "model.ensemble: folds"
        if received:
            raise ValueError(
                "training.warm_start applies to networks trained on all training rows: trees have no weights, "
                f"and a fold must not know the rows that it holds out. Received: {received}. Leave training.warm_start "
                f"out"
            )
        return self

    @model_validator(mode="after")
    def _distributed_training_is_of_a_network(self) -> Self:
        if self.training.distribution is not None and self.model.kind == "trees":
            raise ValueError(
                "training.distribution applies to networks only. Received: model.kind: trees. Set model.kind: network, "
                "or leave "
                "training.distribution out"
            )
        return self

    @model_validator(mode="after")
    def _weight_is_neither_label_nor_feature(self) -> Self:
        weight, features = self.training.sample_weight, self.features
        if weight is None:
            return self
        if self.data.format == "images" or features.image:
            raise ValueError("training.sample_weight applies to tables without images only. Leave it out")
        for key, names in {
            "data.label": [self.data.label],
            "data.drop": self.data.drop,
            "features": [*features.numeric, *features.categorical],
        }.items():
            if weight in names:
                raise ValueError(
                    f"training.sample_weight {weight!r} is also in {key}, and a weight must not be used "
                    f"otherwise. Remove it there"
                )
        return self

    @model_validator(mode="after")
    def _images_fit_together(self) -> Self:
        is_image = self.data.format == "images"
        self._check_keys_of_images(has_images=_has_images(self.data, self.features))
        if is_image != (self.model.kind == "image"):
            raise ValueError(
                "data.format: images and model.kind: image go together. Received: "
                f"data.format: {self.data.format}, model.kind: {self.model.kind}"
            )
        if not is_image and self.model.augmentation.mixup:
            raise ValueError(
                "model.augmentation.mixup applies to images alone: other columns cannot be mixed. Leave it out"
            )
        if is_image and self.features.changed:
            raise ValueError("features applies to tables. Received: data.format: images. Leave the section out")
        if self.training.fine_tune and (self.model.backbone is None or self.model.weights == "none"):
            raise ValueError(
                "training.fine_tune needs a model.backbone with pretrained weights. Set model.backbone, "
                "or leave training.fine_tune out"
            )
        return self

    @model_validator(mode="after")
    def _pretraining_is_of_one_process(self) -> Self:
        if self.features.text_encoder.pretrain and self.training.distribution:
            raise ValueError(
                "features.text_encoder.pretrain runs in one process only. Received: training.distribution.strategy: "
                f"{self.training.distribution.strategy}. Leave one of them out"
            )
        return self

    def _check_keys_of_images(self, *, has_images: bool) -> None:
        of_training = {"fine_tune", "label_smoothing"} & self.training.changed
        keys = {"data": self.data.image_keys, "model": self.model.image_keys, "training": of_training}
        for section, names in keys.items():
            if names and not has_images:
                raise ValueError(f"{section}.{min(names)} is for images. {_NAME_IMAGES}")

    @model_validator(mode="after")
    def _searches_what_there_is(self) -> Self:
        if self.tuning is not None:
            tunable_keys.check(self.tuning, self)
        return self

    def with_settings(self, settings: Mapping[str, Any]) -> "PipelineConfig":
        """Return the config with other values, and without a search.

        Args:
            settings: values by dotted key.

        Raises:
            ConfigError: a value does not fit its key, or another key.
        """
        sections = {name: getattr(self, name) for name in type(self).model_fields if name != "tuning"}
        changed = {name: sections[name].model_dump() for name in tunable_keys.SECTIONS}
        for key, value in settings.items():
            override(changed, key, value)
        return PipelineConfig(getattr(self, "_folder", None), **{**sections, **changed})

    @property
    def sees_images(self) -> bool:
        """Whether the config names a column of images."""
        return _has_images(self.data, self.features)

    @property
    def calibrates_trainings(self) -> bool:
        """Whether each training ends with a calibration; an average of the folds' models is calibrated as a whole."""
        return self.evaluation.calibrate and self.model.ensemble != "folds"

    @property
    def own_modules(self) -> dict[str, str]:
        """The user's own modules by the key that names them.

        These are network, column types, metrics, pipeline and data source.
        """
        network = self.model.module
        found = {"model.module": network} if network not in (None, DEFAULT_MODULE) else {}
        found |= {f"features.types: {module}": module for module in self.features.type_modules}
        found |= {f"evaluation: {name}": name.partition(":")[0] for name in self.evaluation.own_metrics}
        if self.tuning and self.tuning.metric and is_reference(self.tuning.metric):
            found |= {"tuning.metric": self.tuning.metric.partition(":")[0]}
        named = {"definition": self.definition, "data.source": self.data.source, "training.loss": self.training.loss}
        named |= {f"training.callbacks: {name}": name for name in self.training.callbacks}
        return found | {key: name.partition(":")[0] for key, name in named.items() if name}

    @property
    def example_gen(self) -> str:
        """Id of the node that reads the data."""
        return "ImageExampleGen" if self.data.format == "images" else "TableExampleGen"

    @property
    def model_name(self) -> str:
        """Name under which clients request the served model."""
        return self.serving.model_name or self.name

    @property
    def workspace_path(self) -> Path:
        """Folder of this machine for metadata, records and logs; and for artifacts, unless those are in a bucket."""
        return self.artifacts.workspace

    @property
    def artifacts(self) -> ArtifactStore:
        """Where the artifacts of runs are."""
        return ArtifactStore.of(self._workspace.path or "", self._workspace.local)

    @property
    def keep_runs(self) -> int | None:
        """Number of runs that stay in the workspace after a run; None: all."""
        return self._workspace.keep

    @property
    def _workspace(self) -> WorkspaceConfig:
        assert isinstance(self.workspace, WorkspaceConfig)  # converted to a section, with its path, before validation
        return self.workspace

    @property
    def push_path(self) -> Location:
        """TensorFlow Serving's model base path."""
        assert self.serving.push_directory is not None  # filled in before validation
        return locate(self.serving.push_directory)


def _has_images(data: DataConfig | None, features: FeaturesConfig | None) -> bool:
    """Return whether the config names a column of images.

    In a table, such a column may also be detected from its content.
    """
    return (data is not None and data.format == "images") or bool(features and features.image)

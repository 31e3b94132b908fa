"""An example of each key of pipeline.yaml, for docs/reference/config.md."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubetfx.config.loading import load_config
from kubetfx.errors import ConfigError

Schema = Mapping[str, Any]
EXAMPLES: Mapping[str, Any] = {
    "name": "houses",
    "definition": "my_pipeline:create_pipeline",
    "workspace": "/data/workspace",
    "data.path": "houses/*.csv",
    "data.label": "price",
    "data.source": "my_source:read",
    "data.source_options": {"url": "https://example.org/api", "pages": 3},
    "data.drop": ["id"],
    "data.schema_file": "schema.pbtxt",
    "data.missing_values": ["", "NA", "-999"],
    "data.types": {"zip": "text", "built": "date"},
    "data.splits.column": "sold_at",
    "data.splits.key": ["order_id"],
    "data.splits.files": {"train": "train.csv", "eval": "test.csv"},
    "data.splits.eval": 0.3,
    "data.window.spans": 28,
    "data.window.from": "2026-11-01",
    "data.window.to": "2026-11-30",
    "data.window.done_file": "_SUCCESS",
    "data.csv.delimiter": ";",
    "data.csv.decimal": ",",
    "data.csv.encoding": "cp1252",
    "data.csv.quote": "'",
    "data.csv.comment": "#",
    "features.numeric": ["rooms"],
    "features.categorical": ["rooms"],
    "features.date": ["built"],
    "features.list": ["tags"],
    "features.image": ["photo"],
    "features.text": ["description"],
    "features.types": ["my_types:Postcode"],
    "features.text_encoder.pretrained": "encoders/all-MiniLM-L6-v2",
    "features.text_encoder.cleaning.contractions": {"pls": "please"},
    "features.text_encoder.augmentation.synonyms": {"film": ["movie"]},
    "model.filters": [16, 32, 64],
    "model.backbone": "EfficientNetB0",
    "model.weights": "none",
    "model.module": "my_network",
    "model.trees.max_depth": 8,
    "model.hidden_units": [256, 128],
    "model.ensemble": 5,
    "training.loss": "my_training:focal",
    "training.callbacks": ["my_training:EnoughIsEnough"],
    "training.sample_weight": "weight",
    "training.checkpoint_directory": "/data/checkpoints",
    "training.fine_tune.from_layer": "block6a_expand_conv",
    "training.distribution.directory": "/shared/training",
    "training.distribution.ray.address": "ray-head:6379",
    "training.distribution.ray.version": "2.61.0",
    "tuning.metric": "auc",
    "tuning.search": {"training.learning_rate": {"log": [0.0001, 0.01]}, "model.dropout": [0, 0.1, 0.3]},
    "tuning.storage": "postgresql://tuner:${DB_PASSWORD}@db.example:5432/studies",
    "tuning.study": "houses-2",
    "validation.features": {"grade": "ignore"},
    "evaluation.metrics": ["accuracy", "f1_macro"],
    "evaluation.thresholds": {"accuracy": {"at_least": 0.9, "worse_by_at_most": 0.01}},
    "evaluation.slices": ["city"],
    "evaluation.robustness.noise": [0.1],
    "evaluation.robustness.blur": [1.5],
    "evaluation.robustness.rotation": [15],
    "evaluation.robustness.jpeg": [30],
    "evaluation.robustness.fgsm": [0.01],
    "evaluation.cross_validation.group": "customer",
    "evaluation.cross_validation.time": "sold_at",
    "card.purpose": "Estimates what a house is sold for.",
    "card.owner": "houses@example.org",
    "card.limits": ["Houses of one city only."],
    "card.data_source": "The land registry, 2015 to 2025.",
    "card.ethics": "Not for decisions about people.",
    "card.license": "Apache-2.0",
    "card.contact": "houses@example.org",
    "serving.model_name": "prices",
    "serving.push_directory": "s3://team/models/houses",
    "serving.endpoint.rest": "http://localhost:8501",
    "serving.endpoint.grpc": "localhost:8500",
    "serving.endpoint.models_config": "/etc/serving/models.config",
    "serving.endpoint.base_path": "/models/houses",
    "serving.canary.label": "canary",
    "monitoring.requests": "s3://team/requests/houses",
    "monitoring.last": "7d",
    "monitoring.period": "12h",
    "monitoring.columns": {"rooms": {"skew": 0.3}},
    "monitoring.ignore": ["year"],
    "monitoring.quality": {"accuracy": {"at_least": 0.9}},
    "tracking.mlflow": "http://localhost:5000",
    "tracking.token": "${MLFLOW_TOKEN}",
    "tracking.experiment": "houses",
    "beam.runner": "FlinkRunner",
    "beam.endpoint": "flink-job-service:8099",
    "beam.image": "registry.example/beam-worker:1",
    "beam.options": {"parallelism": 8},
    "beam.arguments": ["--parallelism=8"],
    "beam.environment.config": "localhost:50000",
    "retrain.on": ["new_span", "drift"],
    "retrain.every": "7d",
    "retrain.at_most": "1d",
    "retrain.back_off": "30m",
    "kubeflow.image": "registry.example/kubetfx/pipeline:1.0",
    "kubeflow.image_pull_secrets": ["registry"],
    "kubeflow.service_account": "kubetfx-pipeline",
    "kubeflow.resources": {"Trainer": {"memory": "16Gi", "gpu": {"count": 1}}},
    "kubeflow.fuse": "light",
    "kubeflow.every_component.cpu": "4",
    "kubeflow.every_component.memory": "16Gi",
    "kubeflow.every_component.node_selector": {"pool": "training"},
    "kubeflow.every_component.tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "kubeflow.every_component.shared_memory": "8Gi",
    "kubeflow.every_component.volumes": [{"claim": "data", "mount_path": "/data"}],
    "kubeflow.every_component.secrets": [{"name": "bucket", "env": {"key": "AWS_SECRET_ACCESS_KEY"}}],
    "kubeflow.every_component.config_maps": [{"name": "settings", "mount_path": "/settings"}],
    "kubeflow.every_component.env": {"AWS_REGION": "us-east-1"},
    "kubeflow.every_component.labels": {"team": "houses"},
    "kubeflow.every_component.annotations": {"example.org/owner": "houses"},
    "kubeflow.every_component.requests.cpu": "2",
    "kubeflow.every_component.requests.memory": "4Gi",
    "kubeflow.every_component.gpu.resource": "nvidia.com/gpu",
    "workspace.path": "/data/workspace",
}  # fmt: skip
"""Examples of keys whose example cannot be made from their type."""


def example_of(key: str, field: Schema, parts: list[Schema]) -> Any:
    """Return an example of a key: another value than its default, where the type tells one.

    Args:
        key: with dots.
        field: its JSON schema.
        parts: what it takes, each a JSON schema.

    Returns:
        None for a section, and where there is none.
    """
    if key in EXAMPLES:
        return EXAMPLES[key]
    default = field.get("default")
    for part in parts:
        if "enum" in part:
            return next((value for value in part["enum"] if value != default), part["enum"][0])
        if part.get("type") == "boolean":
            return not default
        if part.get("type") in ("integer", "number"):
            return _number(part, default)
    return None


def _number(part: Schema, default: Any) -> Any:
    low = part.get("minimum", part.get("exclusiveMinimum", 0))
    high = part.get("maximum", part.get("exclusiveMaximum", float("inf")))
    start = default if isinstance(default, int | float) and default else None
    for value in [start * 2, start / 2] if start else [10, 5, 3, 2, 0.1, 0.5]:
        if low < value < high and (part["type"] == "number" or value == int(value)):
            return int(value) if part["type"] == "integer" else float(f"{value:g}")
    return start if start is not None else low


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return a part of a pipeline.yaml with one key.

    Args:
        key: with dots.
        value: of the key.
    """
    name, _, rest = key.partition(".")
    return {name: nested(rest, value) if rest else value}


_TABLE = {"name": "houses", "data": {"path": "table", "label": "label"}}
_PICTURES = {"data": {"format": "images"}}
SECRETS = {"DB_PASSWORD": "of the database", "MLFLOW_TOKEN": "of the server"}
_NEEDED: Mapping[tuple[str, ...], Mapping[str, Any]] = {
    ("data.source_options",): {"data": {"source": "my_source:read"}},
    ("data.splits.by",): {"data": {"splits": {"column": "customer"}}},
    ("data.splits.train",): {"data": {"splits": {"validation": 0.3, "eval": 0.35}}},
    ("data.splits.validation",): {"data": {"splits": {"train": 0.6, "eval": 0.2}}},
    ("data.splits.eval",): {"data": {"splits": {"train": 0.6}}},
    ("data.window",): {"data": {"path": "houses/{YYYY}-{MM}-{DD}/*.csv"}},
    (
        "data.max_",
        "model.image_size",
        "model.resize",
        "model.filters",
        "model.backbone",
        "model.augmentation",
    ): _PICTURES,
    ("model.top_k", "training.label_smoothing", "evaluation.robustness"): _PICTURES,
    ("model.weights", "training.fine_tune"): {**_PICTURES, "model": {"backbone": "EfficientNetB0"}},
    ("features.text_encoder.augmentation",): {
        "features": {"text_encoder": {"kind": "cnn", "augmentation": {"synonyms": {"book": ["novel"]}}}}
    },
    ("features.text_encoder.layers", "features.text_encoder.heads", "features.text_encoder.pretrain."): {
        "features": {"text_encoder": {"kind": "transformer"}}
    },
    ("features.text_encoder.fine_tune",): {"features": {"text_encoder": {"pretrained": "encoder"}}},
    ("model.trees",): {"model": {"kind": "trees"}},
    ("training.distribution",): {"training": {"distribution": {"strategy": "multi_worker"}}},
    ("training.distribution.parameter_servers",): {"training": {"distribution": {"strategy": "parameter_server"}}},
    ("training.distribution.ray.",): {"training": {"distribution": {"launcher": "ray"}}},
    ("serving.endpoint", "serving.canary"): {"serving": {"endpoint": {"grpc": "server:8500"}}},
    ("tracking",): {"tracking": {"mlflow": "http://server:5000"}},
    ("beam.environment",): {"beam": {"environment": {"type": "EXTERNAL"}}},
    ("retrain.on",): {"monitoring": {"requests": "requests"}},
    ("retrain.every",): {"retrain": {"on": ["schedule"]}},
}
"""What else a config has to say for a key, by how keys begin."""
_OF_ONE_COMPONENT = "kubeflow.every_component.gpu"
"""Its keys are those of `kubeflow.resources` too, where alone they are valid."""


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    # Where both say something, the second counts.
    both = {key: _joined(first[key], value) if isinstance(first.get(key), dict) and isinstance(value, dict) else value
            for key, value in second.items()}  # fmt: skip
    return {**first, **both}


def without_and_with(key: str, example: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a config without the example of a key, and one with it; both say what else the key needs.

    Args:
        key: with dots.
        example: of the key.
    """
    config: dict[str, Any] = dict(_TABLE)
    for beginnings, more in _NEEDED.items():
        if key.startswith(beginnings):
            config = _joined(config, more)
    part = nested(key, example)
    if key.startswith(_OF_ONE_COMPONENT):
        part = {"kubeflow": {"resources": {"Trainer": part["kubeflow"]["every_component"]}}}
    return config, _joined(config, part)


def write_own_modules(folder: Path) -> None:
    """Write the modules and the schema that examples name.

    Args:
        folder: of the pipeline.yaml.
    """
    for name in ("column_type", "component", "metric", "network", "source", "training"):
        for module in (Path(__file__).parents[1] / "examples" / "extending" / name).glob("*.py"):
            shutil.copy(module, folder)
    (folder / "schema.pbtxt").touch()


_NOT_OF_A_NODE = {
    "name": "the beginning, in another workspace",
    "workspace": "the beginning, in another workspace",
    "workspace.path": "the beginning, in another workspace",
    "definition": "what it changes",
}


class Effects:
    """From which node a run executes nodes again when a key is changed: what the pipeline itself says."""

    def __init__(self) -> None:
        from kubetfx.pipeline.definition import create_pipeline  # imports TFX

        self._create = create_pipeline
        self._folder = Path(tempfile.mkdtemp())
        self._known: dict[str, dict[str, str]] = {}
        write_own_modules(self._folder)
        os.environ.update({name: os.environ.get(name, value) for name, value in SECRETS.items()})

    def of(self, key: str, example: Any) -> str:
        """Return the first component that runs again; those that need its outputs follow.

        Args:
            key: with dots.
            example: of the key.
        """
        if key in _NOT_OF_A_NODE:
            return _NOT_OF_A_NODE[key]
        without, changed = without_and_with(key, example)
        try:
            before = self._nodes(without)
        except ConfigError:  # which it is with the key alone
            before = self._nodes(_TABLE)
        after = self._nodes(changed)
        names = [*after, *(name for name in before if name not in after)]
        return next((name.partition(".")[0] for name in names if before.get(name) != after.get(name)), "nothing")

    def _nodes(self, config: Mapping[str, Any]) -> dict[str, str]:
        """What TFX's cache knows of each node, in their order."""
        text = json.dumps(config, sort_keys=True)
        if text not in self._known:
            components = self._create(load_config(config, folder=self._folder)).components
            self._known[text] = {
                each.id: json.dumps({key: str(value) for key, value in each.exec_properties.items()}, sort_keys=True)
                for each in components
            }
        return self._known[text]

    def end(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._folder)

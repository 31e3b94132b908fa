"""docs/reference is what scripts/make_reference.py writes."""

import os
from collections.abc import Mapping
from typing import Any

import pytest

from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from tests import scripts

reference = scripts.load("make_reference")
SCHEMA = PipelineConfig.model_json_schema()
TABLE = {"name": "houses", "data": {"path": "houses", "label": "price"}}
PICTURES = {"data": {"format": "images"}}
SECRETS = {"DB_PASSWORD": "of the database", "MLFLOW_TOKEN": "of the server"}
NEEDED: Mapping[tuple[str, ...], Mapping[str, Any]] = {
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
    ): PICTURES,
    ("model.top_k", "training.label_smoothing", "evaluation.robustness"): PICTURES,
    ("model.weights", "training.fine_tune"): {**PICTURES, "model": {"backbone": "EfficientNetB0"}},
    ("features.text_encoder.augmentation",): {
        "features": {"text_encoder": {"kind": "cnn", "augmentation": {"synonyms": {"film": ["movie"]}}}}
    },
    ("features.text_encoder.layers", "features.text_encoder.heads", "features.text_encoder.pretrain."): {
        "features": {"text_encoder": {"kind": "transformer"}}
    },
    ("features.text_encoder.fine_tune",): {"features": {"text_encoder": {"pretrained": "encoder"}}},
    ("model.trees",): {"model": {"kind": "trees"}},
    ("training.distribution",): {"training": {"distribution": {"strategy": "multi_worker"}}},
    ("training.distribution.parameter_servers",): {"training": {"distribution": {"strategy": "parameter_server"}}},
    ("training.distribution.ray.",): {"training": {"distribution": {"launcher": "ray"}}},
    ("serving.endpoint", "serving.canary"): {"serving": {"endpoint": {"grpc": "localhost:8500"}}},
    ("tracking",): {"tracking": {"mlflow": "http://localhost:5000"}},
    ("beam.environment",): {"beam": {"environment": {"type": "EXTERNAL"}}},
    ("retrain.on",): {"monitoring": {"requests": "requests"}},
    ("retrain.every",): {"retrain": {"on": ["schedule"]}},
}
"""What else a config has to say for a key, by how keys begin."""
OF_ONE_COMPONENT = "kubeflow.every_component.gpu"
"""Its keys are those of `kubeflow.resources` too, where alone they are valid."""


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both configs; where both say something, the second counts."""
    both = {key: joined(first[key], value) if isinstance(first.get(key), dict) and isinstance(value, dict) else value
            for key, value in second.items()}  # fmt: skip
    return {**first, **both}


@pytest.mark.parametrize(("key", "example"), reference.examples(SCHEMA, SCHEMA["$defs"]))
def test_example_of_a_key_is_valid(key, example, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    config = TABLE
    for beginnings, more in NEEDED.items():
        if key.startswith(beginnings):
            config = joined(config, more)
    part = reference.nested(key, example)
    if key.startswith(OF_ONE_COMPONENT):
        part = {"kubeflow": {"resources": {"Trainer": part["kubeflow"]["every_component"]}}}

    load_config(joined(config, part))


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_what_the_code_says(name):
    path, expected = reference.FOLDER / name, reference.PAGES[name]()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(expected, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == expected, "Run scripts/make_reference.py, and look at the difference."


def test_every_key_is_there_and_says_what_it_takes():
    rows = [line for line in reference.config_page().splitlines() if line.startswith("| `")]

    for row in rows:
        key, takes, _, words = (part.strip() for part in row.replace("\\|", "").strip("|").split("|"))
        assert takes, key
        assert words, key
    keys = {row.split("`")[1] for row in rows}
    assert {
        "training.epochs",
        "serving.endpoint.grpc",
        "features.text_encoder.cleaning.html",
        "data.csv.encoding",
    } <= keys

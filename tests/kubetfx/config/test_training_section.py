"""Which keys of `training.distribution` go together."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubetfx.config.loading import load_config
from kubetfx.errors import ConfigError

TABLE = {"name": "x", "data": {"path": "data", "label": "y"}}


def load(folder: Path, distribution: dict[str, Any], **sections: Any) -> Any:
    path = folder / "pipeline.yaml"
    document = {**TABLE, **sections, "training": {"distribution": distribution}}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_config(path).training.distribution


def test_a_strategy_is_enough(tmp_path):
    found = load(tmp_path, {"strategy": "multi_worker"})
    assert (found.workers, found.launcher, found.restarts) == (2, "processes", 3)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        ({}, r"training\.distribution\.strategy"),
        ({"strategy": "horovod"}, r"training\.distribution\.strategy.*Received: 'horovod'"),
        (
            {"strategy": "multi_worker", "parameter_servers": 2},
            r"parameter_servers requires strategy: parameter_server\. Received: strategy: multi_worker",
        ),
        (
            {"strategy": "parameter_server", "scale_learning_rate": True},
            r"scale_learning_rate applies to workers that share a batch.*Received: strategy: parameter_server",
        ),
        ({"strategy": "mirrored", "workers": 0}, r"training\.distribution\.workers.*Received: 0"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path, distribution, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load(tmp_path, distribution)


def test_trees_are_not_distributed(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"training\.distribution applies to networks only\. Received: model\.kind: "
        r"trees",
    ):
        load(tmp_path, {"strategy": "mirrored"}, model={"kind": "trees"})


def load_warm(folder: Path, start: str, **sections: Any) -> Any:
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump({**TABLE, **sections, "training": {"warm_start": start}}), encoding="utf-8")
    return load_config(path).training.warm_start


def test_networks_may_start_from_what_is_served(tmp_path):
    assert load_warm(tmp_path, "served") == "served"
    assert load_warm(tmp_path, "served", model={"kind": "auto"}) == "served"


@pytest.mark.parametrize(
    ("start", "sections", "message"),
    [
        ("newest", {}, r"training\.warm_start.*Received: 'newest'"),
        ("served", {"model": {"kind": "trees"}}, r"trees have no weights.*Received: model\.kind: trees"),
        (
            "served",
            {"model": {"ensemble": "folds"}, "evaluation": {"cross_validation": {"folds": 3}}},
            r"a fold must not know the rows that it holds out\. Received: model\.ensemble: folds",
        ),
    ],
)
def test_what_cannot_start_warm_is_refused_in_words(tmp_path, start, sections, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_warm(tmp_path, start, **sections)

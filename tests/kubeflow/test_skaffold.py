"""skaffold.yaml, beside the Dockerfile and the manifests that it names."""

import re
from pathlib import Path

import jsonschema
import yaml

from tests.kubeflow.published_schemas import schema

ROOT = Path(__file__).resolve().parents[2]


def test_skaffold_yaml_fits_the_schema_that_skaffold_publishes() -> None:
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    published = schema(f"skaffold-{config['apiVersion'].split('/')[1]}.json")
    jsonschema.Draft7Validator(published).validate(config)


def test_skaffold_builds_targets_and_renders_folders_that_there_are() -> None:
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    profiles = {profile["name"]: profile for profile in config["profiles"]}
    assert profiles.keys() == {"local", "gpu", "cluster"}
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    (patch,) = profiles["gpu"]["patches"]
    used = {config["build"]["artifacts"][0]["docker"]["target"], patch["value"]}
    assert used == {"pipeline", "pipeline-gpu"}
    assert used <= targets
    for part in (config, profiles["local"]):
        for path in part["manifests"]["kustomize"]["paths"]:
            assert (ROOT / path / "kustomization.yaml").is_file()
    for rule in config["build"]["artifacts"][0]["sync"]["manual"]:
        assert list(ROOT.glob(rule["src"])), rule


def test_every_package_is_copied_into_the_image_and_synced_in_development() -> None:
    from setuptools import find_packages

    packages = {name for name in find_packages(ROOT, include=["[a-z]*"]) if "." not in name} & {
        path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()
    }
    wanted = packages - {"benchmarks"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert {name for name in wanted if f"\nCOPY {name} {name}\n" in dockerfile} == wanted
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {name for name in wanted if f"!{name}" in ignored} == wanted
    config = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    synced = {rule["src"].partition("/")[0] for rule in config["build"]["artifacts"][0]["sync"]["manual"]}
    assert synced == wanted

"""Schemas that other projects publish, in the folder that KUBETFX_SCHEMAS names, or ../shared/schemas."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(os.environ.get("KUBETFX_SCHEMAS") or Path(__file__).resolve().parents[3] / "shared" / "schemas")


def schema(name: str) -> Any:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"there is no {path}; KUBETFX_SCHEMAS names the folder of the published schemas")
    # The schema of KServe alone has 2 MB, which the loader in Python takes 10 s for.
    return yaml.load(path.read_text(), yaml.CSafeLoader) if path.suffix == ".yaml" else json.loads(path.read_text())


def closed(node: Any) -> Any:
    """A resource definition's schema in which an unknown field is an error; the API server drops it without a word."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: closed(value) for key, value in node.items()}
    is_object = isinstance(node.get("properties"), dict) and node.get("type") == "object"
    if is_object and not node.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    if node.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


def custom_resource_schema(definition: dict[str, Any], version: str) -> dict[str, Any]:
    (entry,) = (v for v in definition["spec"]["versions"] if v["name"] == version)
    result = closed(entry["schema"]["openAPIV3Schema"])
    for known in (
        "apiVersion",
        "kind",
        "metadata",
    ):  # the API server knows them, whether they are in a definition or not
        result["properties"].setdefault(known, {})
    result["properties"]["metadata"].pop("additionalProperties", None)
    assert isinstance(result, dict)
    return result

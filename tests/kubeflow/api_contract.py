"""Holds requests and answers to the OpenAPI definition of Kubeflow Pipelines' API, where that file is present."""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from tests.kubeflow.published_schemas import FOLDER

FILE_NAME = "kfp-api-v2beta1.swagger.json"


def find_definition() -> Path | None:
    """None where it is not there."""
    path = FOLDER / FILE_NAME
    return path if path.is_file() else None


MISSING = (
    f"requests and answers are not held to the API's definition: there is no {FOLDER / FILE_NAME}; KUBETFX_SCHEMAS "
    "names the folder of the published schemas"
)
"""Why a check was skipped, where the definition is not there."""


class Contract:
    """What a client may ask, and a server answer."""

    def __init__(self, path: Path) -> None:
        swagger = json.loads(path.read_text())
        self._definitions = {name: _closed(schema) for name, schema in swagger["definitions"].items()}
        self._operations = [
            (method.upper(), _as_pattern(path), operation)
            for path, operations in swagger["paths"].items()
            for method, operation in operations.items()
        ]
        self.used: set[str] = set()
        """Operations that were asked for."""
        self.namespaces: dict[str, set[str | None]] = {}
        """What the operations that take a namespace were given as such; None for nothing, or an empty one."""

    def check_request(self, method: str, path: str, query: Mapping[str, str], body: Any) -> None:
        operation = self._find(method, path)
        self.used.add(operation["operationId"])
        parameters = {parameter["name"]: parameter for parameter in operation.get("parameters", [])}
        if "namespace" in parameters:
            self.namespaces.setdefault(operation["operationId"], set()).add(query.get("namespace") or None)
        for name, value in query.items():
            if name not in parameters or parameters[name]["in"] != "query":
                raise AssertionError(f"{method} {path} takes no {name}")
            if parameters[name]["type"] == "integer" and not value.isdigit():
                raise AssertionError(f"{method} {path}: {name} is an integer, not {value}")
        bodies = [parameter for parameter in parameters.values() if parameter["in"] == "body"]
        if bodies:
            self._validate(body, bodies[0]["schema"])
            definition = self._definitions.get(bodies[0]["schema"].get("$ref", "").rpartition("/")[2], {})
            if "readOnly" not in definition.get("properties", {}).get("namespace", {"readOnly": True}):
                self.namespaces.setdefault(operation["operationId"], set()).add(body.get("namespace") or None)

    def forget(self) -> None:
        """Forget what was asked for."""
        self.used.clear()
        self.namespaces.clear()

    def check_answer(self, method: str, path: str, status: int, body: Any) -> None:
        responses = self._find(method, path)["responses"]
        self._validate(body, responses.get(str(status), responses["default"])["schema"])

    def _find(self, method: str, path: str) -> Mapping[str, Any]:
        for known_method, pattern, operation in self._operations:
            if known_method == method and pattern.fullmatch(path):
                return operation
        raise AssertionError(f"the API has no {method} {path}")

    def _validate(self, document: Any, schema: Mapping[str, Any]) -> None:
        jsonschema.Draft4Validator({**_closed(schema), "definitions": self._definitions}).validate(document)


def _as_pattern(path: str) -> re.Pattern[str]:
    """Paths without variables come first in no particular order, so a variable holds no `:` and no name of one."""
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "(?!upload|create|names)[^/:]+", re.escape(path)))


def _closed(schema: Any) -> Any:
    """Swagger's schemas allow fields that they do not name; a misspelt field is to be found."""
    schema = copy.deepcopy(schema)
    if isinstance(schema, dict):
        schema = {key: _closed(value) for key, value in schema.items()}
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and schema["properties"]:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [_closed(value) for value in schema]
    return schema

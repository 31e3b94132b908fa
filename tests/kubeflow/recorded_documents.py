"""ExecutorInput documents as the launcher of Kubeflow Pipelines 2.17.0 hands them to a container, a file per task.

They are those of a package of a table with `fuse: light`, in the order in which the tasks run: URIs under the default
root, with the ids of a run and of its tasks; input artifacts with the id that ML Metadata gave them, a blank type, and
the session of the object store; the log of the first try; output files at the places of a pod. Nothing of kubetfx's
emulator went into them.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
RESOLVE, EXAMPLE_GEN = "resolve-table-example-gen", "table-example-gen"
CHECKS = "statistics-gen-schema-gen-example-validator-anomaly-gate"
TASKS = (RESOLVE, EXAMPLE_GEN, CHECKS)
DATA = "/data"
"""Where the pods had the table."""


def recorded(task: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))
    return document


def moved(task: str, *, root: Path, data: Path) -> dict[str, Any]:
    """A document for this machine: only the paths that are absolute are others than in the pod."""
    document = recorded(task)
    outputs = document["outputs"]
    outputs["outputFile"] = f"{root}{outputs['outputFile']}"
    for output in outputs.get("parameters", {}).values():
        output["outputFile"] = f"{root}{output['outputFile']}"
    parameters = document["inputs"].get("parameterValues", {})
    for name, value in parameters.items():
        parameters[name] = value.replace(DATA, str(data))
    return document


def form(document: Any, *, inside: str = "") -> Any:
    """What a document consists of, without its values: fields, and the types of what is in them."""
    if inside in ("metadata", "parameterValues") or not isinstance(document, dict | list):
        return type(document).__name__
    if isinstance(document, list):
        return [form(item) for item in document]
    return {key: form(value, inside=key) for key, value in document.items() if value != {}}

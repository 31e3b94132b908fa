"""What the folders of kubeflow/manifests render to, and the pods in it. Rendering needs kubectl."""

import copy
import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "kubeflow" / "manifests"
KUSTOMIZATIONS = sorted(
    str(path.parent.relative_to(MANIFESTS))
    for path in MANIFESTS.rglob("kustomization.yaml")
    if "components" not in path.parts
)
COMPONENTS = sorted(
    str(path.parent.relative_to(MANIFESTS)) for path in MANIFESTS.glob("*/components/*/kustomization.yaml")
)
OVERLAYS = [folder for folder in KUSTOMIZATIONS if "overlays" in folder]
WORKLOADS = ("Deployment", "InferenceService", "CronJob")
CUSTOM_KINDS = ("InferenceService", "FlinkDeployment", "SparkApplication")
"""Of operators, whose schemas they publish."""

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

Document = dict[str, Any]


@functools.cache
def _render(folder: Path) -> str:
    return subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout


def render(folder: str | Path) -> list[Document]:
    return list(yaml.safe_load_all(_render(MANIFESTS / folder)))


def with_component(component: str, folder: Path) -> Path:
    """A kustomization of a component and the overlay `pvc` beside it."""
    top = os.path.relpath(MANIFESTS / component / ".." / "..", folder.resolve())  # kustomize takes no absolute paths
    kustomization = {"resources": [f"{top}/overlays/pvc"], "components": [f"{top}/components/{Path(component).name}"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder


def one(documents: list[Document], kind: str, name: str | None = None) -> Document:
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[d['metadata']['name'] for d in found]}"
    return found[0]


def pod_of(workload: Document) -> Document:
    spec: Document = workload["spec"]
    if workload["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["predictor"] if workload["kind"] == "InferenceService" else spec["template"]["spec"]


def pods_of_operators(documents: list[Document]) -> list[Document]:
    """Pods that the operators of Flink and Spark make: the templates, with the image in the first container."""
    pods = []
    for document in documents:
        spec = document["spec"] if document["kind"] in ("FlinkDeployment", "SparkApplication") else {}
        for role in ("jobManager", "taskManager", "driver", "executor"):
            if role in spec:
                template = spec[role].get("podTemplate") or spec[role]["template"]
                pod = copy.deepcopy(template["spec"])
                pod["containers"][0]["image"] = spec["image"]
                pods.append({"name": f"{document['metadata']['name']}-{role.lower()}", "spec": pod})
    return pods


def containers_of(pod: Document) -> list[Document]:
    model = [pod["model"] | {"name": "kserve-container"}] if "model" in pod else []
    return [*pod.get("initContainers", []), *pod.get("containers", []), *model]


def workloads(documents: list[Document]) -> list[Document]:
    return [document for document in documents if document["kind"] in WORKLOADS]

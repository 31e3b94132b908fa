"""A real API server takes every document that kubetfx has or writes, whole and without a warning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube_api_server import Cluster
from tests.kubeflow.rendered_manifests import COMPONENTS, MANIFESTS, OVERLAYS, Document, one, render, with_component

pytestmark = pytest.mark.cluster

KSERVE = "serving/overlays/kserve"


@pytest.fixture
def overlay(request: pytest.FixtureRequest) -> str:
    """A folder of manifests, and with those of operators their resource definitions."""
    folder: str = request.param
    if folder == KSERVE:
        request.getfixturevalue("custom_resources")
    if folder.startswith("engine/"):
        request.getfixturevalue("engines")
    return folder


@pytest.mark.parametrize("overlay", OVERLAYS, indirect=True)
def test_overlay_is_taken_without_a_warning_and_taken_again_without_a_change(cluster: Cluster, overlay: str) -> None:
    folder = str(MANIFESTS / overlay)

    applied = cluster.apply("--kustomize", folder)

    assert applied.returncode == 0, applied.stderr
    assert applied.stderr == ""
    assert len(applied.stdout.splitlines()) == len(render(overlay))
    again = cluster.kubectl("diff", "--server-side", "--kustomize", folder)
    assert again.returncode == 0, again.stdout


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_is_taken_with_an_overlay(cluster: Cluster, component: str, tmp_path: Path) -> None:
    applied = cluster.apply("--kustomize", str(with_component(component, tmp_path)))

    assert applied.returncode == 0, applied.stderr
    assert applied.stderr == ""


@pytest.mark.parametrize("overlay", OVERLAYS, indirect=True)
def test_command_of_the_guide_is_taken_too(cluster: Cluster, overlay: str) -> None:
    applied = cluster.kubectl("apply", "--dry-run=server", "--kustomize", str(MANIFESTS / overlay))

    assert applied.returncode == 0, applied.stderr


def misspell_a_probe(deployment: Document, _: Document) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["livenesProbe"] = container.pop("livenessProbe")


def scale_the_wrong_way(_: Document, scaler: Document) -> None:
    scaler["spec"]["minReplicas"] = scaler["spec"]["maxReplicas"] + 1


def select_other_pods(deployment: Document, _: Document) -> None:
    deployment["spec"]["selector"]["matchLabels"] = {"app.kubernetes.io/name": "another"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (misspell_a_probe, 'livenesProbe"'),
        (scale_the_wrong_way, "must be greater than or equal to `minReplicas`"),
        (select_other_pods, "`selector` does not match template `labels`"),
    ],
    ids=["misspelt", "wrong way", "other pods"],
)
def test_overlay_with_a_mistake_is_refused(
    cluster: Cluster, change: Callable[[Document, Document], None], reason: str
) -> None:
    documents = json.loads(json.dumps(render("serving/overlays/pvc")))
    change(one(documents, "Deployment"), one(documents, "HorizontalPodAutoscaler"))
    for document in documents:
        document["metadata"]["name"] += "-wrong"

    applied = cluster.apply(documents=documents)

    assert applied.returncode == 1
    assert reason in applied.stderr


@pytest.mark.parametrize(
    "arguments",
    [("penguins",), ("penguins", "kubeflow.fuse=light", "kubeflow.pod_security=restricted"), ("flights",), ("digits",)],
    ids=" ".join,
)
def test_pipeline_and_its_version_are_taken_whole(
    cluster: Cluster, custom_resources: None, compile_example: Callable[..., Path], arguments: tuple[str, ...]
) -> None:
    path = compile_example(*arguments, kubernetes_manifest=True)
    pipeline, version = yaml.safe_load_all(path.read_text())

    applied = cluster.apply("--namespace", "kubeflow", "--filename", str(path))

    assert applied.returncode == 0, applied.stderr
    assert applied.stderr == ""
    assert stored(cluster, "pipeline", pipeline)["spec"] == pipeline["spec"]
    assert stored(cluster, "pipelineversion", version)["spec"] == version["spec"]


def stored(cluster: Cluster, kind: str, document: Document) -> Any:
    name = document["metadata"]["name"]
    got = cluster.kubectl("get", f"{kind}.pipelines.kubeflow.org", name, "--namespace", "kubeflow", "--output", "json")
    assert got.returncode == 0, got.stderr
    return json.loads(got.stdout)


def test_version_with_a_field_that_kubeflow_pipelines_has_not_is_refused(
    cluster: Cluster, custom_resources: None, compile_example: Callable[..., Path]
) -> None:
    _, version = yaml.safe_load_all(compile_example("penguins", kubernetes_manifest=True).read_text())
    version["spec"]["displayname"] = version["spec"].pop("displayName")

    applied = cluster.apply("--namespace", "kubeflow", "--filename", "-", documents=[version])

    assert applied.returncode == 1
    assert 'displayname"' in applied.stderr

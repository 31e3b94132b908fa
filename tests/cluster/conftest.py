"""One API server for all tests of the folder, and what they look at."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubetfx.config.loading import load_config
from tests.cluster.kube_api_server import Cluster, MissingProgramError, running_cluster
from tests.kubeflow.published_schemas import schema
from tests.kubeflow.rendered_manifests import MANIFESTS, ROOT, Document, render

CUSTOM_RESOURCES = ("kfp-pipelines-crd.yaml", "kfp-pipelineversions-crd.yaml", "kserve-inferenceservices-crd.yaml")
ENGINES = ("flink-flinkdeployments-crd.yaml", "spark-sparkapplications-crd.yaml")
RESTRICTED = "restricted"
"""A namespace that enforces this Pod Security Standard."""


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server in which there is nothing yet."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", flush=True)

    try:
        with running_cluster(tmp_path_factory.mktemp("cluster"), say) as running:
            yield running
    except MissingProgramError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(server: Cluster) -> Cluster:
    """The server with the namespaces of the overlays, and one that is restricted; each has the accounts of the pods.

    `kubetfx` is made of the overlay's own document; `kubeflow` is that of a standalone Kubeflow Pipelines.
    """
    namespaces = [namespace("kubeflow"), namespace(RESTRICTED, "restricted")]
    made = server.apply(documents=namespaces)
    assert made.returncode == 0, made.stderr
    made = server.apply("--filename", str(MANIFESTS / "pipeline" / "base" / "namespace.yaml"))
    assert made.returncode == 0, made.stderr
    accounts = [document for document in render("pipeline/base") if document["kind"] == "ServiceAccount"]
    # A controller of a whole cluster makes the account `default`.
    accounts.append({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    for name in ("kubetfx", "kubeflow", RESTRICTED):
        made = server.apply("--namespace", name, "--filename", "-", documents=accounts)
        assert made.returncode == 0, made.stderr
    return server


def namespace(name: str, enforce: str | None = None) -> Document:
    labels = {"pod-security.kubernetes.io/enforce": enforce} if enforce else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@pytest.fixture(scope="session")
def custom_resources(server: Cluster) -> None:
    """The resource definitions of Kubeflow Pipelines and KServe, as they publish them."""
    define(server, CUSTOM_RESOURCES)


@pytest.fixture(scope="session")
def engines(server: Cluster) -> None:
    """The resource definitions of the operators of Flink and of Spark, as they publish them."""
    define(server, ENGINES)


def define(server: Cluster, names: tuple[str, ...]) -> None:
    definitions = [schema(name) for name in names]
    applied = server.apply(documents=definitions)
    assert applied.returncode == 0, applied.stderr
    resources = [f"crd/{definition['metadata']['name']}" for definition in definitions]
    deadline = time.monotonic() + 60
    while (waited := server.kubectl("wait", "--for=condition=Established", "--timeout=10s", *resources)).returncode:
        assert time.monotonic() < deadline, waited.stderr  # kubectl gives up where there is no condition yet
        time.sleep(0.2)


@pytest.fixture(scope="session")
def compile_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile a pipeline.yaml of examples/, whose data is on a volume."""
    from kubetfx.kubeflow.package import compile_to_file  # TFX, which most tests of this folder do without

    def compile_it(name: str, *overrides: str, kubernetes_manifest: bool = False) -> Path:
        elsewhere = ("data.path=/data", "serving.push_directory=/models/it", "workspace=/workspace")
        config = load_config(ROOT / "examples" / name / "pipeline.yaml", overrides=(*elsewhere, *overrides))
        path: Path = tmp_path_factory.mktemp("package") / f"{name}.yaml"
        compile_to_file(config, path, kubernetes_manifest=kubernetes_manifest)
        return path

    return compile_it

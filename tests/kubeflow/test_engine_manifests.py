"""kubeflow/manifests/engine: Beam on Flink and on Spark. Its documents are valid, and fit each other and the guide."""

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.engine.arguments import check, engine_of
from tests.kubeflow.published_schemas import custom_resource_schema, schema
from tests.kubeflow.rendered_manifests import (
    MANIFESTS,
    ROOT,
    Document,
    containers_of,
    needs_kubectl,
    one,
    pod_of,
    render,
)

pytestmark = needs_kubectl

FLINK, SPARK = "engine/overlays/flink", "engine/overlays/spark"
DEFINITIONS = {
    FLINK: ("FlinkDeployment", "flink-flinkdeployments-crd.yaml", ("spec", "taskManager", "replica")),
    SPARK: ("SparkApplication", "spark-sparkapplications-crd.yaml", ("spec", "executor", "instance")),
}
BEAM = importlib.metadata.version("apache-beam")
SHARED = "/shared"


def named(containers: list[Document], name: str) -> Document:
    (found,) = [container for container in containers if container["name"] == name]
    return found


def job_service(folder: str) -> tuple[Document, Document]:
    """Labels of the pod that takes jobs, and its container; of Spark, with the arguments of the application."""
    documents = render(folder)
    if folder == FLINK:
        template = one(documents, "Deployment", "kubetfx-job-service")["spec"]["template"]
        return template["metadata"]["labels"], template["spec"]["containers"][0]
    spec = one(documents, "SparkApplication")["spec"]
    driver = named(spec["driver"]["template"]["spec"]["containers"], "spark-kubernetes-driver")
    return spec["driver"]["labels"], {**driver, "args": spec["arguments"]}


def pod_of_workers(folder: str) -> Document:
    documents = render(folder)
    if folder == FLINK:
        pod: Document = one(documents, "FlinkDeployment")["spec"]["taskManager"]["podTemplate"]["spec"]
    else:
        pod = one(documents, "SparkApplication")["spec"]["executor"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("folder", DEFINITIONS)
def test_documents_of_operators_fit_the_schemas_that_they_publish(folder: str) -> None:
    kind, name, misspelt = DEFINITIONS[folder]
    document = one(render(folder), kind)
    fitting = custom_resource_schema(schema(name), document["apiVersion"].split("/")[1])
    jsonschema.Draft7Validator(fitting).validate(document)
    parent: Any = document
    for key in misspelt[:-1]:
        parent = parent[key]
    parent[misspelt[-1]] = 2
    with pytest.raises(jsonschema.ValidationError, match=misspelt[-1]):
        jsonschema.Draft7Validator(fitting).validate(document)


@pytest.mark.parametrize("folder", DEFINITIONS)
def test_jobs_reach_the_job_service(folder: str) -> None:
    service = one(render(folder), "Service", "kubetfx-job-service")
    labels, container = job_service(folder)
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {port["port"] for port in service["spec"]["ports"]}
    assert {f"--job-port={port}" for port in ports} | {f"--artifact-port={port}" for port in ports} >= {
        argument for argument in container["args"] if re.match("--(job|artifact)-port", argument)
    }
    assert {port["containerPort"] for port in container["ports"]} == ports
    # It tells others under which address it is reached, which is no name of localhost.
    assert "--job-host=$(POD_IP)" in container["args"]
    (address,) = container["env"]
    assert address == {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


@pytest.mark.parametrize("folder", DEFINITIONS)
def test_all_see_the_shared_place_under_one_path(folder: str) -> None:
    (claim,) = [d for d in render(folder) if d["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    _, container = job_service(folder)
    pod = pod_of_workers(folder)
    (volume,) = [v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert {"name": volume, "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in pod["volumes"]
    for each in (container, *pod["containers"]):
        assert {"name": volume, "mountPath": SHARED} in each["volumeMounts"], each["name"]
    (artifacts,) = [a.partition("=")[2] for a in container["args"] if a.startswith("--artifacts-dir=")]
    assert Path(artifacts).is_relative_to(SHARED)


@pytest.mark.parametrize("folder", DEFINITIONS)
def test_workers_are_a_pool_of_our_image_that_can_do_little(folder: str) -> None:
    workers = named(pod_of_workers(folder)["containers"], "workers")
    assert (workers["image"], workers["args"]) == ("kubetfx/beam-worker", ["--worker_pool"])
    assert workers["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "code", "mountPath": "/tmp"} in workers["volumeMounts"]  # where the boot program unpacks code
    assert workers["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in workers["resources"]["limits"]


def test_versions_of_flink_and_beam_are_one() -> None:
    spec = one(render(FLINK), "FlinkDeployment")["spec"]
    flink = spec["image"].partition(":")[2]
    assert spec["flinkVersion"] == f"v{flink.replace('.', '_')}"
    _, container = job_service(FLINK)
    assert container["image"] == f"apache/beam_flink{flink}_job_server:{BEAM}"
    assert f"--flink-master={one(render(FLINK), 'FlinkDeployment')['metadata']['name']}-rest:8081" in container["args"]


def test_versions_of_spark_and_beam_are_one() -> None:
    spec = one(render(SPARK), "SparkApplication")["spec"]
    dockerfile = (MANIFESTS / SPARK / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == [
        f"apache/beam_spark3_job_server:{BEAM}",
        f"apache/spark:{spec['sparkVersion']}",
    ]
    (folder,) = re.findall(r"(/\S+)/$", dockerfile.strip(), re.MULTILINE)
    assert spec["mainApplicationFile"].startswith(f"local://{folder}/")


@pytest.mark.parametrize("folder", DEFINITIONS)
def test_strangers_reach_neither_the_job_service_nor_workers(folder: str) -> None:
    policies = [d["spec"] for d in render(folder) if d["kind"] == "NetworkPolicy"]
    labels, _ = job_service(folder)
    of_jobs = [p for p in policies if p["podSelector"]["matchLabels"].items() <= labels.items()]
    callers = [
        source["podSelector"]["matchLabels"] for p in of_jobs for rule in p["ingress"] for source in rule["from"]
    ]
    assert {"app.kubernetes.io/name": "kubetfx-workbench"} in callers
    engine = {"app.kubernetes.io/part-of": "kubetfx", "app.kubernetes.io/component": "engine"}
    assert all(caller == engine or caller.get("app.kubernetes.io/name") == "kubetfx-workbench" for caller in callers)


def test_workbench_sees_the_shared_place_and_reaches_the_engine(tmp_path: Path) -> None:
    relative = os.path.relpath(MANIFESTS / "pipeline", tmp_path.resolve())
    kustomization = {"resources": [f"{relative}/overlays/pvc"], "components": [f"{relative}/components/engine"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    documents = render(tmp_path)
    pod = pod_of(one(documents, "Deployment", "kubetfx-workbench"))
    assert {"name": "shared", "mountPath": SHARED} in named(containers_of(pod), "workbench")["volumeMounts"]
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": "kubetfx-shared"}} in pod["volumes"]
    policy = one(documents, "NetworkPolicy", "kubetfx-workbench-to-engine")["spec"]
    service = one(render(FLINK), "Service", "kubetfx-job-service")["spec"]
    (rule,) = policy["egress"]
    assert rule["to"] == [{"podSelector": {"matchLabels": service["selector"]}}]
    assert {port["port"] for port in rule["ports"]} == {port["port"] for port in service["ports"]}


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_config_of_the_guide_is_one_for_these_engines(runner: str) -> None:
    guide = (ROOT / "docs" / "scale.md").read_text()
    texts = [text for text in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "kubetfx-job-service" in text]
    (document,) = [found for text in texts if (found := yaml.safe_load(text))["beam"]["runner"] == runner]
    config = PipelineConfig.model_validate({"name": "houses", **document})
    check(config.beam)
    engine = engine_of(config.beam.command_line)
    service = one(render(FLINK), "Service")
    assert engine.endpoint == f"{service['metadata']['name']}:8099"
    assert engine.pool == "localhost:50000"  # the pool is in the pods of the engine; this is its port in Beam's image
    assert config.workspace_path.is_relative_to(SHARED)

"""kubeflow/manifests: what they render to is valid, and its parts fit each other.

Rendering needs kubectl.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
from typer.main import get_command

from kubetfx.cli.app import app
from kubetfx.components.push.mirror import MIRRORED
from kubetfx.serving.batching import read_batching_parameters_file
from kubetfx.serving.model_config import LatestVersions, RequestLogging, SpecificVersions, read_model_config_file
from kubetfx.storage import ObjectPath, locate
from tests.kubeflow.kfp_server import OPERATIONS
from tests.kubeflow.published_schemas import custom_resource_schema, schema
from tests.kubeflow.rendered_manifests import (
    CUSTOM_KINDS,
    KUSTOMIZATIONS,
    MANIFESTS,
    OVERLAYS,
    Document,
    containers_of,
    needs_kubectl,
    one,
    pod_of,
    render,
    with_component,
    workloads,
)

SERVING = MANIFESTS / "serving"
SERVERS = ("serving/overlays/local", "serving/overlays/pvc", "serving/overlays/s3")
PIPELINES = ("pipeline/overlays/local", "pipeline/overlays/pvc", "pipeline/overlays/s3")
OLDEST_KUBERNETES = "1.29"
PORTS = {"grpc": 8500, "http": 8501}


def server_of(documents: list[Document]) -> Document:
    (container,) = pod_of(one(documents, "Deployment"))["containers"]
    assert isinstance(container, dict)
    return container


def config_map_of(documents: list[Document], volume_name: str) -> Document:
    volumes = {volume["name"]: volume for volume in pod_of(one(documents, "Deployment"))["volumes"]}
    return one(documents, "ConfigMap", volumes[volume_name]["configMap"]["name"])


# Valid


def test_every_folder_of_manifests_is_rendered_by_a_test() -> None:
    assert {"serving/overlays/pvc", "serving/overlays/s3", "serving/overlays/kserve"} <= set(KUSTOMIZATIONS)
    assert {"pipeline/overlays/pvc", "pipeline/overlays/s3", "pipeline/overlays/local"} <= set(KUSTOMIZATIONS)


@needs_kubectl
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
def test_each_document_fits_the_kubernetes_schema(folder: str, version: str) -> None:
    documents = [document for document in render(folder) if document["kind"] not in CUSTOM_KINDS]
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


@needs_kubectl
def test_inference_service_fits_the_schema_that_kserve_publishes() -> None:
    service = one(render("serving/overlays/kserve"), "InferenceService")
    definition = schema("kserve-inferenceservices-crd.yaml")
    fitting = custom_resource_schema(definition, service["apiVersion"].split("/")[1])
    jsonschema.Draft7Validator(fitting).validate(service)
    service["spec"]["predictor"]["model"]["storageURL"] = "s3://bucket"
    with pytest.raises(jsonschema.ValidationError, match="storageURL"):
        jsonschema.Draft7Validator(fitting).validate(service)


@needs_kubectl
@pytest.mark.parametrize("folder", OVERLAYS)
def test_all_of_an_overlay_is_in_one_namespace(folder: str) -> None:
    namespaces = {d["metadata"]["name" if d["kind"] == "Namespace" else "namespace"] for d in render(folder)}
    assert namespaces == {"kubeflow" if folder.endswith("/local") else "kubetfx"}


# Who runs it


@needs_kubectl
@pytest.mark.parametrize("folder", [folder for folder in KUSTOMIZATIONS if folder != "serving/base"])
def test_every_container_is_unprivileged_and_cannot_write_to_its_root(folder: str) -> None:
    for workload in workloads(render(folder)):
        pod = pod_of(workload)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in containers_of(pod):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, container["name"]
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
            assert "privileged" not in context


@needs_kubectl
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_every_container_has_requests_and_a_memory_limit(folder: str) -> None:
    for workload in workloads(render(folder)):
        for container in containers_of(pod_of(workload)):
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]


@needs_kubectl
@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_every_image_of_others_has_a_version(folder: str) -> None:
    for workload in workloads(render(folder)):
        for container in containers_of(pod_of(workload)):
            image = container.get("image", "")
            assert image in ("", "kubetfx/pipeline") or re.search(r":v?\d+\.\d+", image), image


@needs_kubectl
@pytest.mark.parametrize("folder", PIPELINES)
def test_the_account_of_the_tasks_can_do_no_more_than_launch(folder: str) -> None:
    rules = rules_of("kubetfx-pipeline", render(folder))
    reads = {("pods", "get"), ("configmaps", "get"), ("secrets", "get")}
    assert permissions_in(rules) == {*reads, ("workflowtaskresults", "create"), ("workflowtaskresults", "patch")}
    named = {resource for rule in rules if rule.get("resourceNames") for resource in rule["resources"]}
    assert named == {"configmaps", "secrets"}


@needs_kubectl
@pytest.mark.parametrize("folder", PIPELINES)
def test_the_account_of_the_workbench_can_do_what_the_commands_ask_of_kubeflow_pipelines(folder: str) -> None:
    rules = rules_of("kubetfx-workbench", render(folder))
    assert {group for rule in rules for group in rule["apiGroups"]} == {"pipelines.kubeflow.org"}
    assert permissions_in(rules) == {permission for *_, permission in OPERATIONS if permission}


def rules_of(account: str, documents: list[Document]) -> list[Document]:
    """The rules of the role that the account of this name is bound to."""
    namespace = one(documents, "ServiceAccount", account)["metadata"]["namespace"]
    binding = one(documents, "RoleBinding", account)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    rules: list[Document] = one(documents, "Role", binding["roleRef"]["name"])["rules"]
    return rules


def permissions_in(rules: list[Document]) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


# What fits what


def is_subset(small: Document, large: Document) -> bool:
    return small.items() <= large.items()


@needs_kubectl
@pytest.mark.parametrize("folder", SERVERS)
def test_selectors_of_the_servers_match_their_pods(folder: str) -> None:
    documents = render(folder)
    deployment = one(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        one(documents, "Service")["spec"]["selector"],
        one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in pod_of(deployment)["topologySpreadConstraints"]),
    ]
    assert len(selectors) == 5
    for selector in selectors:
        assert selector
        assert is_subset(selector, labels)


@needs_kubectl
@pytest.mark.parametrize("folder", SERVERS)
def test_the_autoscaler_scales_the_deployment_and_nothing_else_sets_replicas(folder: str) -> None:
    documents = render(folder)
    scaler, deployment = one(documents, "HorizontalPodAutoscaler")["spec"], one(documents, "Deployment")
    target = {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}
    assert scaler["scaleTargetRef"] == target
    assert "replicas" not in deployment["spec"]
    assert scaler["minReplicas"] < scaler["maxReplicas"]
    assert all("cpu" in c["resources"]["requests"] for c in containers_of(pod_of(deployment)))  # else it cannot compute


@needs_kubectl
@pytest.mark.parametrize("folder", SERVERS)
def test_flags_ports_service_and_network_policy_agree(folder: str) -> None:
    documents = render(folder)
    container = server_of(documents)
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == PORTS
    assert {"--port=8500", "--rest_api_port=8501"} <= set(container["args"])
    service = one(documents, "Service")["spec"]["ports"]
    assert {port["targetPort"]: port["port"] for port in service} == PORTS
    clients, monitoring = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in clients["ports"]} == {8500, 8501}
    assert {port["port"] for port in monitoring["ports"]} == {8501}


@needs_kubectl
def test_ports_of_the_inference_service_are_open_in_its_network_policy() -> None:
    documents = render("serving/overlays/kserve")
    service = one(documents, "InferenceService")
    policy = one(documents, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == {"serving.kserve.io/inferenceservice": service["metadata"]["name"]}
    assert one(documents, "PodDisruptionBudget")["spec"]["selector"] == policy["podSelector"]
    ports = {port["containerPort"] for port in service["spec"]["predictor"]["model"]["ports"]}
    assert ports <= {port["port"] for port in policy["ingress"][0]["ports"]}


def probes(container: Document) -> Iterator[tuple[str, Document]]:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield kind, container[kind]["httpGet"]


@needs_kubectl
@pytest.mark.parametrize("folder", [*SERVERS, "serving/overlays/kserve"])
def test_probes_ask_the_servers_own_api_on_a_port_that_it_has(folder: str) -> None:
    documents = render(folder)
    (workload,) = workloads(documents)
    container = next(c for c in containers_of(pod_of(workload)) if "readinessProbe" in c)
    ports = {port.get("name"): port["containerPort"] for port in container["ports"]}
    paths = {}
    for kind, request in probes(container):
        assert request["port"] in ports or request["port"] in ports.values()
        paths[kind] = request["path"]
    assert re.fullmatch(r"/v1/models/\w+", paths["startupProbe"])
    # The status is also 200 when no version is available; metadata are not.
    assert paths["readinessProbe"] == f"{paths['startupProbe']}/metadata"
    # No model in it: a restart mends none.
    assert paths["livenessProbe"] == "/monitoring/prometheus/metrics"


@needs_kubectl
@pytest.mark.parametrize("folder", SERVERS)
def test_probed_models_are_served_and_lie_on_the_mounted_volume(folder: str, tmp_path: Path) -> None:
    documents = render(folder)
    container = server_of(documents)
    file = tmp_path / "models.config"
    file.write_text(config_map_of(documents, "models-config")["data"]["models.config"])
    models = {model.name: model for model in read_model_config_file(file)}
    for kind, request in probes(container):
        if kind != "livenessProbe":
            assert request["path"].split("/")[3] in models
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for model in models.values():
        assert model.base_path == Path(mounts["models"]) / model.name
        assert model.policy == LatestVersions(2)


@needs_kubectl
@pytest.mark.parametrize("folder", SERVERS)
def test_files_that_the_flags_name_are_in_the_mounted_config_maps(folder: str) -> None:
    documents = render(folder)
    container = server_of(documents)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    files = [Path(flag.partition("=")[2]) for flag in container["args"] if "_config_file=" in flag]
    assert len(files) == 2
    for file in files:
        assert file.name in config_map_of(documents, mounts[str(file.parent)])["data"]


@needs_kubectl
def test_a_changed_list_of_models_is_read_again_and_changed_options_roll_the_servers() -> None:
    documents = render("serving/overlays/pvc")
    assert config_map_of(documents, "models-config")["metadata"]["name"] == "serving-models"
    assert re.fullmatch(r"serving-options-\w{10}", config_map_of(documents, "options")["metadata"]["name"])
    container = server_of(documents)
    assert any(flag.startswith("--model_config_file_poll_wait_seconds=") for flag in container["args"])
    assert not any("subPath" in mount for mount in container["volumeMounts"])


@needs_kubectl
def test_prometheus_scrapes_where_the_server_is_told_to_answer() -> None:
    documents = render("serving/overlays/pvc")
    monitoring = config_map_of(documents, "options")["data"]["monitoring.config"]
    annotations = one(documents, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert monitoring.split() == [
        *("prometheus_config", "{", "enable:", "true", "path:"),
        f'"{annotations["prometheus.io/path"]}"',
        "}",
    ]
    assert annotations["prometheus.io/scrape"] == "true"
    assert int(annotations["prometheus.io/port"]) == PORTS["http"]
    kserve = render("serving/overlays/kserve")
    assert one(kserve, "ConfigMap")["data"]["monitoring.config"] == monitoring


@needs_kubectl
@pytest.mark.parametrize("folder", [*SERVERS, "serving/overlays/kserve"])
def test_a_server_ends_after_its_clients_left_and_within_its_grace_period(folder: str) -> None:
    (workload,) = workloads(render(folder))
    pod = pod_of(workload)
    container = next(c for c in containers_of(pod) if "readinessProbe" in c)
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    (channel,) = (flag for flag in container["args"] if flag.startswith("--grpc_channel_arguments="))
    arguments = dict(item.split("=") for item in channel.partition("=")[2].split(","))
    connection_seconds = sum(int(value) for value in arguments.values()) / 1000
    assert program == "sleep"
    assert connection_seconds <= int(seconds) < pod["terminationGracePeriodSeconds"]
    assert pod["shareProcessNamespace"] is True  # process 1 would not hear of SIGTERM


def render_with(component: str, tmp_path: Path) -> list[Document]:
    return render(with_component(f"serving/components/{component}", tmp_path))


@needs_kubectl
def test_watch_decides_with_the_command_as_it_is_and_never_twice_at_a_time(tmp_path: Path) -> None:
    job = one(render(with_component("pipeline/components/watch", tmp_path)), "CronJob")
    (container,) = containers_of(pod_of(job))
    watch = get_command(app).commands["watch"]  # type: ignore[attr-defined]
    name, *words = container["args"]
    options = watch.make_context(name, list(words)).params
    run = shlex.split(options["command"])
    submit = get_command(app).commands["submit"]  # type: ignore[attr-defined]
    submitted = submit.make_context("submit", run[2:]).params

    assert (name, run[:2]) == ("watch", ["kubetfx", "submit"])
    assert options["once"]
    assert options["config"] == submitted["config"] == Path("/config/pipeline.yaml")
    assert submitted["host"] == "http://ml-pipeline.kubeflow:8888"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    (workspace,) = (value.partition("=")[2] for value in options["overrides"])
    assert any(Path(workspace).is_relative_to(mount) for mount in mounts)  # what it knows outlives the pod


@needs_kubectl
def test_version_labels_are_a_component_for_any_overlay(tmp_path: Path) -> None:
    documents = render_with("version-labels", tmp_path)
    file = tmp_path / "models.config"
    file.write_text(config_map_of(documents, "models-config")["data"]["models.config"])
    (model,) = read_model_config_file(file)
    assert model.labels.keys() == {"stable", "canary"}
    assert isinstance(model.policy, SpecificVersions)
    assert set(model.labels.values()) == model.policy.versions
    assert "--allow_version_labels_for_unavailable_models=true" in server_of(documents)["args"]


@needs_kubectl
def test_batching_is_a_component_for_any_overlay(tmp_path: Path) -> None:
    documents = render_with("batching", tmp_path)
    args = server_of(documents)["args"]
    assert "--enable_batching=true" in args
    (file,) = (Path(a.partition("=")[2]) for a in args if a.startswith("--batching_parameters_file="))
    data = config_map_of(documents, "options")["data"]
    assert data.keys() == {"monitoring.config", "batching.config"}
    copy = tmp_path / file.name
    copy.write_text(data[file.name])
    assert read_batching_parameters_file(copy).max_batch_size > 1


@needs_kubectl
def test_request_log_is_a_component_with_a_server_that_takes_a_logging_config(tmp_path: Path) -> None:
    documents = render_with("request-log", tmp_path)
    server = server_of(documents)
    assert (server["image"], server["command"]) == ("kubetfx/pipeline", ["kubetfx"])
    command, *arguments = server["args"]
    given = get_command(app).commands[command].make_context(command, arguments).params
    assert {given["grpc_port"], given["rest_port"]} == set(PORTS.values())
    mounts = {mount["mountPath"]: mount for mount in server["volumeMounts"]}
    assert given["model_config_file"].parent == Path(mounts["/etc/serving/models"]["mountPath"])
    file = tmp_path / "models.config"
    file.write_text(config_map_of(documents, "models-config")["data"]["models.config"])
    (model,) = read_model_config_file(file)
    assert model.logging == RequestLogging(Path("/requests/penguins"), 0.1)
    assert not mounts[str(model.logging.prefix.parent)].get("readOnly")
    volumes = {volume["name"]: volume for volume in pod_of(one(documents, "Deployment"))["volumes"]}
    assert volumes[mounts["/requests"]["name"]]["persistentVolumeClaim"]["claimName"] == "kubetfx-data"


# Storage


@needs_kubectl
@pytest.mark.parametrize("place", ["pvc", "local"])
def test_servers_read_the_claim_that_the_pipeline_writes(place: str) -> None:
    pipeline, serving = render(f"pipeline/overlays/{place}"), render(f"serving/overlays/{place}")
    claims = {d["metadata"]["name"]: d for d in pipeline if d["kind"] == "PersistentVolumeClaim"}
    (models,) = (v for v in pod_of(one(serving, "Deployment"))["volumes"] if v["name"] == "models")
    claim = models["persistentVolumeClaim"]
    assert claim == {"claimName": "kubetfx-models", "readOnly": True}
    assert claims.keys() == {"kubetfx-models", "kubetfx-data"}
    modes = {mode for d in claims.values() for mode in d["spec"]["accessModes"]}
    assert modes == {"ReadWriteOnce" if place == "local" else "ReadWriteMany"}
    namespace = claims[claim["claimName"]]["metadata"]["namespace"]
    assert one(serving, "Deployment")["metadata"]["namespace"] == namespace
    used = {v["persistentVolumeClaim"]["claimName"] for v in _volumes(pipeline) if "persistentVolumeClaim" in v}
    assert used == claims.keys()


def _volumes(documents: list[Document]) -> list[Document]:
    volumes = pod_of(one(documents, "Deployment"))["volumes"]
    assert isinstance(volumes, list)
    return volumes


@needs_kubectl
def test_the_claim_of_the_inference_service_is_the_pipelines() -> None:
    predictor = one(render("serving/overlays/kserve"), "InferenceService")["spec"]["predictor"]
    claims = {d["metadata"]["name"] for d in render("pipeline/overlays/pvc") if d["kind"] == "PersistentVolumeClaim"}
    claim, model = predictor["model"]["storageUri"].removeprefix("pvc://").split("/")
    assert claim in claims
    assert model == one(render("serving/overlays/kserve"), "InferenceService")["metadata"]["name"]


@needs_kubectl
def test_the_bucket_is_mirrored_beside_the_server_and_no_secret_is_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render("serving/overlays/s3")
    pod = pod_of(one(documents, "Deployment"))
    (mirror,) = pod["initContainers"]
    assert mirror["restartPolicy"] == "Always"  # a sidecar, and no step before the server
    settings = one(documents, "ConfigMap", mirror["envFrom"][0]["configMapRef"]["name"])["data"]
    probed = server_of(documents)["readinessProbe"]["httpGet"]["path"].split("/")[3]
    # The kubelet puts the values of bucket.env in.
    command, *arguments = (re.sub(r"\$\((\w+)\)", lambda name: settings[name[1]], a) for a in mirror["args"])
    monkeypatch.setenv("MODEL_NAMES", settings["MODEL_NAMES"])
    given = get_command(app).commands[command].make_context(command, arguments).params
    assert locate(given["source"]) == ObjectPath("s3", "kubetfx/models")
    assert given["folder"] == Path("/models")
    assert probed in given["models"]
    assert mirror["startupProbe"]["exec"]["command"][-1] == f"{given['folder']}/{MIRRORED}"
    can_write = {m["name"]: not m.get("readOnly", False) for m in mirror["volumeMounts"]}
    assert can_write["models"]
    assert {m["name"]: m.get("readOnly") for m in server_of(documents)["volumeMounts"]}["models"] is True
    for folder in KUSTOMIZATIONS:
        assert not [d for d in render(folder) if d["kind"] == "Secret"]


# The guide


def test_the_guide_names_every_overlay_and_component() -> None:
    guide = (MANIFESTS / "README.md").read_text()
    rows = " ".join(line for line in guide.splitlines() if line.startswith("|"))
    for path in MANIFESTS.rglob("kustomization.yaml"):
        if path.parent.name != "base":
            assert f"`{path.parent.relative_to(MANIFESTS)}`" in rows or f"`{path.parent.name}`" in rows, path

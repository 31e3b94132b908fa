"""Pod Security, as the API server enforces it: `restricted` takes our pods, and refuses those that ask for more."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kubetfx.config.loading import load_config
from kubetfx.kubeflow import katib
from tests.cluster.conftest import RESTRICTED
from tests.cluster.kube_api_server import Cluster
from tests.cluster.task_pods import task_pods
from tests.kubeflow.rendered_manifests import (
    COMPONENTS,
    OVERLAYS,
    ROOT,
    Document,
    containers_of,
    pod_of,
    pods_of_operators,
    render,
    with_component,
    workloads,
)

pytestmark = pytest.mark.cluster

EVERYTHING = (
    "kubeflow.image_pull_secrets=[registry]",
    "kubeflow.image_pull_policy=Always",
    "kubeflow.every_component={cpu: 2, memory: 2Gi, requests: {cpu: 500m}, node_selector: {pool: large}, "
    "tolerations: [{key: busy, operator: Exists, effect: NoExecute, toleration_seconds: 60}], shared_memory: 1Gi, "
    "volumes: [{claim: kubetfx-data, mount_path: /data}, {claim: kubetfx-data, mount_path: /old, sub_path: old}], "
    "secrets: [{name: kubetfx-bucket, env: {key: AWS_ACCESS_KEY_ID}, mount_path: /keys, optional: true}], "
    "config_maps: [{name: places, env: {region: AWS_REGION}, mount_path: /places}], env: {A: b}, "
    "retries: {count: 2}, timeout_seconds: 60, labels: {team: birds}, annotations: {why: 'a reason'}}",
    "kubeflow.resources={Trainer: {gpu: {count: 1}}}",
)
"""Every setting that becomes a part of a pod."""


def pods_refused(cluster: Cluster, namespace: str, pods: Sequence[Document]) -> list[str]:
    """Why the server refuses pods, a line for each that it does not take."""
    assert pods
    options = ("--dry-run=server", "--namespace", namespace, "--filename", "-")
    created = cluster.kubectl("create", *options, documents=pods)
    refusals = [line for line in created.stderr.splitlines() if line.startswith("Error from server")]
    num_taken = sum(line.endswith("created (server dry run)") for line in created.stdout.splitlines())
    assert num_taken + len(refusals) == len(pods), created.stderr
    return refusals


def pods_of(folder: str | Path) -> list[Document]:
    """The pods that controllers and operators make of the workloads of an overlay."""
    documents = render(folder)
    specs = [(workload["metadata"]["name"], as_pod(pod_of(workload))) for workload in workloads(documents)]
    specs += [(pod["name"], pod["spec"]) for pod in pods_of_operators(documents)]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": f"{name}-"}, "spec": spec}
        for name, spec in specs
    ]


def as_pod(spec: Document) -> Document:
    """KServe makes a container of `model`, with the image of its serving runtime."""
    spec = copy.deepcopy(spec)
    if "model" not in spec:
        return spec
    of_kserve = {
        "minReplicas",
        "maxReplicas",
        "scaleMetric",
        "scaleTarget",
        "deploymentStrategy",
        "model",
        "labels",
        "annotations",
    }
    of_model = {"modelFormat", "storageUri", "runtime", "runtimeVersion", "protocolVersion"}
    (container,) = containers_of(spec)
    container = {key: value for key, value in container.items() if key not in of_model}
    pod = {key: value for key, value in spec.items() if key not in of_kserve}
    return {**pod, "containers": [{"image": "tensorflow/serving", **container}]}


@pytest.mark.parametrize("folder", OVERLAYS)
def test_pods_of_the_manifests_are_admitted_where_restricted_is_enforced(cluster: Cluster, folder: str) -> None:
    assert pods_refused(cluster, RESTRICTED, pods_of(folder)) == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_pods_with_a_component_are_admitted_too(cluster: Cluster, component: str, tmp_path: Path) -> None:
    assert pods_refused(cluster, RESTRICTED, pods_of(with_component(component, tmp_path))) == []


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("allowPrivilegeEscalation", True, "allowPrivilegeEscalation != false"),
        ("capabilities", {"drop": ["ALL"], "add": ["SYS_PTRACE"]}, "unrestricted capabilities"),
        ("runAsUser", 0, "runAsUser=0"),
    ],
    ids=["privileges", "capabilities", "root"],
)
def test_pods_of_the_manifests_that_asked_for_more_would_be_refused(
    cluster: Cluster, key: str, value: object, reason: str
) -> None:
    pods = [pod for folder in OVERLAYS for pod in pods_of(folder)]
    for pod in pods:
        pod["spec"]["containers"][0]["securityContext"][key] = value

    refusals = pods_refused(cluster, RESTRICTED, pods)

    assert len(refusals) == len(pods)
    assert all('violates PodSecurity "restricted:latest"' in refusal and reason in refusal for refusal in refusals)


@pytest.fixture(scope="module")
def package(compile_example: Callable[..., Path]) -> Path:
    return compile_example("penguins", *EVERYTHING, "kubeflow.pod_security=restricted")


@pytest.fixture(scope="module")
def package_of_any_user(compile_example: Callable[..., Path]) -> Path:
    return compile_example("penguins", *EVERYTHING)


@pytest.mark.parametrize("namespace", [RESTRICTED, "kubetfx"])
def test_pods_of_a_run_are_admitted_where_restricted_is_enforced(
    cluster: Cluster, package: Path, namespace: str
) -> None:
    pods = list(task_pods(package, service_account="kubetfx-pipeline"))

    assert len(pods) > 10
    assert pods_refused(cluster, namespace, pods) == []


def test_pod_of_a_trial_of_katib_is_admitted_where_restricted_is_enforced(cluster: Cluster) -> None:
    search = "tuning={trials: 2, search: {training.epochs: [5, 10]}}"
    path = ROOT / "examples" / "penguins" / "pipeline.yaml"
    config = load_config(path, overrides=[*EVERYTHING, search, "kubeflow.pod_security=restricted"])
    _, experiment = katib.experiment(config)
    template = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    metadata = {"generateName": "trial-", **template["metadata"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}

    assert pods_refused(cluster, RESTRICTED, [pod]) == []


def test_tasks_of_any_user_are_refused_where_restricted_is_enforced_and_only_there(
    cluster: Cluster, package_of_any_user: Path
) -> None:
    driver, *tasks = task_pods(package_of_any_user, service_account="kubetfx-pipeline")

    assert pods_refused(cluster, RESTRICTED, [driver]) == []
    refusals = pods_refused(cluster, RESTRICTED, tasks)
    assert len(refusals) == len(tasks)
    wanted = 'runAsNonRoot != true (pod or container "main" must set securityContext.runAsNonRoot=true)'
    for refusal in refusals:
        assert refusal.count("!=") == 1  # it is the only thing
        assert wanted in refusal
    assert pods_refused(cluster, "kubetfx", [driver, *tasks]) == []


def test_pods_of_kubeflow_pipelines_before_2_16_are_admitted_by_the_overlay_and_not_by_restricted(
    cluster: Cluster, package_of_any_user: Path
) -> None:
    pods = list(task_pods(package_of_any_user, service_account="kubetfx-pipeline", release="2.15"))

    assert len(pods_refused(cluster, RESTRICTED, pods)) == len(pods)
    assert pods_refused(cluster, "kubetfx", pods) == []


def test_namespace_of_the_overlay_refuses_a_pod_that_sees_its_node(cluster: Cluster) -> None:
    (pod,) = pods_of("pipeline/overlays/pvc")
    pod["spec"]["volumes"].append({"name": "node", "hostPath": {"path": "/"}})

    (refusal,) = pods_refused(cluster, "kubetfx", [pod])

    assert 'violates PodSecurity "baseline:latest": hostPath volumes' in refusal


def test_run_without_its_service_account_makes_no_pod(cluster: Cluster, package: Path) -> None:
    pods = list(task_pods(package, service_account="kubetfx-pipelines"))

    refusals = pods_refused(cluster, "kubetfx", pods)

    assert len(refusals) == len(pods)
    assert all('serviceaccount "kubetfx-pipelines" not found' in refusal for refusal in refusals)

"""What a training on several workers asks Kubernetes for, and how its processes learn who they are. No cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from kubetfx.config.loading import load_config
from kubetfx.config.training_section import DistributionConfig
from kubetfx.errors import ConfigError
from kubetfx.kubeflow.package import compile_to_file
from kubetfx.kubeflow.training_jobs import DOCUMENTS, GPUS, PORT, TeamJob, worker_template
from kubetfx.models.training_launch import CLUSTER, ENDED, INDEX, JOB, ROLE, tasks_of
from tests.cluster.task_pods import task_pods
from tests.kubeflow.rendered_manifests import ROOT, Document

LAUNCHERS = ("tfjob", "jobset", "statefulset")
TRAINER = (
    "kubeflow.resources={Trainer: {cpu: 4, memory: 8Gi, gpu: {count: 2}, shared_memory: 1Gi, "
    "node_selector: {pool: gpu}, tolerations: [{key: nvidia.com/gpu, operator: Exists}], "
    "volumes: [{claim: team, mount_path: /shared}], "
    "secrets: [{name: keys, env: {key: AWS_ACCESS_KEY_ID}, mount_path: /keys}], env: {A: b}}}",
    "kubeflow.image_pull_secrets=[registry]",
    "kubeflow.pod_security=restricted",
)


def compiled(path: Path, distribution: dict[str, Any], *overrides: str) -> Path:
    elsewhere = ("data.path=/data", "serving.push_directory=/models/it", "workspace=/workspace")
    training = f"training.distribution={json.dumps({'directory': '/shared/team', **distribution})}"
    config = load_config(ROOT / "examples" / "penguins" / "pipeline.yaml", overrides=(*elsewhere, training, *overrides))
    compile_to_file(config, path / "package.yaml")
    return path / "package.yaml"


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """Of the Trainer's task, as Kubeflow Pipelines makes it of a package, with what Kubernetes adds."""
    path = compiled(tmp_path_factory.mktemp("package"), {"strategy": "multi_worker", "launcher": "tfjob"}, *TRAINER)
    (found,) = (pod for pod in task_pods(path, service_account="runner") if "-trainer-" in str(pod["metadata"]))
    (main,) = (container for container in found["spec"]["containers"] if container["name"] == "main")
    token = {"name": "kube-api-access-x7", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    found["spec"]["volumes"].append(token)
    main["volumeMounts"].append({"name": token["name"], "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"})
    main["env"].append({"name": "ARGO_CONTAINER_NAME", "value": "main"})
    return found


def job_of(pod: Document, *, strategy: str = "multi_worker", workers: int = 2) -> TeamJob:
    distribution = DistributionConfig(strategy=strategy, workers=workers, parameter_servers=1)
    template = worker_template(pod, container="main", environment={JOB: "/shared/team/x/job.json", "HOME": "/tmp"})
    return TeamJob("kubetfx-1-0", "birds", tasks_of(distribution), template, restarts=3)


def test_a_workers_pod_is_that_of_the_task_without_what_others_put_there(pod: Document) -> None:
    (template,) = (job_of(pod).template,)
    spec = template["spec"]
    (container,) = spec["containers"]

    assert spec["serviceAccountName"] == "runner"
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {volume["name"] for volume in spec["volumes"]} == {"team", "keys", "shared-memory"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/shared", "/keys", "/dev/shm"}
    names = {variable["name"] for variable in container["env"]}
    assert names == {"A", "AWS_ACCESS_KEY_ID", JOB, "HOME"}
    assert container["envFrom"] == []
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"}
    assert container["command"] == ["python", "-m", "kubetfx.models.training_process"]
    assert container["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False


def test_the_task_itself_has_no_gpu(pod: Document) -> None:
    (main,) = (container for container in pod["spec"]["containers"] if container["name"] == "main")

    assert main["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}
    assert {"name": GPUS, "value": '{"nvidia.com/gpu": "2"}'} in main["env"]


def test_what_is_in_the_environment_of_the_image_is_not_lost(pod: Document) -> None:
    environment = {"A": "c"}
    (container,) = worker_template(pod, container="main", environment=environment)["spec"]["containers"]

    assert [variable for variable in container["env"] if variable["name"] == "A"] == [{"name": "A", "value": "c"}]


@pytest.mark.parametrize("strategy", ["multi_worker", "parameter_server"])
def test_documents_of_kubernetes_itself_fit_its_schema(pod: Document, strategy: str) -> None:
    for version in ("1.29", kubernetes_validate.latest_version()):
        for document in DOCUMENTS["statefulset"](job_of(pod, strategy=strategy)):
            kubernetes_validate.validate(document, version, strict=True)


def test_a_tf_job_has_a_replica_per_role_and_restarts_only_what_may_return(pod: Document) -> None:
    (together,) = DOCUMENTS["tfjob"](job_of(pod))
    (apart,) = DOCUMENTS["tfjob"](job_of(pod, strategy="parameter_server"))

    assert {role: spec["replicas"] for role, spec in together["spec"]["tfReplicaSpecs"].items()} == {"Worker": 2}
    assert together["spec"]["tfReplicaSpecs"]["Worker"]["restartPolicy"] == "Never"
    policies = {role: spec["restartPolicy"] for role, spec in apart["spec"]["tfReplicaSpecs"].items()}
    assert policies == {"Chief": "Never", "Worker": "OnFailure", "PS": "Never"}
    assert apart["spec"]["runPolicy"]["backoffLimit"] == 3


def test_a_job_set_restarts_all_of_a_team_and_ends_with_its_chief(pod: Document) -> None:
    (together,) = DOCUMENTS["jobset"](job_of(pod))
    (apart,) = DOCUMENTS["jobset"](job_of(pod, strategy="parameter_server"))

    assert together["spec"]["failurePolicy"] == {"maxRestarts": 3}
    (workers,) = together["spec"]["replicatedJobs"]
    assert workers["template"]["spec"]["backoffLimit"] == 0
    assert apart["spec"]["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["chief"]}


@pytest.mark.parametrize(
    ("launcher", "names"),
    [
        ("jobset", ["kubetfx-1-0-worker-0-0.kubetfx-1-0.birds.svc", "kubetfx-1-0-worker-0-1.kubetfx-1-0.birds.svc"]),
        ("statefulset", ["kubetfx-1-0-worker-0.kubetfx-1-0.birds.svc", "kubetfx-1-0-worker-1.kubetfx-1-0.birds.svc"]),
    ],
)
def test_a_process_knows_from_its_pods_name_who_it_is(
    pod: Document, tmp_path: Path, launcher: str, names: list[str]
) -> None:
    document = DOCUMENTS[launcher](job_of(pod))[-1]
    spec = document["spec"]
    template = spec["replicatedJobs"][0]["template"]["spec"]["template"] if launcher == "jobset" else spec["template"]
    (container,) = template["spec"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
    host = names[1].partition(".")[0]
    index = {INDEX: "1"} if launcher == "jobset" else {}

    told = told_by_pod({**environment, **index, "HOSTNAME": host}, tmp_path)

    addresses = [f"{name}:{PORT}" for name in names]
    assert told == {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 1}}


def test_one_worker_alone_gets_no_tf_config_from_the_operator_and_knows_itself(pod: Document, tmp_path: Path) -> None:
    (document,) = DOCUMENTS["tfjob"](job_of(pod, workers=1))
    (container,) = document["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}

    told = told_by_pod({**environment, "HOSTNAME": "kubetfx-1-0-worker-0"}, tmp_path)

    assert told == {"cluster": {"worker": [f"localhost:{PORT}"]}, "task": {"type": "worker", "index": 0}}


def told_by_pod(environment: dict[str, str], folder: Path) -> Any:
    """TF_CONFIG of a process that starts where the training has ended."""
    (folder / ENDED).write_text("{}")
    code = (
        "import os; from kubetfx.models import training_process as p; assert p.main() == 0;"
        "print(os.environ['TF_CONFIG'])"
    )
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **inherited, JOB: str(folder / "job.json")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_an_address_is_in_the_documents_only_where_no_operator_knows_it(pod: Document) -> None:
    assert CLUSTER not in json.dumps(DOCUMENTS["tfjob"](job_of(pod)))
    for launcher in ("jobset", "statefulset"):
        assert CLUSTER in json.dumps(DOCUMENTS[launcher](job_of(pod)))
    assert ROLE in json.dumps(DOCUMENTS["statefulset"](job_of(pod)))


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        ({"strategy": "multi_worker", "launcher": "tfjob"}, r"the launcher tfjob needs directory.*Received: None"),
        ({"strategy": "multi_worker", "launcher": "jobset", "directory": "team"}, r"absolute path.*Received: 'team'"),
        ({"strategy": "mirrored", "launcher": "statefulset", "directory": "/a"}, r"set strategy: multi_worker"),
    ],
)
def test_a_launcher_for_kubeflow_needs_a_place_that_is_shared(distribution: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DistributionConfig(**distribution)


def test_compile_refuses_a_folder_that_is_on_no_volume(tmp_path: Path) -> None:
    volumes = "kubeflow.resources={Trainer: {volumes: [{claim: team, mount_path: /other}]}}"
    distribution = {"strategy": "multi_worker", "launcher": "jobset"}

    with pytest.raises(ConfigError, match=r"Received: /shared/team; volumes: /other\. Mount a ReadWriteMany claim"):
        compiled(tmp_path, distribution, volumes)

    compiled(tmp_path, distribution, volumes.replace("/other", "/shared"))  # what the message says to do
    compiled(tmp_path, distribution | {"launcher": "processes"}, volumes)
    assert len(list(yaml.safe_load_all((tmp_path / "package.yaml").read_text()))) == 2


# RayJob


def test_a_ray_job_has_a_node_per_process_and_starts_the_team_on_its_head(pod: Document) -> None:
    (document,) = DOCUMENTS["rayjob"](job_of(pod, strategy="parameter_server"))
    spec = document["spec"]
    cluster = spec["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    (node,) = group["template"]["spec"]["containers"]

    assert spec["entrypoint"] == "python -m kubetfx.models.ray_launch"
    assert {group[name] for name in ("replicas", "minReplicas", "maxReplicas")} == {4}
    assert "command" not in head  # else KubeRay would start Ray behind it
    assert "command" not in node
    assert head["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}
    assert node["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "2"}
    assert {"name": JOB, "value": "/shared/team/x/job.json"} in head["env"]


def test_a_ray_job_fits_kuberays_resource_definition(pod: Document, ray_job_schema: Document) -> None:
    validator = jsonschema.Draft7Validator(ray_job_schema)
    for strategy in ("multi_worker", "parameter_server"):
        (document,) = DOCUMENTS["rayjob"](job_of(pod, strategy=strategy))
        assert [error.message for error in validator.iter_errors(document)] == []
    document["spec"]["entryPoint"] = "python"
    assert ["entryPoint" in error.message for error in validator.iter_errors(document)] == [True]


@pytest.fixture(scope="module")
def ray_job_schema() -> Document:
    """For KubeRay's module, as the API server reads it: fields that it does not name are refused."""
    asked = ["go", "mod", "download", "-json", "github.com/ray-project/kuberay/ray-operator"]
    try:
        found = subprocess.run(asked, cwd=ROOT / "tests/cluster/operators", capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("go is not installed, which brings KubeRay's resource definition")
    if found.returncode:
        pytest.skip(f"KubeRay's module cannot be had: {found.stderr or found.stdout}")
    path = Path(json.loads(found.stdout)["Dir"]) / "config/crd/bases/ray.io_rayjobs.yaml"
    (version,) = (v for v in yaml.safe_load(path.read_text())["spec"]["versions"] if v["name"] == "v1")
    return closed(version["schema"]["openAPIV3Schema"], is_root=True)


def closed(schema: Any, *, is_root: bool = False) -> Any:
    """The schema without fields that it does not name; Kubernetes' own integers may be words."""
    if not isinstance(schema, dict):
        return schema
    found = {key: [closed(one) for one in value] if isinstance(value, list) else value for key, value in schema.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        return {}
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = closed(found[key])
    if isinstance(found.get("properties"), dict):
        found["properties"] = {name: closed(one, is_root=is_root) for name, one in found["properties"].items()}
        if not found.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in found:
            found["additionalProperties"] = False
    if is_root and found.get("type") == "object" and not found.get("properties"):  # metadata
        found.pop("additionalProperties", None)
    return found


def test_compile_refuses_ray_without_a_folder_that_its_nodes_see(tmp_path: Path) -> None:
    ray = {"strategy": "multi_worker", "launcher": "ray", "directory": None}
    with pytest.raises(ConfigError, match=r"The nodes of a Ray cluster do not see.*Set it to a folder on a volume"):
        compiled(tmp_path, ray)

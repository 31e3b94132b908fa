"""What a training on several workers asks Kubernetes for.

It is a TFJob, a JobSet, a RayJob, or StatefulSets with a headless Service.

All are made of the pod of the Trainer's task, so that image, volumes, secrets, node selector and all else that
`kubeflow.resources.Trainer` says holds for each worker, and is said once. kubeflow/training_job_run.py creates them.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubetfx.config.training_section import RayConfig
from kubetfx.models.training_launch import CLUSTER, INDEX, ROLE, Task, cluster_of

Document = dict[str, Any]

GPUS = "KUBETFX_TRAINING_GPUS"
"""Environment variable of the task: a JSON object with the GPUs of each worker, which the task itself has not."""
NAME_LABEL, ROLE_LABEL = "kubetfx/training", "kubetfx/training-role"
PORT = 2222
"""The port of TFJob's operator, which all others take, too."""

RAY_HEAD, RAY_NODE = "head", "node"
"""Roles of the pods of a RayJob, none of which is a process of the training."""
_RAY_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10_001}
_RAY_MODULE = "kubetfx.models.ray_launch"
_MODULE = "kubetfx.models.training_process"
_MARKS = {"app.kubernetes.io/part-of": "kubetfx", "app.kubernetes.io/component": "training"}
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
"""A sidecar outlives the container it is beside, so that no job with one ends."""
_TAKEN = (
    *("affinity", "imagePullSecrets", "nodeSelector", "priorityClassName", "runtimeClassName", "schedulerName"),
    *("securityContext", "serviceAccountName", "tolerations", "topologySpreadConstraints"),
)
"""Taken of a pod, as it is."""
_TAKEN_OF_CONTAINER = ("image", "imagePullPolicy", "resources", "securityContext", "workingDir")
_OF_LAUNCHER = ("ARGO_", "KFP_")
"""Environment variables with these prefixes belong to Argo and to the launcher of Kubeflow Pipelines."""
_LAUNCHER_CONFIG = "metadata-grpc-configmap"
_LAUNCHER_VOLUMES = ("kfp-launcher", "var-run-argo", "tmp-dir-argo", "argo-staging")
_SCRATCH = "-scratch"
"""How volumes end in which the launcher has its artifacts."""
_GRACE_SECONDS = 10


@dataclass(frozen=True)
class TeamJob:
    """A training that is to be."""

    name: str
    namespace: str
    tasks: Sequence[Task]
    template: Document
    """For the pods: what `worker_template` returns."""
    restarts: int
    """How often what restarts by itself does so, at most."""
    ray_version: str = RayConfig().version
    """Ray version of the image, for a RayJob."""
    owner: Document = field(default_factory=dict)
    """An owner reference: the pod with which all of it goes."""

    @property
    def roles(self) -> dict[str, int]:
        """How many there are of each role."""
        found: dict[str, int] = {}
        for task in self.tasks:
            found[task.role] = found.get(task.role, 0) + 1
        return found

    @property
    def is_asynchronous(self) -> bool:
        """Whether a worker may come back alone: the chief of parameter servers waits for it, and others go on."""
        return "ps" in self.roles

    def metadata(self, name: str | None = None) -> Document:
        """Return the metadata of an object of the job.

        Args:
            name: The name of the object. Default: that of the job.
        """
        owners = {"ownerReferences": [self.owner]} if self.owner else {}
        labels = {**_MARKS, NAME_LABEL: self.name}
        return {"name": name or self.name, "namespace": self.namespace, "labels": labels, **owners}

    def pods(self, role: str, *, environment: Mapping[str, str], restart_policy: str | None) -> Document:
        """Return the template of a role's pods.

        Args:
            role: The role of the pods' tasks.
            environment: Variables besides those that all pods have.
            restart_policy: The pods' restart policy. None: the operator sets it.
        """
        template = copy.deepcopy(self.template)
        template["metadata"]["labels"] |= {NAME_LABEL: self.name, ROLE_LABEL: role}
        (container,) = template["spec"]["containers"]
        container["env"] += [{"name": name, "value": value} for name, value in environment.items()]
        if restart_policy:
            template["spec"]["restartPolicy"] = restart_policy
        return template


def worker_template(pod: Document, *, container: str, environment: Mapping[str, str]) -> Document:
    """Make the template of a worker's pod of the pod of the Trainer's task.

    What Kubeflow Pipelines, Argo and Kubernetes have put there is left out.

    Args:
        pod: The pod of the task, as the API server has it.
        container: The name of the pod's container in which the task runs.
        environment: variables of the workers, which take the place of the task's.

    Returns:
        A pod template with labels, annotations and one container.
    """
    spec = pod["spec"]
    (main,) = (one for one in spec["containers"] if one["name"] == container)
    own = {variable["name"]: variable for variable in main.get("env", ())}
    gpus = json.loads(own.pop(GPUS, {}).get("value", "{}"))
    variables = [
        variable
        for name, variable in own.items()
        if name not in environment
        and not name.startswith(_OF_LAUNCHER)
        and "fieldRef" not in variable.get("valueFrom", {})
    ]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ()) if _is_of_the_config(volume)}
    worker = {
        "name": "tensorflow",  # where TFJob's operator puts TF_CONFIG
        "command": ["python", "-m", _MODULE],
        **{key: copy.deepcopy(main[key]) for key in _TAKEN_OF_CONTAINER if main.get(key)},
        "env": variables + [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [source for source in main.get("envFrom", ()) if _LAUNCHER_CONFIG not in str(source)],
        "ports": [{"name": "tfjob-port", "containerPort": PORT}],
        "volumeMounts": [mount for mount in main.get("volumeMounts", ()) if mount["name"] in volumes],
    }
    if gpus:
        resources = worker.setdefault("resources", {})
        resources["limits"] = resources.get("limits", {}) | gpus
    return {
        "metadata": {"labels": dict(_MARKS | _NO_SIDECAR), "annotations": dict(_NO_SIDECAR)},
        "spec": {
            **{key: spec[key] for key in _TAKEN if spec.get(key)},
            "automountServiceAccountToken": False,  # they ask Kubernetes for nothing
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "containers": [worker],
            "volumes": list(volumes.values()),
        },
    }


def _is_of_the_config(volume: Document) -> bool:
    name = volume["name"]
    if "emptyDir" in volume:
        return name not in _LAUNCHER_VOLUMES and not name.endswith(_SCRATCH)
    tokens = [source for source in volume.get("projected", {}).get("sources", ()) if "serviceAccountToken" in source]
    return not tokens  # which Kubernetes, or the cloud's webhook, adds to each pod again


def tf_job(job: TeamJob) -> list[Document]:
    """Return the TFJob of the training operator v1, which writes TF_CONFIG.

    A team whose member dies cannot go on without it, so no pod is restarted, but for a worker beside parameter servers.

    Args:
        job: the training.
    """
    replicas = {}
    alone = {CLUSTER: json.dumps({job.tasks[0].role: [f"localhost:{PORT}"]}), INDEX: "0"}
    for role, number in job.roles.items():
        environment = {ROLE: role, **(alone if len(job.tasks) == 1 else {})}  # one gets no TF_CONFIG from the operator
        may_return = job.is_asynchronous and role == "worker"
        replicas[{"chief": "Chief", "worker": "Worker", "ps": "PS"}[role]] = {
            "replicas": number,
            "restartPolicy": "OnFailure" if may_return else "Never",
            "template": job.pods(role, environment=environment, restart_policy=None),
        }
    policy = {"cleanPodPolicy": "Running", "backoffLimit": job.restarts}
    return [
        {
            "apiVersion": "kubeflow.org/v1",
            "kind": "TFJob",
            "metadata": job.metadata(),
            "spec": {"runPolicy": policy, "tfReplicaSpecs": replicas},
        }
    ]


def job_set(job: TeamJob) -> list[Document]:
    """Return the JobSet, which restarts all its pods when one of them dies.

    Args:
        job: the training.
    """
    addresses = [f"{job.name}-{task.role}-0-{task.index}.{job.name}.{job.namespace}.svc:{PORT}" for task in job.tasks]
    cluster = json.dumps(cluster_of(job.tasks, addresses))
    replicated = []
    for role, number in job.roles.items():
        may_return = job.is_asynchronous and role == "worker"
        spec = {
            "parallelism": number,
            "completions": number,
            "completionMode": "Indexed",
            "backoffLimit": job.restarts if may_return else 0,
            "template": job.pods(role, environment={ROLE: role, CLUSTER: cluster}, restart_policy="Never"),
        }
        replicated.append({"name": role, "replicas": 1, "template": {"spec": spec}})
    chief = "chief" if "chief" in job.roles else "worker"
    return [
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": job.metadata(),
            "spec": {
                "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": job.name},
                "successPolicy": {"operator": "All", "targetReplicatedJobs": [chief]},
                "failurePolicy": {"maxRestarts": job.restarts},
                "replicatedJobs": replicated,
            },
        }
    ]


def stateful_sets(job: TeamJob) -> list[Document]:
    """Return a headless Service and a StatefulSet per role, which need no operator.

    Args:
        job: the training.
    """
    addresses = [f"{job.name}-{task.role}-{task.index}.{job.name}.{job.namespace}.svc:{PORT}" for task in job.tasks]
    cluster = json.dumps(cluster_of(job.tasks, addresses))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": job.metadata(),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {NAME_LABEL: job.name},
            "ports": [{"name": "grpc", "port": PORT}],
        },
    }
    sets = [
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": job.metadata(f"{job.name}-{role}"),
            "spec": {
                "replicas": number,
                "serviceName": job.name,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {NAME_LABEL: job.name, ROLE_LABEL: role}},
                "template": job.pods(role, environment={ROLE: role, CLUSTER: cluster}, restart_policy="Always"),
            },
        }
        for role, number in job.roles.items()
    ]
    return [service, *sets]


def ray_job(job: TeamJob) -> list[Document]:
    """Return the RayJob of KubeRay.

    It is a Ray cluster with a node for each process, on whose head models/ray_launch.py starts the team, and starts it
    again.

    Args:
        job: the training.
    """
    head, worker = (job.pods(role, environment={}, restart_policy=None) for role in (RAY_HEAD, RAY_NODE))
    for template in (head, worker):
        (container,) = template["spec"]["containers"]
        del container["command"]  # KubeRay's own follows it
        container["ports"] = []
    (container,) = head["spec"]["containers"]
    container["ports"] = [{"name": name, "containerPort": port} for name, port in _RAY_PORTS.items()]
    limits = container.get("resources", {}).get("limits", {})
    for name in [name for name in limits if "/" in name]:  # GPUs are for the processes
        del limits[name]
    number = len(job.tasks)
    workers = {"groupName": "worker", "replicas": number, "minReplicas": number, "maxReplicas": number}
    return [
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": job.metadata(),
            "spec": {
                "entrypoint": f"python -m {_RAY_MODULE}",
                "submissionMode": "HTTPMode",  # no pod more, which would have to have the image and the folder
                "backoffLimit": 0,  # the team is started again on the nodes that there are
                "shutdownAfterJobFinishes": True,
                "rayClusterSpec": {
                    "rayVersion": job.ray_version,
                    "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": head},
                    "workerGroupSpecs": [{**workers, "rayStartParams": {}, "template": worker}],
                },
            },
        }
    ]


DOCUMENTS: Mapping[str, Callable[[TeamJob], list[Document]]] = {
    "tfjob": tf_job,
    "jobset": job_set,
    "statefulset": stateful_sets,
    "rayjob": ray_job,
}
"""By `training.distribution.launcher`."""

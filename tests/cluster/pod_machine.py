"""Plays what a bare API server lacks: the controllers that make a training's pods, and a node that runs them here.

Pods are made as the controllers make them (training operator v1.9: pkg/controller.v1/tensorflow/tfjob_controller.go;
JobSet 0.11: pkg/controllers/jobset_controller.go; Kubernetes: pkg/controller/job/indexed_job_utils.go and
pkg/controller/statefulset/stateful_set_utils.go), and go to the real API server. Each runs as a process whose command
and environment are those of its pod; a name in the cluster's DNS is a port on loopback. The node serves the logs.
"""

import contextlib
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kubernetes import client, config

from tests.cluster.kube_api_server import Cluster
from tests.kubeflow.rendered_manifests import Document
from tests.ports import free_ports

NODE = "machine"
_SETS = {
    "TFJob": ("kubeflow.org", "v1", "tfjobs"),
    "JobSet": ("jobset.x-k8s.io", "v1alpha2", "jobsets"),
    "StatefulSet": ("apps", "v1", "statefulsets"),
}
_ADDRESS = re.compile(r"[a-z0-9.-]+\.svc:2222")


@dataclass
class Running:
    """A pod, and its process."""

    document: Document
    process: "subprocess.Popen[bytes]"
    restarts: int = 0

    @property
    def name(self) -> str:
        name: str = self.document["metadata"]["name"]
        return name


@dataclass
class Machine:
    """A node, and the controllers of one namespace."""

    cluster: Cluster
    namespace: str
    folder: Path
    """For logs."""
    has_room: bool = True
    """False: the scheduler finds no node for pods."""
    made: list[Document] = field(default_factory=list)
    """All pods that were made, in their order."""
    _running: dict[str, list[Running]] = field(default_factory=dict)
    """By the name of what they belong to."""
    _ports: dict[str, int] = field(default_factory=dict)
    _restarts: dict[str, int] = field(default_factory=dict)
    """Of JobSets."""

    def __post_init__(self) -> None:
        self._api = config.new_client_from_config(str(self.cluster.kubeconfig))
        self._core = client.CoreV1Api(self._api)
        self._custom = client.CustomObjectsApi(self._api)

    def step(self) -> None:
        """Look at what there is, and do what is to be done."""
        there = set()
        for kind, (group, version, plural) in _SETS.items():
            try:
                found = self._custom.list_namespaced_custom_object(group, version, self.namespace, plural)["items"]
            except client.ApiException as error:
                if error.status != 404:
                    raise
                continue  # its operator is not installed
            for document in found:
                name = document["metadata"]["name"]
                there.add(name)
                if name not in self._running:
                    self._running[name] = [self._start(pod) for pod in _PODS[kind](self, document)]
                self._follow(kind, document)
        for name in [name for name in self._running if name not in there]:
            self._end(self._running.pop(name))

    def end(self) -> None:
        for pods in self._running.values():
            self._end(pods)
        self._running.clear()

    def address(self, name: str) -> str:
        """Where it is on loopback."""
        if name not in self._ports:
            (self._ports[name],) = free_ports(1)
        return f"127.0.0.1:{self._ports[name]}"

    def _start(self, pod: Document) -> Running:
        pod["metadata"] |= {"namespace": self.namespace}
        if self.has_room:
            pod["spec"]["nodeName"] = NODE
        created = self._core.create_namespaced_pod(self.namespace, pod)
        pod = json.loads(
            self._core.read_namespaced_pod(created.metadata.name, self.namespace, _preload_content=False).data
        )
        self.made.append(pod)
        if not self.has_room:
            message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            self._say(pod, {"phase": "Pending", "conditions": [condition]})
            return Running(pod, subprocess.Popen(["sleep", "infinity"]))
        running = Running(pod, self._process(pod))
        self._say(pod, _status(pod, "Running", {"running": {}}, restarts=0))
        return running

    def _process(self, pod: Document) -> "subprocess.Popen[bytes]":
        (container,) = pod["spec"]["containers"]
        assert container["command"][0] == "python"
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        given = {name: _ADDRESS.sub(lambda found: self.address(found[0]), value) for name, value in given.items()}
        host = pod["spec"].get("hostname") or pod["metadata"]["name"]
        with self.log(pod["metadata"]["name"]).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *container["command"][1:]],
                env={"PATH": "/usr/bin:/bin", **given, "HOSTNAME": host},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self, pod: str) -> Path:
        return self.folder / f"{pod}.log"

    def _follow(self, kind: str, owner: Document) -> None:
        """What the kubelet does when a process ends, and then the controller."""
        name, pods = owner["metadata"]["name"], self._running[owner["metadata"]["name"]]
        for pod in pods:
            code = pod.process.poll()
            if code is None:
                continue
            policy = pod.document["spec"]["restartPolicy"]
            ended = {"terminated": {"exitCode": code if code >= 0 else 128 - code, "reason": "Error" if code else ""}}
            if policy == "Always" or (policy == "OnFailure" and code):
                pod.restarts += 1
                pod.process = self._process(pod.document)
                status = _status(pod.document, "Running", {"running": {}}, restarts=pod.restarts, last=ended)
            else:
                status = _status(pod.document, "Failed" if code else "Succeeded", ended, restarts=pod.restarts)
            self._say(pod.document, status)
        if kind == "StatefulSet":
            return
        codes = {pod.name: pod.process.poll() for pod in pods}
        failed = [code for code in codes.values() if code]
        chiefs = [pod for pod in pods if "-chief-" in pod.name] or [pod for pod in pods if "-worker-0" in pod.name]
        if failed and kind == "JobSet" and self._restarts.get(name, 0) < owner["spec"]["failurePolicy"]["maxRestarts"]:
            self._restarts[name] = self._restarts.get(name, 0) + 1
            self._end(pods)
            self._running[name] = [self._start(pod) for pod in _PODS["JobSet"](self, owner)]
        elif failed:
            self._conclude(kind, name, "Failed")
        elif all(codes[pod.name] == 0 for pod in chiefs):
            self._conclude(kind, name, "Succeeded" if kind == "TFJob" else "Completed")

    def _conclude(self, kind: str, name: str, how: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {"type": how, "status": "True", "reason": how, "message": how, "lastTransitionTime": now}
        group, version, plural = _SETS[kind]
        status = {"status": {"conditions": [condition]}}
        try:
            self._custom.patch_namespaced_custom_object_status(group, version, self.namespace, plural, name, status)
        except client.ApiException as error:
            if error.status != 404:
                raise  # otherwise it was deleted in the meantime

    def _say(self, pod: Document, status: Document) -> None:
        self._core.patch_namespaced_pod_status(pod["metadata"]["name"], self.namespace, {"status": status})

    def _end(self, pods: list[Running]) -> None:
        for pod in pods:
            pod.process.terminate()
        for pod in pods:
            try:
                pod.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pod.process.kill()
                pod.process.wait()
            with contextlib.suppress(client.ApiException):
                self._core.delete_namespaced_pod(pod.name, self.namespace, grace_period_seconds=0)


def _status(pod: Document, phase: str, state: Document, *, restarts: int, last: Document | None = None) -> Document:
    (container,) = pod["spec"]["containers"]
    about = {"name": container["name"], "image": container["image"], "imageID": "", "ready": "running" in state}
    about |= {"restartCount": restarts, "state": state, "lastState": last or {}}
    return {"phase": phase, "containerStatuses": [about]}


def _pod(template: Document, name: str, *, restart_policy: str | None = None) -> Document:
    pod: Document = json.loads(json.dumps(template))
    pod["metadata"] = {"labels": {}, "annotations": {}, **pod.get("metadata", {}), "name": name}
    if restart_policy:
        pod["spec"]["restartPolicy"] = restart_policy
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def _of_tf_job(machine: Machine, document: Document) -> Iterator[Document]:
    name, namespace = document["metadata"]["name"], machine.namespace
    replicas = document["spec"]["tfReplicaSpecs"]
    cluster = {
        role.lower(): [f"{name}-{role.lower()}-{index}.{namespace}.svc:2222" for index in range(spec["replicas"])]
        for role, spec in replicas.items()
    }
    for role, spec in replicas.items():
        for index in range(spec["replicas"]):
            pod = _pod(spec["template"], f"{name}-{role.lower()}-{index}", restart_policy=spec["restartPolicy"])
            pod["metadata"]["labels"]["training.kubeflow.org/replica-index"] = str(index)
            told = {"cluster": cluster, "task": {"type": role.lower(), "index": index}, "environment": "cloud"}
            (container,) = (one for one in pod["spec"]["containers"] if one["name"] == "tensorflow")
            if sum(len(addresses) for addresses in cluster.values()) > 1:
                container["env"].append({"name": "TF_CONFIG", "value": json.dumps(told)})
            yield pod


def _of_job_set(machine: Machine, document: Document) -> Iterator[Document]:
    name = document["metadata"]["name"]
    attempt = machine._restarts.get(name, 0)
    for job in document["spec"]["replicatedJobs"]:
        spec = job["template"]["spec"]
        for index in range(spec["completions"]):
            host = f"{name}-{job['name']}-0-{index}"
            pod = _pod(spec["template"], f"{host}-{'abcdefgh'[attempt] * 5}")
            pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] = str(index)
            pod["spec"] |= {"hostname": host, "subdomain": document["spec"]["network"]["subdomain"]}
            (container,) = pod["spec"]["containers"]
            container["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
            yield pod


def _of_stateful_set(machine: Machine, document: Document) -> Iterator[Document]:
    spec = document["spec"]
    for index in range(spec["replicas"]):
        name = f"{document['metadata']['name']}-{index}"
        pod = _pod(spec["template"], name)
        pod["spec"] |= {"hostname": name, "subdomain": spec["serviceName"]}
        yield pod


_PODS: dict[str, Callable[[Machine, Document], Iterator[Document]]] = {
    "TFJob": _of_tf_job,
    "JobSet": _of_job_set,
    "StatefulSet": _of_stateful_set,
}


@contextlib.contextmanager
def running_machine(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Machine]:
    """Have a machine do what is to be done, until the end."""
    machine = Machine(cluster, namespace, folder)
    is_over = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while not is_over.wait(0.2):
            try:
                machine.step()
            except BaseException as error:
                failures.append(error)
                raise

    with _node(machine):
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield machine
        finally:
            is_over.set()
            thread.join()
            machine.end()
    assert not failures, failures


@contextlib.contextmanager
def _node(machine: Machine) -> Iterator[None]:
    """The node as the API server knows it, with the kubelet's endpoint for logs."""

    class Logs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            _, kind, _, pod, _ = path.split("/")  # /containerLogs/NAMESPACE/POD/CONTAINER
            lines = machine.log(pod).read_bytes().splitlines(keepends=True)
            found = re.search(r"tailLines=(\d+)", query)
            body = b"".join(lines[-int(found[1]) :] if found else lines)
            self.send_response(200 if kind == "containerLogs" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    certificates = machine.cluster.kubeconfig.parent / "certificates"  # the API server does not look at the kubelet's
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "apiserver.crt", certificates / "apiserver.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Logs)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    made = machine.cluster.apply(documents=[node])
    assert made.returncode == 0, made.stderr
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_address[1]}},
    }
    machine._core.patch_node_status(NODE, {"status": status})
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

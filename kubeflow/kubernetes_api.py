"""Kubernetes' API as a task asks it, by its service account, in documents; what is refused is said in words."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from kubetfx.errors import KubeflowError

Document = dict[str, Any]

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TRANSIENT = frozenset({0, 408, 429, 500, 502, 503, 504})
_OUT_OF_REACH_SECONDS = 300
_REQUEST_SECONDS = 30
_FOLDERS = {"v1": "/api/v1"}
"""Folders of the group that has no name."""
_PLURALS = {
    "Event": "events",
    "JobSet": "jobsets",
    "Pod": "pods",
    "RayJob": "rayjobs",
    "Service": "services",
    "StatefulSet": "statefulsets",
    "TFJob": "tfjobs",
}
_INSTALL = {
    "TFJob": "Kubeflow's training operator v1 (https://www.kubeflow.org/docs/components/trainer/legacy-v1)",
    "JobSet": "the JobSet controller (https://jobset.sigs.k8s.io/docs/installation)",
    "RayJob": "KubeRay (https://docs.ray.io/en/latest/cluster/kubernetes)",
}
RIGHTS = (
    "Give the service account the role of kubeflow/manifests/pipeline/components/training: docs/scale.md, Training on "
    "several workers."
)


class KubernetesApi:
    """Kubernetes' API in one namespace.

    Raises:
        KubeflowError: this process is not in a pod, and there is no kubeconfig.
    """

    def __init__(self) -> None:
        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=settings)
                self.namespace = _NAMESPACE.read_text(encoding="utf-8").strip()
            else:
                config.load_kube_config(client_configuration=settings)
                _, context = config.list_kube_config_contexts()
                self.namespace = context["context"].get("namespace", "default")
        except (config.ConfigException, OSError) as error:
            raise KubeflowError(
                f"Kubernetes cannot be asked for workers: this is not a pod with a service account. Received: {error}. "
                "On this machine set training.distribution.launcher: processes."
            ) from None
        self._client = client.ApiClient(settings)
        self.account = ""
        """The service account, for errors."""

    def get(self, kind: str, name: str, *, version: str = "v1") -> Document:
        """Return an object.

        Args:
            kind: Its kind.
            name: Its name.
            version: group and version.

        Raises:
            KubeflowError: the API refuses, or cannot be reached.
        """
        found: Document = json.loads(self._ask("GET", f"{self._path(kind, version)}/{name}", f"get {kind} {name}"))
        return found

    def all(self, kind: str, **selectors: str) -> list[Document]:
        """Return the objects of a kind.

        Args:
            kind: A kind of Kubernetes' core API, such as `Pod`.
            **selectors: `labelSelector` and `fieldSelector`.

        Raises:
            KubeflowError: the API refuses, or cannot be reached.
        """
        found: list[Document] = json.loads(self._ask("GET", self._path(kind, "v1"), f"list {kind}s", selectors))[
            "items"
        ]
        return found

    def create(self, document: Document) -> None:
        """Create an object.

        Args:
            document: that describes it.

        Raises:
            KubeflowError: the API refuses, or cannot be reached, or there is no such kind of object.
        """
        kind, version = document["kind"], document["apiVersion"]
        what = f"create {kind} {document['metadata']['name']}"
        try:
            self._ask("POST", self._path(kind, version), what, body=document)
        except KubeflowError as error:
            cause = error.__cause__
            if kind in _INSTALL and isinstance(cause, client.ApiException) and cause.status == 404:
                raise KubeflowError(
                    f"The cluster has no {kind}. Received: 404 for {version}. Install {_INSTALL[kind]}, or set "
                    "training.distribution.launcher: statefulset, which needs nothing but Kubernetes."
                ) from error
            raise

    def delete(self, document: Document) -> None:
        """Delete an object with all that belongs to it, if it is there.

        Args:
            document: that describes it.

        Raises:
            KubeflowError: the API refuses, or cannot be reached.
        """
        kind, name = document["kind"], document["metadata"]["name"]
        path = f"{self._path(kind, document['apiVersion'])}/{name}"
        try:
            self._ask("DELETE", path, f"delete {kind} {name}", {"propagationPolicy": "Background"})
        except KubeflowError as error:
            if not (isinstance(error.__cause__, client.ApiException) and error.__cause__.status == 404):
                raise

    def log(self, pod: str, *, lines: int) -> str:
        """Return the end of the log of a pod's container, or why it cannot be read.

        Args:
            pod: its name.
            lines: at most.
        """
        path = f"{self._path('Pod', 'v1')}/{pod}/log"
        try:
            return self._once("GET", path, {"tailLines": str(lines)}).decode(errors="replace")
        except (client.ApiException, urllib3.exceptions.HTTPError) as error:
            return f"(The log cannot be read: {_reason(error)})"

    def _path(self, kind: str, version: str) -> str:
        folder = _FOLDERS.get(version, f"/apis/{version}")
        return f"{folder}/namespaces/{self.namespace}/{_PLURALS[kind]}"

    def _ask(
        self, method: str, path: str, what: str, query: Mapping[str, str] | None = None, body: Document | None = None
    ) -> bytes:
        """Ask, and ask again where the answer is a failure that passes."""
        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_delay(_OUT_OF_REACH_SECONDS),
            wait=wait_exponential_jitter(initial=1, max=30, jitter=1),
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, query, body)
        except client.ApiException as error:
            account = self.account or "of this pod"
            remedy = f" The service account is {account}, in {self.namespace}. {RIGHTS}" if error.status == 403 else ""
            raise KubeflowError(f"Kubernetes refused to {what}. Received: {_reason(error)}.{remedy}") from error
        except urllib3.exceptions.HTTPError as error:
            raise KubeflowError(
                f"Kubernetes cannot be reached to {what}. Received: {self._client.configuration.host}: {error}. Is its "
                "API server up, and does a network policy let the task's pods reach it?"
            ) from error

    def _once(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Document | None = None
    ) -> bytes:
        response = self._client.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "*/*", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=_REQUEST_SECONDS,
        )
        data: bytes = response.data
        return data


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, client.ApiException):
        return error.status in _TRANSIENT
    return isinstance(error, urllib3.exceptions.HTTPError)


def _reason(error: Exception) -> str:
    if not isinstance(error, client.ApiException):
        return str(error)
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"

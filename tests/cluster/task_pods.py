"""The pods of a run: what Kubeflow Pipelines 2.17.0 and Argo Workflows 4.0.5 make of a package.

Read in backend/src/v2 of kubeflow/pipelines (compiler/argocompiler/container.go:425 and security_context.go,
driver/driver.go:330, driver/k8s.go:120), its configuration of Argo (manifests/kustomize/third-party/argo/base/
workflow-controller-configmap-patch.yaml), and workflow/controller/workflowpod.go:165 of argoproj/argo-workflows.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.kubeflow.rendered_manifests import Document

_RUNTIME_DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
_UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **_RUNTIME_DEFAULT}
_SYSTEM = {**_UNPRIVILEGED, "runAsNonRoot": True}
"""Of the launcher and the drivers."""
_ARGO = {**_SYSTEM, "runAsUser": 65532}
_SCRATCH = ("gcs", "s3", "minio", ".local", ".cache", ".config")
_QUANTITIES = {"CpuLimit": "cpu", "CpuRequest": "cpu", "MemoryLimit": "memory", "MemoryRequest": "memory"}


def task_pods(package: Path, *, service_account: str, release: str = "2.17") -> Iterator[Document]:
    """The pod of each task, and one of its driver.

    Args:
        package: as `kubetfx compile` writes it.
        service_account: of the run.
        release: of Kubeflow Pipelines. Before 2.16 it set no security contexts.
    """
    spec, *platforms = yaml.safe_load_all(package.read_text())
    kubernetes = platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {}
    is_hardened = tuple(map(int, release.split("."))) >= (2, 16)
    yield _pod("driver", _driver(), service_account, is_hardened=is_hardened)
    for label, executor in spec["deploymentSpec"]["executors"].items():
        task = _task(executor["container"], kubernetes.get(label, {}))
        pod = _pod(label.removeprefix("exec-"), task, service_account, is_hardened=is_hardened)
        metadata = kubernetes.get(label, {}).get("podMetadata", {})
        pod["metadata"]["labels"] |= metadata.get("labels", {})
        pod["metadata"]["annotations"] |= metadata.get("annotations", {})
        yield pod


def _pod(name: str, spec: Document, service_account: str, *, is_hardened: bool) -> Document:
    """With the containers that Argo puts around each."""
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": service_account,
        **spec,
        "initContainers": [_argo("init"), *spec.get("initContainers", [])],
        "containers": [_argo("wait"), *spec["containers"]],
        "volumes": [*_empty("var-run-argo", "tmp-dir-argo"), *spec.get("volumes", [])],
    }
    if not is_hardened:
        spec.pop("securityContext")
        for container in (*spec["initContainers"], *spec["containers"]):
            container.pop("securityContext")
    marks = {"pipelines.kubeflow.org/v2_component": "true"}
    metadata = {"generateName": f"run-1-{name}-", "labels": {**marks, "workflows.argoproj.io/workflow": "run-1"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "annotations": marks}, "spec": spec}


def _driver() -> Document:
    driver = {"name": "main", "image": "ghcr.io/kubeflow/kfp-driver", "command": ["driver"], "securityContext": _SYSTEM}
    return {"securityContext": {"runAsNonRoot": True, **_RUNTIME_DEFAULT}, "containers": [dict(driver)]}


def _task(container: Document, kubernetes: Document) -> Document:
    """What the template says, and the driver's patch on top."""
    launcher = {
        "name": "kfp-launcher",
        "image": "ghcr.io/kubeflow/kfp-launcher",
        "args": ["--copy", "/kfp-launcher/launch"],
        "volumeMounts": [{"name": "kfp-launcher", "mountPath": "/kfp-launcher"}],
        "securityContext": _SYSTEM,
    }
    volumes = {volume["name"]: volume for volume in _kubernetes_volumes(kubernetes)}  # merged by name
    scratch = {name: f"{name.replace('.', 'dot-')}-scratch" for name in _SCRATCH}
    mounts = [{"name": volume, "mountPath": f"/{name}"} for name, volume in scratch.items()]
    security = kubernetes.get("securityContext", {})
    main = {
        "name": "main",
        "image": container["image"],
        "command": ["/kfp-launcher/launch", "--", *container["command"]],
        "args": container["args"],
        "env": [*container.get("env", []), *_variables(kubernetes), *_own_name()],
        "envFrom": [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}],
        "resources": _resources(container.get("resources", {})),
        "volumeMounts": [*launcher["volumeMounts"], *mounts, *_kubernetes_mounts(kubernetes)],
        "securityContext": {**_UNPRIVILEGED, **{key: value for key, value in security.items() if value is not None}},
    }
    if policy := kubernetes.get("imagePullPolicy"):
        main["imagePullPolicy"] = policy
    return {
        "securityContext": dict(_RUNTIME_DEFAULT),  # and no runAsNonRoot, which the image of a user may not fit
        "initContainers": [launcher],
        "containers": [main],
        "volumes": [*_empty("kfp-launcher", *scratch.values()), *volumes.values()],
        "nodeSelector": kubernetes.get("nodeSelector", {}).get("labels", {}),
        "tolerations": [
            {key: int(value) if key == "tolerationSeconds" else value for key, value in toleration.items()}
            for toleration in kubernetes.get("tolerations", [])
        ],
        "imagePullSecrets": [{"name": secret["secretName"]} for secret in kubernetes.get("imagePullSecret", [])],
        **(
            {"activeDeadlineSeconds": int(kubernetes["activeDeadlineSeconds"])}
            if "activeDeadlineSeconds" in kubernetes
            else {}
        ),
    }


def _argo(name: str) -> Document:
    mounts = [{"name": "var-run-argo", "mountPath": "/var/run/argo"}]
    return {"name": name, "image": "quay.io/argoproj/argoexec", "volumeMounts": mounts, "securityContext": dict(_ARGO)}


def _empty(*names: str) -> list[Document]:
    return [{"name": name, "emptyDir": {}} for name in names]


def _own_name() -> Iterator[Document]:
    for variable, field in (("KFP_POD_NAME", "metadata.name"), ("KFP_POD_UID", "metadata.uid")):
        yield {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def _resources(resources: Document) -> Document:
    result: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for name, resource in _QUANTITIES.items():
        if quantity := resources.get(f"resource{name}"):
            result["limits" if name.endswith("Limit") else "requests"][resource] = quantity
    if accelerator := resources.get("accelerator"):
        result["limits"][accelerator["resourceType"]] = accelerator["resourceCount"]
    return result


def _variables(kubernetes: Document) -> Iterator[Document]:
    for kind, reference in (("secret", "secretKeyRef"), ("configMap", "configMapKeyRef")):
        for source in kubernetes.get(f"{kind}AsEnv", []):
            for pair in source["keyToEnv"]:
                where = {"name": source[f"{kind}Name"], "key": pair[f"{kind}Key"]}
                optional = {"optional": source["optional"]} if "optional" in source else {}
                yield {"name": pair["envVar"], "valueFrom": {reference: where | optional}}


def _kubernetes_volumes(kubernetes: Document) -> Iterator[Document]:
    """Each is named as what it holds."""
    for mount in kubernetes.get("pvcMount", []):
        yield {"name": mount["constant"], "persistentVolumeClaim": {"claimName": mount["constant"]}}
    for source in kubernetes.get("secretAsVolume", []):
        secret = {"secretName": source["secretName"], "optional": source.get("optional", False)}
        yield {"name": source["secretName"], "secret": secret}
    for source in kubernetes.get("configMapAsVolume", []):
        config_map = {"name": source["configMapName"], "optional": source.get("optional", False)}
        yield {"name": source["configMapName"], "configMap": config_map}
    for mount in kubernetes.get("emptyDirMounts", []):
        options = {key: mount[key] for key in ("medium", "sizeLimit") if key in mount}
        yield {"name": mount["volumeName"], "emptyDir": options}


def _kubernetes_mounts(kubernetes: Document) -> Iterator[Document]:
    for mount in kubernetes.get("pvcMount", []):
        yield {"name": mount["constant"], "mountPath": mount["mountPath"], "subPath": mount.get("subPath", "")}
    for kind in ("secret", "configMap"):
        for source in kubernetes.get(f"{kind}AsVolume", []):
            yield {"name": source[f"{kind}Name"], "mountPath": source["mountPath"]}
    for mount in kubernetes.get("emptyDirMounts", []):
        yield {"name": mount["volumeName"], "mountPath": mount["mountPath"]}

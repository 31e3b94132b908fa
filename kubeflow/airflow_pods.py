"""The pods of an Airflow DAG: arguments of its KubernetesPodOperator, out of the section `kubeflow`.

They are the pods that kubeflow/platform.py describes to Kubeflow Pipelines.
"""

from collections.abc import Iterator
from typing import Any

from kubetfx.config.kubeflow_section import SHARED_MEMORY_PATH, ConfigSource, KubeflowConfig, TaskConfig, Toleration
from kubetfx.kubeflow.python_source import Call


def pod_arguments(task: TaskConfig) -> dict[str, Any]:
    """Return what the settings of a component say about its pod.

    Args:
        task: the settings.

    Returns:
        Arguments by name, without those that are not needed.
    """
    volumes, mounts = _volumes(task)
    found: dict[str, Any] = {
        "container_resources": _resources(task),
        "env_vars": [
            *(_call("V1EnvVar", name=name, value=value) for name, value in sorted(task.env.items())),
            *_env(task),
        ],
        "volumes": volumes,
        "volume_mounts": mounts,
        "node_selector": dict(sorted(task.node_selector.items())),
        "tolerations": [_toleration(toleration) for toleration in task.tolerations],
        "labels": dict(sorted(task.labels.items())),
        "annotations": dict(sorted(task.annotations.items())),
        "active_deadline_seconds": task.timeout_seconds,
    }
    return {name: value for name, value in found.items() if value}


def shared_arguments(config: KubeflowConfig) -> dict[str, Any]:
    """Return what holds for the pods of all components.

    Args:
        config: the section `kubeflow`.

    Returns:
        Arguments by name, without those that are not needed.
    """
    found: dict[str, Any] = {
        "image_pull_policy": config.image_pull_policy,
        "image_pull_secrets": [_call("V1LocalObjectReference", name=name) for name in config.image_pull_secrets],
        "service_account_name": config.service_account,
    }
    if config.pod_security == "restricted":
        found["security_context"] = _call(
            "V1PodSecurityContext",
            run_as_non_root=True,
            seccomp_profile=_call("V1SeccompProfile", type="RuntimeDefault"),
        )
        found["container_security_context"] = _call(
            "V1SecurityContext",
            allow_privilege_escalation=False,
            capabilities=_call("V1Capabilities", drop=["ALL"]),
        )
    return {name: value for name, value in found.items() if value}


def _call(kind: str, **arguments: Any) -> Call:
    return Call.of(f"k8s.{kind}", **arguments)


def _resources(task: TaskConfig) -> Call | None:
    requests = {"cpu": task.requests.cpu or task.cpu, "memory": task.requests.memory or task.memory}
    limits = {"cpu": task.cpu, "memory": task.memory}
    if task.gpu:
        limits[task.gpu.resource] = str(task.gpu.count)
    asked = [{name: amount for name, amount in found.items() if amount} or None for found in (requests, limits)]
    return _call("V1ResourceRequirements", requests=asked[0], limits=asked[1]) if any(asked) else None


def _env(task: TaskConfig) -> Iterator[Call]:
    """Yield variables of Secrets and config maps."""
    for sources, selector, reference in (
        (task.secrets, "V1SecretKeySelector", "secret_key_ref"),
        (task.config_maps, "V1ConfigMapKeySelector", "config_map_key_ref"),
    ):
        for source in sources:
            for key, variable in source.env.items():
                chosen = _call(selector, name=source.name, key=key, optional=source.optional or None)
                yield _call("V1EnvVar", name=variable, value_from=_call("V1EnvVarSource", **{reference: chosen}))


def _volumes(task: TaskConfig) -> tuple[list[Call], list[Call]]:
    """Return the volumes, named as Kubeflow Pipelines names them, and where they are mounted."""
    volumes: dict[str, Call] = {}
    mounts: list[Call] = []
    if task.shared_memory:
        memory = _call("V1EmptyDirVolumeSource", medium="Memory", size_limit=task.shared_memory)
        volumes["shared-memory"] = _call("V1Volume", name="shared-memory", empty_dir=memory)
        mounts.append(_call("V1VolumeMount", name="shared-memory", mount_path=SHARED_MEMORY_PATH))
    for volume in task.volumes:
        claim = _call("V1PersistentVolumeClaimVolumeSource", claim_name=volume.claim)
        volumes[volume.claim] = _call("V1Volume", name=volume.claim, persistent_volume_claim=claim)
        mounts.append(
            _call("V1VolumeMount", name=volume.claim, mount_path=volume.mount_path, sub_path=volume.sub_path or None)
        )
    for source, content in (
        *((source, _secret_volume(source)) for source in task.secrets if source.mount_path),
        *((source, _config_map_volume(source)) for source in task.config_maps if source.mount_path),
    ):
        volumes[source.name] = content
        mounts.append(_call("V1VolumeMount", name=source.name, mount_path=source.mount_path))
    return list(volumes.values()), mounts


def _secret_volume(source: ConfigSource) -> Call:
    secret = _call("V1SecretVolumeSource", secret_name=source.name, optional=source.optional or None)
    return _call("V1Volume", name=source.name, secret=secret)


def _config_map_volume(source: ConfigSource) -> Call:
    config_map = _call("V1ConfigMapVolumeSource", name=source.name, optional=source.optional or None)
    return _call("V1Volume", name=source.name, config_map=config_map)


def _toleration(toleration: Toleration) -> Call:
    return _call("V1Toleration", **toleration.model_dump(exclude_none=True))

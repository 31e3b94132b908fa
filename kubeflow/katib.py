"""A Katib Experiment of the search that a config describes.

Katib draws the settings, and each of its trials is a Job whose command trains once with them and prints the metric.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kubetfx.config.kubeflow_section import SHARED_MEMORY_PATH, KubeflowConfig, TaskConfig, Toleration
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.tunable_keys import is_integer, metric_of
from kubetfx.config.tuning_section import TRIALS, Interval, TuningConfig, Values
from kubetfx.errors import ConfigError, UsageError

_CONTAINER = "training"
_FOLDER = "/etc/kubetfx"
_FILE = "pipeline.yaml"
_METRICS_FORMAT = r"(\w+) on the validation rows: ([+-]?\d*(?:\.\d+)?(?:[Ee][+-]?\d+)?)"
"""For what `kubetfx tune` prints: name and value of the metric."""
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Pod Security `restricted` wants of a container. Kubeflow Pipelines sets the most of it by itself."""
_ALGORITHMS = {"tpe": "tpe", "random": "random"}


def write_experiment(config: PipelineConfig, path: Path) -> None:
    """Write the manifest: a ConfigMap with the pipeline, and the Experiment.

    Args:
        config: with the sections `tuning` and `kubeflow`.
        path: file to write.

    Raises:
        ConfigError: the search names no space, which Katib needs before the data is read.
        UsageError: the file cannot be written.
    """
    text = yaml.safe_dump_all(experiment(config), sort_keys=False, allow_unicode=True, width=120)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"The manifest cannot be written. Received: {path} ({error.strerror}).") from None


def experiment(config: PipelineConfig) -> list[dict[str, Any]]:
    """Return the documents of the manifest.

    Args:
        config: with the sections `tuning` and `kubeflow`.

    Raises:
        ConfigError: the search names no space.
    """
    tuning = config.tuning
    if tuning is None or not tuning.search:
        raise ConfigError(
            "tuning.search: Katib draws settings before the data is read, so it needs to be told which. Received: no "
            "tuning.search. Name keys and their values; docs/tuning.md has an example."
        )
    name = f"{_kubernetes_name(config.name)}-tuning"
    metric, better = metric_of(config)
    once = TuningConfig(trials=1, metric=metric)
    document = config.model_copy(update={"tuning": once, "workspace": f"/tmp/{config.name}"})
    text = yaml.safe_dump(document.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    keys = {key: f"value{number}" for number, key in enumerate(tuning.search)}
    spec = {
        "objective": {
            "type": "minimize" if better == "lower" else "maximize",
            "objectiveMetricName": metric,
        },
        "algorithm": {"algorithmName": _ALGORITHMS[tuning.sampler]},
        "parallelTrialCount": tuning.parallel,
        "maxTrialCount": tuning.trials or TRIALS,
        "maxFailedTrialCount": tuning.trials or TRIALS,
        "metricsCollectorSpec": {
            "collector": {"kind": "StdOut"},
            "source": {"filter": {"metricsFormat": [_METRICS_FORMAT]}},
        },
        "parameters": [_parameter(keys[key], key, values) for key, values in tuning.search.items()],
        "trialTemplate": {
            "primaryContainerName": _CONTAINER,
            "trialParameters": [{"name": own, "description": key, "reference": own} for key, own in keys.items()],
            "trialSpec": _job(config, name, keys),
        },
    }
    labels = {"app.kubernetes.io/part-of": "kubetfx"}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {_FILE: text}},
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
        },
    ]


def _kubernetes_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")[:50]


def _parameter(name: str, key: str, values: Values) -> dict[str, Any]:
    if not isinstance(values, Interval):
        return {
            "name": name,
            "parameterType": "categorical",
            "feasibleSpace": {"list": [_in_a_word(value) for value in values]},
        }
    is_whole = is_integer(key, PipelineConfig)
    low, high = (int(number) if is_whole else number for number in values.bounds)
    space = {"min": str(low), "max": str(high)}
    if values.step is not None:
        space["step"] = str(int(values.step) if is_whole else values.step)
    if values.log is not None:
        space["distribution"] = "logUniform"
    return {"name": name, "parameterType": "int" if is_whole else "double", "feasibleSpace": space}


def _in_a_word(value: Any) -> str:
    """Return a value as `--set` reads it, without spaces: Katib hands the command to a shell."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _job(config: PipelineConfig, name: str, keys: dict[str, str]) -> dict[str, Any]:
    """Return the Job of a trial, whose pod is like that of the Trainer."""
    task = config.kubeflow.of_component("Tuner")
    command = ["python", "-m", "kubetfx", "tune", f"{_FOLDER}/{_FILE}"]
    for key, own in keys.items():
        command += ["--set", f"{key}=${{trialParameters.{own}}}"]
    # Katib's own proxies of a service mesh would keep the pod from ending.
    annotations = {"sidecar.istio.io/inject": "false", **task.annotations}
    metadata = {"annotations": annotations, "labels": dict(task.labels)}
    template = {"metadata": metadata, "spec": _pod(config.kubeflow, task, command, name)}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": 0, "template": template}}


def _pod(config: KubeflowConfig, task: TaskConfig, command: list[str], config_map: str) -> dict[str, Any]:
    storage = list(_storage(task, config_map))
    container: dict[str, Any] = {
        "name": _CONTAINER,
        "image": config.image,
        "command": command,
        "env": _environment(task),
        "volumeMounts": [{"name": name, **mount} for name, _, mount in storage],
        "resources": _resources(task),
    }
    if config.pod_security == "restricted":
        container["securityContext"] = _RESTRICTED
    if config.image_pull_policy:
        container["imagePullPolicy"] = config.image_pull_policy
    volumes = {name: {"name": name, **volume} for name, volume, _ in storage}  # a claim may be mounted twice
    pod: dict[str, Any] = {"containers": [container], "volumes": list(volumes.values()), "restartPolicy": "Never"}
    if config.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in config.image_pull_secrets]
    if task.node_selector:
        pod["nodeSelector"] = dict(task.node_selector)
    if task.tolerations:
        pod["tolerations"] = [_toleration(one) for one in task.tolerations]
    return pod


def _storage(task: TaskConfig, config_map: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, volume and mount of each place that the pod sees."""
    yield "pipeline", {"configMap": {"name": config_map}}, {"mountPath": _FOLDER, "readOnly": True}
    if task.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": task.shared_memory}
        yield "shared-memory", {"emptyDir": memory}, {"mountPath": SHARED_MEMORY_PATH}
    for volume in task.volumes:
        place = {"subPath": volume.sub_path} if volume.sub_path else {}
        claim = {"persistentVolumeClaim": {"claimName": volume.claim}}
        yield volume.claim, claim, {"mountPath": volume.mount_path, **place}
    for sources, kind, named in ((task.secrets, "secret", "secretName"), (task.config_maps, "configMap", "name")):
        for source in sources:
            if source.mount_path:
                content = {kind: {named: source.name, "optional": source.optional}}
                yield source.name, content, {"mountPath": source.mount_path}


def _toleration(toleration: Toleration) -> dict[str, Any]:
    words = toleration.model_dump(exclude_none=True)
    return {"tolerationSeconds" if word == "toleration_seconds" else word: value for word, value in words.items()}


def _environment(task: TaskConfig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in task.env.items()]
    for sources, kind in ((task.secrets, "secretKeyRef"), (task.config_maps, "configMapKeyRef")):
        for source in sources:
            for key, variable in source.env.items():
                reference = {"name": source.name, "key": key, "optional": source.optional}
                found.append({"name": variable, "valueFrom": {kind: reference}})
    return found


def _resources(task: TaskConfig) -> dict[str, Any]:
    limits = {"cpu": task.cpu, "memory": task.memory}
    requests = {"cpu": task.requests.cpu or task.cpu, "memory": task.requests.memory or task.memory}
    gpus = {task.gpu.resource: str(task.gpu.count)} if task.gpu else {}
    return {
        "limits": {**{name: value for name, value in limits.items() if value}, **gpus},
        "requests": {name: value for name, value in requests.items() if value},
    }

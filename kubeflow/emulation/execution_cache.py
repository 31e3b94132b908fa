"""The cache of executions: what the driver of Kubeflow Pipelines 2.17.0 takes a task's outputs from.

Its key is that of backend/src/v2/cacheutils/cache.go: inputs, declared outputs, image, command, and the volumes that
are mounted; no name of a task or a component. Pipelines of different names share nothing. Unlike there, an entry whose
files are gone counts for nothing: whoever removes files here wants them made again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubetfx.kubeflow.emulation.driver_inputs import WORKSPACE_PATH, Inputs, Scope, parameter
from kubetfx.kubeflow.emulation.metadata_store import RunMetadata
from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.executor_io import local_path


def fingerprint(
    component: Mapping[str, Any], container: Mapping[str, Any], inputs: Inputs, volumes: Sequence[str]
) -> str:
    """Return the key of a task in the cache.

    Args:
        component: its ComponentSpec.
        container: its PipelineContainerSpec.
        inputs: The inputs of the task.
        volumes: names of the claims that are mounted.
    """
    outputs = component.get("outputDefinitions", {})
    document = {
        "inputParameterValues": inputs.parameters,
        "inputArtifactNames": {key: [a["name"] for a in found] for key, found in inputs.artifacts.items()},
        "outputArtifactsSpec": outputs.get("artifacts", {}),
        "outputParametersSpec": {key: spec["parameterType"] for key, spec in outputs.get("parameters", {}).items()},
        "image": container["image"],
        "cmdArgs": [*container.get("command", ()), *container.get("args", ())],
        "pvcNames": sorted(set(volumes)),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def volumes_of(platform: Mapping[str, Any], inputs: Inputs, scope: Scope, *, name: str) -> list[str]:
    """Return the names of the claims that a task mounts (makeVolumeMountPatch in driver/k8s.go).

    Args:
        platform: the KubernetesExecutorConfig of the task.
        inputs: The inputs of the task.
        scope: the DAG around it.
        name: The name of the task.
    """
    claims = []
    for mount in platform.get("pvcMount", ()):
        constant = {"runtimeValue": {"constant": mount["constant"]}} if "constant" in mount else mount
        claims.append(str(parameter(mount.get("pvcNameParameter", constant), scope, name=name, task={})))
    if any(isinstance(value, str) and WORKSPACE_PATH in value for value in inputs.parameters.values()):
        claims.append(f"{scope.run.workflow}-kfp-workspace")
    return claims


class ExecutionCache:
    """The entries of one pipeline, a file each."""

    def __init__(self, folder: Path, *, run_id: str, metadata: RunMetadata, root: Path) -> None:
        """Open the cache.

        Args:
            folder: The folder of the pipeline's entries, which need not exist.
            run_id: The id of the run that looks for entries, or adds some.
            metadata: The metadata of the run.
            root: folder instead of `/` in the launcher's paths.
        """
        self._folder = folder
        self._run_id = run_id
        self._metadata = metadata
        self._root = root

    def put(self, key: str, result: TaskResult) -> None:
        """Keep what a task wrote. Artifacts that only have metadata have no file.

        Args:
            key: The key of the task.
            result: The result of the task, which is done, or was taken from the cache and is of this run from now on.
        """
        uris = [artifact["uri"] for artifact in result.artifacts.values()]
        outcome = {
            "run": self._run_id,
            "artifacts": result.artifacts,
            "files": [uri for uri in uris if local_path(uri, self._root).exists()],
            "parameters": result.parameters,
            "arguments": list(result.arguments),
            "execution": result.execution,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{key}.json").write_text(json.dumps(outcome), encoding="utf-8")

    def take(self, key: str, result: TaskResult) -> bool:
        """Take what a task wrote before, if it is still there and known to ML Metadata.

        Args:
            key: The key of the task.
            result: The result of the task, which is filled.

        Returns:
            Whether there is an entry.
        """
        entry = self._folder / f"{key}.json"
        if not entry.is_file():
            return False
        outcome = json.loads(entry.read_text(encoding="utf-8"))
        if not all(local_path(uri, self._root).exists() for uri in outcome["files"]):
            return False
        if not self._metadata.has(outcome.get("execution", 0), fingerprint=key):
            return False
        result.artifacts, result.parameters = outcome["artifacts"], outcome["parameters"]
        result.arguments, result.execution = outcome["arguments"], outcome["execution"]
        result.state = "cached"
        return True


def entries(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return the entries of a pipeline: what was kept, by file.

    Args:
        folder: The folder of the pipeline's entries, which need not exist.
    """
    return {path: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}

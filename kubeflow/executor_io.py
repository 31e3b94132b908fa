"""The documents between Kubeflow Pipelines' launcher and a container: ExecutorInput and ExecutorOutput.

The launcher downloads inputs to local paths before the container's command, and uploads outputs from there after it;
the documents hold URIs. Nothing here knows TFX. As the tests record, the open-source driver may leave types blank,
writes numbers as doubles, and adds outputs that nobody declared.
"""

import json
import math
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubetfx.errors import KubetfxError

LAUNCHER_ROOT = "KUBETFX_LAUNCHER_ROOT"
"""Environment variable: the folder that stands for `/` in the launcher's paths, where there is no launcher."""

_ROOTS = {"minio": "minio", "s3": "s3", "gs": "gcs"}

LAUNCHER_FOLDERS = (*_ROOTS.values(), "tmp/kfp/outputs")
"""Folders below `/` that a task shares with its launcher: artifacts by scheme of their URI, and output parameters."""


@dataclass(frozen=True)
class RuntimeArtifact:
    """An artifact, as the launcher describes it (message RuntimeArtifact in KFP's api/v2alpha1/pipeline_spec.proto)."""

    name: str
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Its place in the container: a folder, or the one file of a page."""
        return local_path(self.uri)


@dataclass(frozen=True)
class ExecutorInput:
    """What a container is to work on (message ExecutorInput in KFP's api/v2alpha1/pipeline_spec.proto)."""

    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[RuntimeArtifact, ...]]
    outputs: Mapping[str, RuntimeArtifact]
    output_file: Path
    """Where the ExecutorOutput goes."""

    @property
    def artifacts(self) -> list[RuntimeArtifact]:
        """All that are known here: outputs, and inputs of every slot."""
        return [*self.outputs.values(), *self.input_artifacts]

    @property
    def input_artifacts(self) -> list[RuntimeArtifact]:
        """Those of every input slot."""
        return [artifact for artifacts in self.inputs.values() for artifact in artifacts]

    @classmethod
    def from_json(cls, text: str) -> "ExecutorInput":
        """Read the document.

        Args:
            text: JSON, as the launcher puts it instead of the placeholder `{{$}}`.

        Returns:
            The document.

        Raises:
            KubetfxError: this is not an ExecutorInput.
        """
        try:
            document = json.loads(text)
            inputs, outputs = document.get("inputs", {}), document["outputs"]
            return cls(
                parameters=inputs.get("parameterValues", {}),
                inputs={slot: _artifacts(entry) for slot, entry in inputs.get("artifacts", {}).items()},
                outputs={slot: _artifacts(entry)[0] for slot, entry in outputs.get("artifacts", {}).items()},
                output_file=Path(outputs["outputFile"]),
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise KubetfxError(
                f"This is not an ExecutorInput of Kubeflow Pipelines' launcher. Received: {text[:200]} "
                f"({type(error).__name__}: {error}). A task is started by Kubeflow Pipelines, or by a "
                "run on kfp-local."
            ) from error


def local_path(uri: str, root: Path | None = None) -> Path:
    """Return the path of an artifact in the container: `/minio/x` for `minio://x`, `/gcs/x` for `gs://x`.

    This is what localPathForURI does in KFP's component/launcher_v2.go.

    Args:
        uri: of the artifact.
        root: folder instead of `/`. Default: that of the environment, in a task.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    return Path(root or os.environ.get(LAUNCHER_ROOT, "/"), _ROOTS.get(scheme, scheme), rest)


def clear_outputs(executor_input: ExecutorInput, slots: Collection[str]) -> None:
    """Remove what an earlier try left, or what this one has written so far.

    Args:
        executor_input: The executor input of the container.
        slots: output artifacts that the task declares. The others belong to the launcher, which has the log open for
            writing and uploads it at the end: a task whose log is gone fails at its next cache hit.
    """
    for output in (output for slot, output in executor_input.outputs.items() if slot in slots):
        if output.path.is_dir() and not output.path.is_symlink():
            shutil.rmtree(output.path)
        else:
            output.path.unlink(missing_ok=True)
    executor_input.output_file.unlink(missing_ok=True)


def write_output(
    executor_input: ExecutorInput, *, metadata: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, str]
) -> None:
    """Write the ExecutorOutput, completely or not at all.

    Args:
        executor_input: The executor input of the container.
        metadata: The metadata of output artifacts, by slot. Values of None, NaN and infinity are left out, as the
            launcher cannot store them.
        parameters: output parameters by name.
    """
    artifacts = {
        slot: {
            "artifacts": [
                {
                    "name": executor_input.outputs[slot].name,
                    "uri": executor_input.outputs[slot].uri,
                    "metadata": {key: value for key, value in values.items() if _can_be_stored(value)},
                }
            ]
        }
        for slot, values in metadata.items()
    }
    document: dict[str, Any] = {"artifacts": artifacts}
    if parameters:
        document["parameterValues"] = dict(parameters)
    path = executor_input.output_file
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial")
    aside.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    aside.replace(path)


def _can_be_stored(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _artifacts(entry: Mapping[str, Any]) -> tuple[RuntimeArtifact, ...]:
    return tuple(
        RuntimeArtifact(artifact.get("name", ""), artifact["uri"], artifact.get("metadata") or {})
        for artifact in entry.get("artifacts", [])
    )

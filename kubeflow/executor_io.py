"""The documents between Kubeflow Pipelines' launcher and a container: ExecutorInput in, ExecutorOutput out.

The launcher downloads inputs to local paths before the container's command, and uploads outputs from there after it;
the documents speak of URIs. Nothing here knows TFX. How the open-source driver fills the document in is evidence that
the tests hold: types may be blank, numbers are doubles, and there are outputs that nobody declared.
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


@dataclass(frozen=True)
class RuntimeArtifact:
    """An artifact as the launcher tells of it."""

    name: str
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it is in the container: a folder, or the one file of a page."""
        return local_path(self.uri)


@dataclass(frozen=True)
class ExecutorInput:
    """What the launcher tells the container."""

    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[RuntimeArtifact, ...]]
    outputs: Mapping[str, RuntimeArtifact]
    output_file: Path
    """Where the ExecutorOutput goes."""

    @classmethod
    def from_json(cls, text: str) -> "ExecutorInput":
        """Read the document.

        Raises:
            KubetfxError: it is none.
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
                f"This is no ExecutorInput of Kubeflow Pipelines' launcher. Received: {text[:200]} "
                f"({type(error).__name__}: {error}). A task is started by Kubeflow Pipelines, or by "
                "`kubetfx run CONFIG --on kfp-local`."
            ) from error


def local_path(uri: str) -> Path:
    """Where the launcher puts what a URI names: `minio://x` at /minio/x, `gs://x` at /gcs/x."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    return Path(os.environ.get(LAUNCHER_ROOT, "/"), _ROOTS.get(scheme, scheme), rest)


def clear_outputs(executor_input: ExecutorInput, slots: Collection[str]) -> None:
    """Remove what an earlier try left, or what this one has written so far.

    Args:
        executor_input: the document that came in.
        slots: outputs that the task declares. The others are the launcher's: it has the log open for writing, uploads
            it at the end, and a task whose log is gone fails at its next cache hit.
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
    """Write the ExecutorOutput, at once or not at all.

    Args:
        executor_input: the document that came in.
        metadata: of output artifacts, by slot. None and what JSON has no number for are left out: the launcher cannot
            store them.
        parameters: output parameters.
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

"""The engine of a task, whose workers find artifacts in the bucket that the launcher copies from and to.

An executor in a pod works on the launcher's paths, `/s3/team/x` for `s3://team/x`. Workers see no disk of the pod, so
what the executor hands to them has the URI (`kubetfx.engine.shared_places`). What they write is in the bucket already
when the launcher uploads the rest of the same folder.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from kubetfx.engine.session import Session
from kubetfx.engine.shared_places import SharedPlaces, sharing
from kubetfx.errors import EngineError
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, ExecutorInput, RuntimeArtifact
from kubetfx.kubeflow.task_spec import Node, TaskSpec
from kubetfx.storage import Location, ObjectPath, locate, patiently

_ENDPOINT = "AWS_ENDPOINT_URL"
_MINIO = "minio://"
"""Beginning of URIs of a store in the cluster, such as MinIO or SeaweedFS, which speaks S3."""


@contextlib.contextmanager
def session_of(node: Node, spec: TaskSpec, executor_input: ExecutorInput, *, folder: Path) -> Iterator[Session]:
    """Provide the engine of a node, and let its executor hand URIs to workers who see no disk of this pod.

    What an earlier try of the task left in the bucket under the node's outputs is removed first.

    Args:
        node: has arguments for Beam.
        spec: describes the task.
        executor_input: of the task.
        folder: of the task, for what is of use while it runs.

    Yields:
        The session.

    Raises:
        EngineError: the artifacts are in a store that only the launcher reaches.
        StorageError: the bucket cannot be read or written.
    """
    session = Session(node.beam_arguments or (), folder=folder, modules=spec.modules)
    if not session.engine.is_remote or _is_folder(executor_input):
        yield session
        return
    outputs = [_object(executor_input.outputs[slot]) for slot in node.outputs.values()]
    scratch = outputs[0].parent / f".engine-{uuid.uuid4().hex[:12]}"
    session.shared = scratch
    with patiently():
        for place in outputs:
            place.remove_tree()
        try:
            with sharing(_places(executor_input, scratch)):
                yield session
        finally:
            scratch.remove_tree()


def _places(executor_input: ExecutorInput, scratch: ObjectPath) -> SharedPlaces:
    places = {str(artifact.path): _object(artifact) for artifact in executor_input.artifacts}

    def uri_of(text: str) -> str:
        for path, place in places.items():
            if text == path or text.startswith(f"{path}/"):
                return f"{place}{text.removeprefix(path)}"
        return text

    described = f"a task whose artifacts are in {scratch.parent}"
    inputs = frozenset(str(artifact.path) for artifact in executor_input.input_artifacts)
    return SharedPlaces(uri_of, described, inputs, scratch)


def _is_folder(executor_input: ExecutorInput) -> bool:
    """Return whether a folder of this machine stands for the store, as on kfp-local: a path is as good there."""
    uris = (artifact.uri for artifact in executor_input.outputs.values())
    return LAUNCHER_ROOT in os.environ and all(uri.startswith(_MINIO) for uri in uris)


def _object(artifact: RuntimeArtifact) -> ObjectPath:
    """Return the place of an artifact in its bucket."""
    if artifact.uri.startswith(_MINIO) and not os.environ.get(_ENDPOINT):
        raise EngineError(
            "beam: the workers of an engine read and write the artifacts of this task, and where this store is only "
            f"the launcher knows. Received: {artifact.uri}, and no {_ENDPOINT} in the environment of the pod. Give the "
            f"pods, and the workers, {_ENDPOINT}, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a Secret "
            "(kubeflow.every_component.secrets); or give the run a root in a bucket, s3:// or gs://."
        )
    place: Location | None = None
    with contextlib.suppress(ValueError):
        place = locate(artifact.uri.replace(_MINIO, "s3://", 1))
    if not isinstance(place, ObjectPath):
        raise EngineError(
            "beam: the workers of an engine read and write the artifacts of this task, and no worker sees the disk of "
            f"its pod. Received: {artifact.uri}. Give the run a root in a bucket, s3:// or gs://."
        )
    return place

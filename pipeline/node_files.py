"""What drivers and executors see of artifacts in a bucket: copies on this machine (decision 37).

TFX's launcher, ML Metadata and the records know the URIs. Here, where a node does its work, they become paths: inputs
are fetched, outputs are uploaded when the executor has ended and before the launcher publishes them.
"""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kubetfx.artifact_store import ArtifactStore, removed_after
from kubetfx.engine.shared_places import SharedPlaces, sharing
from kubetfx.storage import ObjectPath, locate, patiently


class DriverHere:
    """TFX's operator of a driver, whose inputs are on this machine, without the rows of examples."""

    def __init__(self, operator_class: type, artifacts: ArtifactStore, driver_spec: Any, connection: Any) -> None:
        """Make the driver.

        Args:
            operator_class: The operator class of TFX.
            artifacts: Where artifacts are.
            driver_spec: TFX's specification of the driver.
            connection: TFX's connection to ML Metadata.
        """
        self._artifacts = artifacts
        self._operator = operator_class(driver_spec, connection)

    def run_driver(self, execution_info: Any) -> Any:
        """Run the driver.

        Args:
            execution_info: of TFX: inputs, outputs and properties.

        Returns:
            What the driver says about outputs and properties.
        """
        import attr

        inputs = _fetched(execution_info.input_dict, self._artifacts, with_rows=False)
        return self._operator.run_driver(attr.evolve(execution_info, input_dict=inputs))


def run_here(
    artifacts: ArtifactStore, execution_info: Any, run: Callable[[Any], Any], *, has_workers: bool = False
) -> Any:
    """Run an executor on files of this machine.

    Args:
        artifacts: Where artifacts are.
        execution_info: of TFX, with URIs.
        run: runs the executor with an execution info that has paths.
        has_workers: whether workers of an engine go through the rows, who see the bucket and not this machine: then
            the rows of examples are not fetched, and what the executor hands to the workers has URIs.

    Returns:
        What the executor says about its outputs, with URIs.

    Raises:
        StorageError: the bucket cannot be read or written.
        FileNotFoundError: an input is gone.
    """
    if artifacts.bucket is None:
        return run(execution_info)
    with patiently():
        return _run_with_copies(artifacts, execution_info, run, has_workers=has_workers)


def _run_with_copies(
    artifacts: ArtifactStore, execution_info: Any, run: Callable[[Any], Any], *, has_workers: bool
) -> Any:
    here = _with_paths(execution_info, artifacts, with_rows=not has_workers)
    shared = None
    if has_workers:
        inputs = frozenset(artifact.uri for artifact in _all(here.input_dict))
        scratch = locate(execution_info.tmp_dir)
        assert isinstance(scratch, ObjectPath)
        described = f"a workspace in a bucket, {artifacts.bucket}"
        shared = SharedPlaces(artifacts.uri_of, described, inputs, scratch)
    paths = [artifact.uri for artifact in _all(here.output_dict)]
    try:
        with removed_after(here.tmp_dir), sharing(shared):
            output = run(here)
        for path in paths:
            artifacts.publish(path)
    except Exception:
        for path in paths:
            artifacts.discard(path)
        raise
    with removed_after(here.stateful_working_dir):
        return _with_uris(output, artifacts)


def _with_paths(execution_info: Any, artifacts: ArtifactStore, *, with_rows: bool) -> Any:
    """Return a copy whose inputs are fetched, and whose outputs can be written."""
    import attr
    from tfx.orchestration.portable import outputs_utils

    inputs = _fetched(execution_info.input_dict, artifacts, with_rows=with_rows)
    outputs = _moved(execution_info.output_dict, artifacts)
    for artifact in _all(outputs):
        artifacts.open(artifact.uri)
    outputs_utils.make_output_dirs(outputs)
    names = ("execution_output_uri", "stateful_working_dir", "tmp_dir")
    paths = {name: artifacts.path_of(getattr(execution_info, name)) for name in names}
    for folder in (Path(paths[names[0]]).parent, *(Path(paths[name]) for name in names[1:])):
        folder.mkdir(parents=True, exist_ok=True)
    return attr.evolve(execution_info, input_dict=inputs, output_dict=outputs, **paths)


def _fetched(by_key: dict[str, list[Any]], artifacts: ArtifactStore, *, with_rows: bool) -> dict[str, list[Any]]:
    from tfx.types.standard_artifacts import Examples

    found = _moved(by_key, artifacts)
    for artifact in _all(found):
        artifacts.fetch(artifact.uri, with_rows=with_rows or artifact.type_name != Examples.TYPE_NAME)
    return found


def _moved(by_key: dict[str, list[Any]], artifacts: ArtifactStore) -> dict[str, list[Any]]:
    """Return copies of artifacts with paths instead of URIs."""
    found = {key: [copy.deepcopy(artifact) for artifact in own] for key, own in by_key.items()}
    for artifact in _all(found):
        artifact.uri = artifacts.path_of(artifact.uri)
    return found


def _all(by_key: dict[str, list[Any]]) -> Iterable[Any]:
    return [artifact for own in by_key.values() for artifact in own]


def _with_uris(output: Any, artifacts: ArtifactStore) -> Any:
    """Return an executor's output with URIs instead of paths, also in properties that are a path."""
    for own in output.output_artifacts.values():
        for artifact in own.artifacts:
            artifact.uri = artifacts.uri_of(artifact.uri)
            for properties in (artifact.properties, artifact.custom_properties):
                for value in properties.values():
                    if value.WhichOneof("value") == "string_value":
                        value.string_value = artifacts.uri_of(value.string_value)
    return output

"""`kubetfx.prune`: removes old runs, and artifacts that no other run uses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kubetfx import run_record
from kubetfx.artifact_store import ArtifactStore, remove_here
from kubetfx.byte_counts import readable
from kubetfx.components.push import push_directory
from kubetfx.components.push.labels import protected_versions
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import UsageError
from kubetfx.run_record import RunRecord
from kubetfx.workspace import METADATA, locked


@dataclass(frozen=True)
class Pruning:
    """The removed runs, or those that would be removed."""

    runs: tuple[str, ...]
    """Ids of the runs, the newest first."""
    kept_runs: tuple[str, ...]
    """Those of the others."""
    num_bytes: int
    """Size of all removed files."""

    def __str__(self) -> str:
        """Return what was removed, as part of a sentence."""
        return f"{len(self.runs)} of {len(self.runs) + len(self.kept_runs)} runs, {readable(self.num_bytes)}"


def prune(
    config: ConfigSource, *, keep: int = 5, older_than: timedelta | None = None, dry_run: bool = False
) -> Pruning:
    """Remove old runs from the workspace of a pipeline: records, reports, logs, artifacts, and their cache entries.

    The run that pushed the version that is served is kept, and so is each artifact that a kept run made or took from
    the cache. Pushed models are not touched: `serving.keep_versions` is for them.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        keep: number of runs that stay, the newest ones.
        older_than: Remove only runs that began longer ago than this.
        dry_run: remove nothing.

    Returns:
        What was removed, or would be.

    Raises:
        UsageError: a run is using the workspace, or `keep` is less than 1.
        StorageError: the bucket of the workspace cannot be read or written.

    Example:
        >>> import kubetfx
        >>> would = kubetfx.prune("examples/penguins/pipeline.yaml", keep=5, dry_run=True)
        >>> len(would.kept_runs) <= 6
        True
    """
    config = as_config(config)
    if keep < 1:
        raise UsageError(f"`keep` is a number of runs, at least 1. Received: {keep}.")
    if not config.workspace_path.is_dir():
        return Pruning((), (), 0)
    with locked(config.workspace_path):
        return prune_locked(config, keep=keep, older_than=older_than, dry_run=dry_run)


def prune_locked(
    config: PipelineConfig, *, keep: int, older_than: timedelta | None = None, dry_run: bool = False
) -> Pruning:
    """Remove old runs for a caller that holds the lock of the workspace.

    Args:
        config: The config of the pipeline.
        keep: number of runs that stay.
        older_than: Remove only runs that began longer ago than this.
        dry_run: remove nothing.

    Returns:
        What was removed, or would be.
    """
    workspace = config.workspace_path
    records = list(run_record.read_all(workspace))
    kept = _kept(records, config, keep=keep, older_than=older_than)
    ids = {record.run_id for record in kept}
    gone = [record for record in records if record.run_id not in ids]
    before = None if older_than is None else (datetime.now(UTC) - older_than).timestamp()
    store = config.artifacts
    stored = store.folders()
    unused = _unused_artifacts(store, stored, kept)
    artifacts = [path for path in unused if before is None or stored[path].modified_at < before]
    folders = [path for record in gone for path in _of_run(workspace, record.run_id)]
    num_bytes = sum(stored[path].num_bytes for path in artifacts) + sum(map(_num_bytes, folders))
    if not dry_run:
        _mark_as_deleted(store, artifacts)
        for path in artifacts:
            store.remove(path)
        for path in folders:
            remove_here(path)
    return Pruning(tuple(record.run_id for record in gone), tuple(record.run_id for record in kept), num_bytes)


def _kept(
    records: Sequence[RunRecord], config: PipelineConfig, *, keep: int, older_than: timedelta | None
) -> list[RunRecord]:
    """Return the newest runs, those that are not old enough, and those that pushed what is served or has a label."""
    newest = max(push_directory.versions(config.push_path), default=None)
    served = {newest, *protected_versions(config.push_path)} - {None}
    pushers = [
        [record.run_id for record in records if version in (record.pushed_version, record.waiting_version)][-1:]
        for version in served
    ]  # later ones found it to be there
    young = None if older_than is None else datetime.now(UTC) - older_than
    return [
        record
        for number, record in enumerate(records)
        if number < keep
        or [record.run_id] in pushers
        or (young is not None and datetime.fromisoformat(record.started_at) > young)
    ]


def _unused_artifacts(store: ArtifactStore, folders: Iterable[Path], kept: Sequence[RunRecord]) -> Iterator[Path]:
    """Yield folders of outputs that no kept run has, and what TFX keeps beside them for each execution."""
    uris = [uri for record in kept for node in record.nodes for uris in node.outputs.values() for uri in uris]
    used = {Path(store.path_of(uri)) for uri in uris}
    executions = {path.name for path in used}
    for path in folders:
        is_used = path.name in executions if path.parent.parent.name == ".system" else path in used
        if not is_used:
            yield path


def _of_run(workspace: Path, run_id: str) -> Iterator[Path]:
    yield run_record.run_folder(workspace, run_id)
    yield workspace / "logs" / run_id
    yield from (workspace / "comparisons").glob(f"*{run_id}*")


def _mark_as_deleted(store: ArtifactStore, artifacts: Sequence[Path]) -> None:
    """Mark removed artifacts as deleted in ML Metadata: the cache checks that files exist, but other readers do not."""
    path = store.workspace / METADATA
    if not artifacts or not path.is_file():
        return
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2

    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(path)
    metadata = MetadataStore(connection)
    uris = {store.uri_of(str(artifact)) for artifact in artifacts}
    gone = [artifact for artifact in metadata.get_artifacts() if artifact.uri in uris]
    for artifact in gone:
        artifact.state = metadata_store_pb2.Artifact.DELETED
    metadata.put_artifacts(gone)


def _num_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())

"""The record of a run: what ran, when and how it ended, as runs/RUN_ID/run.json in the workspace.

The local runner writes it as the run goes on, so that a run that was killed has one too; the report and `kubetfx runs`
read it. Results about data and model are not here but in the artifacts, to which the record points.
"""

import contextlib
import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kubetfx.artifact_store import ArtifactStore
from kubetfx.artifacts import REPORT
from kubetfx.cores import memory_bytes
from kubetfx.errors import AnomaliesError, UsageError
from kubetfx.provenance import Code, DataState
from kubetfx.storage import write_text

if TYPE_CHECKING:
    from kubetfx.config.pipeline import PipelineConfig  # all sections, which light tasks do without

RunState = Literal[
    "running",
    "pushed",
    "unchanged",
    "waiting_for_approval",
    "finished",
    "not_blessed",
    "stopped_by_anomalies",
    "failed",
    "interrupted",
]
"""`finished`: all nodes were executed, and none of them is an Evaluator of kubetfx or pushed a model."""

FOLDER = "runs"
RECORD = "run.json"

KILLED = "The process was killed."
"""Error in the record of a killed run; the next run writes it."""

REPORT_NODE = "Report"
FUSED = " + "
"""Between the ids of nodes that share a task."""


class NodeRecord(BaseModel):
    """How a node of the run ended."""

    id: str
    state: str
    """`done`, `cached`, `failed`, `interrupted` or, if a condition did not hold, `skipped`."""
    seconds: float | None
    """Time that the node took; None if it shared a task with others."""
    log: str
    """Path of the node's log."""
    outputs: dict[str, list[str]] = {}
    """URIs by output key."""
    upstream: list[str] = []
    """Nodes whose outputs it read."""


class RunRecord(BaseModel):
    """One run of a pipeline."""

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[1] = 1
    run_id: str
    name: str
    state: RunState
    started_at: str
    """UTC, ISO 8601."""
    ended_at: str | None = None
    """UTC, ISO 8601; None while the run goes on."""
    seconds: float | None = None
    """Time that the run took; None while it goes on."""
    error: str | None = None
    nodes: list[NodeRecord] = []
    planned_nodes: list[str] = []
    """All nodes of the pipeline in their order, also those that were not reached."""
    config: dict[str, Any]
    """The whole config, defaults included."""
    command: list[str] = []
    """Words of the command that started the run; empty for a run from Python."""
    folder: str = ""
    """Working directory of the command."""
    machine: dict[str, Any] = {}
    """System, cores, memory in bytes and Python of the machine."""
    code: Code | None = None
    """What computed it; None in records of earlier versions of kubetfx."""
    data_state: DataState | None = None
    """Git commit and DVC hash of the data; None: it is in no repository."""
    libraries: dict[str, str] = {}
    """Versions of what it computed with."""
    metrics: dict[str, float] = {}
    """Metrics of the candidate on the evaluation split, without those that are not defined."""
    pushed_version: int | None = None
    """Version that the run pushed, or found to be the same as its model; None if there is none."""
    versions_before: list[int] = []
    """Versions that the push directory had when the run began."""
    waiting_version: int | None = None
    """Version that the run made, and that waited for approval when the run ended."""

    @property
    def artifacts(self) -> ArtifactStore:
        """Where the outputs of the nodes are."""
        section = self.config.get("workspace") or {}
        return ArtifactStore.of(section.get("path") or "", section.get("local"))

    def output(self, node_id: str, key: str) -> Path | None:
        """Return the folder of a node's output; None if it has none."""
        uris = [uri for node in self.nodes if node.id == node_id for uri in node.outputs.get(key, [])]
        return self.artifacts.find(uris[0]) if uris else None

    @property
    def examples_uri(self) -> str | None:
        """URI of the rows, whichever ExampleGen wrote them."""
        return next((uri for node in self.nodes for uri in node.outputs.get("examples", [])), None)

    def examples(self, *, with_rows: bool = True) -> Path | None:
        """Return the folder of the rows; None if there is none.

        Args:
            with_rows: whether the rows are needed, and not only what is known of them.
        """
        return self.artifacts.find(self.examples_uri, with_rows=with_rows) if self.examples_uri else None

    @property
    def failed_node(self) -> NodeRecord | None:
        """The node at which the run stopped."""
        return next((node for node in self.nodes if node.state in ("failed", "interrupted")), None)

    @property
    def next_node(self) -> str | None:
        """The node that runs, as far as the record goes; None if all have ended."""
        ended = {node.id for node in self.nodes}
        return next((node_id for node_id in self.planned_nodes if node_id not in ended), None)

    def node(self, node_id: str) -> NodeRecord | None:
        """Return the record of a node; None if it was not reached."""
        return next((node for node in self.nodes if node.id == node_id), None)


def now() -> str:
    """Return the time in UTC, in ISO 8601, to the second."""
    return in_utc(datetime.now(UTC))


def in_utc(moment: datetime) -> str:
    """Return a moment in UTC, ISO 8601, to the second.

    Args:
        moment: with its zone.
    """
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def begin(
    config: "PipelineConfig",
    *,
    run_id: str,
    command: Sequence[str],
    versions_before: Sequence[int] = (),
) -> RunRecord:
    """Make the record of a run that starts now.

    Args:
        config: The config of the pipeline.
        run_id: The id of the run, by which it is found.
        command: with which the run was started, its words; empty for a run from Python.
        versions_before: versions that the push directory has.

    Returns:
        The record, which is not written yet.
    """
    return RunRecord(
        run_id=run_id,
        name=config.name,
        state="running",
        started_at=now(),
        config=config.model_dump(mode="json"),
        command=list(command),
        folder=str(Path.cwd()),
        versions_before=list(versions_before),
        machine={
            "system": platform.platform(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "memory_bytes": memory_bytes(),
            "python": platform.python_version(),
        },
    )


def end_state(error: BaseException) -> RunState:
    """Return the state of a run that an exception ended.

    Args:
        error: the exception.
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "stopped_by_anomalies" if isinstance(error, AnomaliesError) else "failed"


def ended(record: RunRecord, state: RunState, *, seconds: float, **fields: Any) -> RunRecord:
    """End a record now.

    Args:
        record: The record of a run that is over.
        state: how it ended.
        seconds: that it took.
        fields: others of the record to set.

    Returns:
        A changed copy.
    """
    return record.model_copy(update={"state": state, "ended_at": now(), "seconds": round(seconds, 3), **fields})


def run_folder(workspace: Path, run_id: str) -> Path:
    """Return the folder of a run's record and report.

    Args:
        workspace: The workspace of the pipeline.
        run_id: The id of the run.
    """
    return workspace / FOLDER / run_id


def write(workspace: Path, record: RunRecord) -> None:
    """Write a record into its run's folder, whole or not at all.

    Args:
        workspace: The workspace of the pipeline.
        record: replaces what is there.
    """
    write_text(run_folder(workspace, record.run_id) / RECORD, record.model_dump_json(indent=1))


def has_records(folder: Path) -> bool:
    """Return whether a folder is a workspace with runs.

    Args:
        folder: need not exist.
    """
    return any((folder / FOLDER).glob(f"*/{RECORD}"))


def read_all(workspace: Path) -> Iterator[RunRecord]:
    """Read the records of a workspace, the newest first.

    Args:
        workspace: The workspace of the pipeline.

    Yields:
        A record per run, without those that another version of kubetfx wrote in another form.
    """
    records = []
    for path in (workspace / FOLDER).glob(f"*/{RECORD}"):
        with contextlib.suppress(OSError, ValidationError):
            records.append(RunRecord.model_validate_json(path.read_text(encoding="utf-8")))
    yield from sorted(records, key=lambda record: (record.started_at, record.run_id), reverse=True)


def read(workspace: Path, run_id: str) -> RunRecord | None:
    """Read the record of a run.

    Args:
        workspace: The workspace of the pipeline.
        run_id: The id of the run, all of it.

    Returns:
        The record; None if there is none.
    """
    with contextlib.suppress(OSError, ValidationError):
        return RunRecord.model_validate_json((run_folder(workspace, run_id) / RECORD).read_text(encoding="utf-8"))
    return None


def end_killed(workspace: Path) -> RunRecord | None:
    """End the record of the newest run, if the process was killed before it could do so.

    Args:
        workspace: The workspace of the pipeline; the caller holds its lock, so no run is going on.

    Returns:
        The record of the killed run; None if the newest one was not killed.
    """
    newest = next(read_all(workspace), None)
    if newest and newest.state == "running":
        write(workspace, newest.model_copy(update={"state": "interrupted", "error": KILLED}))
        (run_folder(workspace, newest.run_id) / REPORT).unlink(missing_ok=True)
        return newest
    return None


def find(workspace: Path, run_id: str | None) -> RunRecord:
    """Find a run.

    Args:
        workspace: The workspace of the pipeline.
        run_id: its id, or the beginning of it. None: the newest run.

    Returns:
        The run's record.

    Raises:
        UsageError: there is no such run, or several begin so.
    """
    records = list(read_all(workspace))
    if not records:
        raise UsageError(f"No run has been recorded yet. Received: the workspace {workspace}. Run the pipeline.")
    if run_id is None:
        return records[0]
    matches = [record for record in records if record.run_id == run_id] or [
        record for record in records if record.run_id.startswith(run_id)
    ]
    if len(matches) != 1:
        problem = "Several runs begin so" if matches else "There is no such run"
        newest = ", ".join(record.run_id for record in (matches or records)[:5])
        raise UsageError(f"{problem}. Received: {run_id}. The newest: {newest}.")
    return matches[0]

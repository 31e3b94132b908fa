"""Runs one node in a separate process, as orchestrators start them (decision 42).

ML Metadata and the record of the run are shared, and change in turn. Executors work at the same time. Starting a node
repeatedly, or after it was killed, is safe: a finished node does not run again, and the remains of a killed one are
removed first.
"""

import contextlib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from kubetfx import temporary_files
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.engine.session import Session
from kubetfx.errors import UsageError
from kubetfx.pipeline import final_status, preflight
from kubetfx.pipeline.local_runner import LocalRunner
from kubetfx.pipeline.log_echo import echoed
from kubetfx.pipeline.node_launch import check_executors
from kubetfx.pipeline.pruning import prune_locked
from kubetfx.pipeline.run_result import NodeResult, NodeState, RunResult, component_of
from kubetfx.pipeline.shared_record import SharedRecorder
from kubetfx.progress import Begin, End, Message, Progress, silent
from kubetfx.redirection import logged_to
from kubetfx.run_record import NodeRecord
from kubetfx.user_code import importable
from kubetfx.workspace import METADATA, Turn, locked, node_locked, shared

if TYPE_CHECKING:  # importing TFX takes seconds
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2
    from tfx.orchestration.pipeline import Pipeline

_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.~:+-]{0,199}")
_ENDED = ("done", "cached", "skipped")
_OVER = ("pushed", "unchanged", "finished", "not_blessed")


@dataclass(frozen=True)
class NodeRun:
    """The result of a node in a separate process."""

    run_id: str
    node_id: str
    nodes: list[NodeResult]
    """The node; or, of one that runs once per artifact, each time."""
    had_ended: bool
    """Whether it had already ended in this run, and did not run again."""
    run: RunResult | None
    """How the run ended, if this was the last node of it."""

    @property
    def state(self) -> NodeState:
        """`done`, `cached` or, if a condition did not hold, `skipped`."""
        return self.nodes[-1].state

    @property
    def seconds(self) -> float:
        """Time that the node took."""
        return sum(node.seconds for node in self.nodes)


class NodeRunner(LocalRunner):
    """Runs a node in this process, while others of the run may be run in theirs."""

    _recorder_class = SharedRecorder
    _recorder: SharedRecorder

    def __init__(
        self,
        config: PipelineConfig,
        node: str,
        *,
        run_id: str,
        pipeline: "Pipeline | None" = None,
        progress: Progress = silent,
        command: Sequence[str] = (),
        log_to: TextIO | None = None,
    ) -> None:
        """Prepare; nothing is written before `run_one`.

        Args:
            config: The config of the pipeline.
            node: id of the node.
            run_id: The id of the run.
            pipeline: that the node is in. Default: what the config describes.
            progress: is given the events.
            command: that started the node.
            log_to: is also written what goes to the log of the node.

        Raises:
            UsageError: the id of the run cannot be the name of a folder.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise UsageError(
                f"The id of a run is made of letters, digits and _.~:+- and is at most 200 characters long. Received: "
                f"{run_id!r}. Try 2026-12-01 or daily-17."
            )
        super().__init__(config, pipeline=pipeline, progress=progress, command=command, run_id=run_id)
        self._node_id = node
        self._log_to = log_to
        self._pipeline_name = config.name
        self._turn: Turn = Turn(config.workspace_path)

    def run_one(self) -> NodeRun:
        """Run the node, if it has not ended in this run.

        Returns:
            How it ended.

        Raises:
            KubetfxError: see `kubetfx.pipeline.running.run_node`.
        """
        workspace = self._config.workspace_path
        with importable(self._config.folder), temporary_files.of_a_run():
            with shared(workspace, run_id=self._run_id):
                with self._turn.taken():
                    self._config.artifacts.begin(workspace / METADATA)
                pipeline, node = self._find()
                say = functools.partial(self._progress, Message(f"{self._node_id} runs already. Waiting for its end."))
                with node_locked(workspace, self._node_id, waiting=say), self._turn.taken():
                    self._pipeline_name = pipeline.pipeline_info.id
                    result = self._run_in_turn(node, pipeline)
            if result.run is not None and self._config.keep_runs:
                with contextlib.suppress(UsageError), locked(workspace):  # else the next run does it
                    prune_locked(self._config, keep=self._config.keep_runs)
        return result

    def _find(self) -> tuple[Any, Any]:
        """Return the compiled pipeline, and its node."""
        self._progress(Begin("Loading TFX"))
        begins = not self._log_folder.exists()
        self._log_folder.mkdir(parents=True, exist_ok=True)
        startup_log = self._log_folder / "startup.log"
        try:
            with logged_to(startup_log):
                pipeline = self._load()
            self._progress(End())
            nodes = {node.pipeline_node.node_info.id: node.pipeline_node for node in pipeline.nodes}
            if self._node_id not in nodes:
                raise UsageError(
                    f"There is no such node. Received: {self._node_id!r}.{nearest(self._node_id, list(nodes))} "
                    f"Known: {', '.join(nodes)}."
                )
            node = nodes[self._node_id]
            if node.upstream_nodes and not self._recorder.exists():
                first = [name for name, one in nodes.items() if not one.upstream_nodes]
                raise UsageError(
                    f"There is no run of this id yet, and {self._node_id} needs what other nodes make. Received: "
                    f"{self._run_id}. Begin the run with {' and '.join(first)}; or give the id of one that has begun."
                )
            if not node.upstream_nodes and not self._recorder.exists():
                preflight.check_and_tell(self._config, self._progress)
        except BaseException:
            if begins and not self._recorder.exists():
                startup_log.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # another node has written into it meanwhile
                    self._log_folder.rmdir()
            raise
        return pipeline, node

    def _run_in_turn(self, node: Any, pipeline: Any) -> NodeRun:
        nodes = [one.pipeline_node for one in pipeline.nodes]
        handlers = [one for one in nodes if final_status.is_exit_handler(one)]
        others = [one for one in nodes if one not in handlers]
        self._recorder.open([one.node_info.id for one in (*others, *handlers)])
        found = self._records_of(self._node_id)
        if had_ended := self._have_ended(found):
            self._progress(Message(f"{self._node_id} ended in run {self._run_id} before, and does not run again."))
        else:
            self._check_upstream(node, [one.node_info.id for one in handlers])
            self._take_over(found)
            try:
                self._launch_in_turn(node, pipeline, is_handler=final_status.is_exit_handler(node))
            except BaseException as error:
                self._recorder.failed(error)
                raise
        found = self._records_of(self._node_id)
        over = self._end_of_run(found, pipeline)
        return NodeRun(self._run_id, self._node_id, list(map(_result, found)), had_ended, over)

    def _names_of(self, node_id: str) -> list[str]:
        """Return the names that a node has in the record: one per artifact where a ForEach goes over several."""
        planned = self._recorder.record.planned_nodes
        if node_id in planned:
            return [node_id]
        return [name for name in planned if component_of(name) == node_id]

    def _records_of(self, node_id: str) -> list[NodeRecord]:
        names = self._names_of(node_id)
        return [node for node in self._recorder.record.nodes if node.id in names]

    def _have_ended(self, found: Sequence[NodeRecord]) -> bool:
        return len(found) == len(self._names_of(self._node_id)) and all(node.state in _ENDED for node in found)

    def _check_upstream(self, node: Any, handlers: Sequence[str]) -> None:
        """Refuse a node whose inputs are missing."""
        record = self._recorder.record
        if self._node_id in handlers:
            over = [name for name in record.planned_nodes if name not in handlers]
            states = {one.id: one.state for one in record.nodes}
            waits = [name for name in over if name not in states]
            if waits and all(state in _ENDED for state in states.values()):
                raise UsageError(
                    f"{self._node_id} runs when all others have ended, and {waits[0]} has not run in this run. "
                    f"Received: run {self._run_id}. Run {' and '.join(waits)} first."
                )
            return
        for name in node.upstream_nodes:
            expected, found = self._names_of(name), self._records_of(name)
            if len(found) < len(expected) or not all(one.state in _ENDED for one in found):
                how = "failed" if found and found[-1].state not in _ENDED else "has not run"
                raise UsageError(
                    f"{self._node_id} needs what {name} makes, which {how} in this run. Received: run {self._run_id}. "
                    f"Run {name} first."
                )

    def _take_over(self, found: Sequence[NodeRecord]) -> None:
        """Discard an earlier try of the node, and find which nodes were skipped."""
        record, names = self._recorder.record, self._names_of(self._node_id)
        planned = list(dict.fromkeys(self._node_id if name in names else name for name in record.planned_nodes))
        self._recorder.begins([*names, *(one.id for one in found)])
        if planned != record.planned_nodes:
            self._recorder.plan(planned)
        self._planned = planned
        ended = [node for node in self._recorder.record.nodes if node.state in _ENDED]
        self._results = list(map(_result, ended))
        skipped = [node.id for node in ended if node.state == "skipped"]
        self._skipped = {*skipped, *map(component_of, skipped)}

    def _launch_in_turn(self, node: Any, pipeline: Any, *, is_handler: bool) -> None:
        with logged_to(self._log_folder / "startup.log"):
            self._store = self._open(pipeline)
        self._session = Session.of(self._config, progress=self._progress)
        check_executors(pipeline, self._config.artifacts, self._session)
        self._processes = None
        to = self._log_to
        with echoed(self._log_folder, self._node_id, to=to) if to else contextlib.nullcontext():
            if is_handler:
                states = [one.state for one in self._recorder.record.nodes]
                state: Literal["SUCCEEDED", "FAILED"] = (
                    "SUCCEEDED" if all(state in _ENDED for state in states) else "FAILED"
                )
                self._run_exit_handlers([node], pipeline, self._store, state=state)
            else:
                self._run_iterations(node, pipeline, self._store)

    def _end_of_run(self, found: Sequence[NodeRecord], pipeline: Any) -> RunResult | None:
        """Return how the run ended, if all nodes have and this is the last one."""
        record = self._recorder.record
        ended = {node.id for node in record.nodes if node.state in _ENDED}
        if not ended.issuperset(record.planned_nodes):
            return None
        if record.state in _OVER and record.nodes[-1].id not in [node.id for node in found]:
            return None  # another node ended later
        order = {name: place for place, name in enumerate(record.planned_nodes)}
        self._results = [_result(node) for node in sorted(record.nodes, key=lambda node: order[node.id])]
        if self._store is None:
            with logged_to(self._log_folder / "startup.log"):
                self._store = self._open(pipeline)
        result = self._recorder.over(self._summarize())
        self._keep_code_digest()
        return result

    def _broken_executions(self, store: "MetadataStore") -> "list[metadata_store_pb2.Execution]":
        """Return what earlier tries of this node left: TFX takes their executions, with their folders, once more."""
        from ml_metadata.proto.metadata_store_pb2 import Execution

        context = store.get_context_by_type_and_name("node", f"{self._pipeline_name}.{self._node_id}")
        executions = store.get_executions_by_context(context.id) if context else []
        return [one for one in executions if one.last_known_state not in (Execution.COMPLETE, Execution.CACHED)]


def _result(node: NodeRecord) -> NodeResult:
    state: Any = node.state
    return NodeResult(node.id, state, node.seconds or 0.0, Path(node.log), node.outputs)

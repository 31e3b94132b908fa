"""The base of every runner on this machine.

It has an id and a log folder for its run, the lock of the workspace, and the record.
"""

import abc
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from kubetfx import temporary_files
from kubetfx.components.push import push_directory
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.errors import UsageError
from kubetfx.machine_errors import in_words
from kubetfx.pipeline.final_status import is_exit_handler
from kubetfx.pipeline.pruning import prune_locked
from kubetfx.pipeline.run_recorder import RunRecorder
from kubetfx.pipeline.run_result import NodeResult, RunResult, summarize
from kubetfx.progress import Message, Progress, silent
from kubetfx.redirection import logged_to
from kubetfx.run_record import RunRecord
from kubetfx.storage import Location
from kubetfx.user_code import importable
from kubetfx.workspace import locked

if TYPE_CHECKING:  # importing TFX takes seconds, and the first line is to be on the screen before that
    from tfx.orchestration.pipeline import Pipeline


class Runner(abc.ABC):
    """Runs a pipeline in the workspace of its config."""

    can_stop_early: ClassVar[bool] = False
    """Whether it can run a part of the pipeline."""
    _recorder_class: ClassVar[type[RunRecorder]] = RunRecorder

    def __init__(
        self,
        config: PipelineConfig,
        *,
        pipeline: "Pipeline | None" = None,
        progress: Progress = silent,
        command: Sequence[str] = (),
        until: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Prepare a run; nothing is written before `run`.

        Args:
            config: The config of the pipeline.
            pipeline: to run. Default: what the config describes.
            progress: is given the events of the run.
            command: that started it, for its record.
            until: id of the last node: this one and those that it needs run. Default: all.
            run_id: The id of the run. Default: the time, and something that no other run has.

        Raises:
            UsageError: this runner only runs whole pipelines.
        """
        if until is not None and not self.can_stop_early:
            raise UsageError(f"until is for runs on this machine, on: local. Received: {until!r}. Leave it out.")
        self._until = until
        self._config = config
        self._pipeline = pipeline
        self._progress = progress
        self._versions_before = push_directory.versions(config.push_path)
        self._run_id = run_id or f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._log_folder = config.workspace_path / "logs" / self._run_id
        self._results: list[NodeResult] = []
        self._recorder = self._recorder_class(
            config,
            progress,
            run_id=self._run_id,
            log_folder=self._log_folder,
            examples_properties=self._examples_properties,
            command=command,
            versions_before=self._versions_before,
        )

    def run(self) -> RunResult:
        """Run every node that is not in the cache.

        Returns:
            How the run ended, with the path of its report.

        Raises:
            NodeFailedError: a node failed; those before it are kept and the next run starts there.
            AnomaliesError: the gate stopped the run.
            UsageError: another run is using the workspace.
            MachineError: a disk is full or read-only, or ML Metadata cannot be read.
            KeyboardInterrupt: passed on, after the interrupted node was cleaned up.
        """
        with (
            in_words(*self._places),
            locked(self._config.workspace_path),
            importable(self._config.folder),
            temporary_files.of_a_run(),
        ):
            self._log_folder.mkdir(parents=True)
            result = self._recorder.keep(self._run_and_summarize)
            if self._config.keep_runs:
                removed = prune_locked(self._config, keep=self._config.keep_runs)
                if removed.runs:
                    self._progress(Message(f"Removed, as workspace.keep says: {removed}"))
            return result

    def _run_and_summarize(self) -> RunResult:
        with in_words(*self._places):
            self._run_nodes()
            return self._summarize()

    @property
    def _places(self) -> tuple[Location, ...]:
        """Where the run writes."""
        return self._config.workspace_path, self._config.push_path

    def _summarize(self) -> RunResult:
        with logged_to(self._log_folder / "summary.log"):
            return summarize(
                self._config,
                self._recorder.record,
                nodes=self._results,
                pushed_version=self._pushed_version(),
                versions_before=self._recorder.record.versions_before,
                waiting_version=self._waiting_version(),
            )

    @abc.abstractmethod
    def _run_nodes(self) -> None:
        """Run all nodes, and put how each ended into `_results` and the record."""

    @abc.abstractmethod
    def _pushed_version(self) -> int | None:
        """Return the version that the run pushed, or found to be pushed already."""

    def _waiting_version(self) -> int | None:
        """Return the version that the run made and that waits for approval."""
        return None

    @abc.abstractmethod
    def _examples_properties(self, record: RunRecord) -> Mapping[str, Any]:
        """Return the custom properties of the examples, which the report of a run that failed is made with."""


def needed(nodes: Sequence[Any], until: str | None) -> list[Any]:
    """Return the nodes needed for one node.

    Args:
        nodes: The nodes of a compiled pipeline, in the order in which they run.
        until: id of the last node; None: all nodes are wanted.

    Returns:
        This one and those that it needs, in their order; and exit handlers.

    Raises:
        UsageError: there is no such node.
    """
    if until is None:
        return list(nodes)
    known = [node.node_info.id for node in nodes]
    if until not in known:
        raise UsageError(
            f"until: there is no such node. Received: {until!r}.{nearest(until, known)} Known: {', '.join(known)}."
        )
    wanted = {until}
    for node in reversed(nodes):
        if node.node_info.id in wanted:
            wanted.update(node.upstream_nodes)
    return [node for node in nodes if node.node_info.id in wanted or is_exit_handler(node)]

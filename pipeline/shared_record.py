"""The record of a run whose nodes are separate processes, which change the file in turn."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

from kubetfx import run_record
from kubetfx.code_digest import code_digest
from kubetfx.errors import ConfigError
from kubetfx.pipeline.run_recorder import RunRecorder
from kubetfx.pipeline.run_result import RunResult
from kubetfx.run_record import NodeRecord, RunRecord

_FAILED = ("failed", "interrupted")
_MAX_DIFFERENCES = 5


class SharedRecorder(RunRecorder):
    """The record of one run, of which other processes write their parts."""

    def exists(self) -> bool:
        """Return whether a node of the run has begun."""
        return run_record.read(self._config.workspace_path, self.record.run_id) is not None

    def open(self, node_ids: Sequence[str]) -> None:
        """Read the record, or begin it.

        Args:
            node_ids: of the pipeline, in their order.

        Raises:
            ConfigError: the run began with another config, or with other code.
        """
        workspace = self._config.workspace_path
        found = run_record.read(workspace, self.record.run_id)
        if found is None:
            with contextlib.suppress(OSError):
                run_record.end_killed(workspace)
            self.plan(node_ids)
            return
        self._check_same(found)
        self.record = found

    def _check_same(self, begun: RunRecord) -> None:
        from kubetfx.components.report.comparison import config_differences

        differences = list(config_differences(begun.config, self.record.config))
        if differences:
            shown = "; ".join(f"{one.key} {one.second}, was {one.first}" for one in differences[:_MAX_DIFFERENCES])
            raise ConfigError(
                f"The nodes of a run have one config, and run {begun.run_id} began with another. Received: {shown}. "
                "Start a run with another id: what is unchanged comes from the cache. Or put the config back."
            )
        before, now = begun.code.digest if begun.code else "", code_digest()
        if before != now:
            raise ConfigError(
                f"kubetfx or its libraries have changed since run {begun.run_id} began. Received: "
                f"{now[:12]}, was {before[:12]}. Start a run with another id."
            )

    def begins(self, node_ids: Sequence[str]) -> None:
        """Note that a node runs, for the first time or again.

        Args:
            node_ids: the names that it has in the record; several of a node that runs once per artifact.
        """
        others = [node for node in self.record.nodes if node.id not in node_ids]
        if any(node.state in _FAILED for node in others):
            self._update(nodes=others)
        else:
            self._update(nodes=others, state="running", error=None, ended_at=None, seconds=None)

    def add(self, *nodes: NodeRecord) -> None:
        """Note how nodes ended.

        Args:
            nodes: that ended since the last call.
        """
        self._read_again()
        super().add(*nodes)

    def pushed(self, version: int | None) -> None:
        """Note a version that is served from now on, however the run ends.

        Args:
            version: None if nothing was pushed.
        """
        self._read_again()
        super().pushed(version)

    def failed(self, error: BaseException) -> None:
        """Note that a node failed, and with it the run; the report says so.

        Args:
            error: which has the path of the report afterwards.
        """
        self._read_again()
        self._break_off(error)

    def over(self, result: RunResult) -> RunResult:
        """Note that all nodes have ended.

        Args:
            result: The result of the run.

        Returns:
            The result, with the path of the report.
        """
        return self._end(result)

    def _read_again(self) -> None:
        self.record = run_record.read(self._config.workspace_path, self.record.run_id) or self.record

    def _seconds(self) -> float:
        return (datetime.now(UTC) - datetime.fromisoformat(self.record.started_at)).total_seconds()

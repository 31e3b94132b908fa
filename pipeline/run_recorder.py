"""Updates the record of a run while it runs, and writes its report at the end.

A run does not fail because its record or report cannot be written.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubetfx import run_record
from kubetfx.code_state import code_of, libraries
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.references import redacted
from kubetfx.data_state import state_of_data
from kubetfx.errors import KubetfxError
from kubetfx.machine_errors import memory_advice
from kubetfx.pipeline.run_result import RunResult
from kubetfx.progress import Message, Progress
from kubetfx.redirection import logged_to
from kubetfx.run_record import NodeRecord, RunRecord


def _of_killed(node_id: str) -> str:
    """Say what may have killed a run, which could not say it: the kernel gives nobody notice."""
    return (
        f"The last run was killed at {node_id}. If nobody did it, the kernel did, because there was not enough memory. "
        f"{memory_advice(node_id)}"
    )


class RunRecorder:
    """The record of one run."""

    def __init__(
        self,
        config: PipelineConfig,
        progress: Progress,
        *,
        run_id: str,
        log_folder: Path,
        examples_properties: Callable[[RunRecord], Mapping[str, Any]] = lambda _: {},
        command: Sequence[str] = (),
        versions_before: Sequence[int] = (),
    ) -> None:
        """Begin the record; nothing is written before `plan`.

        Args:
            config: The config of the pipeline.
            progress: is given a message where a report could not be written.
            run_id: The id of the run.
            log_folder: of the run.
            examples_properties: finds the custom properties of the examples for a run that did not reach the node
                Report.
            command: that started the run; empty where it was started in Python.
            versions_before: versions that the push directory has.
        """
        self._config = config
        self._progress = progress
        self._log_folder = log_folder
        self._examples_properties = examples_properties
        self._started = time.monotonic()
        self.record = run_record.begin(
            config,
            run_id=run_id,
            command=command,
            versions_before=versions_before,
        )
        """As it is now."""

    def plan(self, node_ids: Sequence[str]) -> None:
        """Record all nodes of the pipeline and, the first time, the code and the data.

        Args:
            node_ids: in the order in which they run.
        """
        if self.record.code is None:
            self.record = self.record.model_copy(
                update={
                    "code": code_of(self._config.folder),
                    "data_state": state_of_data(self._config.data.path),
                    "libraries": libraries(),
                }
            )
        self._update(planned_nodes=list(node_ids))

    def add(self, *nodes: NodeRecord) -> None:
        """Record how nodes ended.

        Args:
            nodes: that ended since the last call.
        """
        self._update(nodes=[*self.record.nodes, *nodes])

    def pushed(self, version: int | None) -> None:
        """Record a version that is served from now on, however the run ends.

        Args:
            version: None if nothing was pushed.
        """
        self._update(pushed_version=version)

    def keep(self, run: Callable[[], RunResult]) -> RunResult:
        """Run the nodes, and write record and report however the run ends. The workspace is to be locked.

        Args:
            run: runs the nodes.

        Returns:
            The result, with the path of the report. A `KubetfxError` that `run` raises has it as `report_path`.
        """
        with contextlib.suppress(OSError):
            killed = run_record.end_killed(self._config.workspace_path)
            if killed is not None and killed.next_node is not None:
                self._progress(Message(_of_killed(killed.next_node), style="yellow"))
        try:
            result = run()
        except BaseException as error:
            self._break_off(error)
            raise
        return self._end(result)

    def _end(self, result: RunResult) -> RunResult:
        state: run_record.RunState = "finished" if result.evaluation is None else "not_blessed"
        if result.pushed_version is not None:
            state = "pushed" if result.is_new_version else "unchanged"
        elif result.waiting_version is not None:
            state = "waiting_for_approval"
        record = run_record.ended(
            self.record,
            state,
            seconds=self._seconds(),
            metrics={name: value for name, value in result.metrics.items() if math.isfinite(value)},
            pushed_version=result.pushed_version,
            waiting_version=result.waiting_version,
        )
        path = self._publish(record)
        self._track(record)
        return replace(result, report_path=path)

    def _break_off(self, error: BaseException) -> None:
        if not self.record.planned_nodes:
            return
        state = run_record.end_state(error)
        record = run_record.ended(
            self.record, state, seconds=self._seconds(), error=redacted(str(error)) or type(error).__name__
        )
        path = self._publish(record, ask_model=state == "failed")
        self._track(record)
        if isinstance(error, KubetfxError):
            error.report_path = path

    def _track(self, record: RunRecord) -> None:
        """Send the run to MLflow, if the config has a server. A failure to send does not fail the run."""
        if self._config.tracking is None:
            return
        from kubetfx.pipeline import tracking

        try:
            sending = tracking.send_run(self._config, record)
        except Exception as error:
            message = f"The run could not be kept for MLflow: {type(error).__name__}: {error}"
            self._progress(Message(message, style="yellow"))
            return
        if sending is not None:
            self._progress(Message(str(sending), style="yellow" if sending.problem else ""))

    def _seconds(self) -> float:
        """Return the seconds that the run took until now."""
        return time.monotonic() - self._started

    def _update(self, **fields: Any) -> None:
        self.record = self.record.model_copy(update=fields)
        with contextlib.suppress(OSError):  # the disk may be full, which a node reports
            run_record.write(self._config.workspace_path, self.record)

    def _publish(self, record: RunRecord, *, ask_model: bool = True) -> Path | None:
        from kubetfx.components.report import run_report

        try:
            with logged_to(self._log_folder / "report.log"):
                run_record.write(self._config.workspace_path, record)
                properties = self._examples_properties(record)
                return run_report.publish(self._config, record, examples_properties=properties, ask_model=ask_model)
        except Exception as error:
            message = f"The report could not be written: {type(error).__name__}: {error}"
            self._progress(Message(message, style="yellow"))
            return None

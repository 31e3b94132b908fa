"""Runs trials in parallel: processes on this machine, each with its share of the cores, pull trials from one study.

A killed process is restarted, and its trial is run again.
"""

import contextlib
import pickle
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from absl import logging
from optuna.trial import TrialState

from kubetfx.child_process import how_it_ended, last_lines, raise_error, started
from kubetfx.components.tuning.study import Plan, Search
from kubetfx.components.tuning.trials import PROCESS, Workplace
from kubetfx.errors import TrainingError

MODULE = "kubetfx.components.tuning.tuning_process"
JOB = "job.pickle"
_POLL_SECONDS = 0.5
_IDLE_DEATHS = 3
"""Number of consecutive processes that died without a trial after which no more are started."""


def run_side_by_side(
    plan: Plan, place: Workplace, *, logs: Path, search: Search, after: Callable[[Search], None]
) -> None:
    """Run the trials of a search in processes.

    Args:
        plan: The plan of the search; `tuning.parallel` of it are started.
        place: what is trained on.
        logs: folder for the logs of the processes.
        search: the study, open in this process.
        after: called with the search when a trial has ended.

    Raises:
        ConfigError: of a process, as it was raised there; DataError, StorageError and TrainingError too.
        TrainingError: processes die before they have a trial.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".search-", dir=logs) as folder, contextlib.ExitStack() as stack:
        job = Path(folder) / JOB
        job.write_bytes(pickle.dumps((plan, place)))

        def start(index: int) -> "subprocess.Popen[bytes]":
            log_path = logs / f"trials-{index}.log"
            return stack.enter_context(started(MODULE, str(job), str(index), environment={}, log_path=log_path))

        running = {index: start(index) for index in range(plan.tuning.parallel)}
        known, idle_deaths = -1, 0
        while running:
            time.sleep(_POLL_SECONDS)
            for index, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[index]
                raise_error(job.parent)
                if code == 0:
                    continue
                logging.warning("Process %d of the search ended with %s.", index, how_it_ended(code))
                idle_deaths = 0 if _retry(search, index) else idle_deaths + 1
                if idle_deaths >= _IDLE_DEATHS:
                    raise TrainingError(_dies(code, logs / f"trials-{index}.log"))
                running[index] = start(index)
            finished = len(search.finished)
            if finished != known:
                known = finished
                after(search)


def _retry(search: Search, index: int) -> bool:
    """Retry the trial of a process that died, and return whether there was one."""
    running = [one.number for one in search.trials if one.state == TrialState.RUNNING]
    own = [one.number for one in search.trials if one.number in running and one.user_attrs.get(PROCESS) == index]
    search.retry_killed(own)
    return bool(own)


def _dies(code: int, log_path: Path) -> str:
    return (
        f"Processes of the search end before they have a trial. Received: {how_it_ended(code)}, {_IDLE_DEATHS} times. "
        f"The log, {log_path}, ends with:\n{last_lines(log_path)}"
    )

"""Runs that wait for MLflow in a workspace, and the process that sends them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubetfx.components.tracking import mlflow_sender as sender
from kubetfx.config.references import redacted, resolved
from kubetfx.config.tracking_section import TrackingConfig
from kubetfx.errors import KubetfxError

FOLDER = "tracking"
"""Folder of a workspace."""
PYTHON = "KUBETFX_MLFLOW_PYTHON"
"""Environment variable with the Python that has mlflow or mlflow-skinny. Default: the one that runs kubetfx."""
_LOG = "sender.log"
_LONGEST_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Sending:
    """The outcome for waiting runs."""

    sent: dict[str, str]
    """Address of the page of each run that was sent."""
    waiting: tuple[str, ...]
    """Ids of those that wait."""
    problem: str | None
    """The reason, in words; None: all were sent, or are being sent."""

    def __str__(self) -> str:
        """Return the outcome in a sentence."""
        if self.problem:
            number = len(self.waiting)
            runs = f"{number:,} run{'s' if number != 1 else ''}"
            return f"Not sent to MLflow: {self.problem}. {runs} will be sent later, and nothing is lost."
        if self.waiting:
            return "Being sent to MLflow in the background."
        return "".join(f"MLflow: {url}" for url in list(self.sent.values())[-1:])


def send(folder: Path, tracking: TrackingConfig, *, wait_seconds: float | None = None) -> Sending:
    """Send waiting runs in a separate process, which outlives this one.

    Args:
        folder: where runs wait.
        tracking: where to.
        wait_seconds: time to wait for the process. Default: until it ends.

    Returns:
        The outcome.
    """
    if not sender.waiting(folder):
        return Sending({}, (), None)
    try:
        environment = _environment(tracking)
        process, output = _started(folder, environment)
    except (KubetfxError, OSError) as error:
        return Sending({}, _ids(folder), str(error).rstrip("."))
    try:
        process.wait(_LONGEST_SECONDS if wait_seconds is None else wait_seconds)
    except subprocess.TimeoutExpired:
        return Sending({}, _ids(folder), None)
    return _read(folder, output, code=process.returncode)


def _environment(tracking: TrackingConfig) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPROFILEIMPORTTIME"}
    environment[sender.URL] = resolved(tracking.mlflow, key="tracking.mlflow")
    if tracking.token:
        environment["MLFLOW_TRACKING_TOKEN"] = resolved(tracking.token, key="tracking.token")
    return environment


def _started(folder: Path, environment: dict[str, str]) -> "tuple[subprocess.Popen[bytes], Path]":
    """Start the sender in a session of its own: Ctrl-C is for the run, and the sender outlives the run."""
    python = environment.get(PYTHON) or sys.executable
    output = folder / f".result-{os.getpid()}-{time.monotonic_ns()}.json"
    with output.open("wb") as stdout, (folder / _LOG).open("wb") as stderr:
        process = subprocess.Popen(
            [python, sender.__file__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
    return process, output


def _read(folder: Path, output: Path, *, code: int) -> Sending:
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    output.unlink(missing_ok=True)
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return Sending({}, _ids(folder), f"the sender ended with code {code}; its log is {folder / _LOG}")
    with contextlib.suppress(OSError):
        (folder / _LOG).write_text(redacted((folder / _LOG).read_text(encoding="utf-8", errors="replace")))
    refused = [f"run {one['run_id']}: {one['reason']}" for one in found["refused"]]
    problem = found["error"] or "; ".join(refused) or None
    sent = {one["run_id"]: redacted(one["url"]) for one in found["sent"]}
    return Sending(sent, _ids(folder), redacted(problem) if problem else None)


def _ids(folder: Path) -> tuple[str, ...]:
    return tuple(path.name for path in sender.waiting(folder))

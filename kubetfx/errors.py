"""Every error that a user can cause, and the exit code that goes with it.

    KubetfxError              1  a failure while running
    ├── UsageError            2  nothing was started: the command, the config or the data is wrong
    │   ├── ConfigError          pipeline.yaml: an unknown key, a wrong type, values that contradict each other
    │   ├── DataError            the table: cannot be read, ragged, no such label, ...
    │   └── CompileError         a node cannot be expressed as a task of Kubeflow Pipelines
    ├── NodeFailedError       1  a node of the pipeline failed; carries its id and its log
    ├── MachineError          1  a disk is full or read-only, memory is used up, or ML Metadata cannot be read
    ├── AnomaliesError        3  the data has anomalies that the config says to stop at
    ├── NotBlessedError       4  the model missed a threshold; nothing was pushed
    ├── TrainingError         1  the training failed: the loss is not a number, there is no GPU, ...
    ├── PushError             1  the push could not be completed, or was withdrawn; what is served is unchanged
    ├── RequestError          1  a server refused a request, or could not be reached
    ├── TrackingError         1  runs could not be sent to MLflow; they wait for the next time
    ├── StorageError          1  an object store refused a request, or could not be reached
    ├── EngineError           1  a Beam engine cannot be reached, or its workers cannot do the work
    ├── KubeflowError         1  Kubeflow Pipelines cannot be reached, or refuses what it is asked
    ├── RunFailedError        1  a run on Kubeflow failed or was cancelled; carries what is known of it
    └── RunLeftError        130  a run on Kubeflow is no longer followed, and goes on

A message says what is wrong, then `Received: ...`, then what to do.
"""

import re
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

_RAISED = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception|Interrupt|Stop|Exit))\b(?=:|$)")
"""The last line of a traceback."""


class KubetfxError(Exception):
    """Base of every error that a user can cause or has to deal with."""

    exit_code = 1
    report_path: Path | None = None
    """Report of the run that the error ended, if there is one."""


class UsageError(KubetfxError):
    """The command cannot start as it was given."""

    exit_code = 2


class ConfigError(UsageError):
    """pipeline.yaml, or an override of one of its values, is wrong.

    Args:
        message: see above.
        faults: one line per wrong key; they are printed below the message.
    """

    def __init__(self, message: str, *, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join([message, *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


class DataError(UsageError):
    """The table is wrong, or cannot be read."""


class CompileError(UsageError):
    """A pipeline cannot be expressed as a package of Kubeflow Pipelines; names the node."""


class NodeFailedError(KubetfxError):
    """A node failed.

    Args:
        node_id: The id of the node.
        reason: the error that the node raised, in one line.
        log_path: file with everything that the node wrote.
    """

    def __init__(self, node_id: str, reason: str, *, log_path: Path) -> None:
        super().__init__(f"{node_id} failed: {reason}")
        self.node_id = node_id
        self.log_path = log_path


class MachineError(KubetfxError):
    """A disk is full or read-only, memory is used up, or ML Metadata cannot be read."""


class AnomaliesError(KubetfxError):
    """The data departs from its schema in a way that the config says to stop at."""

    exit_code = 3


class _RunError(KubetfxError):
    """A run did not end as it should.

    Args:
        message: see above.
        run: the run's JSON document, as `--format json` prints it.
    """

    def __init__(self, message: str, *, run: dict[str, Any]) -> None:
        super().__init__(message)
        self.run = run


class NotBlessedError(_RunError):
    """The model missed a threshold. `run` is the run's JSON document."""

    exit_code = 4


class TrainingError(KubetfxError):
    """The training failed: its loss is not a number, or there is no GPU where one is required."""


class PushError(KubetfxError):
    """The model could not be pushed."""


class RequestError(KubetfxError):
    """A server refused a request, or could not be reached.

    Args:
        address: The address of the server.
        reason: in the server's words; or what happened on the way to it.
        code: the status, as gRPC names it.
        is_answer: whether the server said so itself, and not a proxy, or nobody.
    """

    def __init__(self, address: str, reason: str, *, code: IntEnum, is_answer: bool = True) -> None:
        said = f"answered {code.name}" if is_answer else "did not answer"
        super().__init__(f"{address} {said}: {reason}")
        self.reason = reason
        self.code = code
        self.is_answer = is_answer


class TrackingError(KubetfxError):
    """Runs could not be sent to MLflow. They wait, and the next run sends them."""


class StorageError(KubetfxError):
    """An object store refused a request, or could not be reached."""


class EngineError(KubetfxError):
    """A Beam engine cannot be reached, or its workers cannot do the work."""


class WorkerError(RuntimeError):
    """A job on an engine elsewhere failed. Its message is of a worker, and so are the disk and the memory in it."""


class KubeflowError(KubetfxError):
    """Kubeflow Pipelines cannot be reached, or refuses what it is asked."""


class RunFailedError(_RunError):
    """A run on Kubeflow failed. `run` is the run's JSON document."""


class RunLeftError(_RunError):
    """A run on Kubeflow is no longer followed, and goes on. `run` is the run's JSON document."""

    exit_code = 130


def root_cause(error: BaseException) -> str:
    """Return the type and the first line of the first cause: Beam and TFX's launcher wrap what went wrong.

    What an engine says of a worker that failed is the worker's traceback, whose last line is the cause.

    Args:
        error: that was caught.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    if any("Traceback (most recent call last)" in line for line in lines):
        return next((line for line in reversed(lines) if _RAISED.match(line)), lines[-1])
    return f"{type(error).__name__}: {lines[0] if lines else ''}"

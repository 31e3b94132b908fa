"""A container's main: ExecutorInput in, TFX executor run, ExecutorOutput out.

It imports what its node needs and no more, ends at once on SIGTERM, and leaves nothing half written. What a task does
is kubeflow/task_run.py's.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kubeflow.executor_io import ExecutorInput, clear_outputs
from kubeflow.task_spec import TaskSpec
from pipeline.errors import KubetfxError
from pipeline.output import Output
from pipeline.spared_imports import spared_imports

TERMINATED = 128 + signal.SIGTERM
TERMINATION_LOG = Path("/dev/termination-log")
"""What stands here is the pod's message, which Kubernetes and the pages of Kubeflow Pipelines show."""
MAX_MESSAGE_BYTES = 4_096


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the task that the arguments describe, and end the process."""
    parser = argparse.ArgumentParser(prog="python -m kubeflow.entrypoint")
    parser.add_argument("--task", required=True, type=TaskSpec.from_argument, help="JSON of what the task does.")
    parser.add_argument(
        "--executor-input", required=True, type=ExecutorInput.from_json, help="JSON, as the launcher fills it in."
    )
    options = parser.parse_args(arguments)
    settle_environment()
    spec: TaskSpec = options.task
    executor_input: ExecutorInput = options.executor_input
    _end_on_sigterm(spec, executor_input)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with spared_imports({node.executor.rpartition(".")[0] for node in spec.nodes}):
            from kubeflow.task_run import run_task

            run_task(spec, executor_input)
    except BaseException as error:
        with contextlib.suppress(OSError):
            clear_outputs(executor_input, spec.written_slots)
        exit_code = error.exit_code if isinstance(error, KubetfxError) else 1
        _report(error, spec, exit_code=exit_code)
        _end(exit_code)
    _end(0)


def settle_environment() -> None:
    """A pod may run as a user that has no name and no home, in a root that cannot be written."""
    home = os.environ.get("HOME", "")
    if home in ("", "/") or not os.access(home, os.W_OK):
        os.environ["HOME"] = tempfile.gettempdir()
    os.environ.setdefault("USER", str(os.getuid()))
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())


def _end_on_sigterm(spec: TaskSpec, executor_input: ExecutorInput) -> None:
    """On SIGTERM, remove what is half written and end.

    Python runs a signal's handler between two of its own instructions, and a step of TensorFlow or Beam may take longer
    than Kubernetes waits. The byte that the signal writes wakes a thread that does not wait for that.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def wait() -> None:
        while os.read(reading, 1) != bytes([signal.SIGTERM]):
            pass
        with contextlib.suppress(OSError):
            clear_outputs(executor_input, spec.written_slots)
        os.write(2, b"Terminated: what was half written is removed.\n")
        _end(TERMINATED)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def _report(error: BaseException, spec: TaskSpec, *, exit_code: int) -> None:
    """Everything to the log, and the gist to where Kubernetes shows it."""
    nodes = " + ".join(node.id for node in spec.nodes)
    if isinstance(error, KubetfxError):
        message = f"{nodes}: {error}"
    else:
        traceback.print_exception(error)
        message = f"{nodes} failed: {root_cause(error)}"
    Output("human").error(message, exit_code=exit_code)
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_bytes(message.encode()[:MAX_MESSAGE_BYTES])


def root_cause(error: BaseException) -> str:
    """The first line of the first cause: Beam wraps what went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _end(exit_code: int) -> NoReturn:
    """End without tearing the interpreter down: TensorFlow's and Beam's threads crash in it now and then."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    main()

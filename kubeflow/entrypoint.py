"""A container's main: reads the ExecutorInput, runs the TFX executor, and writes the ExecutorOutput.

It imports no more than its node needs, ends at once on SIGTERM, and leaves nothing half written. kubeflow/task_run.py
runs the task.
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
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from kubetfx.errors import KubetfxError, root_cause
from kubetfx.kubeflow.executor_io import ExecutorInput, clear_outputs
from kubetfx.kubeflow.task_spec import TaskSpec
from kubetfx.kubeflow.termination import terminate
from kubetfx.pipeline.spared_imports import spared_imports, uncollected

_TERMINATED = 128 + signal.SIGTERM
_TERMINATION_LOG = Path("/dev/termination-log")
"""Kubernetes' terminationMessagePath: the content is the pod's message, which KFP's pages show too."""
_MAX_MESSAGE_BYTES = 4_096
"""Kubernetes cuts longer messages."""
_MAX_LOG_LINES = 50


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the task that the arguments describe, and end the process.

    Args:
        arguments: The arguments of the command line. Default: those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m kubetfx.kubeflow.entrypoint")
    parser.add_argument("--task", required=True, help="JSON of what the task does.")
    parser.add_argument("--executor-input", required=True, help="JSON, as the launcher fills it in.")
    options = parser.parse_args(arguments)
    _settle_environment()
    try:
        spec = TaskSpec.from_argument(options.task)
        executor_input = ExecutorInput.from_json(options.executor_input)
    except KubetfxError as error:
        _report(error, "The task", exit_code=error.exit_code, last_lines=())
        _end(error.exit_code)
    _end_on_sigterm(spec, executor_input)
    last_lines = _LastLines()
    handlers = [logging.StreamHandler(), last_lines]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=handlers)
    try:
        with spared_imports({node.executor.rpartition(".")[0] for node in spec.nodes}):
            with uncollected():
                from kubetfx.kubeflow.task_run import run_task

            run_task(spec, executor_input)
    except BaseException as error:
        with contextlib.suppress(OSError):
            clear_outputs(executor_input, spec.written_slots)
        exit_code = error.exit_code if isinstance(error, KubetfxError) else 1
        _report(error, spec.title, exit_code=exit_code, last_lines=last_lines.lines)
        _end(exit_code)
    _end(0)


def _settle_environment() -> None:
    """Name a home and a user: a pod may run as a user without either, with a root that cannot be written."""
    home = os.environ.get("HOME", "")
    if home in ("", "/") or not os.access(home, os.W_OK):
        os.environ["HOME"] = tempfile.gettempdir()
    os.environ.setdefault("USER", str(os.getuid()))
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())


def _end_on_sigterm(spec: TaskSpec, executor_input: ExecutorInput) -> None:
    """On SIGTERM, remove what is half written and end.

    Python runs a signal's handler between two of its own instructions, and a step of TensorFlow or Beam may take longer
    than Kubernetes waits. So the signal writes a byte into a pipe, which a thread of its own reads at once.
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
        terminate()
        os.write(2, b"Terminated: what was half written is removed.\n")
        _end(_TERMINATED)

    _let_children_end_by_themselves()
    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def _let_children_end_by_themselves() -> None:
    """Let SIGTERM to a forked process end that process, and not the task whose pipe it has inherited.

    The signal is blocked until the child has closed its end of the pipe.
    """

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        unblock()

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=in_child)


class _LastLines(logging.Handler):
    """Keeps the end of what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_MAX_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.extend(self.format(record).splitlines())


def _report(error: BaseException, title: str, *, exit_code: int, last_lines: Iterable[str]) -> None:
    """Write all of it to the log, and the reason, exit status and last lines to where Kubernetes shows them."""
    lines = list(last_lines)
    if isinstance(error, KubetfxError):
        message = str(error) if str(error).startswith(f"{title}: ") else f"{title}: {error}"
    else:
        from kubetfx.machine_errors import explained  # not needed where nothing fails

        trace = "".join(traceback.format_exception(error))
        sys.stderr.write(trace)
        lines += trace.splitlines()
        message = f"{title} failed: {explained(error, Path.cwd(), node=title) or root_cause(error)}"
    sys.stderr.write(f"Error: {message}\n")
    with contextlib.suppress(OSError):
        if _TERMINATION_LOG.exists():
            _TERMINATION_LOG.write_bytes(_pod_message(message, exit_code=exit_code, lines=lines))


def _pod_message(message: str, *, exit_code: int, lines: Sequence[str]) -> bytes:
    """Return the reason, and as many of the last lines as Kubernetes keeps."""
    reason = f"{message}\nExit status {exit_code}. The end of the log:".encode()
    shown: list[bytes] = []
    for line in reversed(lines):
        shown.insert(0, line.encode())
        if len(b"\n".join([reason, *shown])) > _MAX_MESSAGE_BYTES:
            del shown[0]
            break
    return b"\n".join([reason, *shown])[:_MAX_MESSAGE_BYTES]


def _end(exit_code: int) -> NoReturn:
    """End without finalizing the interpreter, in which threads of TensorFlow and Beam crash now and then."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    main()

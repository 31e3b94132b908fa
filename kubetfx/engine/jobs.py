"""Jobs on an engine elsewhere: one that is given up is cancelled, and one whose engine is gone ends with words."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions

from kubetfx.engine.arguments import Engine, engine_of
from kubetfx.errors import EngineError, WorkerError

_LOOK_SECONDS = 5.0
"""Between two looks at whether those that do the work are still there."""
_CANCEL_SECONDS = 15.0
"""That an engine has to take note that a job is cancelled."""
_CONNECT_SECONDS = 3.0
_NO_END = 10 * 365 * 24 * 3_600
"""Seconds. Beam ends its stream of a job's states after `--job_server_timeout`, 300 s by default, and takes that for a
failure of the job: with Prism every job that takes longer fails. Here the time to reach the engine is checked before a
job, and a job takes as long as it takes."""

_PANIC = re.compile(
    r"panic in stage\.Execute bundle processing goroutine: (?P<why>.*?), stage: &\{ID:(?P<stage>\S+) .*", re.DOTALL
)
"""What Prism says where its own code for a stage fails (internal/stage.go): a dump follows."""
_CLOSED = "send on closed channel"
"""The reason where a worker has left, and the next bundle for it was being sent (internal/worker/worker.go, Stop)."""


class Job(beam.Pipeline):
    """A Beam pipeline, used as a context, whose end is waited for here."""

    def __init__(self, arguments: Sequence[str], *, patience: float) -> None:
        """Describe a pipeline; it runs at the end of the context.

        Args:
            arguments: Beam's command line.
            patience: seconds that the engine may be out of reach.

        Raises:
            EngineError: nobody listens at the endpoint.
        """
        self._engine = engine_of(arguments)
        self._patience = patience
        if self._engine.endpoint:
            wait_for(self._engine.endpoint, patience, what="the job service", key="beam.endpoint")
            arguments = [*arguments, f"--job_server_timeout={_NO_END}"]
        super().__init__(options=PipelineOptions(list(arguments)))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.result = self.run()
                self.wait(self.result)
        finally:
            self._extra_context.__exit__(kind, error, trace)

    def wait(self, result: Any, *, seconds: float | None = None) -> bool:
        """Wait for the end of a job. Whatever ends the waiting before that cancels the job.

        Args:
            result: what `run` returned.
            seconds: after which the job is cancelled; None: it takes as long as it takes.

        Returns:
            Whether the job ended by itself.

        Raises:
            EngineError: the job service, or the pool of workers, has been out of reach for the patience.
            Exception: the job failed.
        """
        ended, failures = threading.Event(), []

        def follow() -> None:
            try:
                result.wait_until_finish()
            except BaseException as error:
                failures.append(error)
            finally:
                ended.set()

        threading.Thread(target=follow, name="kubetfx-job", daemon=True).start()
        watch = _Watch(self._engine, self._patience)
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            while not ended.wait(0.2):
                watch.look()
                if deadline is not None and time.monotonic() > deadline:
                    cancel(result)
                    return False
        except BaseException:
            cancel(result)
            raise
        if failures:
            logging.error("The job on %s failed:\n%s", self._engine, failures[0])
            watch.look(at_once=True)
            if self._engine.is_remote and isinstance(failures[0], Exception):
                raise WorkerError(_without_dump(str(failures[0]))) from None  # what people read is the first cause
            raise failures[0]
        return True


def _without_dump(message: str) -> str:
    """Return the message; where Prism itself failed in a stage, the stage and the reason are in place of its dump."""

    def in_words(found: re.Match[str]) -> str:
        if found["why"] == _CLOSED:
            return f"the engine could not send {found['stage']} to its worker, which is gone ({_CLOSED})"
        return f"the engine failed in {found['stage']}: {found['why']}"

    return _PANIC.sub(in_words, message)


class _Watch:
    """Looks now and then whether those are there that were there at the beginning."""

    def __init__(self, engine: Engine, patience: float) -> None:
        named = {
            "The job service": engine.endpoint,
            # The engine reaches its pool by a name that may mean nothing here.
            "The pool of workers": engine.pool if engine.pool and listens(engine.pool) else None,
        }
        self._places = {what: place for what, place in named.items() if place}
        self._seen = dict.fromkeys(self._places, time.monotonic())
        self._looked = time.monotonic()
        self._patience = patience

    def look(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        for what, place in self._places.items():
            if listens(place):
                self._seen[what] = now
            elif at_once or now - self._seen[what] > self._patience:
                raise EngineError(
                    f"{what} is gone: nobody listens any more. Received: {place}. Start it again, and give the same "
                    "command: finished nodes are taken from the cache."
                )


def listens(address: str, *, seconds: float = _CONNECT_SECONDS) -> bool:
    """Return whether somebody listens.

    Args:
        address: host and port.
        seconds: that a connection may take.
    """
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError, OverflowError):
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
        return True
    return False


def wait_for(address: str, seconds: float, *, what: str, key: str) -> None:
    """Wait until somebody listens.

    Args:
        address: host and port.
        seconds: to wait at most.
        what: it is, for errors.
        key: The key of the config that names it, for errors.

    Raises:
        EngineError: nobody does.
    """
    deadline = time.monotonic() + seconds
    while not listens(address, seconds=min(_CONNECT_SECONDS, seconds)):
        if time.monotonic() > deadline:
            raise EngineError(
                f"{key}: {what} cannot be reached: nobody listens there. Received: {address}. Start it, or correct "
                f"{key}."
            )
        time.sleep(0.5)


def cancel(result: Any) -> None:
    """Ask the engine to end a job, and wait a while until it has.

    Args:
        result: The result of `beam.Pipeline.run`.
    """

    def ask() -> None:
        with contextlib.suppress(Exception):  # runners of this process cannot be asked; and what ends us comes first
            result.cancel()

    asking = threading.Thread(target=ask, name="kubetfx-cancel", daemon=True)
    asking.start()
    asking.join(_CANCEL_SECONDS)
    logging.warning("The job was cancelled.")

"""Runs executors in other processes, so that independent copies of a node run at the same time.

Drivers, the cache and ML Metadata stay in this process, where threads take turns; only executors run elsewhere. The
processes are forked before TensorFlow is used, so what this one has imported is not imported again.
"""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kubetfx import errors
from kubetfx.config.kubeflow_section import FOLD_PREFIX
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.cores import num_cores, shares_of_cores
from kubetfx.errors import KubetfxError, root_cause
from kubetfx.redirection import logged_to

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that a process gets when the thread that made it ends."""


class ExecutorError(Exception):
    """An error of an executor in another process."""


@dataclass(frozen=True)
class Work:
    """Something to do that takes a process for a while."""

    name: str
    do: Callable[[], None]
    after: Collection[str] = ()
    """Names of what it comes after; those that are not among the works have ended before."""


class Turns:
    """Lets threads work in turn, each with its own log; while one waits, others work."""

    def __init__(self) -> None:
        """Begin with nobody's turn."""
        self._lock = threading.Lock()
        self._log = threading.local()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait until it is this thread's turn, and hold the turn within the context."""
        with self._lock:
            yield

    @contextlib.contextmanager
    def logged_to(self, path: Path) -> Iterator[None]:
        """Send the output of this process to a file, but for the time that the thread waits.

        Args:
            path: The path of the file.
        """
        self._log.path = path
        self._log.redirection = logged_to(path)
        self._log.redirection.__enter__()
        try:
            yield
        finally:
            self._log.redirection.__exit__(None, None, None)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Path]:
        """Let others work while this thread waits for something.

        Yields:
            The file of its log.
        """
        self._log.redirection.__exit__(None, None, None)
        self._lock.release()
        try:
            yield self._log.path
        finally:
            self._lock.acquire()
            self._log.redirection = logged_to(self._log.path)
            self._log.redirection.__enter__()


class ExecutorProcesses:
    """Processes that run executors, each with a share of the cores."""

    def __init__(self, number: int, make_operator: Callable[[type, Any], Any]) -> None:
        """Fork them. TensorFlow may be imported, and must not have been used.

        Args:
            number: The number of the processes.
            make_operator: makes an operator of TFX, out of its class and an executor's specification.
        """
        self.number = number
        self.turns = Turns()
        context = multiprocessing.get_context("fork")
        shares = context.SimpleQueue()
        for share in shares_of_cores(number):
            shares.put(share)
        self._pool = ProcessPoolExecutor(
            number, mp_context=context, initializer=_begin, initargs=(make_operator, shares)
        )
        self._pool.submit(os.getpid)  # the first task forks all of them
        self._is_warm = False

    def warm_up(self, work: Callable[[], None]) -> None:
        """Let each process do something while it waits for its first executor. Only the first call counts.

        Args:
            work: such as an import, which the first executor would wait for.
        """
        if not self._is_warm:
            self._is_warm = True
            for _ in range(self.number):
                self._pool.submit(work)

    def run(self, operator_class: type, executor_spec: Any, execution_info: Any) -> Any:
        """Run an executor. The thread that calls this has its turn, and waits.

        Args:
            operator_class: The operator class of TFX.
            executor_spec: TFX's specification of the executor.
            execution_info: of TFX: inputs, outputs and properties.

        Returns:
            What the executor says about its outputs, TFX's ExecutorOutput.

        Raises:
            KubetfxError: as the executor has raised it.
            ExecutorError: it failed otherwise, or its process was killed.
        """
        from tfx.orchestration.python_execution_binary import python_execution_binary_utils as wire
        from tfx.proto.orchestration import execution_result_pb2

        packed = wire.serialize_execution_info(execution_info)
        with self.turns.waiting() as log_path:
            try:
                failure, output = self._pool.submit(_execute, operator_class, executor_spec, packed, log_path).result()
            except BrokenProcessPool:
                raise ExecutorError(
                    "its process was killed, as the system does where memory is short. Let fewer folds run at the "
                    "same time: evaluation.cross_validation.parallel"
                ) from None
        if failure is not None:
            kind, message = failure
            known = getattr(errors, kind, None)
            if isinstance(known, type) and issubclass(known, KubetfxError):
                raise known(message)
            raise ExecutorError(message)
        return execution_result_pb2.ExecutorOutput.FromString(output)

    def side_by_side(self, works: Sequence[Work]) -> None:
        """Execute works in threads, which take turns, until one fails.

        A work begins as soon as those before it have ended and a process is free, the first of those that could begin
        before the others: so works in the order of their steps keep all processes busy until the last step.

        Args:
            works: in an order in which they could be executed in turn. Each calls `run` at some time.

        Raises:
            Exception: the first that failed, when all that ran have ended.
        """
        waiting = {work.name: work for work in works}
        running: dict[Future[None], str] = {}

        def do(work: Work) -> None:
            with self.turns.taken():
                work.do()

        with ThreadPoolExecutor(self.number) as threads:
            try:
                while waiting or running:
                    unfinished = {*waiting, *running.values()}
                    ready = [work for work in waiting.values() if unfinished.isdisjoint(work.after)]
                    for work in ready[: self.number - len(running)]:
                        running[threads.submit(do, waiting.pop(work.name))] = work.name
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        del running[future]
                        future.result()
            except KeyboardInterrupt:
                self.end()
                raise

    def end(self) -> None:
        """End the processes immediately."""
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        self._pool.shutdown(cancel_futures=True)


class UnwatchedOperator:
    """Stands for an operator of TFX.

    TFX's execution watcher serves executors of its own process and writes into ML Metadata at any time.
    """

    def with_execution_watcher(self, address: str) -> Self:
        """Go on without.

        Args:
            address: host and port.

        Returns:
            This operator.
        """
        return self


class OperatorElsewhere(UnwatchedOperator):
    """TFX's operator of an executor that runs in another process."""

    def __init__(
        self, operator_class: type, processes: ExecutorProcesses, executor_spec: Any, platform_config: Any = None
    ) -> None:
        """Remember what to run, and where.

        Args:
            operator_class: The operator class of TFX.
            processes: where it runs.
            executor_spec: TFX's specification of the executor.
            platform_config: what TFX hands over besides; no executor here has any.
        """
        self._operator_class = operator_class
        self._processes = processes
        self._executor_spec = executor_spec

    def run_executor(self, execution_info: Any) -> Any:
        """Execute the node.

        Args:
            execution_info: of TFX: inputs, outputs and properties.

        Returns:
            What the executor says about its outputs.
        """
        return self._processes.run(self._operator_class, self._executor_spec, execution_info)


def folds_at_once(config: PipelineConfig) -> int:
    """Return how many folds of cross-validation are worked on at the same time on this machine.

    Args:
        config: The config of the pipeline.

    Returns:
        One where an engine does the work, or there are no folds.
    """
    folds = config.evaluation.cross_validation
    if folds is None or config.beam.command_line:
        return 1
    return min(folds.parallel or num_cores(), folds.num_trainings)


def groups(nodes: Sequence[Any]) -> Iterator[list[Any]]:
    """Divide nodes into those that may run at the same time, which are steps of folds, and the others, one by one.

    Args:
        nodes: The nodes of a compiled pipeline, in the order in which they run.

    Yields:
        The next ones.
    """
    for of_folds, together in itertools.groupby(nodes, key=lambda node: is_of_fold(node.node_info.id)):
        if of_folds:
            yield list(together)
        else:
            yield from ([node] for node in together)


def in_best_order(works: Sequence[Work], processes: int) -> list[Work]:
    """Put steps of folds into an order that keeps all processes busy to the end.

    Folds beyond a multiple of the processes come first, with all of their steps: their training, which is most of the
    work, is not left to one process at the end.

    Args:
        works: of folds, by step.
        processes: The number of processes.

    Returns:
        The same steps.
    """
    numbers = {work.name: int(work.name.rpartition(".")[2]) for work in works}
    remainder = len({*numbers.values()}) % processes
    return sorted(works, key=lambda work: numbers[work.name] >= remainder)


def is_of_fold(node_id: str) -> bool:
    """Return whether a node is a step of a fold.

    Args:
        node_id: for example `FoldTrainer.3`.
    """
    name, _, number = node_id.rpartition(".")
    return number.isdigit() and name.startswith(FOLD_PREFIX)


_make_operator: Callable[[type, Any], Any]
"""In a process of the pool."""


def _begin(make_operator: Callable[[type, Any], Any], shares: Any) -> None:
    """Prepare a process of the pool: it ends with its parent, and leaves Ctrl-C to it."""
    global _make_operator  # noqa: PLW0603
    _make_operator = make_operator
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, shares.get())


def _execute(
    operator_class: type, executor_spec: Any, packed: str, log_path: Path
) -> tuple[tuple[str, str] | None, bytes]:
    """Run an executor in a process of the pool: how it failed, and its output."""
    from tfx.orchestration.python_execution_binary import python_execution_binary_utils as wire

    with logged_to(log_path):
        try:
            operator = _make_operator(operator_class, executor_spec)
            output = operator.run_executor(wire.deserialize_execution_info(packed))
        except KubetfxError as error:
            return (type(error).__name__, str(error)), b""
        except Exception as error:
            traceback.print_exc()
            return (type(error).__name__, root_cause(error)), b""
    return None, output.SerializeToString()

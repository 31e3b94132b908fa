"""Running the calls of graphs: in a few threads, and, on request, one call for the rows of many requests.

The parameters, their names and defaults are those of TensorFlow Serving's BatchingParameters. Everything but `_work`
and `_run_batch` belongs to the event loop's thread, so there are no locks.
"""

import asyncio
import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from kubetfx.arrays import Array
from kubetfx.errors import UsageError
from kubetfx.serving.inference import GraphCall
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code, ServingError, invalid_argument

_Done = Callable[[Any, BaseException | None], None]


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are put together."""

    max_batch_size: int = 1000
    """Rows of a batch at most."""
    batch_timeout_micros: int = 0
    """Time that a batch waits to be filled while a thread is free. 0: no longer than the threads are busy."""
    max_enqueued_batches: int = 10
    """Batches that wait for a thread, by model version and signature; more requests are refused as UNAVAILABLE."""
    num_batch_threads: int = 0
    """Batches that run at once. 0: one for each core."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Sizes to fill batches up to, in increasing order, the last one max_batch_size. Empty: any."""
    enable_large_batch_splitting: bool = False
    """Whether a request of more than max_batch_size rows is taken, in a call of its own."""

    def __post_init__(self) -> None:
        """Check the ranges of the values, and that they fit each other."""
        sizes = self.allowed_batch_sizes
        if self.max_batch_size < 1 or self.max_enqueued_batches < 1 or self.batch_timeout_micros < 0:
            raise UsageError(
                "max_batch_size and max_enqueued_batches must be 1 or more, batch_timeout_micros 0 or more. "
                f"Received: {self}."
            )
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise UsageError(
                "allowed_batch_sizes must increase and end with max_batch_size. "
                f"Received: {list(sizes)} with max_batch_size {self.max_batch_size}."
            )


def read_batching_parameters_file(path: Path) -> BatchingParameters:
    """Read the parameters of batching, as TensorFlow Serving's `--batching_parameters_file` takes them.

    Args:
        path: a BatchingParameters of session_bundle_config.proto in protobuf's text format.

    Returns:
        The parameters; those that the file does not have get TensorFlow Serving's defaults.

    Raises:
        UsageError: the file cannot be read, or is not such a message.
    """
    try:
        message = text_format.Parse(path.read_text(), _message_class()())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UsageError(
            f"`batching_parameters_file` is not a BatchingParameters in protobuf's text format: {error}. "
            f"Received: {path}. Example: max_batch_size {{ value: 128 }}"
        ) from None
    given: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.name == "allowed_batch_sizes":
            given[descriptor.name] = tuple(value)
        elif descriptor.name != "thread_pool_name":
            given[descriptor.name] = value.value
    return BatchingParameters(**given)


def _message_class() -> Any:
    """Return the class BatchingParameters of session_bundle_config.proto, which tensorflow-serving-api leaves out."""
    file = descriptor_pb2.FileDescriptorProto(
        name="kubetfx/batching_parameters.proto",
        package="kubetfx",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    wrapped = {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "enable_large_batch_splitting": "BoolValue",
    }
    kind = descriptor_pb2.FieldDescriptorProto
    for number, (name, wrapper) in enumerate(wrapped.items(), start=1):
        message.field.add(
            name=name,
            number=number,
            label=kind.LABEL_OPTIONAL,
            type=kind.TYPE_MESSAGE,
            type_name=f".google.protobuf.{wrapper}",
        )
    message.field.add(
        name="allowed_batch_sizes", number=len(wrapped) + 1, label=kind.LABEL_REPEATED, type=kind.TYPE_INT64
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kubetfx.BatchingParameters"))


class SessionThreads:
    """Threads that call graphs, and deliver the results to the event loop, all that are ready at a time."""

    def __init__(self, num_threads: int, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads.

        Args:
            num_threads: how many.
            loop: where results are delivered.
        """
        self.num_threads = num_threads
        self._loop = loop
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], _Done] | None] = queue.SimpleQueue()
        self._finished: deque[tuple[_Done, Any, BaseException | None]] = deque()
        self._delivering = False
        self._threads = [
            threading.Thread(target=self._work, name=f"session-{index}", daemon=True) for index in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[], Any], done: _Done) -> None:
        """Call a function in a thread, and deliver what comes of it in the event loop.

        Args:
            function: takes nothing.
            done: called with the function's result and None, or with None and the error that it raised.
        """
        self._tasks.put((function, done))

    def close(self) -> None:
        """End the threads after the calls that are submitted."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            function, done = task
            try:
                result, error = function(), None
            except BaseException as raised:  # delivered to whoever waits
                result, error = None, raised
            self._finished.append((done, result, error))
            if not self._delivering:
                self._delivering = True
                self._loop.call_soon_threadsafe(self._deliver)
            del task, function, done, result, error

    def _deliver(self) -> None:
        self._delivering = False
        while self._finished:
            done, result, error = self._finished.popleft()
            done(result, error)


@dataclass(eq=False, slots=True)
class _Request:
    """A request's call of a graph, and the future that waits for it."""

    version: ServedVersion
    call: GraphCall
    future: "asyncio.Future[list[Array]]"
    done: Callable[[], None]
    rows: int = 0

    def run(self) -> list[Array]:
        if self.future.done():  # too late, or nobody waits any more
            return []
        return self.call.run(self.version.model)

    def finish(self, result: Any, error: BaseException | None) -> None:
        self.version.release()
        self.done()
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


@dataclass
class _Queue:
    """Requests that may share a call."""

    requests: deque[_Request] = field(default_factory=deque)
    rows: int = 0
    ready_at: float = 0.0


class Scheduler:
    """Runs the calls of requests, each by itself or in batches."""

    def __init__(
        self, threads: SessionThreads, parameters: BatchingParameters | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Start without any request.

        Args:
            threads: where calls run.
            parameters: how requests are put together; None: each has its own call.
            loop: the event loop that every method is called in.
        """
        self._threads = threads
        self._parameters = parameters
        self._loop = loop
        self._queues: dict[Any, _Queue] = {}
        self._running = 0
        self._pump_scheduled = False
        self._slots = (parameters.num_batch_threads if parameters else 0) or os.cpu_count() or 1

    def submit(
        self, version: ServedVersion, call: GraphCall, done: Callable[[], None]
    ) -> "asyncio.Future[list[Array]]":
        """Run a call.

        Args:
            version: the version, held for the call; the scheduler releases it.
            call: the call.
            done: called when the call is over, whether or not the future was cancelled.

        Returns:
            A future of the arrays that the call fetches.

        Raises:
            ServingError: the call cannot be queued. The version is released, and `done` has been called.
        """
        request = _Request(version, call, self._loop.create_future(), done)
        if self._parameters is None:
            self._threads.submit(request.run, request.finish)
        else:
            try:
                self._enqueue(request, self._parameters)
            except ServingError:
                version.release()
                done()
                raise
        return request.future

    def _enqueue(self, request: _Request, parameters: BatchingParameters) -> None:
        request.rows = _num_rows(request.call)
        if request.rows > parameters.max_batch_size:
            if not parameters.enable_large_batch_splitting:
                raise invalid_argument(
                    f"Task size {request.rows} is larger than maximum input batch size {parameters.max_batch_size}"
                )
            self._threads.submit(request.run, request.finish)
            return
        key = _batch_key(request)
        waiting = self._queues.get(key)
        if waiting is None:
            waiting = self._queues[key] = _Queue()
        if waiting.rows + request.rows > parameters.max_batch_size * parameters.max_enqueued_batches:
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{math.ceil(waiting.rows / parameters.max_batch_size)} batches enqueued and max_enqueued_batches is "
                f"{parameters.max_enqueued_batches}",
            )
        if not waiting.requests:
            waiting.ready_at = self._loop.time() + parameters.batch_timeout_micros / 1e6
        waiting.requests.append(request)
        waiting.rows += request.rows
        if self._running < self._slots:
            self._schedule_pump()

    def _schedule_pump(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Start the batches that are due, as long as there are threads."""
        self._pump_scheduled = False
        assert self._parameters is not None
        now = self._loop.time()
        next_at = math.inf
        for key in list(self._queues):
            waiting = self._queues[key]
            while self._running < self._slots and waiting.requests:
                if waiting.rows < self._parameters.max_batch_size and waiting.ready_at > now:
                    next_at = min(next_at, waiting.ready_at)
                    break
                self._start(_take(waiting, self._parameters.max_batch_size))
            if not waiting.requests:
                del self._queues[key]
            else:  # whoever had a turn goes to the end
                self._queues[key] = self._queues.pop(key)
        if next_at < math.inf:
            self._loop.call_at(next_at, self._schedule_pump)

    def _start(self, batch: list[_Request]) -> None:
        self._running += 1
        sizes = self._parameters.allowed_batch_sizes if self._parameters else ()

        def finish(results: Any, error: BaseException | None) -> None:
            self._running -= 1
            for index, request in enumerate(batch):
                outcome, failure = (None, error) if error else results[index]
                request.finish(outcome, failure)
            if self._queues:
                self._schedule_pump()

        self._threads.submit(lambda: _run_batch(batch, sizes), finish)


def _take(waiting: _Queue, max_rows: int) -> list[_Request]:
    batch: list[_Request] = []
    rows = 0
    while waiting.requests and rows + waiting.requests[0].rows <= max_rows:
        request = waiting.requests.popleft()
        rows += request.rows
        batch.append(request)
    waiting.rows -= rows
    return batch


def _run_batch(batch: Sequence[_Request], sizes: Sequence[int]) -> list[tuple[Any, BaseException | None]]:
    """Return results or errors by request. If the batch fails, each request is run by itself: one may be at fault."""
    batch_now = [request for request in batch if not request.future.done()]
    if len(batch_now) > 1 or (batch_now and sizes):
        try:
            results = iter(_run_together(batch_now, sizes))
        except ServingError:
            return [_run_alone(request) for request in batch]
        wanted = set(map(id, batch_now))
        return [(next(results), None) if id(request) in wanted else ([], None) for request in batch]
    return [_run_alone(request) for request in batch]


def _run_alone(request: _Request) -> tuple[Any, BaseException | None]:
    try:
        return request.run(), None
    except ServingError as error:
        return None, error


def _run_together(batch: Sequence[_Request], sizes: Sequence[int]) -> list[list[Array]]:
    rows = sum(request.rows for request in batch)
    padding = next((size for size in sizes if size >= rows), rows) - rows
    columns = []
    for index in range(len(batch[0].call.arrays)):
        parts = [request.call.arrays[index] for request in batch]
        columns.append(np.concatenate([*parts, *[parts[0][:1]] * padding]))
    call = GraphCall(batch[0].call.feeds, columns, batch[0].call.fetches)
    tensors = call.run(batch[0].version.model)
    for name, tensor in zip(call.fetches, tensors, strict=True):
        if not tensor.shape or len(tensor) != rows + padding:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                f"tensors: {name}",
            )
    results = []
    start = 0
    for request in batch:
        end = start + request.rows
        results.append([tensor[start:end] for tensor in tensors])
        start = end
    return results


def _num_rows(call: GraphCall) -> int:
    sizes = set()
    for array in call.arrays:
        if not array.shape:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension.")
        sizes.add(len(array))
    if len(sizes) != 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size.")
    return sizes.pop()


def _batch_key(request: _Request) -> Any:
    call = request.call
    return (
        id(request.version),
        call.feeds,
        call.fetches,
        *[(array.dtype.char, array.shape[1:]) for array in call.arrays],
    )

"""The request log: sampled requests with their answers, in TFRecord files of TensorFlow Serving's PredictionLog.

The event loop makes the records of small requests, hands every request over and goes on. One thread writes. What it
cannot write is counted and given up: no disk holds up an answer.
"""

import contextlib
import functools
import logging
import os
import random
import re
import socket
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kubetfx.arrays import Array
from kubetfx.errors import UsageError
from kubetfx.serving import log_records
from kubetfx.serving.inference import Classification, Regression, Task
from kubetfx.serving.log_records import Logged
from kubetfx.serving.log_uploads import Uploads
from kubetfx.serving.model_config import ModelConfig, RequestLogging
from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code
from kubetfx.serving.tfrecords import framed
from kubetfx.storage import Location, ObjectPath, check_writable

_LOG = logging.getLogger(__name__)


_WRITE_SECONDS = 0.2
"""Time between two looks at the queue; what was written in between reaches the file."""
_RETRY_SECONDS = 10.0
"""Time until a place that could not be written is tried again."""
_SMALL_BYTES = 4_096
"""Size of a request whose record is made at once: handing the interpreter's lock to the thread would cost more."""
_BUFFERED_BYTES = 2**20
"""Records of a file that are kept back, at most, until it is flushed: each write costs the interpreter's lock."""
_ENTRY_BYTES = 512
"""Bytes that a queued request takes besides its cells."""

_UNSAFE = re.compile(r"[^\w.-]")


@dataclass(frozen=True)
class RequestLogOptions:
    """Which requests are logged, where the models' own configuration does not say it, and how."""

    folder: Location | None = None
    """Where the files of models without a LoggingConfig of their own are put. None: they have no log."""
    sampling_rate: float = 0.1
    """Share of the requests of these models, above 0 and up to 1."""
    max_file_bytes: int = 64 * 2**20
    """Size at which a file is closed, and the next one begun."""
    max_file_seconds: float = 600.0
    """Age at which a file is closed."""
    max_queued_bytes: int = 64 * 2**20
    """Requests that wait to be written; those above it are not logged."""

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0 < self.sampling_rate <= 1:
            raise UsageError(
                f"`sampling_rate` is a share of the requests, above 0 and up to 1. Received: {self.sampling_rate:g}. "
                "Write 0.1 for every tenth."
            )


@dataclass
class _Entry:
    """A request that waits to be written."""

    model: str
    prefix: Location
    num_bytes: int
    record: bytes | Callable[[], bytes]
    """As its file holds it, or what makes it so."""


@dataclass
class _File:
    """A file that is being written."""

    path: Path
    target: Location
    """The path itself, or the object that it becomes."""
    data: BinaryIO
    opened: float
    num_bytes: int = 0
    unflushed: Counter[str] = field(default_factory=Counter)
    """Records by model that may not have reached the disk."""


class RequestLog:
    """The log of all models of a server."""

    def __init__(self, options: RequestLogOptions, metrics: Metrics) -> None:
        """Set up; nothing is written before a request is logged.

        Args:
            options: Which requests are logged, where, and how.
            metrics: where requests that were logged, and those that were given up, are counted.

        Raises:
            UsageError: the folder cannot be made or written.
            StorageError: the bucket cannot be written.
        """
        self._options = options
        self._metrics = metrics
        self._own: Mapping[str, RequestLogging] = {}
        self._prefixes: dict[str, Location] = {}
        """Where the files of models without a LoggingConfig of their own are put."""
        self._queue: deque[_Entry] = deque()
        self._offered_bytes = 0  # of the event loop alone, and
        self._taken_bytes = 0  # of the thread alone: so neither needs a lock
        self._files: dict[Location, _File] = {}
        self._failing: dict[Location, float] = {}
        """When a place that cannot be written is tried again."""
        self._given_up: Counter[Location] = Counter()
        self._uploads = Uploads()
        self._spool: Path | None = None
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="request-log", daemon=True)
        _check(options.folder)

    def configure(self, configs: Iterable[ModelConfig]) -> None:
        """Take the LoggingConfigs of models; those that have none follow the options.

        Args:
            configs: of the models that are served from now on.
        """
        self._own = {config.name: config.logging for config in configs if config.logging}
        if not self._thread.is_alive() and not self._stopping.is_set() and (self._own or self._options.folder):
            self._thread.start()

    def sample(self, version: ServedVersion, signature_name: str) -> "Sampled | None":
        """Decide whether a request is logged.

        Args:
            version: that answers it.
            signature_name: that it asks for; empty for the default.

        Returns:
            What takes the request and its answer; None if it is not logged.
        """
        name = version.model_name
        own = self._own.get(name)
        if own is None and self._options.folder is None:
            return None
        rate = own.sampling_rate if own else self._options.sampling_rate
        if rate < 1 and random.random() >= rate:
            return None
        logged = Logged(version, signature_name, rate, int(time.time()))
        return Sampled(logged, functools.partial(self._offer, name, own.prefix if own else self._prefix(name)))

    def close(self) -> None:
        """Write what waits, and close the files; those of buckets are put there."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._uploads.close()

    def _prefix(self, model: str) -> Location:
        prefix = self._prefixes.get(model)
        if prefix is None:
            assert self._options.folder is not None
            prefix = self._prefixes[model] = self._options.folder / (_UNSAFE.sub("_", model) or "_")
        return prefix

    def _offer(self, model: str, prefix: Location, num_bytes: int, make: Callable[[], bytes]) -> None:
        num_bytes += _ENTRY_BYTES
        if self._offered_bytes - self._taken_bytes + num_bytes > self._options.max_queued_bytes:
            self._metrics.count_logged(model, Code.RESOURCE_EXHAUSTED, 1)
            return
        record: bytes | Callable[[], bytes] = functools.partial(_framed, make)
        if num_bytes <= _SMALL_BYTES:
            with contextlib.suppress(Exception):  # the thread meets it again, and counts it
                record = _framed(make)
        self._offered_bytes += num_bytes
        self._queue.append(_Entry(model, prefix, num_bytes, record))

    # What follows belongs to the thread.

    def _write_forever(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(_WRITE_SECONDS)
            try:
                self._write_queued()
                for prefix in list(self._files):
                    self._flush(prefix)
                self._rotate(everything=is_last)
            except Exception:  # the thread is the only one that ever writes
                _LOG.exception("the request log failed")

    def _write_queued(self) -> None:
        while self._queue:
            entry = self._queue.popleft()
            self._taken_bytes += entry.num_bytes
            try:
                self._write(entry)
            except OSError as error:
                self._give_up(entry.prefix, error)
                self._metrics.count_logged(entry.model, Code.UNAVAILABLE, 1)
                self._given_up[entry.prefix] += 1
            except Exception:  # a request that makes no record must not cost the others theirs
                _LOG.exception("a request to %s could not be logged", entry.model)
                self._metrics.count_logged(entry.model, Code.INTERNAL, 1)
            if entry.num_bytes > _SMALL_BYTES:
                time.sleep(0)  # whoever answers requests goes first

    def _write(self, entry: _Entry) -> None:
        if self._failing.get(entry.prefix, 0.0) > time.monotonic():
            self._metrics.count_logged(entry.model, Code.UNAVAILABLE, 1)
            self._given_up[entry.prefix] += 1
            return
        record = entry.record if isinstance(entry.record, bytes) else entry.record()
        file = self._files.get(entry.prefix)
        if file is None:
            file = self._files[entry.prefix] = self._open(entry.prefix)
        file.data.write(record)
        file.unflushed[entry.model] += 1
        file.num_bytes += len(record)
        if file.num_bytes >= self._options.max_file_bytes:
            self._finish(entry.prefix)

    def _open(self, prefix: Location) -> _File:
        self._number += 1
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        host = _UNSAFE.sub("_", socket.gethostname())
        name = f"{prefix.name}-{began}-{host}-{os.getpid()}-{self._number}.tfrecord"
        target = prefix.parent / name
        if isinstance(target, Path):
            path = target
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            self._spool = self._spool or Path(tempfile.mkdtemp(prefix="kubetfx-requests-"))
            path = self._spool / name
        return _File(path, target, path.open("wb", _BUFFERED_BYTES), time.monotonic())

    def _flush(self, prefix: Location) -> None:
        file = self._files[prefix]
        if not file.unflushed:
            return
        try:
            file.data.flush()
        except OSError as error:
            self._give_up(prefix, error)
            return
        self._count_written(prefix, file)

    def _count_written(self, prefix: Location, file: _File) -> None:
        for model, count in file.unflushed.items():
            self._metrics.count_logged(model, Code.OK, count)
        file.unflushed.clear()
        if self._failing.pop(prefix, None) is not None:
            missing = self._given_up.pop(prefix, 0)
            _LOG.warning("the request log is written again at %s; %d requests are not in it", prefix, missing)

    def _give_up(self, prefix: Location, error: OSError) -> None:
        """Close a file that cannot be written. Its last record may be torn, so no other may follow it."""
        file = self._files.pop(prefix, None)
        if file is not None:
            for model, count in file.unflushed.items():
                self._metrics.count_logged(model, Code.UNAVAILABLE, count)
                self._given_up[prefix] += count
            with contextlib.suppress(OSError):  # what could not be written is counted
                file.data.close()
            self._hand_over(file)
        if prefix not in self._failing:
            _LOG.warning(
                "the request log cannot be written at %s: %s. Requests are answered as before; those that are not "
                "logged are counted in :tensorflow:serving:request_log_count. It is tried again every %g s.",
                prefix,
                error,
                _RETRY_SECONDS,
            )
        self._failing[prefix] = time.monotonic() + _RETRY_SECONDS

    def _rotate(self, *, everything: bool) -> None:
        now = time.monotonic()
        for prefix, file in list(self._files.items()):
            if everything or now - file.opened >= self._options.max_file_seconds:
                self._finish(prefix)

    def _finish(self, prefix: Location) -> None:
        file = self._files[prefix]
        try:
            file.data.close()
        except OSError as error:
            self._give_up(prefix, error)
            return
        del self._files[prefix]
        self._count_written(prefix, file)
        self._hand_over(file)

    def _hand_over(self, file: _File) -> None:
        if not isinstance(file.target, Path):
            self._uploads.add(file.path, file.target)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A request that is to be logged."""

    _logged: Logged
    _offer: Callable[[int, Callable[[], bytes]], None]

    def predict(self, inputs: Mapping[str, Array], output_filter: Sequence[str], outputs: Mapping[str, Array]) -> None:
        """Log a Predict request.

        Args:
            inputs: an array by input.
            output_filter: outputs that were asked for; empty for all.
            outputs: an array by output.
        """
        size = sum(map(_num_bytes, inputs.values())) + sum(map(_num_bytes, outputs.values()))
        self._offer(
            size, functools.partial(log_records.predict_record, self._logged, inputs, tuple(output_filter), outputs)
        )

    def classify(self, examples: Sequence[bytes], result: Classification) -> None:
        """Log a Classify request.

        Args:
            examples: serialised tf.Examples.
            result: the answer.
        """
        self._offer(
            sum(map(len, examples)), functools.partial(log_records.classify_record, self._logged, examples, result)
        )

    def regress(self, examples: Sequence[bytes], result: Regression) -> None:
        """Log a Regress request.

        Args:
            examples: serialised tf.Examples.
            result: the answer.
        """
        self._offer(
            sum(map(len, examples)), functools.partial(log_records.regress_record, self._logged, examples, result)
        )

    def multi_inference(
        self, tasks: Sequence[Task], examples: Sequence[bytes], results: Sequence[Classification | Regression]
    ) -> None:
        """Log a MultiInference request.

        Args:
            tasks: The tasks of the request.
            examples: serialised tf.Examples.
            results: the answer, one per task.
        """
        make = functools.partial(log_records.multi_inference_record, self._logged, tasks, examples, results)
        self._offer(sum(map(len, examples)), make)


def _framed(make: Callable[[], bytes]) -> bytes:
    return framed(make())


def _check(folder: Location | None) -> None:
    if isinstance(folder, ObjectPath):
        check_writable(folder)
    elif folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UsageError(
                f"`request_log.folder` cannot be written: {error}. Received: {folder}. Choose a folder that can be."
            ) from None


def _num_bytes(array: Array) -> int:
    if array.dtype != object:
        return array.nbytes
    return array.nbytes + sum(map(len, array.ravel().tolist()))

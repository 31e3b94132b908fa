"""The files of a log of requests: which there are, how they are cut into parts, and what some records say."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from kubetfx.serving.log_messages import head_of, message
from kubetfx.serving.tfrecords import RecordFile, Records

PART_RECORDS = 65_536
PART_BYTES = 32 * 2**20
_LOOKED_AT = 64
"""One record in so many is looked at before any is read."""


@dataclass(frozen=True)
class Part:
    """Consecutive records of a file."""

    path: Path
    start: int
    """Start of the first record in the file."""
    end: int


@dataclass
class LogFiles:
    """What there is to read."""

    parts: list[Part] = field(default_factory=list)
    records: int = 0
    newest: int = 0
    """Time of the newest request that was looked at, seconds since 1970."""
    seen: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Records that were looked at, by version of the model and second."""
    other_models: Counter[str] = field(default_factory=Counter)
    """The same, of other models."""
    torn: list[tuple[str, int, int]] = field(default_factory=list)
    """Files that break off: name, where, and their size."""
    no_logs: list[str] = field(default_factory=list)
    """Files of another kind."""
    packed: list[str] = field(default_factory=list)
    """Files that are compressed."""

    def version(self, *, within_seconds: int) -> int | None:
        """Return the version that most of the newest requests have been answered by; None if there is none.

        Args:
            within_seconds: how long before the newest request the newest ones are.
        """
        oldest = self.newest - within_seconds
        counted: Counter[int] = Counter()
        for (version, second), count in self.seen.items():
            if second >= oldest:
                counted[version] += count
        return max(counted, key=lambda version: (counted[version], version), default=None)

    @property
    def versions(self) -> list[int]:
        """Versions that answered, the newest first."""
        return sorted({version for version, _ in self.seen}, reverse=True)


def look_at(paths: Iterable[Path], model: str) -> LogFiles:
    """Cut files into parts, and look at some of their records.

    Args:
        paths: The paths of the files.
        model: name of the model that is asked about.

    Returns:
        What there is.

    Raises:
        OSError: a file cannot be read.
    """
    found = LogFiles()
    for path in paths:
        reading = RecordFile(path)
        for chunk in reading.chunks(max_records=PART_RECORDS, max_bytes=PART_BYTES):
            found.parts.append(Part(path, chunk.position, chunk.end))
            found.records += len(chunk.starts)
            _look(chunk, model, found)
        if reading.is_packed and not reading.is_log:
            found.packed.append(path.name)
        elif not reading.is_log:
            found.no_logs.append(path.name)
        elif reading.broken_at is not None:
            found.torn.append((path.name, reading.broken_at, path.stat().st_size))
    return found


def _look(chunk: Records, model: str, found: LogFiles) -> None:
    last = len(chunk.starts) - 1
    for number in sorted({*range(0, last + 1, _LOOKED_AT), last}):
        try:
            log = message("PredictionLog").FromString(chunk.data[chunk.starts[number] : chunk.ends[number]])
        except DecodeError:
            continue
        head = head_of(log)
        if head is None:
            continue
        if head.model != model:
            found.other_models[head.model] += 1
            continue
        found.newest = max(found.newest, head.seconds)
        found.seen[head.version, head.seconds] += 1

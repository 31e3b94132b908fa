"""TFRecord files: what a record is in them, and which records a file has, up to where it breaks off.

A record is its length, the length's checksum, its bytes, and their checksum. A file that was cut loses its last record
alone. Knows no TensorFlow, so that looking at a log costs no import.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import google_crc32c
import numpy as np

_HEAD = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_TAIL = struct.Struct("<I")
_MASK = 0xA282EAD8
"""tensorflow/core/lib/hash/crc32c.h: a checksum of data that holds checksums is masked."""
_GZIP = b"\x1f\x8b"

Offsets = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Records:
    """Consecutive records of a file."""

    data: bytes
    """Data of the file, from the first record on."""
    starts: Offsets
    """Where the bytes of each record begin in `data`."""
    ends: Offsets
    """Where they end."""
    position: int
    """Position of the first record in the file."""
    end: int
    """End of the last one."""


@dataclass
class RecordFile:
    """A file that is being read, and how it ended."""

    path: Path
    broken_at: int | None = None
    """Where the file breaks off in the middle of a record; None: it does not."""
    is_log: bool = True
    """Whether it begins with a record."""
    is_packed: bool = False
    """Whether it is compressed by gzip."""

    def chunks(self, *, start: int = 0, end: int | None = None, max_records: int, max_bytes: int) -> Iterator[Records]:
        """Read the file's records, whose bytes `sound` compares with their checksums.

        Args:
            start: of a record, in the file.
            end: of a record; None: the file's.
            max_records: of a chunk.
            max_bytes: of a chunk; a larger record is one of its own.

        Yields:
            Chunks of whole records. `broken_at` and `is_log` are known after the last.

        Raises:
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            last = size if end is None else min(end, size)
            self.is_packed = os.pread(file.fileno(), 2, 0) == _GZIP
            position = start
            while position < last and self.broken_at is None:
                chunk = self._chunk(file.fileno(), position, last, max_records, max_bytes)
                if len(chunk.starts):
                    yield chunk
                position = chunk.end
            self.is_log = self.broken_at != 0

    def _chunk(self, file: int, first: int, last: int, max_records: int, max_bytes: int) -> Records:
        """Return whole records from a place on. The first one's length is checked, and that all fit the file."""
        head, tail = _HEAD.size, _TAIL.size
        data = os.pread(file, min(max_bytes, last - first), first)
        if len(data) < head or not _is_length(data[:head]):
            self.broken_at = first
            return Records(b"", np.zeros(0, np.int64), np.zeros(0, np.int64), first, first)
        needed = head + _LENGTH.unpack_from(data)[0] + tail
        if len(data) < needed <= last - first:  # the first record alone is larger
            data = os.pread(file, needed, first)
        starts: list[int] = []
        ends: list[int] = []
        position, available = 0, len(data)
        unpack = _LENGTH.unpack_from
        while position + head <= available and len(starts) < max_records:
            end = position + head + unpack(data, position)[0]
            if end + tail > available:
                break
            starts.append(position + head)
            ends.append(end)
            position = end + tail
        if len(starts) < max_records and first + available >= last and position < available:
            self.broken_at = first + position
        return Records(data, np.array(starts, np.int64), np.array(ends, np.int64), first, first + position)


def framed(record: bytes) -> bytes:
    """Return a record as a file holds it.

    Args:
        record: its bytes.

    Returns:
        The bytes between their length and checksums, as tensorflow/core/lib/io/record_writer.h describes.
    """
    length = _LENGTH.pack(len(record))
    value, pack = google_crc32c.value, _TAIL.pack
    return b"".join((length, pack(_masked(value(length))), record, pack(_masked(value(record)))))


def sound(records: Records) -> tuple[Records, int]:
    """Leave out the records whose bytes are not those that were written.

    Args:
        records: some.

    Returns:
        The others; and how many were left out.
    """
    data, value = records.data, google_crc32c.value
    bounds = zip(records.starts.tolist(), records.ends.tolist(), strict=True)
    found = np.array([value(data[start:end]) for start, end in bounds], np.uint64)
    masked = ((found >> np.uint64(15) | found << np.uint64(17)) + np.uint64(_MASK)) & np.uint64(0xFFFFFFFF)
    tails = records.ends[:, np.newaxis] + np.arange(_TAIL.size)
    kept = np.frombuffer(data, np.uint8)[tails].view("<u4").ravel() == masked
    if kept.all():
        return records, 0
    return replace(records, starts=records.starts[kept], ends=records.ends[kept]), int((~kept).sum())


def _is_length(head: bytes) -> bool:
    return bool(_TAIL.unpack_from(head, _LENGTH.size)[0] == _masked(google_crc32c.value(head[: _LENGTH.size])))


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF

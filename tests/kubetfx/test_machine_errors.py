"""What a machine does to a run is said in words: what is wrong, where, and what to do."""

import errno
import os
import resource
from pathlib import Path

import pyarrow as pa
import pytest

from kubetfx import machine_errors
from kubetfx.errors import MachineError, UsageError, WorkerError, root_cause
from kubetfx.machine_errors import explained, in_words

FULL = "The disk is full. Received: {place}, "
DAMAGED = "ML Metadata cannot be read: its file is damaged. Received: {place}/metadata.sqlite. Put a copy"
READ_ONLY = "The disk cannot be written: it is mounted read-only. Received: {place}. "


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), FULL),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), FULL),
        (RuntimeError("database or disk is full query: UPDATE `Artifact` SET"), FULL),
        (RuntimeError("/artifacts/Trainer; No space left on device"), FULL),
        (pa.ArrowException("[errno 28] No space left on device"), FULL),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), READ_ONLY),
        (RuntimeError("attempt to write a readonly database query: INSERT"), READ_ONLY),
        (RuntimeError("database is locked query: BEGIN"), "Another program has locked ML Metadata. Received: {place}/"),
        (
            RuntimeError("Concurrent writes aborted after max number of retries."),
            "Another program has locked ML Metadata. ",
        ),
        (RuntimeError("file is not a database"), DAMAGED),
        (RuntimeError("database disk image is malformed"), DAMAGED),
        (RuntimeError("Cannot connect sqlite3 database: unable to open database file"), DAMAGED),
        (MemoryError(), "There is not enough memory. Received: a limit of "),
        (pa.ArrowMemoryError("malloc of size 8 failed"), "There is not enough memory. "),
        (RuntimeError("can't start new thread"), "There is not enough memory. "),
        (RuntimeError("OOM when allocating tensor with shape[64,512]"), "There is not enough memory. "),
    ],
)
def test_error_of_the_machine_is_explained(error: Exception, begins: str, tmp_path: Path) -> None:
    words = explained(error, tmp_path)
    assert words is not None
    assert words.startswith(begins.format(place=tmp_path))


def test_cause_is_looked_for(tmp_path: Path) -> None:
    error = ValueError("a node")
    error.__cause__ = OSError(errno.ENOSPC, "")
    with pytest.raises(MachineError, match="The disk is full") as raised, in_words(tmp_path / "not" / "there"):
        raise error
    assert f"Received: {tmp_path}," in str(raised.value)


def test_other_errors_are_not(tmp_path: Path) -> None:
    assert explained(ValueError("the label"), tmp_path) is None
    with pytest.raises(ValueError, match="the label"), in_words(tmp_path):
        raise ValueError("the label")
    with pytest.raises(UsageError, match="disk is full"), in_words(tmp_path):
        raise UsageError("disk is full, and this is what to do.")


def test_smallest_limit_of_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = tmp_path / "memory.max"
    monkeypatch.setattr(machine_errors, "MEMORY_LIMITS", (container, tmp_path / "none"))
    assert "the memory of this machine. Raise it" in machine_errors.memory_advice("Evaluator")
    container.write_text("max\n")
    assert "the memory of this machine" in machine_errors.memory_advice("Evaluator")
    container.write_text("536870912\n")
    assert machine_errors.memory_advice("Trainer") == (
        "Received: a limit of 512 MiB, the limit of the container. Raise it, or lower what Trainer needs: "
        "training.batch_size, or the size of the network in `model`."
    )
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256 * 2**20, 256 * 2**20))
    assert "a limit of 256 MiB, what a process may address, `ulimit -v`." in machine_errors.memory_advice("Trainer")


def test_full_disk_of_a_worker_is_not_told_as_one_of_this_machine(tmp_path: Path) -> None:
    full = "OSError: [Errno 28] No space left on device"
    failed = RuntimeError(f"Traceback (most recent call last):\n  File 'worker.py', line 1\n{full}\n")
    of_worker, of_node = WorkerError(str(failed)), ValueError("the node failed")
    of_worker.__cause__, of_node.__cause__ = failed, of_worker

    assert explained(of_node, tmp_path) is None
    assert root_cause(of_node) == full
    assert str(explained(failed, tmp_path)).startswith("The disk is full")  # of a worker in this process

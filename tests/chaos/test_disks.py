"""Disks that run full, have no more files, or become read-only while any node works: an error in words, and the same
command goes on once there is room."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.proofs import Proofs
from tests.chaos.small_disk import SmallDisk
from tests.chaos.small_pipelines import NODES, Project, half_written
from tests.command import Finished

pytestmark = pytest.mark.chaos

ROOMY = "size=64m,nr_inodes=100k"
SAID = {
    "full": "The disk is full. Received: ",
    "out of files": "The disk can have no more files. Received: ",
    "read-only": "The disk cannot be written: it is mounted read-only. Received: ",
}
RAW = ("INSERT INTO", "UPDATE `", "Traceback", "fault of kubetfx", "Errno", "ResourceExhaustedError")
BYTES_LEFT = (4_096, 40_960, 409_600)


class FailingDisk:
    """A disk that fails as soon as a node begins."""

    def __init__(self, disk: SmallDisk, workspace: Path, fault: str) -> None:
        self._disk, self._fault = disk, fault
        self._artifacts = workspace / "artifacts"
        self._logs = disk.seen_here(workspace / "logs")
        if (
            fault == "read-only"
        ):  # a disk of their own: logs and ML Metadata are always open, which keeps a disk writable
            disk.inside("mkdir", "-p", str(self._artifacts))
            assert disk.inside("mount", "-t", "tmpfs", "tmpfs", str(self._artifacts)).returncode == 0

    @contextmanager
    def failing(self, node: str, bytes_left: int) -> Iterator[None]:
        """Let the disk fail once a node has begun, and make room at the end."""
        earlier, ended = set(self._logs.glob("*")), threading.Event()
        thread = threading.Thread(target=self._fail, args=(node, bytes_left, earlier, ended))
        thread.start()
        yield
        ended.set()
        thread.join()
        assert self._disk.remount(ROOMY)
        if self._fault == "read-only":
            assert self._disk.remount("rw", folder=self._artifacts)

    def _fail(self, node: str, bytes_left: int, earlier: set[Path], ended: threading.Event) -> None:
        while not any((run / f"{node}.log").exists() for run in set(self._logs.glob("*")) - earlier):
            if ended.wait(0.002):
                return
        if self._fault == "full":
            assert self._disk.remount(f"size={self._disk.used() + bytes_left}")
        elif self._fault == "out of files":
            assert self._disk.remount(f"nr_inodes={self._disk.used('iused') + 2}")
        else:
            while not ended.is_set() and not self._disk.remount("ro", folder=self._artifacts):
                time.sleep(0.005)


@pytest.mark.parametrize(
    ("fault", "bytes_left"),
    [*(("full", bytes_left) for bytes_left in BYTES_LEFT), ("out of files", 0), ("read-only", 0)],
)
def test_disk_that_fails_in_any_node_is_said_and_the_same_command_goes_on(
    fault: str, bytes_left: int, tmp_path: Path, temporary_files: Path, proofs: Proofs
) -> None:
    project = Project(tmp_path / "project", workspace=tmp_path / "disk" / "workspace")
    project.make()
    project.change(0)
    nodes: Counter[str] = Counter()
    with SmallDisk(tmp_path / "disk", ROOMY) as disk:
        failing = FailingDisk(disk, project.workspace, fault)

        def run() -> Finished:
            return disk.kubetfx("run", project.config, "--format", "json")

        (upcoming, *others) = ["startup", *NODES]
        while upcoming:
            with failing.failing(upcoming, bytes_left):
                finished = run()
            if finished.exit_code == 0:  # what was left over was enough for all nodes that were left
                break
            error = finished.document["error"]
            assert SAID[fault] in error["message"], finished.stdout
            assert not [raw for raw in RAW if raw in error["message"]], finished.stdout
            nodes[error.get("node", "the beginning")] += 1
            upcoming, *others = others or [""]
        last = run()
        assert last.exit_code == 0, last.stdout
        assert half_written(disk.seen_here(project.workspace)) == []
    assert list(temporary_files.iterdir()) == []
    assert nodes.total() >= 3
    left = f", {bytes_left // 1024} KiB left" if bytes_left else ""
    where = ", ".join(f"{node} {times}" for node, times in nodes.items())
    proofs.add(
        "A disk",
        done=f"{fault} as soon as a node begins{left}",
        times=nodes.total(),
        result=f"Each was said in words, with the place; no output was half written. With room, the same command went "
        f"on from there, and at last pushed. Failed in: {where}.",
    )

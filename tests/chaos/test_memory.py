"""Memory that runs out while any node works. Where the process can still speak, it says so; where a library or the
kernel ends it without a word, the next run does."""

import re
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import warm_process
from tests.chaos.proofs import Proofs
from tests.chaos.small_pipelines import NODES, Project, half_written
from tests.command import Finished
from tests.e2e.project import environment

pytestmark = pytest.mark.chaos

BYTES_LEFT = 2**20


class LimitedRuns:
    """Runs of a project, whose memory can be limited while they work."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._logs = project.workspace / "logs"
        self._server = warm_process.start()

    def run(self) -> Finished:
        words = ["run", str(self._project.config)]
        return warm_process.run_forked(words, cwd=None, env=environment(), seconds=300, server=self._server)

    @contextmanager
    def limited(self, node: str) -> Iterator[None]:
        """Let a run have no more memory than it has once a node has begun."""
        earlier, ended = set(self._logs.glob("*")), threading.Event()
        thread = threading.Thread(target=self._limit, args=(node, earlier, ended))
        thread.start()
        yield
        ended.set()
        thread.join()

    def _limit(self, node: str, earlier: set[Path], ended: threading.Event) -> None:
        while not any((run / f"{node}.log").exists() for run in set(self._logs.glob("*")) - earlier):
            if ended.wait(0.002):
                return
        for process in psutil.Process(self._server.pid).children():
            most = process.memory_info().vms + BYTES_LEFT
            resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))

    def end(self) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(30)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[LimitedRuns]:
    project = Project(tmp_path / "project")
    project.make()
    project.change(0)
    made = LimitedRuns(project)
    yield made
    made.end()


def test_memory_that_runs_out_in_any_node_is_said(
    runs: LimitedRuns, tmp_path: Path, temporary_files: Path, proofs: Proofs
) -> None:
    ended: Counter[str] = Counter()
    is_killed = False
    for node in ("startup", *NODES, ""):
        with runs.limited(node or "none"):
            finished = runs.run()
        said = " ".join(finished.stderr.split())
        if is_killed:
            found = re.search(
                r"The last run was killed at (\w+)\. .* Received: a limit of .*, or lower what (\w+)", said
            )
            assert found, finished.stderr
            assert found[1] == found[2] in NODES
        is_killed = finished.exit_code < 0 and node != "startup"
        if finished.exit_code < 0 or finished.exit_code == 127:
            ended["without a word, which the next run said"] += 1
        elif finished.exit_code > 0:
            assert "There is not enough memory. Received: a limit of " in said, finished.stderr
            assert "`ulimit -v`" in said
            ended["in words"] += 1
    assert finished.exit_code == 0, finished.stderr
    assert ended.total() >= 5
    assert half_written(tmp_path / "project" / "workspace") == []
    assert list(temporary_files.iterdir()) == []
    how = ", ".join(f"{times} ended {words}" for words, times in ended.items())
    proofs.add(
        "Memory",
        done="no more of it for the process (RLIMIT_AS) as soon as a node begins",
        times=ended.total(),
        result=f"{how}: the node, the limit and what to lower. Each next run went on from there, the last one pushed, "
        "and no output was half written.",
    )

"""kill -9 of the whole process group of a run, at any moment: the next run ends well, and nothing is left of the first.

KUBETFX_KILLS=50 make chaos-test        50 kills of each of the four kinds of run
"""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.proofs import Proofs, number_of
from tests.chaos.served_push_directory import ServedPushDirectory
from tests.chaos.small_pipelines import KEPT_RUNS, Project, half_written
from tests.e2e.project import kubetfx

SETTLED = 2 * KEPT_RUNS
"""Cycles after which a workspace does not grow any more."""


def kill_and_run(project: Project, temporary_files: Path, *, kills: int, seed: int) -> tuple[int, str]:
    """Kill runs, up to three in a row, and then let one end, while the push directory is served.

    Args:
        project: that has been made.
        temporary_files: where its commands have them.
        kills: how often, at least.
        seed: of the moments.

    Returns:
        How often it was killed, and what came out in words.
    """
    moments = random.Random(seed)
    project.change(0)
    kubetfx("--version")  # which pays for the imports
    begun = time.monotonic()
    first = project.run()
    seconds = time.monotonic() - begun
    assert first is not None
    assert first.exit_code == 0, first.stdout
    nodes: Counter[str] = Counter()
    files: list[int] = []
    number = 0
    with ServedPushDirectory(project.workspace / "pushed" / "model", project.instance()) as served:
        while nodes.total() < kills:
            number += 1
            project.change(number)
            for _ in range(moments.randint(1, 3)):
                begun = time.monotonic()
                if project.run(kill_after=moments.uniform(0, seconds)) is not None:
                    seconds = time.monotonic() - begun  # the machine is faster than before
                    break
                nodes[project.working_node()] += 1
            finished = project.run()
            assert finished is not None
            assert finished.exit_code == 0, (seed, number, finished.stdout)
            served.wait_for(finished.document["pushed_version"])
            assert half_written(project.workspace) == []
            assert list(temporary_files.iterdir()) == []
            files.append(project.num_files())
            print(f"{nodes.total()} kills: {nodes}, {files[-1]} files", flush=True)
    assert served.failures == []
    grown = max(files[SETTLED:], default=0) - max(files[:SETTLED])
    assert grown <= 0, files
    where = ", ".join(f"{node} {times}" for node, times in nodes.most_common())
    return nodes.total(), (
        f"Each of the {len(files)} runs after them ended well. {served.num_versions} versions were seen, each whole "
        f"from its first moment; {served.answered:,} requests were answered, and none failed. No output was half "
        f"written, no temporary file was left, and the workspace had {files[0]} files after the first of these runs "
        f"and {files[-1]} after the last. "
        f"Killed in: {where}."
    )


@pytest.mark.chaos
@pytest.mark.parametrize("on", ["local", "kfp-local"])
@pytest.mark.parametrize("kind", ["table", "images"])
def test_killed_runs_leave_no_trace(kind: str, on: str, tmp_path: Path, temporary_files: Path, proofs: Proofs) -> None:
    kills = number_of("KUBETFX_KILLS", 5)
    project = Project(tmp_path / "project", kind, on)
    project.make()
    times, result = kill_and_run(project, temporary_files, kills=kills, seed=number_of("KUBETFX_SEED", 0))
    subject = {"table": "a table", "images": "images"}[kind]
    proofs.add("kill -9", done=f"of a run on {subject}, {on}, at a random moment", times=times, result=result)

"""Hundreds of runs in one workspace: the last ones take as long, and leave as much, as the first.

KUBETFX_RUNS=200 make chaos-test
"""

import statistics
import time
from pathlib import Path

import pytest

from tests.chaos.proofs import Proofs, number_of
from tests.chaos.small_pipelines import Project

pytestmark = pytest.mark.chaos

SETTLED = 6
"""Runs after which as many are kept as will be."""


@pytest.mark.parametrize("change", ["nothing", "the settings"])
def test_last_runs_cost_what_the_first_ones_did(
    change: str, tmp_path: Path, temporary_files: Path, proofs: Proofs
) -> None:
    number = number_of("KUBETFX_RUNS", 20)
    project = Project(tmp_path / "project")
    project.make()
    project.change(0)
    seconds, sizes = [], []
    for index in range(number + SETTLED):
        if change == "the settings":
            project.change(index, data=0)
        begun = time.monotonic()
        finished = project.run()
        assert finished is not None
        assert finished.exit_code == 0, finished.stdout
        seconds.append(time.monotonic() - begun)
        sizes.append(sum(path.stat().st_size for path in project.workspace.rglob("*") if path.is_file()))
    assert list(temporary_files.iterdir()) == []
    seconds, sizes = seconds[SETTLED:], sizes[SETTLED:]
    tenth = max(3, number // 10)
    first, last = statistics.median(seconds[:tenth]), statistics.median(seconds[-tenth:])
    per_run = (sizes[-1] - sizes[0]) / 1024 / (number - 1)
    early = (sizes[number // 2] - sizes[0]) / 1024 / (number // 2)
    late = (sizes[-1] - sizes[number // 2]) / 1024 / (number - 1 - number // 2)
    assert last <= 1.5 * first + 0.5, (first, last)
    assert late <= 1.5 * early + 8, (early, late)
    proofs.add(
        "One workspace",
        done=f"runs one after the other, between which {change} changed",
        times=number,
        result=f"The median of the first {tenth} took {first:.2f} s, that of the last {tenth} {last:.2f} s. The "
        f"workspace grew by {per_run:.1f} KiB per run: {early:.1f} in the first half, {late:.1f} in the second.",
    )

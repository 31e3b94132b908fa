"""The previous run: the newest one of the workspace that was finished with other data than this one."""

from dataclasses import dataclass
from pathlib import Path

from pipeline import run_record

FINISHED = frozenset({"pushed", "unchanged", "not_blessed"})


@dataclass(frozen=True)
class Previous:
    """An earlier run."""

    run_id: str
    statistics: Path
    """Folder of its statistics artifact."""


def find(statistics: Path) -> Previous | None:
    """The previous run; None if there is none, and in a cluster, where no workspace outlives a run.

    A run that changes nothing finds the same one as the run before it.

    Args:
        statistics: of this run: WORKSPACE/artifacts/NODE/KEY/ID.
    """
    workspace = statistics.parents[3] if len(statistics.parents) > 3 else statistics
    for record in run_record.iterate(workspace):
        found = record.output("StatisticsGen", "statistics")
        if record.state in FINISHED and found and found != statistics:
            return Previous(record.run_id, found)
    return None

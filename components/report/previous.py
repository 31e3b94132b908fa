"""The previous run: the newest finished run of the workspace with other data."""

from dataclasses import dataclass
from pathlib import Path

from kubetfx import run_record
from kubetfx.artifacts import STATISTICS

FINISHED = frozenset({"pushed", "unchanged", "waiting_for_approval", "finished", "not_blessed"})


@dataclass(frozen=True)
class Previous:
    """What the data of a run is compared with."""

    run_id: str = ""
    """Empty: there is nothing to compare with."""
    statistics: Path | None = None
    """Folder of the run's statistics artifact."""
    missing_because: str = ""
    """Why there is nothing."""


def find(statistics: Path) -> Previous:
    """Return the previous run. A run that changes nothing finds the same one as the run before it.

    Args:
        statistics: folder of this run's artifact, somewhere in the workspace.
    """
    workspace = next(filter(run_record.has_records, statistics.parents[:-1]), None)
    if workspace is None:
        return Previous(missing_because="the records of earlier runs are in no place that this run sees")
    for record in run_record.read_all(workspace):
        found = record.output("StatisticsGen", "statistics")
        if record.state in FINISHED and found and not _is_same(found, statistics):
            return Previous(record.run_id, found)
    return Previous(missing_because="there is no earlier run with other data")


def _is_same(folder: Path, other: Path) -> bool:
    """Return whether two artifacts are equal: after an upgrade the data is computed again without the cache."""
    return folder == other or (bool(_contents(folder)) and _contents(folder) == _contents(other))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob(f"Split-*/{STATISTICS}")}
